package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// daemonSockets asks whether the object wants a socket that a daemon of the node holds. The daemon itself, where it
// runs as a pod of the host network, is let alone: it is known by its container's name, in a trusted namespace.
func daemonSockets(s subject) []Finding {
	var findings []Finding
	for _, c := range s.claims() {
		if c.InitOnly || !s.reachesNode(c) {
			continue
		}
		for _, r := range s.settings.Reserved {
			if !c.Overlaps(r.Socket) || r.IsRunBy(s.workload) {
				continue
			}
			if nodes, meets := s.meetsDaemon(c, r); meets {
				findings = append(findings, Finding{
					Code: DaemonSocket, Object: c.Owner.Ref, Field: c.Field, Detail: DaemonNodes{Label: r.NodeLabel}, Claim: c, Nodes: nodes,
					Holder: &Holder{Ref: ports.Ref{Kind: DaemonKind, Name: r.Name}, Claim: reservedClaim(r.Socket), Nodes: nodes},
				})
			}
		}
	}
	return findings
}

// meetsDaemon reports whether a claim certainly meets a daemon, and on which nodes; nil for every node, or one that is not known.
// Where no node is known, one that has the daemon may be among them. A pod that has a node without the daemon left is the
// scheduler's business.
func (s subject) meetsDaemon(c ports.Claim, r Reserved) (nodes []string, meets bool) {
	all := s.held.Nodes()
	if r.NodeLabel == "" || len(all) == 0 || s.labelsOf == nil {
		return nil, true
	}
	for _, node := range all {
		if r.IsOn(s.labelsOf(node)) {
			nodes = append(nodes, node)
		}
	}
	switch c.Scope.Kind {
	case ports.AtAddress:
		addr, _ := c.Address.Single()
		node, _, _ := s.held.NodeOf(addr)
		nodes = intersect(nodes, []string{node})
	case ports.OnNode, ports.OnEach:
		nodes = intersect(nodes, c.Scope.Nodes())
	case ports.Undecided:
		left := s.workload.nodes()
		if shared := intersect(left, nodes); len(left) == 0 || len(shared) < len(left) {
			return nil, false
		}
		nodes = left
	case ports.Everywhere:
	}
	return nodes, len(nodes) > 0
}

// ReservationFinding is that an entry of a node's annotation reserves nothing; bad says which entry, and what it is not.
func ReservationFinding(node ports.Ref, field string, bad error) Finding {
	return Finding{Code: BadReservation, Severity: SeverityOf(BadReservation, ""), Object: node, Field: field, Detail: Unreadable{Err: bad}}
}

// reachesNode reports whether a claim takes packets that are sent to a node: an external IP only if a node has it.
func (s subject) reachesNode(c ports.Claim) bool {
	if c.Scope.Kind != ports.AtAddress {
		return true
	}
	addr, ok := c.Address.Single()
	if !ok {
		return false
	}
	_, _, known := s.held.NodeOf(addr)
	return known
}

// IsRunBy reports whether w is the daemon itself, which a cluster may run as a pod of the host network.
func (r Reserved) IsRunBy(w *Workload) bool {
	return w != nil && w.IsTrusted && w.HostNetwork && slices.Contains(w.Containers, r.Name)
}
