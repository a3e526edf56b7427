package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/allocator"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// mutateService judges the numbers that the client wrote, then fills in those that it left out.
func (g *Gate) mutateService(_ context.Context, req admission.Request) decision {
	svc, old, d, ok := g.service(req)
	if !ok {
		return d
	}
	carried := carryOver(svc, old)

	defer g.decide()()
	state := g.state()
	d = g.judge(g.serviceInput(svc, old, state))
	if d.verdict == check.Denied || isDryRun(req) {
		return d // on a dry run nothing is chosen: nobody would hold it
	}
	d.patches = append(carried, g.choose(svc, state)...)
	g.takeService(asked, svc, old)
	return d
}

// validateService judges what the API server has made of a Service: its own choice of numbers among it.
func (g *Gate) validateService(_ context.Context, req admission.Request) decision {
	svc, old, d, ok := g.service(req)
	if !ok {
		return d
	}
	defer g.decide()()
	dryRun := isDryRun(req)
	if !dryRun {
		g.flight.drop(g.placeholder(svc).Ref) // the name that stood for this Service before it had one
	}
	in := g.serviceInput(svc, old, g.state())
	in.Service.Chosen = true
	if dryRun {
		// What the client set was judged by the mutating hook; what it did not is a dummy from 32769.
		in.Service.Claims = onlyKnown(in.Service.Claims, in.OldService)
	}
	d = g.judge(in)
	switch {
	case dryRun:
	case d.verdict == check.Denied:
		g.flight.drop(in.Service.Owner.Ref)
	default:
		g.takeService(passed, svc, old)
	}
	return d
}

// service decodes a request for a Service. It reports false with the decision if there is nothing to judge.
func (g *Gate) service(req admission.Request) (svc, old *corev1.Service, d decision, ok bool) {
	if !isService(req) || req.SubResource != "" {
		return nil, nil, malformed(fmt.Errorf("this hook judges services, not %s", resource(req))), false
	}
	svc, old, err := decode[corev1.Service](g, req)
	if err != nil {
		return nil, nil, malformed(err), false
	}
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return nil, nil, decision{settings: g.settings, verdict: check.Allowed}, false
	}
	if n := extract.ExternalSockets(svc); n > extract.MaxExternalSockets {
		return nil, nil, malformed(fmt.Errorf("spec.externalIPs: with spec.ports they name %d sockets, and no more than %d can be judged; "+
			"split the Service into several", n, extract.MaxExternalSockets)), false
	}
	named(svc, req)
	return svc, old, decision{}, true
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

func (g *Gate) serviceInput(svc, old *corev1.Service, state *ledger.Snapshot) check.Input {
	in := check.Input{Service: extract.Service(svc, g.settings.NodePorts), Held: state}
	if old != nil {
		in.OldService = extract.Service(old, g.settings.NodePorts)
	}
	return in
}

// takeService records a Service as let through. Before it has a name, its first number stands in for one.
func (g *Gate) takeService(p phase, svc, old *corev1.Service) {
	now := extract.Service(svc, g.settings.NodePorts)
	if svc.Name == "" {
		now.Owner = g.placeholder(svc)
	}
	var before []ports.Claim
	if old != nil {
		before = extract.Service(old, g.settings.NodePorts).Claims
	}
	g.flight.take(p, now.Owner, now.Claims, before)
}

// placeholder is the owner that stands for a Service between the mutating hook, which sees generateName only, and the
// validating one, which sees the name.
func (g *Gate) placeholder(svc *corev1.Service) ports.Owner {
	unnamed := corev1.Service{}
	unnamed.Namespace, unnamed.GenerateName = svc.Namespace, svc.GenerateName
	owner := extract.Owner(corev1.SchemeGroupVersion.WithKind("Service"), &unnamed)
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			owner.Name += strconv.Itoa(int(p.NodePort))
			break
		}
	}
	return owner
}

// onlyKnown keeps the claims on numbers that the Service had before, and all that are not node ports.
func onlyKnown(claims []ports.Claim, old *check.Service) []ports.Claim {
	had := map[uint16]bool{}
	if old != nil {
		for _, c := range old.Claims {
			had[c.Port] = had[c.Port] || c.Kind.InNodePortBook()
		}
	}
	var known []ports.Claim
	for _, c := range claims {
		if !c.Kind.InNodePortBook() || had[c.Port] {
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

// choose picks numbers for what the client left out, and writes them into svc. Where nothing is free, or the
// configuration leaves it to the API server, the field stays 0.
func (g *Gate) choose(svc *corev1.Service, state *ledger.Snapshot) []jsonpatch.JsonPatchOperation {
	if len(g.settings.AllocateFrom) == 0 {
		return nil
	}
	var patches []jsonpatch.JsonPatchOperation
	if wantsNodePorts(svc) {
		for i := range svc.Spec.Ports {
			if svc.Spec.Ports[i].NodePort != 0 {
				continue
			}
			if number, ok := g.numberFor(svc, i, state); ok {
				svc.Spec.Ports[i].NodePort = int32(number)
				patches = append(patches, setNodePort(i, int32(number)))
			}
		}
	}
	if needsHealthCheck(svc) && svc.Spec.HealthCheckNodePort == 0 {
		if number, ok := g.pick(svc, ports.HealthCheckNodePort, []ports.Protocol{ports.TCP}, "health", state); ok {
			svc.Spec.HealthCheckNodePort = int32(number)
			patches = append(patches, jsonpatch.NewOperation("add", "/spec/healthCheckNodePort", int32(number)))
		}
	}
	return patches
}

// numberFor picks a number for one port entry. Entries with the same port number, DNS over TCP and UDP for example,
// share one, as the API server does it.
func (g *Gate) numberFor(svc *corev1.Service, i int, state *ledger.Snapshot) (uint16, bool) {
	var protocols []ports.Protocol
	for j := range svc.Spec.Ports {
		p := &svc.Spec.Ports[j]
		if p.Port != svc.Spec.Ports[i].Port {
			continue
		}
		if p.NodePort != 0 && p.Protocol != svc.Spec.Ports[i].Protocol {
			return uint16(p.NodePort), true
		}
		protocol, err := ports.ParseProtocol(string(p.Protocol))
		if err != nil {
			return 0, false // the API server refuses the entry
		}
		protocols = append(protocols, protocol)
	}
	return g.pick(svc, ports.NodePort, protocols, svc.Spec.Ports[i].Name, state)
}

// pick asks the allocator for a number that nobody holds with any of the protocols.
func (g *Gate) pick(svc *corev1.Service, kind ports.Kind, protocols []ports.Protocol, what string, state *ledger.Snapshot) (uint16, bool) {
	owner := extract.Owner(corev1.SchemeGroupVersion.WithKind("Service"), svc)
	own := ownNumbers(svc)
	on := g.settings.NodePorts.On(extract.ServiceFamilies(svc))
	number, err := allocator.Next(allocator.Request{
		Ranges: g.settings.AllocateFrom,
		Key:    fmt.Sprintf("%s/%s/%s", owner.Namespace, owner.Name, what),
		Held: func(port uint16) (ports.Claim, bool) {
			if state.IsNodePort(port) && !ownsNumber(state, owner.Ref, port) || own[port] {
				return ports.Claim{}, true
			}
			return g.holderOf(&owner, kind, port, protocols, on, state)
		},
	})
	if _, exhausted := errors.AsType[*allocator.ExhaustedError](err); exhausted {
		g.metrics.allocations.WithLabelValues("exhausted").Inc()
		return 0, false
	}
	g.metrics.allocations.WithLabelValues("assigned").Inc()
	return number, err == nil
}

// ownsNumber reports whether an owner is known to hold a number: it may be asked for again.
func ownsNumber(state *ledger.Snapshot, owner ports.Ref, port uint16) bool {
	_, claims, _ := state.Owner(owner)
	return slices.ContainsFunc(claims, func(c ports.Claim) bool { return c.Port == port && c.Kind.InNodePortBook() })
}

// holderOf returns who stands in the way of a node port: a claim in the ledger or in flight, or a node's daemon.
func (g *Gate) holderOf(owner *ports.Owner, kind ports.Kind, port uint16, protocols []ports.Protocol, on []ports.Address, state *ledger.Snapshot) (ports.Claim, bool) {
	for _, protocol := range protocols {
		for _, address := range on {
			wanted := ports.Claim{
				Socket: ports.Socket{Address: address, Protocol: protocol, Port: port},
				Kind:   kind, Scope: ports.EverywhereScope(), Owner: owner,
			}
			if conflicts := state.Conflicts(wanted); len(conflicts) > 0 {
				return conflicts[0].Held, true
			}
			for _, r := range g.settings.Check.Reserved {
				if wanted.Overlaps(r.Socket) {
					return ports.Claim{Socket: r.Socket, Kind: ports.HostNetwork, Scope: ports.EverywhereScope()}, true
				}
			}
		}
	}
	return ports.Claim{}, false
}

// ownNumbers are the numbers that a Service has already: its entries do not share one unless their port is the same.
func ownNumbers(svc *corev1.Service) map[uint16]bool {
	own := map[uint16]bool{}
	if h := svc.Spec.HealthCheckNodePort; h > 0 && h <= 65535 {
		own[uint16(h)] = true
	}
	for _, p := range svc.Spec.Ports {
		if p.NodePort > 0 && p.NodePort <= 65535 {
			own[uint16(p.NodePort)] = true
		}
	}
	return own
}

func setNodePort(i int, number int32) jsonpatch.JsonPatchOperation {
	return jsonpatch.NewOperation("add", fmt.Sprintf("/spec/ports/%d/nodePort", i), number)
}
