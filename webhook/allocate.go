package webhook

import (
	"errors"
	"fmt"
	"slices"
	"time"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// allocation is the choice of numbers for one Service. It is made while Handlers.choosing is held, and writes the numbers
// into svc.
type allocation struct {
	*Handlers
	svc      *corev1.Service
	old      *corev1.Service
	owner    ports.Owner
	state    *ledger.Snapshot
	pools    *pool.Set
	lost     map[uint16]bool // numbers that another replica has just given to somebody
	own      map[uint16]bool // numbers that the Service has
	wants    []ports.Protocol
	on       []ports.Address
	random   string
	patches  []jsonpatch.JsonPatchOperation
	findings []check.Finding
	later    string // why the client should ask again in a moment
}

func (h *Handlers) newAllocation(svc, old *corev1.Service, state *ledger.Snapshot, lost map[uint16]bool) *allocation {
	a := &allocation{
		Handlers: h, svc: svc, old: old, state: state, lost: lost, pools: h.cluster.Pools(), random: h.random(),
		owner: extract.Owner(corev1.SchemeGroupVersion.WithKind("Service"), svc, nil),
		own:   map[uint16]bool{}, on: h.settings.NodePorts.On(extract.ServiceFamilies(svc)),
	}
	for _, number := range sortedNumbers(svc) {
		a.own[number] = true
	}
	for _, p := range svc.Spec.Ports {
		if protocol, err := ports.ParseProtocol(string(p.Protocol)); err == nil && !slices.Contains(a.wants, protocol) {
			a.wants = append(a.wants, protocol)
		}
	}
	return a
}

// requester is the Service as pools see it.
func (h *Handlers) requester(svc *corev1.Service) pool.Requester {
	return extract.Requester(pool.NodePorts, svc, h.cluster.NamespaceLabels(svc.Namespace))
}

// run picks numbers for what the client left out. Where nothing is free, or it is left to the API server, the field stays
// 0.
func (a *allocation) run() {
	gaps := a.gaps()
	var lacking []pool.Gap
	for _, gap := range gaps {
		if gap.Number != 0 {
			a.set(gap, gap.Number)
		} else {
			lacking = append(lacking, gap)
		}
	}
	if len(lacking) == 0 || a.fromPool(lacking) {
		return
	}
	for _, gap := range lacking {
		if number, ok := a.fromConfiguration(gap); ok {
			a.set(gap, number)
		}
	}
}

// gaps returns the numbers that the Service lacks.
func (a *allocation) gaps() []pool.Gap {
	var entries []ports.ServicePort
	if wantsNodePorts(a.svc) {
		for _, p := range a.svc.Spec.Ports {
			protocol, err := ports.ParseProtocol(string(p.Protocol))
			if err != nil || p.Port < 1 || p.Port > 65535 || p.NodePort < 0 || p.NodePort > 65535 {
				entries = append(entries, ports.ServicePort{}) // the API server refuses the entry
				continue
			}
			entries = append(entries, ports.ServicePort{Name: p.Name, Protocol: protocol, Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
		}
	}
	return pool.Gaps(entries, needsHealthCheck(a.svc) && a.svc.Spec.HealthCheckNodePort == 0)
}

// set gives the entries of a gap their number.
func (a *allocation) set(gap pool.Gap, number uint16) {
	a.own[number] = true
	if gap.Port == 0 {
		a.svc.Spec.HealthCheckNodePort = int32(number)
		a.patches = append(a.patches, jsonpatch.NewOperation("add", "/spec/healthCheckNodePort", int32(number)))
		return
	}
	for _, i := range gap.Entries {
		a.svc.Spec.Ports[i].NodePort = int32(number)
		a.patches = append(a.patches, setNodePort(i, int32(number)))
	}
}

// fromPool has the numbers from the pool that serves the Service. It reports false if none does, or if those that do have
// none left and only mind.
func (a *allocation) fromPool(lacking []pool.Gap) bool {
	if len(a.pools.Members()) == 0 {
		return false
	}
	r := pool.Request{
		Requester: a.requester(a.svc), Has: sortedNumbers(a.svc), Random: a.random,
		Book: a.book, InNamespace: func(m *pool.Member) int { return a.inNamespace(claimingService(a.svc), m) },
	}
	for _, gap := range lacking {
		r.Wants = append(r.Wants, gap.Key())
	}
	choice, err := a.pools.Choose(r)
	if exhausted, is := errors.AsType[*pool.ExhaustedError](err); is {
		a.metrics.allocations.WithLabelValues("exhausted").Inc()
		f := check.ExhaustedFinding(a.owner.Ref, a.field(lacking[0]), exhausted)
		a.findings = append(a.findings, f)
		isDenied := a.settings.Check.Enforce(f) == check.Deny
		if isDenied && a.isSettling(exhausted) {
			a.later = "numbers of its pool are on their way back"
		}
		return isDenied
	}
	if err != nil {
		return false
	}
	for i, gap := range lacking {
		a.metrics.allocations.WithLabelValues("assigned").Inc()
		a.set(gap, choice.Numbers[i])
	}
	if choice.Over != nil {
		a.findings = append(a.findings, check.LimitFinding(a.owner.Ref, a.field(lacking[0]), choice.Over))
	}
	return true
}

// field names what lacks a number.
func (a *allocation) field(gap pool.Gap) string {
	entry := -1 // the healthCheckNodePort
	if gap.Port != 0 {
		entry = gap.Entries[0]
	}
	return extract.Number{Entry: entry}.Field()
}

// book tells what stands in the way of a number for the Service, with whichever protocol it wants.
func (a *allocation) book(port uint16) pool.Use {
	if a.lost[port] || a.booking[port] > 0 {
		return pool.Allocated
	}
	if claim := a.cluster.Claim(port); claim != nil {
		isOwn := a.svc.Name != "" && isFor(claim, claimingService(a.svc))
		switch {
		case !isOwn && claim.Status.Phase == v1alpha1.ClaimReleased:
			return pool.Quarantined
		case !isOwn, a.repeats.isInVain(port, claim.Spec.Service, a.now()):
			return pool.Allocated
		}
	}
	if a.isTaken(port) {
		return pool.Allocated
	}
	if slices.ContainsFunc(a.wants, func(p ports.Protocol) bool { return a.isHeld(ports.NodePort, port, p) }) {
		return pool.Foreign
	}
	return pool.Free
}

// settleTime is how long a client is made to wait for a number that comes free.
const settleTime = 15 * time.Second

// isSettling reports whether numbers of the pools that were tried come free by themselves soon: asked for by requests
// that may have failed, held by Services that are gone, or released and nearly through with their delay.
func (a *allocation) isSettling(e *pool.ExhaustedError) bool {
	for _, tried := range e.Tried {
		if tried.Limit != nil {
			continue
		}
		for _, r := range tried.Pool.Automatic {
			for port := int(r.First); port <= int(r.Last); port++ {
				if claim := a.cluster.Claim(uint16(port)); claim != nil && a.comesFree(claim) {
					return true
				}
			}
		}
	}
	return false
}

func (a *allocation) comesFree(claim *v1alpha1.PortClaim) bool {
	switch claim.Status.Phase {
	case v1alpha1.ClaimReleased:
		m, known := a.pools.Named(claim.Spec.Pool) // whose delay it waits for, as pkg/controller/claims does
		at := claim.Status.ReleasedAt
		return at == nil || !known || a.now().Add(settleTime).After(at.Add(m.ReuseDelay))
	case v1alpha1.ClaimBound:
		return !a.state.IsNodePort(uint16(claim.Spec.Port))
	case v1alpha1.ClaimRequested: // or not looked at yet
	}
	return claim.Status.ServiceUID == "" // else it rests if its Service does not come
}

// fromConfiguration has a number from the configuration's own ranges, outside of every exclusive pool.
func (a *allocation) fromConfiguration(gap pool.Gap) (uint16, bool) {
	if len(a.settings.AllocateFrom) == 0 {
		return 0, false
	}
	kind, protocols, what := ports.HealthCheckNodePort, []ports.Protocol{ports.TCP}, "health"
	if gap.Port != 0 {
		kind, protocols, what = ports.NodePort, nil, a.svc.Spec.Ports[gap.Entries[0]].Name
		for _, i := range gap.Entries {
			protocol, err := ports.ParseProtocol(string(a.svc.Spec.Ports[i].Protocol))
			if err != nil {
				return 0, false
			}
			protocols = append(protocols, protocol)
		}
	}
	search := pool.Search{
		Ranges: a.settings.AllocateFrom,
		Except: a.pools.Owned(pool.NodePorts),
		Key:    fmt.Sprintf("%s/%s/%s", a.owner.Namespace, a.owner.Name, what),
		IsFree: func(port uint16) bool {
			held := a.lost[port] || a.booking[port] > 0 || a.isTaken(port) ||
				slices.ContainsFunc(protocols, func(p ports.Protocol) bool { return a.isHeld(kind, port, p) })
			return !held
		},
	}
	number, ok := search.Next()
	if !ok {
		a.metrics.allocations.WithLabelValues("exhausted").Inc()
		return 0, false
	}
	a.metrics.allocations.WithLabelValues("assigned").Inc()
	return number, true
}

// isTaken reports whether a number is another Service's in the API server's book, or this one's for something else.
func (a *allocation) isTaken(port uint16) bool {
	return a.state.IsNodePort(port) && !ownsNumber(a.state, a.owner.Ref, port) || a.own[port]
}

// ownsNumber reports whether an owner has a nodePort, or has just asked for it: it may be asked for again.
func ownsNumber(state *ledger.Snapshot, owner ports.Ref, port uint16) bool {
	for c := range state.ClaimsOf(owner) {
		if c.Port == port && c.Kind.IsNodePortAllocated() {
			return true
		}
	}
	return false
}

// isHeld reports whether something stands in the way of a node port: a claim in the ledger or in flight, or a node's
// daemon.
func (a *allocation) isHeld(kind ports.Kind, port uint16, protocol ports.Protocol) bool {
	for _, address := range a.on {
		wanted := ports.Claim{
			Socket: ports.Socket{Address: address, Protocol: protocol, Port: port},
			Kind:   kind, Scope: ports.EverywhereScope(), Owner: &a.owner,
		}
		if len(a.state.Conflicts(wanted)) > 0 {
			return true
		}
		if slices.ContainsFunc(a.settings.Check.Reserved, func(r check.Reserved) bool { return wanted.Overlaps(r.Socket) }) {
			return true
		}
	}
	return false
}

// bookings returns the numbers of pools that the Service has now and had not before.
func (a *allocation) bookings() []Booking {
	if len(a.pools.Members()) == 0 {
		return nil
	}
	var had []uint16
	if a.old != nil {
		had = sortedNumbers(a.old)
	}
	who := a.requester(a.svc)
	var bookings []Booking
	for _, number := range sortedNumbers(a.svc) {
		place := a.pools.Place(who, number)
		if slices.Contains(had, number) || place.Standing != pool.InPool {
			continue
		}
		bookings = append(bookings, Booking{
			Port: number, Pool: place.Pool.Name, PortName: portNameOf(a.svc, number), Service: claimingService(a.svc), IsNew: a.old == nil, UID: string(a.svc.UID),
		})
	}
	return bookings
}

// portNameOf returns the name of the first port that has a number.
func portNameOf(svc *corev1.Service, number uint16) string {
	for _, p := range svc.Spec.Ports {
		if p.NodePort == int32(number) {
			return p.Name
		}
	}
	return v1alpha1.HealthCheckPortName
}

// sortedNumbers are the node ports that a Service names, each once.
func sortedNumbers(svc *corev1.Service) []uint16 {
	var numbers []uint16
	for _, n := range extract.Numbers(svc) {
		numbers = append(numbers, n.Port)
	}
	slices.Sort(numbers)
	return numbers
}

func setNodePort(i int, number int32) jsonpatch.JsonPatchOperation {
	return jsonpatch.NewOperation("add", fmt.Sprintf("/spec/ports/%d/nodePort", i), number)
}
