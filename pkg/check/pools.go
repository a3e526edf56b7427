package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Pools is the pools of numbers as one object meets them.
type Pools struct {
	Set  *pool.Set
	Who  pool.Requester // the object; For says whether its nodePorts or its hostPorts are judged
	Book pool.Book      // nil: which numbers are free is not known, and none is told
	// InNamespace returns how many of a pool's numbers the others in the object's namespace have; nil: none.
	// It is asked of pools for node ports only.
	InNamespace func(m *pool.Member) int
}

// Owner is the object.
func (in *Input) Owner() ports.Ref {
	if in.Service != nil {
		return in.Service.Owner.Ref
	}
	return in.Workload.Owner.Ref
}

// Requester is the object as pools see it; labelsOf returns those of a namespace.
func (in *Input) Requester(labelsOf func(namespace string) map[string]string) pool.Requester {
	owner := in.Owner()
	who := pool.Requester{For: pool.NodePorts, Namespace: owner.Namespace, Name: owner.Name, NamespaceLabels: labelsOf(owner.Namespace)}
	if in.Service != nil {
		who.Labels = in.Service.Labels
	} else {
		who.For, who.Labels = pool.HostPorts, in.Workload.Labels
	}
	return who
}

// foreignNumbers asks for numbers of exclusive pools that serve others, and for numbers newly taken from pools that give
// none any more. Of pools for host ports, those of pods and templates are asked about.
func foreignNumbers(s subject) []Finding {
	if s.pools == nil {
		return nil
	}
	var findings []Finding
	had := s.had()
	for _, c := range s.pooled() {
		f := Finding{Code: ForeignPool, Object: c.Owner.Ref, Field: c.Field, Claim: c}
		objection := s.pools.Set.Judge(s.pools.Who, c.Port, s.pools.Book)
		f.Detail = PoolObjection{objection, s.service != nil && s.service.Chosen}
		if foreign, is := errors.AsType[*pool.ForeignError](objection); is {
			f.Case = NumberOfOthers
			f.by(foreign.Pool)
			findings = append(findings, f)
		}
		if draining, is := errors.AsType[*pool.DrainingError](objection); is && !had[c.Port] {
			f.Case = NumberOfDraining
			f.by(draining.Pool)
			findings = append(findings, f)
		}
	}
	return findings
}

// poolLimits asks whether the numbers that an object newly takes exceed the limits of their pools. Pods on different nodes
// may share a number: what somebody of the namespace has already is no more for the others.
func poolLimits(s subject) []Finding {
	if s.pools == nil || s.workload.IsIdle() { // it is asked when it begins to want pods
		return nil
	}
	var findings []Finding
	had, claims := s.had(), s.pooled()
	var object ports.Ref
	if s.workload != nil {
		object, had = s.workload.Owner.Ref, s.hadAsPod()
	} else {
		object = s.service.Owner.Ref
	}
	for _, m := range s.pools.Set.Members() {
		if m.State != pool.Active || !m.Selects(s.pools.Who) {
			continue
		}
		kept, fresh := map[uint16]bool{}, map[uint16]bool{}
		field := ""
		for _, c := range claims {
			switch {
			case !m.Effective.Contains(c.Port), s.isShared(m, c):
			case had[c.Port]:
				kept[c.Port] = true
			default:
				fresh[c.Port] = true
				field = cmp.Or(field, c.Field)
			}
		}
		others := 0
		switch {
		case len(fresh) == 0 || m.PerNamespace == 0:
		case s.workload != nil:
			others = HostPortsOf(s.held, &s.workload.Owner, m)
		case s.pools.InNamespace != nil:
			others = s.pools.InNamespace(m)
		}
		if e := m.Exceeded(s.pools.Who, others+len(kept), len(kept), len(fresh)); e != nil {
			findings = append(findings, LimitFinding(object, field, e))
		}
	}
	return findings
}

// isShared reports whether a pod's claim is on a number of a pool that another one of its namespace has as well.
func (s subject) isShared(m *pool.Member, c ports.Claim) bool {
	return s.workload != nil && m.PerNamespace > 0 && s.held.HasHostPort(c.Port, &s.workload.Owner)
}

// HostPortsOf counts the numbers of a pool that the other pods and templates of an owner's namespace have, on whichever nodes.
// What the owner makes, which may be on its way out, is not among them.
func HostPortsOf(held *ledger.Snapshot, owner *ports.Owner, m *pool.Member) int {
	n := 0
	for _, r := range m.Effective {
		for i := range r.Size() {
			if held.HasHostPort(r.First+uint16(i), owner) {
				n++
			}
		}
	}
	return n
}

// hadAsPod are the host ports that the version before has; none if it wanted no pods.
func (s subject) hadAsPod() map[uint16]bool {
	had := map[uint16]bool{}
	if s.before == nil || s.before.IsIdle() {
		return had
	}
	for _, c := range s.before.Claims {
		had[c.Port] = had[c.Port] || !c.InitOnly
	}
	return had
}

// pooled are the claims on numbers of the kind that the subject's pools give.
func (s subject) pooled() []ports.Claim {
	isOf := ports.Kind.IsNodePortAllocated
	if s.pools.Who.For == pool.HostPorts {
		isOf = ports.Kind.OfPod
	}
	var claims []ports.Claim
	for _, c := range s.claims() {
		if isOf(c.Kind) && !c.InitOnly {
			claims = append(claims, c)
		}
	}
	return claims
}

// had are the numbers of the API server's book that the version before has.
func (s subject) had() map[uint16]bool {
	had := map[uint16]bool{}
	if s.previous != nil {
		for _, c := range s.previous.Claims {
			had[c.Port] = had[c.Port] || c.Kind.IsNodePortAllocated()
		}
	}
	return had
}

// LimitFinding says that an object exceeds a limit of a pool; field is the path of the first number that does. Who chooses
// numbers for an object raises it by this; the numbers that an object names are Check's.
func LimitFinding(object ports.Ref, field string, e *pool.LimitError) Finding {
	f := Finding{Code: PoolLimit, Severity: SeverityOf(PoolLimit, ""), Object: object, Field: field, Detail: PoolObjection{Err: e}}
	f.by(e.Pool)
	return f
}

// ExhaustedFinding says that no pool has the numbers that an object lacks; field is the path of the first of them. Who
// chooses numbers for an object raises it by this: Check never does.
func ExhaustedFinding(object ports.Ref, field string, e *pool.ExhaustedError) Finding {
	f := Finding{Code: PoolExhausted, Severity: SeverityOf(PoolExhausted, ""), Object: object, Field: field, Detail: PoolObjection{Err: e}}
	if len(e.Tried) > 0 {
		f.by(e.Tried[0].Pool)
	}
	f.Enforcement = e.Enforcement()
	return f
}

// by names the pool that objects, and does what it says.
func (f *Finding) by(m *pool.Member) {
	f.Holder = &Holder{Ref: ports.Ref{APIVersion: ownAPIVersion, Kind: "PortPool", Name: m.Name}}
	f.Enforcement = max(m.Enforcement, Audit) // the API's default
}

// ownAPIVersion is that of pools and policies.
const ownAPIVersion = "portcullis.dev/v1alpha1"

// offer adds to each finding that somebody else has a node port a number that is free: of the pool that serves the Service
// and has one, else of Settings.OfferFrom. Ports that want the same number are offered the same.
func (s subject) offer(findings []Finding, offered map[uint16]bool) {
	instead := map[uint16]uint16{}
	for i := range findings {
		f := &findings[i]
		if f.Code != Held || !f.Claim.Kind.IsNodePortAllocated() {
			continue
		}
		number, known := instead[f.Claim.Port]
		if !known {
			number = s.freeLike(f.Claim, offered)
			offered[number], instead[f.Claim.Port] = true, number
		}
		f.Instead = number
	}
}

// freeLike returns a number that nobody holds where the Service's claims on wanted's number are; 0 if there is none.
func (s subject) freeLike(wanted ports.Claim, offered map[uint16]bool) uint16 {
	var same []ports.Claim
	own := map[uint16]bool{}
	for _, c := range s.service.Claims {
		if !c.Kind.IsNodePortAllocated() {
			continue
		}
		own[c.Port] = true
		if c.Port == wanted.Port {
			same = append(same, c)
		}
	}
	isFree := func(port uint16) bool {
		return !offered[port] && !own[port] && IsFree(port, same, s.held, s.settings)
	}
	ref := s.service.Owner.Ref
	key := fmt.Sprintf("%s/%s/%d", ref.Namespace, ref.Name, wanted.Port)
	var owned ports.Ranges
	if s.pools != nil {
		book := func(port uint16) pool.Use {
			if !isFree(port) {
				return pool.Foreign
			}
			if s.pools.Book == nil {
				return pool.Free
			}
			return s.pools.Book(port)
		}
		for _, m := range s.pools.Set.Candidates(s.pools.Who) {
			if number, ok := m.Next(key, book); ok {
				return number
			}
		}
		owned = s.pools.Set.Owned(pool.NodePorts)
	}
	search := pool.Search{Ranges: s.settings.OfferFrom, Except: owned, Key: key, IsFree: isFree}
	number, _ := search.Next()
	return number
}

// IsFree reports whether claims, all on one number, could have port for it: whether no claim of others is in the way, and no
// daemon of the nodes.
func IsFree(port uint16, claims []ports.Claim, held *ledger.Snapshot, settings *Settings) bool {
	return !slices.ContainsFunc(claims, func(c ports.Claim) bool {
		c.Port = port
		isDaemons := slices.ContainsFunc(settings.Reserved, func(r Reserved) bool { return c.Overlaps(r.Socket) })
		return isDaemons || len(held.Conflicts(c)) > 0
	})
}
