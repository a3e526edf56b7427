package audit

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// restrictions are the pools and policies among the objects, with what they select by, and the numbers that each Service
// has of the pools so far.
type restrictions struct {
	settings   *extract.Settings
	set        *pool.Set // nil: there are no pools
	policies   []check.Policy
	claims     map[uint16]*v1alpha1.PortClaim
	namespaces map[string]map[string]string
	nodes      map[string]map[string]string // nil: not known
	now        time.Time

	numbers  map[string]map[ports.Ref][]uint16 // by namespace, of the Services that exist, or were judged
	promised map[uint16]ports.Ref              // what Services that leave their numbers out would be given
	offered  map[uint16]bool                   // what is wanted, promised or offered already
	everyone *ledger.Snapshot                  // what all hold, where what exists is judged in turn; nil: what is held is all there is
}

// newRestrictions reads what restricts the inputs. An input that stands in the state too takes its place. The error joins an
// *InvalidError for each object that the API server would refuse, which is as if it were not there.
func newRestrictions(settings *extract.Settings, state, inputs []runtime.Object, now time.Time) (*restrictions, error) {
	r := &restrictions{
		settings: settings, claims: map[uint16]*v1alpha1.PortClaim{}, namespaces: map[string]map[string]string{}, now: now,
		numbers: map[string]map[ports.Ref][]uint16{}, promised: map[uint16]ports.Ref{}, offered: map[uint16]bool{},
	}
	pools, policies := map[string]pool.Pool{}, map[string]check.Policy{}
	var errs []error
	for i, object := range slices.Concat(state, inputs) {
		var err error
		switch o := object.(type) {
		case *v1alpha1.PortPool:
			var p pool.Pool
			if p, err = extract.Pool(o); err == nil {
				p.Created = createdAt(p, pools[o.Name], i, i >= len(state), now)
				pools[o.Name] = p
			}
		case *v1alpha1.PortPolicy:
			var p check.Policy
			if p, err = extract.Policy(o); err == nil {
				policies[o.Name] = p
			}
		case *v1alpha1.PortClaim:
			if o.Spec.Port < 1 || o.Spec.Port > 65535 {
				err = fmt.Errorf("spec.port: %d is not a number from 1 to 65535; correct it", o.Spec.Port)
				break
			}
			r.claims[uint16(o.Spec.Port)] = o
		case *corev1.Namespace:
			r.namespaces[o.Name] = o.Labels
		case *corev1.Node:
			if r.nodes == nil {
				r.nodes = map[string]map[string]string{}
			}
			r.nodes[o.Name] = o.Labels
		}
		if err != nil {
			field, _, _ := strings.Cut(err.Error(), ": ")
			errs = append(errs, &InvalidError{Object: object, Field: field, Err: err})
		}
	}
	for _, object := range inputs {
		if svc, ok := object.(*corev1.Service); ok {
			for _, number := range numbersOf(extract.Service(svc, settings.NodePorts)) {
				r.offered[number] = true
			}
		}
	}
	if len(pools) > 0 {
		r.set = pool.New(slices.Collect(maps.Values(pools)), settings.Check.NodePortRange)
	}
	r.policies = slices.SortedFunc(maps.Values(policies), func(a, b check.Policy) int { return cmp.Compare(a.Name, b.Name) })
	return r, errors.Join(errs...)
}

// createdAt is when a pool came, where it says nothing of it: one that stands in the state when that did, others in the order of
// the objects, those of the inputs after all others. Of two that overlap the older one keeps the numbers.
func createdAt(p, stands pool.Pool, i int, isInput bool, now time.Time) time.Time {
	switch {
	case !p.Created.IsZero():
		return p.Created
	case isInput && stands.Name != "":
		return stands.Created
	case isInput:
		return now.Add(time.Duration(i))
	default:
		return time.Time{}.Add(time.Duration(i))
	}
}

// complete adds what restricts the object of the checks.
func (r *restrictions) complete(in *check.Input) {
	who := in.Requester(r.namespace)
	in.Policies, in.Namespace, in.Now = r.policies, who.NamespaceLabels, r.now
	if r.nodes != nil {
		in.NodeLabels = func(node string) map[string]string { return r.nodes[node] }
	}
	if r.set == nil {
		return
	}
	owner := in.Owner()
	in.Pools = &check.Pools{Set: r.set, Who: who, InNamespace: func(m *pool.Member) int { return r.inNamespace(owner, m) }}
	if in.Service != nil {
		in.Pools.Book = r.book(in.Service, in.Held)
	}
}

// namespace returns the labels of a namespace. The API server gives each a label with its name.
func (r *restrictions) namespace(name string) map[string]string {
	labels := maps.Clone(r.namespaces[name])
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelMetadataName] = name
	return labels
}

// inNamespace counts the numbers of a pool that the others in an object's namespace have, or would be given.
func (r *restrictions) inNamespace(object ports.Ref, m *pool.Member) int {
	others := map[uint16]bool{}
	for ref, numbers := range r.numbers[object.Namespace] {
		for _, number := range numbers {
			if ref != object && m.Effective.Contains(number) {
				others[number] = true
			}
		}
	}
	for number, ref := range r.promised {
		if ref != object && ref.Namespace == object.Namespace && m.Effective.Contains(number) {
			others[number] = true
		}
	}
	return len(others)
}

// book tells which numbers a Service could have.
func (r *restrictions) book(s *check.Service, held *ledger.Snapshot) pool.Book {
	like := nodePortClaims(s, r.settings.NodePorts)
	if r.everyone != nil {
		held = r.everyone
	}
	return func(port uint16) pool.Use {
		if by, promised := r.promised[port]; promised && by != s.Owner.Ref {
			return pool.Allocated
		}
		if use := r.claimed(port, s.Owner.Ref); use != pool.Free {
			return use
		}
		if !check.IsFree(port, like, held, &r.settings.Check) {
			return pool.Allocated
		}
		return pool.Free
	}
}

// claimed is what a number is used for by its PortClaim. One of the Service itself does not keep it from the number.
func (r *restrictions) claimed(port uint16, service ports.Ref) pool.Use {
	c := r.claims[port]
	switch {
	case c == nil || c.Spec.Service.Namespace == service.Namespace && c.Spec.Service.Name == service.Name:
		return pool.Free
	case c.Status.Phase != v1alpha1.ClaimReleased:
		return pool.Allocated
	}
	m, known := r.set.Named(c.Spec.Pool)
	if known && c.Status.ReleasedAt != nil && !r.now.Before(c.Status.ReleasedAt.Add(m.ReuseDelay)) {
		return pool.Free
	}
	return pool.Quarantined
}

// nodePortClaims are what a node port of a Service claims, whatever its number.
func nodePortClaims(s *check.Service, nodePorts extract.NodePortAddresses) []ports.Claim {
	wanted := map[ports.Protocol]bool{ports.TCP: s.ExternalTrafficPolicy == "Local"} // for health checks
	for _, p := range s.Ports {
		wanted[p.Protocol] = true
	}
	var claims []ports.Claim
	for _, protocol := range ports.Protocols() {
		if !wanted[protocol] {
			continue
		}
		for _, address := range nodePorts.On(true, true) {
			claims = append(claims, ports.Claim{
				Socket: ports.Socket{Address: address, Protocol: protocol}, Kind: ports.NodePort, Scope: ports.EverywhereScope(), Owner: &s.Owner,
			})
		}
	}
	return claims
}

// choose returns what is wrong with the numbers that a Service leaves out: no pool that serves it has them, or they are
// more than it may have. They are promised to it, so that those who come later are not given the same.
func (r *restrictions) choose(in check.Input) []check.Finding {
	gaps := check.Gaps(in.Service, in.OldService)
	if r.set == nil || len(gaps) == 0 {
		return nil
	}
	request := pool.Request{
		Requester: in.Pools.Who, Has: numbersOf(in.Service), Book: in.Pools.Book, InNamespace: in.Pools.InNamespace,
	}
	for _, g := range gaps {
		request.Wants = append(request.Wants, g.Key)
	}
	ref := in.Service.Owner.Ref
	choice, err := r.set.Choose(request)
	if exhausted, is := errors.AsType[*pool.ExhaustedError](err); is {
		return []check.Finding{check.ExhaustedFinding(ref, gaps[0].Field, exhausted)}
	}
	for _, number := range choice.Numbers {
		r.promised[number], r.offered[number] = ref, true
	}
	if choice.Over != nil {
		return []check.Finding{check.LimitFinding(ref, gaps[0].Field, choice.Over)}
	}
	return nil
}

// holds records the numbers that a Service has, isForm besides those that it has in another form.
func (r *restrictions) holds(s *check.Service, isForm bool) {
	numbers := numbersOf(s)
	if numbers == nil && r.numbers[s.Owner.Namespace] == nil {
		return
	}
	if r.numbers[s.Owner.Namespace] == nil {
		r.numbers[s.Owner.Namespace] = map[ports.Ref][]uint16{}
	}
	if isForm {
		numbers = append(numbers, r.numbers[s.Owner.Namespace][s.Owner.Ref]...)
	}
	r.numbers[s.Owner.Namespace][s.Owner.Ref] = numbers
}

// numbersOf returns the numbers that a Service has of the API server's book.
func numbersOf(s *check.Service) []uint16 {
	var numbers []uint16
	for _, c := range s.Claims {
		if c.Kind.IsNodePortAllocated() {
			numbers = append(numbers, c.Port)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}
