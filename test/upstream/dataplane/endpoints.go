package dataplane

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// mood is what the endpoints of a Service have in common. If each were drawn for itself, those cases would be rare in
// which all are alike, and kube-proxy asks that of them again and again.
type mood struct {
	none       bool
	ready      []state
	nodes      []string
	hints      []hint
	duplicates bool
}

// state is the conditions of an endpoint: nil is not said.
type state struct{ ready, serving, terminating *bool }

type hint struct{ zones, nodes []string }

func (d *draw) mood() mood {
	yes, no := new(true), new(false)
	ready, quiet, dead := state{yes, yes, no}, state{}, state{no, no, no}
	draining, drained := state{no, yes, yes}, state{no, no, yes}
	published := state{yes, yes, yes} // of a Service that publishes addresses that are not ready
	none, ours := hint{}, hint{zones: []string{"za"}}
	other, node, otherNode := hint{zones: []string{"zb"}}, hint{nodes: nodeNames[:1]}, hint{nodes: nodeNames[1:2]}
	both := hint{zones: []string{"za", "zb"}, nodes: nodeNames[:2]}
	return mood{
		none: d.one(7),
		ready: pick(d, []state{ready}, []state{ready}, []state{ready, quiet}, []state{dead}, []state{draining}, []state{draining, drained, dead},
			[]state{ready, draining}, []state{ready, dead, draining, drained, quiet, published}),
		nodes: pick(d, nodeNames, nodeNames, nodeNames, nodeNames[:1], nodeNames[1:], nodeNames[1:], []string{"n2", ""}),
		hints: pick(d, []hint{none}, []hint{none}, []hint{ours, other}, []hint{ours, other}, []hint{other}, []hint{node, otherNode}, []hint{node, otherNode},
			[]hint{otherNode}, []hint{both}, []hint{both, ours}, []hint{both, node, none}, []hint{ours, other, none}),
		duplicates: d.one(5),
	}
}

func (d *draw) endpoints(svc *corev1.Service) {
	families := svc.Spec.IPFamilies
	if len(families) == 0 {
		families = d.families
	}
	for _, f := range families {
		m := d.mood()
		if m.none {
			if d.one(2) {
				d.slice(svc, f)
			}
			continue
		}
		for range pick(d, 1, 1, 2) {
			slice := d.slice(svc, f)
			for range pick(d, 0, 1, 2, 3, 4) {
				slice.Endpoints = append(slice.Endpoints, d.endpoint(f, m))
			}
			if n := len(slice.Endpoints); m.duplicates && n > 0 {
				d.again(svc, slice, slice.Endpoints[n-1])
			}
		}
	}
}

func (d *draw) slice(svc *corev1.Service, f corev1.IPFamily) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, Name: fmt.Sprintf("%s-%d", svc.Name, len(d.Slices)),
			Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
		},
		AddressType: discoveryv1.AddressType(f),
	}
	for i, p := range svc.Spec.Ports {
		if d.one(15) { // a name of a container's port that no pod of the slice has
			continue
		}
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(p.Protocol), Port: new(int32(8080 + i*pick(d, 0, 1, 1)))})
	}
	if d.one(15) {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new("else"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(9))})
	}
	d.Slices = append(d.Slices, s)
	return s
}

func (d *draw) endpoint(f corev1.IPFamily, m mood) discoveryv1.Endpoint {
	n := d.next()
	node := pick(d, m.nodes...)
	segment := 1 // of the node's network of pods
	for i, name := range nodeNames {
		if name == node {
			segment = i + 1
		}
	}
	e := discoveryv1.Endpoint{
		Addresses: []string{byFamily(f, fmt.Sprintf("10.244.%d.%d", segment+10*(n/200), 2+n%200), fmt.Sprintf("fd00:10:244:%d::%x", segment, n))},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("pod-%d", n)},
	}
	if node != "" {
		e.NodeName = new(node)
	}
	s, h := pick(d, m.ready...), pick(d, m.hints...)
	e.Conditions = discoveryv1.EndpointConditions{Ready: s.ready, Serving: s.serving, Terminating: s.terminating}
	for _, z := range h.zones {
		e.Hints = orNew(e.Hints)
		e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
	}
	for _, n := range h.nodes {
		e.Hints = orNew(e.Hints)
		e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: n})
	}
	return e
}

func orNew[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

// again adds a slice with a terminating pod that has the same address, which the pod network gave to another one. What
// kube-proxy does if more than one of them is terminating, or none, depends on the order in which it hears of them.
func (d *draw) again(svc *corev1.Service, slice *discoveryv1.EndpointSlice, e discoveryv1.Endpoint) {
	if e.Conditions.Terminating != nil && *e.Conditions.Terminating {
		return
	}
	e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	e.NodeName = new(pick(d, nodeNames...))
	more := d.slice(svc, corev1.IPFamily(slice.AddressType))
	more.Ports = slice.Ports
	more.Endpoints = []discoveryv1.Endpoint{e}
}

// large adds a Service with so many endpoints that the iptables mode leaves out comments, or just not.
func (d *draw) large() {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "large"}}
	svc.Spec.Type = corev1.ServiceTypeNodePort
	d.Services = append(d.Services, svc)
	d.clusterIPs(svc)
	svc.Spec.Ports = []corev1.ServicePort{{Name: "large", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: d.nextNodePort()}}
	d.policies(svc)
	for _, f := range d.families {
		s := d.slice(svc, f)
		s.Ports = []discoveryv1.EndpointPort{{Name: new("large"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}}
		for range pick(d, 1000, 1001, 1001, 1050) - known(d.World(), rules.Family(byFamily(f, 4, 6))) {
			s.Endpoints = append(s.Endpoints, d.endpoint(f, mood{ready: []state{{}}, nodes: nodeNames, hints: []hint{{}}}))
		}
	}
}
