package inspect

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// about tells of a number: of each protocol that somebody holds it with, else of the one that was asked for. What would become
// of who wants it now is judged in a namespace.
func (h *holdings) about(asked number, node, namespace string, objects []*manifest.Object) ([]report.PortNumber, error) {
	held := h.listed("", "", &asked)
	protocols := []ports.Protocol{asked.protocol}
	if asked.any {
		found := map[ports.Protocol]bool{}
		for _, one := range held {
			found[one.Claim.Protocol] = true
		}
		if len(found) > 0 {
			all := ports.Protocols()
			protocols = slices.DeleteFunc(all[:], func(p ports.Protocol) bool { return !found[p] })
		}
	}
	set, err := poolsOf(objects, h.settings)
	if err != nil {
		return nil, err
	}
	judge, err := audit.New(h.settings, source.Bare(objects), nil, time.Now())
	if _, err := source.Invalid(err, objects); err != nil { // of a pool or policy that is refused nothing is kept to
		return nil, err
	}
	var all []report.PortNumber
	for _, protocol := range protocols {
		of := slices.DeleteFunc(slices.Clone(held), func(one report.HeldPort) bool { return one.Claim.Protocol != protocol })
		n := report.PortNumber{
			Port: int(asked.port), Protocol: protocol.String(), Free: len(of) == 0,
			LiesIn: h.liesIn(asked.port, set), Situations: []report.PortSituation{}, Serves: h.serves(of), New: h.wanted(judge, namespace, asked.port, protocol),
		}
		h.addSituations(&n, asked.port, protocol, node, of)
		all = append(all, n)
	}
	return all, nil
}

// poolsOf returns the pools among objects; nil if there are none.
func poolsOf(objects []*manifest.Object, settings *extract.Settings) (*pool.Set, error) {
	var found []pool.Pool
	for _, object := range objects {
		if o, ok := object.Object.(*v1alpha1.PortPool); ok {
			p, err := extract.Pool(o)
			if err != nil {
				return nil, fmt.Errorf("PortPool %s: %w", o.Name, err)
			}
			found = append(found, p)
		}
	}
	if found == nil {
		return nil, nil
	}
	return pool.New(found, settings.Check.NodePortRange), nil
}

// liesIn names the ranges and pools that a number is of.
func (h *holdings) liesIn(port uint16, set *pool.Set) []string {
	s := &h.settings.Check
	in := []string{}
	if s.NodePortRange.Contains(port) {
		text := fmt.Sprintf("the node port range %s", s.NodePortRange)
		if s.DynamicBand.Contains(port) {
			text += fmt.Sprintf(", in its dynamic allocation band %s", s.DynamicBand)
		}
		in = append(in, text)
	}
	if s.Ephemeral.Contains(port) && !slices.ContainsFunc(s.ReservedLocal, func(r ports.Range) bool { return r.Contains(port) }) {
		in = append(in, fmt.Sprintf("the range %s that outgoing connections of the nodes use", s.Ephemeral))
	}
	for _, of := range []pool.For{pool.NodePorts, pool.HostPorts} {
		if set == nil {
			continue
		}
		if m, ok := set.OwnerOf(of, port); ok {
			in = append(in, fmt.Sprintf("PortPool %s", m.Name))
		}
	}
	return slices.Compact(in)
}

// serves tells of the Services among the holders how many endpoints they have that are ready.
func (h *holdings) serves(held []report.HeldPort) []report.PortUse {
	uses := []report.PortUse{}
	seen := map[ports.Ref]bool{}
	for _, one := range held {
		if _, ok := h.objects[ownerOf(one)].(*corev1.Service); !ok || seen[ownerOf(one)] {
			continue
		}
		seen[ownerOf(one)] = true
		svc, known := h.known.Service(ownerOf(one), []netip.Addr{netip.MustParseAddr(clusterIPToBe)})
		ready := map[netip.Addr]bool{}
		for i := 0; svc != nil && i < len(svc.Ports); i++ {
			for _, e := range svc.Ports[i].Endpoints {
				if e.Ready {
					ready[e.Addr.Addr()] = true
				}
			}
		}
		uses = append(uses, report.NewPortUse(ownerOf(one), len(ready), known))
	}
	return uses
}

func ownerOf(one report.HeldPort) ports.Ref {
	if one.Claim.Owner == nil {
		return ports.Ref{}
	}
	return one.Claim.Owner.Ref
}

// rootOf is who is behind a holder.
func (h *holdings) rootOf(ref ports.Ref) ports.Ref {
	if owner, _, ok := h.ledger.Snapshot().Owner(ref); ok {
		return h.ledger.Snapshot().Root(owner)
	}
	return ref
}

// wanted judges a new Service and a new pod that want a number, as the webhook would: in a namespace, without labels.
func (h *holdings) wanted(judge *audit.Judge, namespace string, port uint16, protocol ports.Protocol) []report.PortWanted {
	settings := &h.settings.Check
	meta := metav1.ObjectMeta{Namespace: namespace, GenerateName: "new-"}
	nodePort, _ := judge.WouldFind(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{
		Port: int32(port), NodePort: int32(port), Protocol: corev1.Protocol(protocol.String()), TargetPort: intstr.FromInt32(int32(port)),
	}}}})
	pod := &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{
		ContainerPort: int32(port), HostPort: int32(port), Protocol: corev1.Protocol(protocol.String()),
	}}}}}}
	hostPort, room := judge.WouldFind(pod)
	forPod := report.NewPortWanted(ports.HostPort, hostPort, room, settings)
	for _, node := range h.sortedNodes() {
		if !slices.Contains(room.Nodes, node.Name) {
			forPod.AddExcluded(node.Name, extract.Exclusions(pod, node, extract.Load{}))
		}
	}
	return []report.PortWanted{report.NewPortWanted(ports.NodePort, nodePort, check.Room{}, settings), forPod}
}

func (h *holdings) sortedNodes() []*corev1.Node {
	return slices.SortedFunc(slices.Values(h.nodes), func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
}
