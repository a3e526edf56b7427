package alone

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// oracle answers as pkg/check does for an object alone in a cluster, of the checks that policies make.
type oracle struct {
	settings *extract.Settings
	pools    *pool.Set
	policies []check.Policy
}

func newOracle(t testing.TB, s vap.Source) *oracle {
	t.Helper()
	o := &oracle{settings: s.Settings}
	var pools []pool.Pool
	for i, object := range s.Pools {
		p, err := extract.Pool(object)
		if err != nil {
			t.Fatal(err)
		}
		p.Created = time.Time{}.Add(time.Duration(i))
		pools = append(pools, p)
	}
	o.pools = pool.New(pools, s.Settings.Check.NodePortRange)
	for _, object := range s.Policies {
		p, err := extract.Policy(object)
		if err != nil {
			t.Fatal(err)
		}
		p.Reserved = slices.DeleteFunc(p.Reserved, func(r check.ReservedSockets) bool { return r.Nodes.String() != "" })
		if p.NodePorts != nil {
			p.NodePorts.NoWritten = false
		}
		o.policies = append(o.policies, p)
	}
	return o
}

// told is a finding as policies tell it.
type told struct {
	code     check.Code
	sentence string
	as       check.Enforcement
}

// judge returns what is said about an object. Of one check of the configuration, a pool or a policy it is what is enforced
// in one way, about the first port.
func (o *oracle) judge(object, old client.Object, labels map[string]string) []told {
	in := check.Input{Held: (&ledger.Ledger{}).Snapshot(), Settings: &o.settings.Check, Namespace: labels, Now: time.Now()}
	who := pool.Requester{For: pool.HostPorts, Namespace: object.GetNamespace(), Name: object.GetName(), NamespaceLabels: labels}
	if svc, ok := object.(*corev1.Service); ok {
		in.Service = extract.Service(svc, o.settings.NodePorts)
		in.Service.Chosen = true
		if old != nil {
			in.OldService = extract.Service(old.(*corev1.Service), o.settings.NodePorts)
		}
		who.For, who.Labels = pool.NodePorts, in.Service.Labels
	} else {
		in.Workload = o.workloadOf(object)
		// Whether there is such a controller a policy knows by who makes the object.
		in.Inherits = new(in.Workload.Owner.Controller != nil && object.GetAnnotations()[ByController] != "")
		if old != nil {
			in.OldWorkload = o.workloadOf(old)
		}
		who.Labels = in.Workload.Labels
	}
	if old != nil && sameSpec(object, old) {
		return nil // nobody is asked, as the webhook is not
	}
	var all []told
	add := func(in check.Input, codes ...check.Code) {
		all = append(all, o.firsts(slices.DeleteFunc(check.Check(in), func(f check.Finding) bool { return !slices.Contains(codes, f.Code) }))...)
	}
	add(in, check.HostIPInvalid, check.SocketTwice, check.NodePortWithoutUse, check.OutsideRange, check.DaemonSocket, check.InNodePorts,
		check.InEphemeral, check.OutsideSmaller, check.SurgeInPlace, check.CreateRefuses, check.NeverMapped)
	pooled := in
	pooled.Pools = &check.Pools{Set: o.pools, Who: who}
	add(pooled, check.ForeignPool)
	for _, p := range o.policies {
		one := pooled
		one.Policies = []check.Policy{p}
		add(one, check.PolicyNodePort, check.PolicyHostPort, check.PolicyReserved)
	}
	slices.SortFunc(all, func(a, b told) int { return cmp.Compare(a.sentence, b.sentence) })
	return slices.Compact(all)
}

// sameSpec reports whether nothing is changed for which the webhook would be asked.
func sameSpec(a, b client.Object) bool {
	if svc, ok := a.(*corev1.Service); ok {
		return equality.Semantic.DeepEqual(portsOf(svc), portsOf(b.(*corev1.Service))) && maps.Equal(svc.Labels, b.GetLabels())
	}
	var specs [2]any
	for i, object := range []client.Object{a, b} {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			panic(err) // objects of the API can all be converted
		}
		specs[i] = fields["spec"]
	}
	return equality.Semantic.DeepEqual(specs[0], specs[1])
}

// portsOf is what of a Service is about ports, with the API server's defaults.
func portsOf(svc *corev1.Service) corev1.ServiceSpec {
	s := svc.Spec.DeepCopy()
	for i := range s.Ports {
		if s.Ports[i].TargetPort.IntVal == 0 {
			s.Ports[i].TargetPort = intstr.FromInt32(s.Ports[i].Port)
		}
	}
	spec := corev1.ServiceSpec{Type: s.Type, Ports: s.Ports, ExternalIPs: s.ExternalIPs, IPFamilies: s.IPFamilies, HealthCheckNodePort: s.HealthCheckNodePort,
		ExternalTrafficPolicy: s.ExternalTrafficPolicy, AllocateLoadBalancerNodePorts: s.AllocateLoadBalancerNodePorts}
	if spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer {
		spec.ExternalTrafficPolicy = cmp.Or(spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer && spec.AllocateLoadBalancerNodePorts == nil {
		spec.AllocateLoadBalancerNodePorts = new(true)
	}
	return spec
}

func (o *oracle) workloadOf(object client.Object) *check.Workload {
	if pod, ok := object.(*corev1.Pod); ok {
		return extract.Pod(pod, nil, o.settings.Check.Trusted)
	}
	w, _ := extract.Workload(object, nil, o.settings.Check.Trusted)
	return w
}

// firsts returns the first finding of each code and enforcement.
func (o *oracle) firsts(findings []check.Finding) []told {
	var firsts []told
	for _, f := range findings {
		t := told{f.Code, report.Sentence(f), o.settings.Check.Enforce(f)}
		if !slices.ContainsFunc(firsts, func(o told) bool { return o.code == t.code && o.as == t.as }) {
			firsts = append(firsts, t)
		}
	}
	return firsts
}

// codesOf returns what is told as codes, sorted, each once.
func codesOf(all []told, as ...check.Enforcement) []string {
	var found []string
	for _, t := range all {
		if slices.Contains(as, t.as) {
			found = append(found, string(t.code))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// sameWords reports whether policies say what pkg/report does: they have room for more than MaxSentence characters, and of
// several ways out that depend on others in the cluster they tell one.
func sameWords(said string, t told) bool {
	if t.code == check.ForeignPool {
		said, _, _ = strings.Cut(said, "; ")
		return strings.HasPrefix(t.sentence, said)
	}
	if t.code == check.SocketTwice { // of several that claim it, each may be named
		before, _, _ := strings.Cut(t.sentence, " is already claimed by ")
		return strings.HasPrefix(strings.ReplaceAll(said, "[::FFFF:a00:1]", "10.0.0.1"), before)
	}
	said = strings.ReplaceAll(said, "[::FFFF:a00:1]", "10.0.0.1") // which CEL cannot spell so
	return said == t.sentence || len([]rune(said)) > report.MaxSentence
}
