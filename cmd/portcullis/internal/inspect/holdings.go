package inspect

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// holdings are what holds ports.
type holdings struct {
	*view
	settings    *extract.Settings
	known       *extract.Services
	ledger      ledger.Ledger
	clusterCIDR []netip.Prefix                // kube-proxy's; nil: no object tells
	pods        map[ports.Ref]*check.Workload // those that hold ports
	objects     map[ports.Ref]metav1.Object   // the pods and Services that do
}

func holdingsOf(objects []*manifest.Object, settings *extract.Settings) *holdings {
	all := source.Bare(objects)
	h := &holdings{view: viewOf(objects), settings: settings, known: extract.NewServices(all), clusterCIDR: extract.ClusterCIDRs(all), pods: map[ports.Ref]*check.Workload{}, objects: map[ports.Ref]metav1.Object{}}
	for _, node := range h.nodes {
		h.ledger.ReplaceNode(node.Name, extract.NodeAddresses(node))
	}
	held := map[ports.Ref][]ports.Claim{} // by all forms of what is there in several
	for _, svc := range h.services {
		if s := extract.Service(svc, settings.NodePorts); len(s.Claims) > 0 {
			held[s.Owner.Ref] = append(held[s.Owner.Ref], s.Claims...)
			h.ledger.Replace(s.Owner, held[s.Owner.Ref])
			h.objects[s.Owner.Ref] = svc
		}
	}
	for _, object := range h.workloads {
		if w, ok := extract.Workload(object, nil, settings.Check.Trusted); ok {
			h.ledger.Replace(w.Owner, nil) // a template holds nothing, but leads to the controllers' controllers
		}
	}
	for _, pod := range h.view.pods {
		var nodes extract.EligibleNodes // who is on a node needs none
		if pod.Spec.NodeName == "" {
			nodes = extract.NodeList(h.nodes)
		}
		w := extract.Pod(pod, nodes, settings.Check.Trusted)
		h.controllers.Adopt(w, pod)
		w.Claims = slices.DeleteFunc(w.Claims, func(c ports.Claim) bool { return c.InitOnly }) // held for a moment only
		if len(w.Claims) > 0 {
			held[w.Owner.Ref] = append(held[w.Owner.Ref], w.Claims...)
			h.ledger.Replace(w.Owner, held[w.Owner.Ref])
			h.pods[w.Owner.Ref], h.objects[w.Owner.Ref] = w, pod
		}
	}
	return h
}

func (h *holdings) hasNode(name string) bool { return slices.Contains(h.nodeNames(), name) }

func (h *holdings) nodeNames() []string {
	var names []string
	for _, node := range h.nodes {
		names = append(names, node.Name)
	}
	slices.Sort(names)
	return names
}

// listed returns what is held, of a namespace, on a node and on a number if they are named.
func (h *holdings) listed(namespace, node string, asked *number) []report.HeldPort {
	return slices.DeleteFunc(h.all(), func(held report.HeldPort) bool {
		return asked != nil && !asked.is(held.Claim.Socket) || namespace != "" && held.Holder.Namespace != namespace ||
			node != "" && held.Node != node && held.Node != report.EveryNode
	})
}

// all returns everything that is held, with who else holds it.
func (h *holdings) all() []report.HeldPort {
	all := h.daemons()
	byPort := map[uint16][]int{}
	for i, d := range all {
		byPort[d.Claim.Port] = append(byPort[d.Claim.Port], i)
	}
	held := h.ledger.Snapshot()
	for _, c := range held.Claims() {
		one := report.HeldPort{Claim: c, Node: placeOf(c, held), Holder: held.Root(c.Owner), Since: h.since(c.Owner.Ref)}
		for _, other := range held.Conflicts(c) {
			one.Conflicts = append(one.Conflicts, check.Holder{Ref: held.Root(other.Held.Owner), Field: other.Held.Field})
		}
		for _, i := range byPort[c.Port] {
			if d := &all[i]; h.meetsDaemon(one, *d) {
				one.Conflicts = append(one.Conflicts, check.Holder{Ref: d.Holder, Field: d.Claim.Field})
				d.Conflicts = append(d.Conflicts, check.Holder{Ref: one.Holder, Field: c.Field})
			}
		}
		all = append(all, one)
	}
	for i := range all {
		all[i].Conflicts = eachOnce(all[i].Conflicts)
	}
	return all
}

func eachOnce(holders []check.Holder) []check.Holder {
	slices.SortStableFunc(holders, func(a, b check.Holder) int { return a.Compare(b.Ref) })
	return slices.CompactFunc(holders, func(a, b check.Holder) bool { return a.Ref == b.Ref })
}

// placeOf is where a claim is held: what has an address is held on its node, and everywhere if no node has it.
func placeOf(c ports.Claim, held *ledger.Snapshot) string {
	if node, ok := c.Scope.Node(); ok {
		return node
	}
	if addr, single := c.Address.Single(); single && c.Scope.Kind == ports.AtAddress {
		if node, _, known := held.NodeOf(addr); known {
			return node
		}
		return report.EveryNode
	}
	if c.Scope.Kind == ports.Undecided {
		return ""
	}
	return report.EveryNode
}

// since is from when on a pod or Service holds its ports.
func (h *holdings) since(owner ports.Ref) time.Time {
	switch object := h.objects[owner].(type) {
	case *corev1.Pod:
		return extract.Started(object)
	case *corev1.Service:
		return object.CreationTimestamp.Time
	default:
		return time.Time{}
	}
}

// daemons returns what the nodes' own daemons hold, and what nodes reserve by their annotation.
func (h *holdings) daemons() []report.HeldPort {
	var all []report.HeldPort
	daemon := func(r check.Reserved, node string) report.HeldPort {
		return report.HeldPort{Claim: ports.Claim{Socket: r.Socket, Kind: ports.HostNetwork}, Node: node, Holder: ports.Ref{Kind: check.DaemonKind, Name: r.Name}}
	}
	for _, r := range h.settings.Check.Reserved {
		if r.NodeLabel == "" {
			all = append(all, daemon(r, report.EveryNode))
		}
	}
	for _, node := range h.nodes {
		for _, r := range h.settings.Check.Reserved {
			if r.NodeLabel != "" && r.IsOn(node.Labels) {
				all = append(all, daemon(r, node.Name))
			}
		}
		reserved, _ := extract.ReservedPorts(node) // what is malformed in it reserves nothing
		for _, socket := range reserved {
			all = append(all, report.HeldPort{
				Claim: ports.Claim{Socket: socket, Kind: ports.HostNetwork, Field: "metadata.annotations[" + extract.ReservedPortsAnnotation + "]"},
				Node:  node.Name, Holder: ports.Ref{APIVersion: "v1", Kind: check.NodeKind, Name: node.Name},
			})
		}
	}
	return all
}

// meetsDaemon reports whether a daemon holds a claim's port in the same place. It may run as a pod itself.
func (h *holdings) meetsDaemon(one, daemon report.HeldPort) bool {
	switch {
	case !daemon.Claim.Overlaps(one.Claim.Socket):
		return false
	case one.Claim.Scope.Kind == ports.AtAddress && one.Node == report.EveryNode:
		return false // packets for an address of no node
	case daemon.Holder.Kind == check.DaemonKind && (check.Reserved{Name: daemon.Holder.Name}).IsRunBy(h.pods[one.Claim.Owner.Ref]):
		return false
	default:
		return daemon.Node == one.Node || daemon.Node == report.EveryNode || one.Node == report.EveryNode
	}
}
