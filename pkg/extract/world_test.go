package extract_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

func worldOf(t *testing.T, o extract.WorldOptions, lines ...string) *rules.World {
	t.Helper()
	in, err := manifest.Parse("world", []byte(strings.Join(lines, "\n---\n")), manifest.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	var objects []runtime.Object
	for _, object := range in.Objects {
		objects = append(objects, object.Object)
	}
	if o.Node == "" {
		o.Node = "n1"
	}
	w, err := extract.World(objects, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const worldNode = `{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: z}}, spec: {podCIDR: 10.244.1.0/24},
  status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}`

// TestWorldPods: what the kubelet gives to portmap, and what it does not.
func TestWorldPods(t *testing.T) {
	pod := func(name, more, spec, status string) string {
		return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + more + "}, spec: {nodeName: n1, " + spec + "}, status: {" + status + "}}"
	}
	const port = "containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080, hostIP: \"\"}]}]"
	at := func(text string) netip.Prefix { return netip.MustParsePrefix(text) }
	mapped := []rules.Mapping{{Protocol: ports.TCP, HostPort: 8080, ContainerPort: 80}}
	for _, c := range []struct {
		why  string
		pod  string
		want []*rules.Pod
	}{
		{"a host port, in the node's podCIDR", pod("a", ", annotations: {portcullis.dev/sandbox-id: f00}", port, "podIP: 10.244.1.9"),
			[]*rules.Pod{{SandboxID: "f00", Addresses: []netip.Prefix{at("10.244.1.9/24")}, Mappings: mapped}}},
		{"two families, another network", pod("a", ", annotations: {portcullis.dev/sandbox-id: f00}", port, "podIPs: [{ip: 172.16.0.9}, {ip: \"fd00::9\"}]"),
			[]*rules.Pod{{SandboxID: "f00", Addresses: []netip.Prefix{at("172.16.0.9/32"), at("fd00::9/128")}, Mappings: mapped}}},
		{"no address yet", pod("a", ", annotations: {portcullis.dev/sandbox-id: f00}", port, ""), []*rules.Pod{{SandboxID: "f00", Mappings: mapped}}},
		{"the host network", pod("a", "", "hostNetwork: true, "+port, "podIP: 192.0.2.1"), nil},
		{"finished", pod("a", "", port, "phase: Succeeded, podIP: 10.244.1.9"), nil},
		{"a sidecar's is never mapped", pod("a", "", "initContainers: [{name: i, restartPolicy: Always, ports: [{containerPort: 80, hostPort: 8080}]}], containers: [{name: c}]", "podIP: 10.244.1.9"), nil},
		{"a hostIP that is not an address", pod("a", "", "containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080, hostIP: x}]}]", "podIP: 10.244.1.9"), nil},
		{"on another node", strings.Replace(pod("a", "", port, "podIP: 10.244.1.9"), "n1", "n2", 1), nil},
	} {
		w := worldOf(t, extract.WorldOptions{}, worldNode, c.pod)
		if diff := cmp.Diff(c.want, w.Pods, cmpopts.IgnoreFields(rules.Pod{}, "Ref"), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
	made := worldOf(t, extract.WorldOptions{PodPrefixLength: 32}, worldNode, pod("a", ", uid: u", port, "podIP: 10.244.1.9")).Pods[0]
	if !made.Derived || len(made.SandboxID) != 64 || made.Addresses[0] != at("10.244.1.9/32") {
		t.Errorf("%+v", made)
	}
}

// TestWorldEndpoints: slices count, else what the control plane would mirror.
func TestWorldEndpoints(t *testing.T) {
	const service = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}"
	const slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}, addressType: IPv4, ports: [{name: http, port: 8080}, {name: other, port: 1}], endpoints: [{addresses: [10.0.0.1, 10.0.0.9], nodeName: n1, targetRef: {kind: Pod, name: p, namespace: default}, hints: {forZones: [{name: z}]}}, {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}]}"
	const endpoints = "{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{addresses: [{ip: 010.0.0.3}], notReadyAddresses: [{ip: 10.0.0.4, nodeName: n1}], ports: [{name: http, port: 8080}]}]}"
	to := func(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
	sliced := []rules.Endpoint{
		{Addr: to("10.0.0.1:8080"), Node: "n1", Owner: ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "p"}, Ready: true, Serving: true, ForZones: []string{"z"}},
		{Addr: to("10.0.0.2:8080"), Serving: true, Terminating: true},
	}
	mirrored := []rules.Endpoint{{Addr: to("10.0.0.3:8080"), Ready: true, Serving: true}, {Addr: to("10.0.0.4:8080"), Node: "n1", Serving: true}}
	for _, c := range []struct {
		why     string
		objects []string
		want    []rules.Endpoint
	}{
		{"slices", []string{slice}, sliced},
		{"slices, of which the Endpoints are the source", []string{slice, endpoints}, sliced},
		{"Endpoints alone", []string{endpoints}, mirrored},
		{"Endpoints that are not to be mirrored", []string{strings.Replace(endpoints, "{name: s}", "{name: s, labels: {endpointslice.kubernetes.io/skip-mirror: \"true\"}}", 1)}, nil},
		{"none", nil, nil},
		{"of the other family", []string{strings.Replace(slice, "IPv4", "IPv6", 1)}, nil},
	} {
		w := worldOf(t, extract.WorldOptions{}, append([]string{worldNode, service}, c.objects...)...)
		if diff := cmp.Diff(c.want, w.Services[0].Ports[0].Endpoints, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

// TestWorldServices: kube-proxy passes over those that are headless, named elsewhere or another proxy's.
func TestWorldServices(t *testing.T) {
	w := worldOf(t, extract.WorldOptions{}, worldNode,
		"{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}",
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.96.0.1, sessionAffinity: ClientIP, loadBalancerSourceRanges: [\" 10.1.2.3/8 \"], ports: [{port: 80}]}, status: {loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: Proxy}, {hostname: x}]}}}",
		"{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, ports: [{port: 80}]}}",
		"{apiVersion: v1, kind: Service, metadata: {name: external}, spec: {type: ExternalName, externalName: example.org}}",
		"{apiVersion: v1, kind: Service, metadata: {name: pending}, spec: {ports: [{port: 80}]}}",
		"{apiVersion: v1, kind: Service, metadata: {name: others, labels: {service.kubernetes.io/service-proxy-name: x}}, spec: {clusterIP: 10.96.0.3, ports: [{port: 80}]}}",
	)
	var names []string
	for _, s := range w.Services {
		names = append(names, s.Ref.Name)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	a := w.Services[0]
	if a.AffinitySeconds != 10800 || len(a.SourceRanges) != 1 || a.SourceRanges[0].String() != "10.0.0.0/8" || len(a.LoadBalancerIPs) != 1 || w.Node.Zone != "z" {
		t.Errorf("%+v", a)
	}
}
