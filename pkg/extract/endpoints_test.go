package extract_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// TestServices: endpoints are those that are given, else those that the control plane makes of pods; what says nothing of them
// leaves them unknown.
func TestServices(t *testing.T) {
	service := func(more string) string {
		return "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {" + more + "selector: {app: s}, ports: [{name: p, port: 80, targetPort: http}]}}"
	}
	pod := func(name, status, ports string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + ", labels: {app: s}}, spec: {nodeName: n1, containers: [{name: c, ports: [" + ports + "]}]}, status: {" + status + "}}"
	}
	const (
		ready    = `podIP: 10.0.0.1, conditions: [{type: Ready, status: "True"}]`
		notReady = `podIP: 10.0.0.2, conditions: [{type: Ready, status: "False"}]`
		http     = "{name: http, containerPort: 8080}"
		slice    = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}, addressType: IPv4, ports: [{name: p, port: 9}], endpoints: [{addresses: [10.9.9.9]}]}"
	)
	for _, c := range []struct {
		why     string
		objects []string
		want    string // the endpoints; "none", or "not known"
	}{
		{"nothing is known of it", []string{service("")}, "not known"},
		{"a pod of a manifest", []string{service(""), pod("a", "", http)}, "not known"},
		{"a pod that waits", []string{service(""), pod("a", "phase: Pending", http)}, "not known"},
		{"a pod that is ready", []string{service(""), pod("a", ready, http), pod("b", notReady, http)}, "10.0.0.1:8080 on n1"},
		{"a pod that is not", []string{service(""), pod("b", notReady, http)}, "none"},
		{"whether it is or not", []string{service("publishNotReadyAddresses: true, "), pod("b", notReady, http)}, "10.0.0.2:8080 on n1"},
		{"a name that it does not have", []string{service(""), pod("a", ready, "{name: x, containerPort: 8080}")}, "none"},
		{"a name for another protocol", []string{service(""), pod("a", ready, "{name: http, protocol: UDP, containerPort: 8080}")}, "none"},
		{"each pod's own number", []string{service(""), pod("a", ready, http), pod("b", strings.Replace(ready, ".1", ".3", 1), "{name: http, containerPort: 8081}")}, "10.0.0.1:8080 on n1, 10.0.0.3:8081 on n1"},
		{"a pod that has ended", []string{service(""), pod("a", "phase: Failed, "+ready, http)}, "not known"},
		{"one of another namespace", []string{service(""), strings.Replace(pod("a", ready, http), "name: a,", "name: a, namespace: x,", 1)}, "not known"},
		{"a slice goes over pods", []string{service(""), pod("a", ready, http), slice}, "10.9.9.9:9 on "},
		{"an empty slice, too", []string{service(""), pod("a", ready, http), strings.Replace(slice, "{addresses: [10.9.9.9]}", "", 1)}, "none"},
		{"of another Service", []string{service(""), strings.Replace(slice, "service-name: s", "service-name: x", 1)}, "not known"},
		{"Endpoints", []string{service(""), "{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{addresses: [{ip: 10.9.9.9}], ports: [{name: p, port: 9}]}]}"}, "10.9.9.9:9 on "},
		{"another proxy's", []string{strings.Replace(service(""), "{name: s}", "{name: s, labels: {service.kubernetes.io/service-proxy-name: x}}", 1), slice}, "none"},
	} {
		in, err := manifest.Parse("in", []byte(strings.Join(c.objects, "\n---\n")), manifest.Scheme())
		if err != nil {
			t.Fatal(err)
		}
		var objects []runtime.Object
		for _, o := range in.Objects {
			objects = append(objects, o.Object)
		}
		ref := ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "s"}
		svc, known := extract.NewServices(objects).Service(ref, []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")})
		got := "none"
		var all []string
		for i := 0; svc != nil && i < len(svc.Ports); i++ {
			for _, e := range svc.Ports[i].Endpoints {
				all = append(all, fmt.Sprintf("%s on %s", e.Addr, e.Node))
			}
		}
		switch {
		case !known:
			got = "not known"
		case all != nil:
			got = strings.Join(all, ", ")
		}
		if got != c.want || svc != nil && len(svc.ClusterIPs) != 2 {
			t.Errorf("%s: %s with %v, want %s", c.why, got, svc, c.want)
		}
	}
}
