package webhook

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/journal"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// mutateService judges the numbers that the client wrote, then fills in those that it left out.
func (h *Handlers) mutateService(ctx context.Context, req admission.Request) decision {
	svc, old, d, ok := h.service(req)
	if !ok {
		return d
	}
	if isImpossible(req, svc) || h.exists(ctx, req, extract.Service(svc, h.settings.NodePorts).Owner.Ref) {
		return h.allowed()
	}
	if _, are := extract.TooManySockets(svc); are { // before anything is chosen for it
		base, flying, _ := h.look()
		if d := h.withTooManySockets(svc, old, h.settleDenial(ctx, h.serviceInput(svc, old), base, flying)); d.verdict == check.CouldNotTell {
			return d
		}
	}
	booking, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	carried := carryOver(svc, old)
	lost := map[uint16]bool{}
	for range bookingRounds {
		attempt, d, bookings := h.assign(ctx, svc, old, isDryRun(req), lost)
		d.patches = slices.Concat(carried, d.patches)
		var taken []uint16
		if len(bookings) > 0 {
			var err error
			taken, err = h.claims.bookAll(booking, bookings)
			d.number = h.booked(attempt, old, bookings, err == nil && len(taken) == 0)
			if err != nil {
				return later(h.settings, err.Error())
			}
		}
		if len(taken) == 0 {
			if d.verdict == check.Denied || d.busy || isDryRun(req) || svc.Name == "" {
				return d // a Service without a name is agreed on when it has one
			}
			in := h.serviceInput(attempt, old)
			agreed := h.agree(ctx, d, in, in.Service.Owner, *writeOf(attempt, oldOf(old), in.Service.Claims))
			taken = chosenPorts(svc, attempt)
			isAgreed := !agreed.busy && agreed.verdict != check.Denied
			if isAgreed || len(taken) == 0 || len(agreed.findings) == 0 {
				return agreed
			}
		}
		for _, number := range taken {
			lost[number] = true
			if slices.Contains(sortedNumbers(svc), number) {
				return later(h.settings, fmt.Sprintf("nodePort %d is being allocated to another Service", number))
			}
		}
	}
	return later(h.settings, "other Services took the free ports first")
}

// chosenPorts are the nodePorts that after has and before has not.
func chosenPorts(before, after *corev1.Service) []uint16 {
	had := sortedNumbers(before)
	return slices.DeleteFunc(sortedNumbers(after), func(n uint16) bool { return slices.Contains(had, n) })
}

// bookingRounds is how many numbers a Service is tried to be given while others take them.
const bookingRounds = 5

// assign judges a Service and chooses the nodePorts that it lacks, as patches and in a copy of it. It returns what has to be
// booked before the answer is good.
func (h *Handlers) assign(ctx context.Context, svc, old *corev1.Service, dryRun bool, lost map[uint16]bool) (*corev1.Service, decision, []Booking) {
	for range admitRounds {
		base, flying, version := h.look()
		in := h.serviceInput(svc, old)
		d := h.settleDenial(ctx, in, base, withoutPlaceholders(flying, svc))
		if d.verdict == check.Denied || d.busy || dryRun {
			return svc, d, nil // on a dry run nothing is chosen: nobody would hold it
		}
		attempt := svc.DeepCopy()
		if d, bookings, ok := h.choose(attempt, old, d, in.Service.Claims, version, lost); ok {
			return attempt, d, bookings
		}
	}
	return svc, later(h.settings, "other requests for its ports came first"), nil
}

// choose chooses the nodePorts that a Service lacks, in svc, and remembers the Service. It reports false if one of the
// Service's claims was recorded since the version that d was judged at, or one of the chosen numbers since it was chosen.
func (h *Handlers) choose(svc, old *corev1.Service, d decision, claims []ports.Claim, version uint64, lost map[uint16]bool) (decision, []Booking, bool) {
	h.choosing.Lock()
	defer h.choosing.Unlock()
	base, flying, chosenAt := h.look()
	a := h.newAllocation(svc, old, flying.Over(base), lost)
	a.run()
	if a.later != "" {
		return later(h.settings, a.later), nil, true
	}
	if len(a.findings) > 0 {
		d.findings = append(d.findings, a.findings...)
		d.verdict = h.settings.Check.Judge(d.findings)
		if d.verdict == check.Denied {
			return d, nil, true
		}
	}
	d.patches = a.patches
	bookings := a.bookings()
	var ok bool
	if d.number, ok = h.recordChosen(svc, old, claims, version, chosenAt, len(bookings) == 0); !ok {
		return d, nil, false
	}
	for _, b := range bookings {
		h.repeats.add(b.Port, b.Service, h.now())
		h.booking[b.Port]++
	}
	return d, bookings, true
}

// recordChosen remembers, if isFinal, a Service whose claims were judged at one version and whose missing nodePorts were chosen at
// another, and returns the number of the write. It reports false if one of its ports was recorded since.
func (h *Handlers) recordChosen(svc, old *corev1.Service, claims []ports.Claim, judgedAt, chosenAt uint64, isFinal bool) (number uint64, ok bool) {
	now := extract.Service(svc, h.settings.NodePorts)
	h.deciding.Lock()
	defer h.deciding.Unlock()
	if h.flight.changed(claims, judgedAt) || h.flight.changed(now.Claims, chosenAt) {
		return 0, false
	}
	if isFinal {
		number = h.recordService(now, svc, old)
	}
	return number, true
}

// booked ends what assign began, and returns the number of the write that is in flight then. nodePorts that are only about to be
// booked are not in flight yet: another replica may have booked them for a Service that this one is asked to validate.
func (h *Handlers) booked(svc, old *corev1.Service, bookings []Booking, isDone bool) (number uint64) {
	h.choosing.Lock()
	defer h.choosing.Unlock()
	for _, b := range bookings {
		if h.booking[b.Port]--; h.booking[b.Port] <= 0 {
			delete(h.booking, b.Port)
		}
	}
	if isDone {
		now := extract.Service(svc, h.settings.NodePorts)
		h.deciding.Lock()
		defer h.deciding.Unlock()
		number = h.recordService(now, svc, old)
	}
	return number
}

// validateService judges what the API server has made of a Service: its own choice of nodePorts among it.
func (h *Handlers) validateService(ctx context.Context, req admission.Request) decision {
	svc, old, d, ok := h.service(req)
	if !ok {
		return d
	}
	in := h.serviceInput(svc, old)
	owner := in.Service.Owner
	if h.exists(ctx, req, owner.Ref) {
		return h.leave(req, svc.Name, h.admit(ctx, in, owner, nil))
	}
	in.Service.Chosen = true
	if isDryRun(req) {
		// What the client set was judged by the mutating hook; what it did not is a dummy from 32769.
		in.Service.Claims = onlyKnown(in.Service.Claims, in.OldService)
		return h.withTooManySockets(svc, old, h.admit(ctx, in, owner, nil))
	}
	h.dropPlaceholders(svc, in.Service.Claims)
	d = h.withTooManySockets(svc, old, h.admit(ctx, in, owner, writeOf(svc, oldOf(old), in.Service.Claims)))
	if d.verdict == check.Denied || d.verdict == check.CouldNotTell {
		h.drop(owner.Ref, in.Service.Claims)
		if h.journal != nil && req.Operation == admissionv1.Create {
			h.journal.Withdraw(journal.Entry{Owner: owner, Claims: in.Service.Claims}) // what the mutating webhook has appended
		}
	}
	return d
}

// drop forgets what the mutating webhook let through.
func (h *Handlers) drop(owner ports.Ref, claims []ports.Claim) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	h.flight.drop(owner, claims)
}

// forget drops what is in flight of an object that is being created.
func (h *Handlers) forget(owner ports.Ref, uid types.UID) {
	h.deciding.Lock()
	defer h.deciding.Unlock()
	h.flight.deleteWrites(owner, func(w write) bool { return w.uid == uid && w.after == 0 })
}

// allowed is the answer to what there is nothing to say about.
func (h *Handlers) allowed() decision { return decision{settings: h.settings, verdict: check.Allowed} }

// oldOf is an object of a request, nil if there is none.
func oldOf[T any, P interface {
	*T
	metav1.Object
}](old P) metav1.Object {
	if old == nil {
		return nil
	}
	return old
}

// service decodes a request for a Service. It reports false with the decision if there is nothing to judge.
func (h *Handlers) service(req admission.Request) (svc, old *corev1.Service, d decision, ok bool) {
	if !isService(req) || req.SubResource != "" {
		return nil, nil, malformed(fmt.Errorf("this hook judges services, not %s", resource(req))), false
	}
	svc, old, err := decode[corev1.Service](req)
	if err != nil {
		return nil, nil, malformed(err), false
	}
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return nil, nil, h.allowed(), false
	}
	named(svc, req)
	return svc, old, decision{}, true
}

// withTooManySockets adds to what becomes of a Service that has more sockets than are looked at, if it does not refuse it, that the rest
// could not be told. One that had as many before must be able to change.
func (h *Handlers) withTooManySockets(svc, old *corev1.Service, d decision) decision {
	sockets, are := extract.TooManySockets(svc)
	if !are || d.verdict == check.Denied || d.busy {
		return d
	}
	before := 0
	if old != nil {
		before, _ = extract.TooManySockets(old)
	}
	told := couldNotTell(h.settings, fmt.Sprintf("spec.externalIPs: with spec.ports they name %d sockets, and no more than %d are looked at", sockets, extract.MaxExternalSockets))
	told.remedy = "split the Service into several"
	if h.settings.DenyUncertain && before < sockets {
		return told
	}
	d.note = told.message()
	return d
}

func resource(req admission.Request) string {
	s := req.Resource.Resource
	if req.Resource.Group != "" {
		s += "." + req.Resource.Group
	}
	if req.SubResource != "" {
		s += "/" + req.SubResource
	}
	return strconv.Quote(s)
}

func (h *Handlers) serviceInput(svc, old *corev1.Service) check.Input {
	in := check.Input{Service: extract.Service(svc, h.settings.NodePorts)}
	if old != nil {
		in.OldService = extract.Service(old, h.settings.NodePorts)
	}
	return in
}

// recordService remembers a Service that the mutating webhook lets through. Before it has a name, its first nodePort stands
// in for one. now is what is extracted of it. It returns the number of the write. Its caller holds Handlers.deciding.
func (h *Handlers) recordService(now *check.Service, svc, old *corev1.Service) (number uint64) {
	w := *writeOf(svc, oldOf(old), now.Claims)
	if w.isOpen = h.journal != nil && svc.Name != ""; svc.Name == "" {
		now.Owner = h.placeholder(svc)
	}
	return h.flight.record(now.Owner, w)
}

// placeholder is the owner that stands for a Service between the mutating hook, which sees generateName only, and the
// validating one, which sees the name.
func (h *Handlers) placeholder(svc *corev1.Service) ports.Owner {
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			return placeholderFor(svc.Namespace, svc.GenerateName, strconv.Itoa(int(p.NodePort)))
		}
	}
	return placeholderFor(svc.Namespace, svc.GenerateName, "")
}

func placeholderFor(namespace, generateName, suffix string) ports.Owner {
	unnamed := corev1.Service{}
	unnamed.Namespace, unnamed.GenerateName = namespace, generateName
	owner := extract.Owner(corev1.SchemeGroupVersion.WithKind("Service"), &unnamed, nil)
	owner.Name += suffix
	return owner
}

// withoutPlaceholders leaves out what stands for a Service without a name: where another webhook has changed it, the API server asks
// about it again, and nothing tells it from what was remembered the first time. Two requests of one generateName for one number meet
// in the validating hook, where they have names.
func withoutPlaceholders(flying *ledger.Snapshot, svc *corev1.Service) *ledger.Snapshot {
	if svc.Name != "" {
		return flying
	}
	for _, owner := range placeholders(svc.Namespace, svc.GenerateName, sortedNumbers(svc)) {
		flying = flying.Without(owner)
	}
	return flying
}

// dropPlaceholders forgets what stood for a Service before it had a name: by which of its nodePorts depends on which of them
// it had then.
func (h *Handlers) dropPlaceholders(svc *corev1.Service, claims []ports.Claim) {
	if svc.GenerateName == "" {
		return
	}
	for _, owner := range placeholders(svc.Namespace, svc.GenerateName, sortedNumbers(svc)) {
		h.drop(owner, claims)
	}
}

// randomLength is how many characters the API server adds to generateName (k8s.io/apiserver/pkg/storage/names/generate.go).
const randomLength = 5

// dropPlaceholdersOf forgets what stood for a Service that another replica has judged with its name, made from a generateName or
// not: of the same claims only. Its caller holds Handlers.deciding.
func (h *Handlers) dropPlaceholdersOf(service ports.Ref, claims []ports.Claim) {
	if service.Kind != "Service" || len(service.Name) <= randomLength {
		return
	}
	var numbers []uint16
	for _, c := range claims {
		if c.Kind == ports.NodePort {
			numbers = append(numbers, c.Port)
		}
	}
	for _, owner := range placeholders(service.Namespace, service.Name[:len(service.Name)-randomLength], numbers) {
		h.flight.drop(owner, claims)
	}
}

// placeholders are the owners that may stand for a Service with these nodePorts.
func placeholders(namespace, generateName string, numbers []uint16) []ports.Ref {
	all := []ports.Ref{placeholderFor(namespace, generateName, "").Ref}
	for _, number := range numbers {
		all = append(all, placeholderFor(namespace, generateName, strconv.Itoa(int(number))).Ref)
	}
	return all
}

// onlyKnown keeps the claims on numbers that the Service had before, and all that are not node ports.
func onlyKnown(claims []ports.Claim, old *check.Service) []ports.Claim {
	had := map[uint16]bool{}
	if old != nil {
		for _, c := range old.Claims {
			had[c.Port] = had[c.Port] || c.Kind.IsNodePortAllocated()
		}
	}
	var known []ports.Claim
	for _, c := range claims {
		if !c.Kind.IsNodePortAllocated() || had[c.Port] {
			known = append(known, c)
		}
	}
	return known
}

// carryOver gives ports without a number the one that the port of the same name had before, as the API server itself
// would (k8s.io/kubernetes pkg/registry/core/service/storage/storage.go patchAllocatedValues): whoever replaces a
// Service from a file without numbers keeps them.
func carryOver(svc, old *corev1.Service) []jsonpatch.JsonPatchOperation {
	if old == nil || !wantsNodePorts(old) || !wantsNodePorts(svc) {
		return nil
	}
	byName, kept := map[string]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		byName[p.Name] = p.NodePort
		for _, q := range svc.Spec.Ports {
			kept[p.NodePort] = kept[p.NodePort] || p.NodePort == q.NodePort
		}
	}
	var patches []jsonpatch.JsonPatchOperation
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if had := byName[p.Name]; p.NodePort == 0 && had != 0 && !kept[had] {
			p.NodePort = had
			patches = append(patches, setNodePort(i, had))
		}
	}
	if needsHealthCheck(old) && needsHealthCheck(svc) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort // the API server restores it
	}
	return patches
}

// wantsNodePorts reports whether the API server allocates node ports for a Service.
func wantsNodePorts(svc *corev1.Service) bool {
	allocate := svc.Spec.AllocateLoadBalancerNodePorts
	return svc.Spec.Type == corev1.ServiceTypeNodePort ||
		svc.Spec.Type == corev1.ServiceTypeLoadBalancer && (allocate == nil || *allocate)
}

func needsHealthCheck(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}
