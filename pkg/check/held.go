package check

import (
	"cmp"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// held asks who holds what the object wants: nodePort, healthCheckNodePort, hostPort, hostNetwork or external IP, on a
// node that is certain or everywhere. Host ports of templates against those of other workloads are workloadsMeet's.
func held(s subject) []Finding {
	var findings []Finding
	if s.service != nil {
		for _, wanted := range s.service.Claims {
			findings = append(findings, s.byHolder(Held, wanted, s.held.Conflicts(wanted))...)
		}
	}
	for _, m := range s.met {
		findings = append(findings, s.byHolder(Held, m.wanted, m.others)...)
	}
	return findings
}

// claims are the claims of whatever the subject is.
func (s subject) claims() []ports.Claim {
	if s.service != nil {
		return s.service.Claims
	}
	if s.workload != nil {
		return s.workload.Claims
	}
	return nil
}

// maxAddresses is how many addresses a workload is asked about one by one, on one number. Nodes have few, and an answer
// must not take the longer the more a pod makes up: beyond that it is taken to want all addresses.
const maxAddresses = 16

// asked are the claims of a pod or template for which to look at what others hold.
func (s subject) asked() []ports.Claim {
	if s.workload == nil {
		return nil
	}
	all, once := socketsOf(s.workload.Claims), sockets{}
	var asked []ports.Claim
	for _, c := range s.workload.Claims {
		if len(all[numberOf(c.Socket)]) > maxAddresses {
			c.Address = allOfFamily(c.Address)
		}
		if _, again := once[numberOf(c.Socket)][c.Address]; again || c.InitOnly {
			continue
		}
		once.add(c)
		asked = append(asked, c)
	}
	return asked
}

func allOfFamily(a ports.Address) ports.Address {
	switch {
	case !a.HasIPv6():
		return ports.AllIPv4()
	case !a.HasIPv4():
		return ports.AllIPv6()
	default:
		return ports.AllAddresses()
	}
}

// isPinnedPod reports whether wanted is a pod's on a node that is certain.
func isPinnedPod(w *Workload, wanted ports.Claim) bool {
	return w.IsPod && wanted.Scope.Kind == ports.OnNode
}

// byHolder makes one finding of all conflicts of wanted with one holder, so that the thousand pods of a DaemonSet are
// one line; and so are the static pods of one manifest, which each node runs by itself.
func (s subject) byHolder(code Code, wanted ports.Claim, conflicts []ports.Conflict) []Finding {
	var findings []Finding
	index := map[ports.Ref]int{}
	everywhere, somewhere := map[ports.Ref]bool{}, map[ports.Ref]bool{}
	var reserving ports.Ref // the first node that reserves the port by its annotation
	for _, c := range conflicts {
		root := s.held.Root(c.Held.Owner)
		if root.Kind == NodeKind {
			root = cmp.Or(reserving, root) // one finding, however many nodes reserve the port
			reserving = root
		}
		manifest := manifestOf(c.Held, root)
		i, known := index[manifest]
		if !known {
			i = len(findings)
			index[manifest] = i
			findings = append(findings, Finding{
				Code: code, Object: wanted.Owner.Ref, Field: wanted.Field, Claim: wanted,
				Holder: s.holder(root, c.Held),
			})
		}
		f := &findings[i]
		if f.Holder.Ref != root {
			other := s.holder(root, c.Held)
			other.Nodes = c.Nodes
			f.Others = append(f.Others, *other)
		}
		somewhere[root] = somewhere[root] || !s.runsNowhere(c.Held)
		if c.Held.Owner.Ref != root && c.Held.Owner.Kind != NodeKind {
			f.Holder.Pods += isPod(c.Held.Owner)
		}
		f.Nodes = append(f.Nodes, c.Nodes...)
		if c.Nodes == nil && c.Held.Scope.Kind == ports.Everywhere && !everywhere[root] {
			everywhere[root] = true
			pods := f.Holder.Pods
			f.Holder = s.holder(root, c.Held)
			f.Holder.Pods = pods
		}
	}
	for i := range findings {
		f := &findings[i]
		slices.Sort(f.Nodes)
		f.Nodes = slices.Compact(f.Nodes)
		if everywhere[f.Holder.Ref] {
			f.Nodes = nil
		}
		if f.Holder.Nodes = f.Nodes; len(f.Others) > 0 {
			f.Holder.Nodes = f.Holder.Claim.Scope.Nodes()
			f.sortHolders()
		}
		if !somewhere[f.Holder.Ref] {
			f.Case, f.Nodes = HolderHasNoNode, nil
		}
	}
	return findings
}

// manifestOf is the holder for which a claim counts: root, or what the static pods of one manifest have in common. The kubelet
// names each by the manifest and its node (k8s.io/kubernetes pkg/kubelet/config, generatePodName).
func manifestOf(c ports.Claim, root ports.Ref) ports.Ref {
	node, onOne := c.Scope.Node()
	if name, of := strings.CutSuffix(root.Name, "-"+node); of && onOne && root.Kind == "Pod" {
		root.Name = name
	}
	return root
}

// runsNowhere reports whether what stands in a Service's way is a pod or template that no node suits: it keeps the port for nothing,
// until such a node comes.
func (s subject) runsNowhere(held ports.Claim) bool {
	return s.service != nil && s.nowhere != nil && held.Kind.OfPod() && s.nowhere(held.Owner.Ref)
}

func isPod(o *ports.Owner) int {
	if o.Kind == "Pod" {
		return 1
	}
	return 0
}

// holder names root as the holder of held, by the field of root's own template if root stands in the ledger with one. A Service
// whose load balancer runs as pods has no such field.
func (s subject) holder(root ports.Ref, held ports.Claim) *Holder {
	h := &Holder{Ref: root, Claim: held, Field: held.Field}
	if root == held.Owner.Ref {
		return h
	}
	template, known := s.templates[root]
	if !known {
		_, claims, _ := s.held.Owner(root)
		template = socketsOf(claims)
		s.templates[root] = template
	}
	if c, ok := template.covering(held.Socket); ok {
		h.Field = c.Field
	} else if root.Kind == "Service" {
		h.Field = ""
	}
	return h
}

// unique keeps the first of several findings that are the same violation: a pod may name one port in two containers or on
// two addresses, and a node port may be held on two prefixes. What stood before does not hide what is new.
func unique(findings []Finding) []Finding {
	type violation struct {
		identity
		number, field, others string
		standing              bool
	}
	seen := map[violation]bool{}
	return slices.DeleteFunc(findings, func(f Finding) bool {
		id := violation{identity: f.identity(), number: f.Claim.PortProtocol(), standing: f.Standing}
		id.socket = ports.Socket{}
		for _, h := range f.Others {
			id.others += h.Ref.String() + " "
		}
		if f.Holder == nil || f.Claim.Owner == nil {
			id.field = f.Field // each field is to be mended
		}
		again := seen[id]
		seen[id] = true
		return again
	})
}
