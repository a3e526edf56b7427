package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// gateRow is a field that the webhook, the controller or the API server honours. The version exists before something comes,
// unless it is only spoken of.
type webhookRow struct {
	versions
	unmade bool
	beside string // what else exists
	comes  func(situation) string
	want   [2]string
}

// Versions' bases.
const (
	webhookPool = "{ranges: [{port: N0, endPort: N4}], namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny, allocation: {strategy: LowestFree}}"
	onePort     = "{ranges: [{port: N0}], namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny, allocation: {reuseDelay: 0s}}"
	widePool    = "{ranges: [{port: N0, endPort: N29}], namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny}"
	hostPool    = "{for: HostPorts, ranges: [{port: N0, endPort: N4}], namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny, allocation: {strategy: LowestFree}}"
	claimBase   = "{port: N0, pool: PLACE, service: {namespace: PLACE, name: other}, requestedAt: NOW}"

	noHostPorts = "{namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny, hostPorts: {mode: Forbidden}}"
	noReserved  = "{namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny, nodePorts: {}}"
	reservedN0  = "{namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny, reserved: []}"

	// kept is a pool that lets nobody else have what it was given back.
	kept        = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: PLACE}, spec: {ranges: [{port: N0, endPort: N1}], namespaceSelector: {matchLabels: {place: PLACE}}, enforcement: Deny, allocation: {strategy: LowestFree, reuseDelay: 24h}}}"
	keptAway    = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: PLACE}, spec: {ranges: [{port: N9}], namespaceSelector: {matchLabels: {place: PLACE}}, allocation: {reuseDelay: 24h}}}"
	quick       = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: PLACE-quick}, spec: {ranges: [{port: N8}], namespaceSelector: {matchLabels: {place: nobody}}, allocation: {reuseDelay: 0s}}}"
	urgent      = "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: PLACE-100}, spec: {ranges: [{port: N5}], namespaceSelector: {matchLabels: {place: PLACE}}, priority: 100}}"
	releasedNow = "{phase: Released, releasedAt: NOW}"
	releasedAgo = "{phase: Released, releasedAt: AGO}"
)

func webhookRows() []webhookRow {
	pool := func(field, base, a, b string, comes func(situation) string, want ...string) webhookRow {
		return webhookRow{versions: versions{"PortPool", field, base, a, b, ""}, comes: comes, want: [2]string(want)}
	}
	claim := func(field, a, b, status, beside string, comes func(situation) string, want ...string) webhookRow {
		return webhookRow{versions: versions{"PortClaim", field, claimBase, a, b, status}, beside: beside, comes: comes, want: [2]string(want)}
	}
	policy := func(field, base, a, b string, comes func(situation) string, want ...string) webhookRow {
		return webhookRow{versions: versions{"PortPolicy", field, base, a, b, ""}, comes: comes, want: [2]string(want)}
	}
	with := func(r webhookRow, beside string) webhookRow { r.beside = beside; return r }
	return []webhookRow{
		pool("spec.ranges[].port", webhookPool, "{ranges: [{port: N0, endPort: N4}]}", "{ranges: [{port: N2, endPort: N4}]}", asks(1), "N0", "N2"),
		pool("spec.ranges[].endPort", webhookPool, "{ranges: [{port: N0, endPort: N0}]}", "{ranges: [{port: N0, endPort: N1}]}", comesTwice, "N0, then refused PC0309", "N0, then N1"),
		with(pool("spec.priority", webhookPool, "{priority: 10}", "{priority: 101}", asks(1), "N0", "N5"), urgent),
		pool("spec.allocation.mode", webhookPool, "{allocation: {mode: Auto}}", "{allocation: {mode: Explicit}}", asks(1), "N0", "elsewhere"),
		pool("spec.allocation.strategy", widePool, "{allocation: {strategy: LowestFree}}", "{allocation: {strategy: Hashed}}", lowest, "the lowest", "some"),
		pool("spec.allocation.strategy", widePool, "{allocation: {strategy: Hashed}}", "{allocation: {strategy: Random}}", again, "the same again", "others"),
		pool("spec.allocation.reuseDelay", onePort, "{allocation: {reuseDelay: 0s}}", "{allocation: {reuseDelay: 1h}}", succeeds, "N0, then N0", "N0, then refused PC0309"),
		pool("spec.allocation.explicitOnly[].port", webhookPool, "{allocation: {explicitOnly: [{port: N0, endPort: N2}]}}", "{allocation: {explicitOnly: [{port: N1, endPort: N2}]}}", asks(1), "N3", "N0"),
		pool("spec.allocation.explicitOnly[].endPort", webhookPool, "{allocation: {explicitOnly: [{port: N0, endPort: N1}]}}", "{allocation: {explicitOnly: [{port: N0, endPort: N2}]}}", asks(1), "N2", "N3"),
		pool("spec.limits.perNamespace", webhookPool, "{limits: {perNamespace: 1}}", "{limits: {perNamespace: 2}}", comesTwice, "N0, then refused PC0309", "N0, then N1"),
		pool("spec.limits.perService", webhookPool, "{limits: {perService: 1}}", "{limits: {perService: 2}}", asks(2), "refused PC0309", "N0 N1"),
		pool("spec.sharing", webhookPool, "{sharing: Exclusive}", "{sharing: Shared}", stranger, "refused PC0307", "N0"),
		pool("spec.state", webhookPool, "{state: Active}", "{state: Draining}", asks(1), "N0", "elsewhere"),
		pool("spec.state", webhookPool, "{state: Active}", "{state: Disabled}", stranger, "refused PC0307", "N0"),
		pool("spec.state", webhookPool, "{state: Draining}", "{state: Disabled}", names, "refused PC0307", "N0"),
		pool("spec.enforcement", webhookPool, "{enforcement: Deny}", "{enforcement: Warn}", stranger, "refused PC0307", "N0 warned PC0307"),
		pool("spec.enforcement", webhookPool, "{enforcement: Warn}", "{enforcement: Audit}", stranger, "N0 warned PC0307", "N0"),
		pool("spec.for", webhookPool, "{for: NodePorts}", "{for: HostPorts}", asks(1), "N0", "elsewhere"),
		pool("spec.for", webhookPool, "{for: NodePorts}", "{for: HostPorts}", wantsHostPort, "refused PC0314", "N0 warned PC0303"),
		pool("spec.allocation.mode", hostPool, "{allocation: {mode: Auto}}", "{allocation: {mode: Explicit}}", wantsHostPort, "N0 warned PC0303", "refused PC0314"),
		pool("spec.limits.perNamespace", hostPool, "{limits: {perNamespace: 1}}", "{limits: {perNamespace: 2}}", wantHostPorts, "N0 warned PC0303, then refused PC0314", "N0 warned PC0303, then N1 warned PC0303"),

		policy("spec.enforcement", noHostPorts, "{enforcement: Deny}", "{enforcement: Warn}", takesHostPort, "refused PC0311", "N0 warned PC0311"),
		policy("spec.enforcement", noHostPorts, "{enforcement: Warn}", "{enforcement: Audit}", takesHostPort, "N0 warned PC0311", "N0 warned PC0303"),
		policy("spec.namespaceSelector.matchLabels{}", noHostPorts, "{namespaceSelector: {matchLabels: {place: PLACE}}}", "{namespaceSelector: {matchLabels: {place: nobody}}}", takesHostPort, "refused PC0311", "N0 warned PC0303"),
		policy("spec.exceptions[].namespaceSelector.matchLabels{}", noHostPorts, "{exceptions: [{name: x, reason: r, namespaceSelector: {matchLabels: {place: PLACE}}}]}",
			"{exceptions: [{name: x, reason: r, namespaceSelector: {matchLabels: {place: nobody}}}]}", takesHostPort, "N0 warned PC0303", "refused PC0311"),
		policy("spec.exceptions[].objectSelector.matchLabels{}", noHostPorts, "{exceptions: [{name: x, reason: r, objectSelector: {matchLabels: {team: a}}}]}",
			"{exceptions: [{name: x, reason: r, objectSelector: {matchLabels: {team: b}}}]}", takesHostPort, "N0 warned PC0303", "refused PC0311"),
		policy("spec.exceptions[].expiresAt", noHostPorts, "{exceptions: [{name: x, reason: r, objectSelector: {}, expiresAt: AGO}]}", "{exceptions: [{name: x, reason: r, objectSelector: {}, expiresAt: SOON}]}",
			takesHostPort, "refused PC0311", "N0 warned PC0303 PC0313"),
		policy("spec.reserved[].nodeSelector.matchLabels{}", reservedN0, "{reserved: [{name: exporter, ports: [{port: N0}], nodeSelector: {matchLabels: {team: a}}}]}",
			"{reserved: [{name: exporter, ports: [{port: N0}], nodeSelector: {matchLabels: {team: b}}}]}", takesHostPort, "refused PC0312", "N0 warned PC0303"),
		policy("spec.nodePorts.explicitRequests", noReserved, "{nodePorts: {explicitRequests: Allowed}}", "{nodePorts: {explicitRequests: Forbidden}}", asksAndNames, "elsewhere, then N0", "elsewhere, then refused PC0310"),
		policy("spec.nodePorts.loadBalancerNodePorts", noReserved, "{nodePorts: {loadBalancerNodePorts: Allowed}}", "{nodePorts: {loadBalancerNodePorts: Forbidden}}", balances, "elsewhere", "refused PC0310"),
		policy("spec.nodePorts.mode", noReserved, "{nodePorts: {mode: Allowed}}", "{nodePorts: {mode: PoolOnly}}", asks(1), "elsewhere", "refused PC0310"),

		claim("spec.port", "{port: N0}", "{port: N1}", releasedNow, kept, asks(1), "N1", "N0"),
		claim("spec.service.name", "{service: {name: web}}", "{service: {name: other}}", releasedNow, kept, asks(1), "N0", "N1"),
		claim("spec.service.namespace", "{service: {name: web}}", "{service: {name: web, namespace: default}}", releasedNow, kept, asks(1), "N0", "N1"),
		claim("spec.service.generateName", "{service: {name: null, generateName: gw-}}", "{service: {name: null, generateName: other-}}", releasedNow, keptAway, generated, "Bound", "gone"),
		claim("spec.pool", "{pool: PLACE}", "{pool: PLACE-quick}", releasedAgo, kept+"\n---\n"+quick, fate, "kept", "gone"),
		claim("spec.requestedAt", "{requestedAt: NOW}", "{requestedAt: AGO}", "", kept, fate, "kept", "gone"),
		{
			versions: versions{"PortClaim", "spec.portName", claimBase, "{portName: http}", "{portName: healthCheckNodePort}", ""},
			unmade:   true, beside: kept, comes: isClaimed, want: [2]string{"http", "healthCheckNodePort"},
		},
		{
			versions: versions{"PortPolicy", "spec.exceptions[].reason", "{namespaceSelector: {}, nodePorts: {mode: Forbidden}}", "{exceptions: [{name: x, objectSelector: {}, reason: INC-1234}]}", "{exceptions: [{name: x, objectSelector: {}, reason: ''}]}", ""},
			unmade:   true, comes: isStored, want: [2]string{"stored", "refused spec.exceptions[0].reason"},
		},
	}
}

// asks is that a Service web comes which leaves the numbers of so many ports out.
func asks(ports int) func(situation) string {
	return func(s situation) string { return s.create(serviceOf(s.place.name, "web", make([]int, ports)...)) }
}

// comesTwice is that one Service comes after the other.
func comesTwice(s situation) string {
	return s.create(serviceOf(s.place.name, "web", 0)) + ", then " + s.create(serviceOf(s.place.name, "web-2", 0))
}

// succeeds is that a Service comes when another has gone.
func succeeds(s situation) string {
	first := serviceOf(s.place.name, "web", 0)
	had := s.create(first)
	// One that goes before it was seen would be waited for.
	poll.Until(s.t, func(context.Context) error {
		claim, err := s.claim(s.place.first)
		if err == nil && (claim == nil || claim.Status.Phase != v1alpha1.ClaimBound) {
			err = fmt.Errorf("%d is not bound: %+v", s.place.first, claim)
		}
		return err
	})
	s.delete(first)
	return had + ", then " + s.create(serviceOf(s.place.name, "web-2", 0))
}

// stranger is that a Service which the pool does not select names its first number.
func stranger(s situation) string {
	return s.create(serviceOf("default", s.place.name, s.place.first))
}

// names is that a Service which the pool selects names its first number.
func names(s situation) string { return s.create(serviceOf(s.place.name, "web", s.place.first)) }

// asksAndNames is that a Service which leaves its number out comes before one that names it.
func asksAndNames(s situation) string {
	return s.create(serviceOf(s.place.name, "web", 0)) + ", then " + s.create(serviceOf(s.place.name, "web-2", s.place.first))
}

// balances is that a load balancer comes.
func balances(s situation) string {
	svc := serviceOf(s.place.name, "web", 0)
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	return s.create(svc)
}

// takesHostPort is that a pod of team a comes to the node of team a, and takes a host port.
func takesHostPort(s situation) string {
	pod := podOf(s.place.name, "pod")
	pod.Annotations, pod.Labels, pod.Spec.NodeName = nil, map[string]string{"team": "a"}, nodeName
	pod.Spec.Containers[0].Ports[0].HostPort = int32(s.place.first)
	return s.create(pod)
}

// four is how many Services show a strategy: enough that chance does not.
const four = 4

// lowest reports whether Services get the lowest numbers.
func lowest(s situation) string {
	var got []string
	for i := range four {
		got = append(got, s.create(serviceOf(s.place.name, fmt.Sprintf("web-%d", i), 0)))
	}
	switch text := strings.Join(got, " "); {
	case text == "N0 N1 N2 N3":
		return "the lowest"
	case strings.Count(text, "N") == four && !strings.Contains(text, "PC"):
		return "some"
	default:
		return text
	}
}

// again reports whether Services that come again get the numbers that they had.
func again(s situation) string {
	var rounds [2]string
	for round := range rounds {
		var services []*corev1.Service
		for i := range four {
			svc := serviceOf(s.place.name, fmt.Sprintf("web-%d", i), 0)
			rounds[round] += s.create(svc) + " "
			services = append(services, svc)
		}
		for _, svc := range services {
			s.delete(svc)
		}
	}
	switch {
	case strings.Count(rounds[0]+rounds[1], "N") != 2*four:
		return rounds[0] + "and " + rounds[1]
	case rounds[0] == rounds[1]:
		return "the same again"
	default:
		return "others"
	}
}

// wantsHostPort is that a pod comes which asks for a host port.
func wantsHostPort(s situation) string { return s.create(podOf(s.place.name, "pod")) }

// wantHostPorts is that one such pod comes after the other.
func wantHostPorts(s situation) string {
	first := s.create(podOf(s.place.name, "pod"))
	return first + ", then " + s.create(podOf(s.place.name, "pod-2"))
}

// generated is what becomes of a claim when a Service has its number whose name begins with gw-.
func generated(s situation) string {
	svc := serviceOf(s.place.name, "", s.place.first)
	svc.GenerateName = "gw-"
	if got := s.create(svc); got != "N0" {
		return got
	}
	end := ""
	poll.Until(s.t, func(context.Context) error {
		claim, err := s.claim(s.place.first)
		switch {
		case err != nil:
			return err
		case claim == nil:
			end = "gone"
		case claim.Status.Phase != v1alpha1.ClaimBound:
			return fmt.Errorf("the claim is %+v", claim.Status)
		case claim.Spec.Service.Name != svc.Name:
			end = "bound to " + claim.Spec.Service.Name
		default:
			end = string(claim.Status.Phase)
		}
		return nil
	})
	return end
}

// fate is what has become of a claim whose Service does not come, by the time that a later one of that kind, whose life
// is over, is deleted.
func fate(s situation) string {
	// The claim was made with those of all other rows: one that waits for its Service does so for seconds only.
	switch claim, err := s.claim(s.place.first); {
	case err != nil:
		return err.Error()
	case claim != nil:
		s.delete(claim)
	}
	s.make(s.t, s.version())
	late := &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(int32(s.place.first + 7))}}
	late.Spec = v1alpha1.PortClaimSpec{
		Port: int32(s.place.first + 7), Pool: "none", RequestedAt: metav1.NewTime(s.place.now.Add(-2 * time.Hour)),
		Service: v1alpha1.ClaimingService{Namespace: s.place.name, Name: "late"},
	}
	if err := s.Create(s.t.Context(), late); err != nil {
		return err.Error()
	}
	poll.Until(s.t, func(context.Context) error {
		claim, err := s.claim(s.place.first + 7)
		if err == nil && claim != nil {
			err = fmt.Errorf("%s is still there: %+v", claim.Name, claim.Status)
		}
		return err
	})
	claim, err := s.claim(s.place.first)
	switch {
	case err != nil:
		return err.Error()
	case claim == nil:
		return "gone"
	default:
		return "kept"
	}
}

// isClaimed is the portName of the claim that the webhook makes for a Service that wants what the version's portName says.
func isClaimed(s situation) string {
	svc := serviceOf(s.place.name, "web", 0)
	if name := s.version().(*v1alpha1.PortClaim).Spec.PortName; name != v1alpha1.HealthCheckPortName {
		svc.Spec.Ports[0].Name = name
	} else {
		svc.Spec.Type, svc.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		svc.Spec.AllocateLoadBalancerNodePorts = new(false)
	}
	if err := s.Create(s.t.Context(), svc); err != nil {
		return err.Error()
	}
	claim, err := s.claim(s.place.first)
	if err != nil || claim == nil {
		return fmt.Sprintf("no claim of %d: %v", s.place.first, err)
	}
	return claim.Spec.PortName
}

// isStored reports whether the API server takes the version.
func isStored(s situation) string {
	err := s.Create(s.t.Context(), s.version(), client.DryRunAll)
	if err == nil {
		return "stored"
	}
	return "refused " + strings.Join(causesOf(err), ", ")
}
