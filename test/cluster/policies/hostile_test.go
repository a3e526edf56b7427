package policies

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
)

// many makes a Deployment with n ports.
func many(n int, port func(i int) corev1.ContainerPort) func(*testing.T, string) client.Object {
	return func(t *testing.T, namespace string) client.Object {
		o := objects.One(t, namespace, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: many}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}}}`)
		c := &alone.Template(o).Spec.Containers[0]
		for i := range n {
			c.Ports = append(c.Ports, port(i))
		}
		return o
	}
}

func containerPort(port int, hostIP string) corev1.ContainerPort {
	return corev1.ContainerPort{ContainerPort: 1, HostPort: int32(port), HostIP: hostIP, Protocol: corev1.ProtocolTCP}
}

// manyEntries makes a Service with n node ports, none beside another.
func manyEntries(from, n int) func(*testing.T, string) client.Object {
	return func(t *testing.T, namespace string) client.Object {
		o := objects.One(t, namespace, `{apiVersion: v1, kind: Service, metadata: {name: many}, spec: {type: NodePort, ports: []}}`)
		svc := o.(*corev1.Service)
		for i := range n {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(1 + i), NodePort: int32(from + 4*i), Protocol: corev1.ProtocolTCP})
		}
		return svc
	}
}

// hostile is objects that are meant to be too much for policies.
type hostile struct {
	*cluster
	plain  string // a namespace
	rows   []hostileRow
	stored []client.Object // by row; nil for what is created
}

type hostileRow struct {
	why    string
	before func(*testing.T, string) client.Object // nil: it is created
	object func(*testing.T, string) client.Object
	want   string // what the answer tells, the warnings included
	not    string // what it does not
}

// newHostile stores what is changed later, as long as no policy is there.
func (c *cluster) newHostile(t *testing.T) *hostile {
	t.Helper()
	plain := c.namespace(t, map[string]string{"policy": "some", "team": "a"})
	apart := func(i int) corev1.ContainerPort { return containerPort(1000+i, "") }
	bad := func(i int) corev1.ContainerPort {
		return containerPort(30000+i, fmt.Sprintf("%s-%d", strings.Repeat("x", 60), i))
	}
	ranged := func(i int) corev1.ContainerPort {
		return containerPort(30000+i, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
	}
	same := func(i int) corev1.ContainerPort {
		return containerPort(8080, fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250))
	}
	six := func(i int) corev1.ContainerPort {
		return containerPort(8080, fmt.Sprintf("fd00:0:0:0:0000:0:0:%x", 1+i))
	}
	one := func(i int) corev1.ContainerPort {
		p := containerPort(8080, []string{"", fmt.Sprintf("10.0.0.%d", i)}[min(i, 1)])
		p.ContainerPort = int32(1 + i) // else the API server warns of so many of them that nobody else is heard
		return p
	}
	h := &hostile{cluster: c, plain: plain}
	h.rows = []hostileRow{
		{"as many ports as can be judged", nil, many(600, apart), "PC0311", "a policy cannot judge"},
		{"one more", nil, many(601, apart), "a policy cannot judge", "PC0102"},
		{"many more", nil, many(5000, apart), "a policy cannot judge", "PC0102"},
		{"all on one number, on addresses of their own", nil, many(100, same), "", "PC0102"},
		{"the same in IPv6", nil, many(100, six), "", "PC0102"},
		{"one more than can be compared", nil, many(101, same), "a policy cannot judge", "PC0102"},
		{"all of them one socket", nil, many(100, one), "PC0102", "a policy cannot judge"},
		{"no addresses", nil, many(600, bad), "PC0101", "a policy cannot judge"},
		{"all in the range", nil, many(600, ranged), "PC0303", "a policy cannot judge"},
		{"as much as before", many(600, ranged), many(599, ranged), "already the case before this change", "a policy cannot judge"},
		{"all of it new", many(600, apart), many(600, ranged), "PC0303", "a policy cannot judge"},
		{"no addresses, as before", many(600, bad), many(599, bad), "already the case before this change", "a policy cannot judge"},
		{"the same sockets as before", many(100, one), many(99, one), "already the case before this change", "a policy cannot judge"},
		{"many node ports", nil, manyEntries(30001, 600), "PC0310", "a policy cannot judge"},
		{"more node ports than can be judged", nil, manyEntries(30001, 601), "a policy cannot judge", "PC0310"},
		{"all of them new", manyEntries(30000, 2), manyEntries(30000, 599), "PC0310", "a policy cannot judge"},
	}
	h.stored = make([]client.Object, len(h.rows))
	for i, tt := range h.rows {
		if tt.before != nil {
			h.stored[i] = tt.before(t, plain)
			h.stored[i].SetName(fmt.Sprintf("many-%d", i))
			if err := c.Create(t.Context(), h.stored[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return h
}

// test: whatever an object is like, it is judged or refused as one that cannot be, and CEL's limits hold.
func (h *hostile) test(t *testing.T) {
	for i, tt := range h.rows {
		o := tt.object(t, h.plain)
		request := func() error { return h.Create(t.Context(), o, client.DryRunAll) }
		if old := h.stored[i]; old != nil {
			o.SetName(old.GetName())
			o.SetResourceVersion(old.GetResourceVersion())
			if svc, ok := o.(*corev1.Service); ok {
				svc.Spec.ClusterIP, svc.Spec.ClusterIPs = old.(*corev1.Service).Spec.ClusterIP, old.(*corev1.Service).Spec.ClusterIPs
			}
			request = func() error { return h.Update(t.Context(), o, client.DryRunAll) }
		}
		a := h.try(request)
		said := strings.Join(a.Said(), "\n")
		if a.Other != nil || strings.Contains(said, "budget") || strings.Contains(said, "cost") || !strings.Contains(said, tt.want) || strings.Contains(said, tt.not) {
			t.Errorf("%s: %v, %.2000q, want %q and not %q", tt.why, a.Other, said, tt.want, tt.not)
		}
	}
}
