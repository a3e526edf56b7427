package admission

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// TestPoliciesAsChecked: of random objects, new and changed, the policies deny those that pkg/check denies for what it sees in them
// alone, and warn of and audit the rest, in the same words.
func TestPoliciesAsChecked(t *testing.T) {
	for name, more := range map[string]string{"as enforced": "", "all told": alone.EverythingWarns} {
		t.Run(name, func(t *testing.T) {
			seed.Each(t, nil, func(t *testing.T, s uint64) {
				source := alone.Source(t, alone.EveryConfig+more, alone.EveryRestriction)
				d := newDifferential(t, specimen.FromSeed(s), source)
				for range seed.Rounds(700, 30000) {
					d.round(t)
				}
				d.Tell(t)
			})
		})
	}
}

// TestRandomPoliciesAsChecked is the same for random configurations, PortPools and PortPolicies.
func TestRandomPoliciesAsChecked(t *testing.T) {
	seed.Each(t, nil, func(t *testing.T, s uint64) {
		drawn := specimen.FromSeed(s)
		for range seed.Rounds(10, 300) {
			source := restrictions{drawn}.source(t)
			d := newDifferential(t, drawn, source)
			for range 60 {
				d.round(t)
			}
			if t.Failed() {
				for _, o := range source.Pools {
					t.Logf("%s: %s", o.Name, asYAML(o.Spec))
				}
				for _, o := range source.Policies {
					t.Logf("%s: %s", o.Name, asYAML(o.Spec))
				}
				t.Fatalf("%+v", source.Settings)
			}
		}
	})
}

func asYAML(o any) string {
	text, err := yaml.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

type differential struct {
	specimen.Source
	*apiServer
	*alone.Comparison
	places []map[string]string
}

// newDifferential has the namespaces of alone.Places, and one that is excluded.
func newDifferential(t *testing.T, drawn specimen.Source, source vap.Source) *differential {
	t.Helper()
	places := append(alone.Places(), map[string]string{corev1.LabelMetadataName: metav1.NamespaceSystem})
	d := &differential{drawn, newAPIServer(t, made(t, source), namespacesOf(places)), alone.NewComparison(t, source), places}
	d.Audits = true
	return d
}

// round creates an object, and changes it if it was taken.
func (d *differential) round(t *testing.T) {
	t.Helper()
	labels := alone.OneOf(d.Source, d.places...)
	o := alone.Draw(d.Source, labels[corev1.LabelMetadataName])
	d.inFamilies(o)
	stored := d.compare(t, o, nil, labels)
	if stored == nil {
		return
	}
	for range d.IntN(3) {
		now := alone.Redraw(d.Source, stored)
		if _, isPod := now.(*corev1.Pod); isPod {
			return // whose ports cannot be changed
		}
		d.compare(t, now, stored, labels)
	}
}

// compare makes a request, and returns what would be stored; nil: it is refused, but not by policies.
func (d *differential) compare(t *testing.T, o, old client.Object, labels map[string]string) client.Object {
	t.Helper()
	dryRun := d.IntN(3) == 0
	asked := o.DeepCopyObject().(client.Object)
	if svc, ok := asked.(*corev1.Service); ok {
		// What is beyond what policies take for made up they judge as if it was written.
		if dryRun = d.allocate(svc, old, dryRun) && dryRun; !dryRun {
			o = asked
		}
	}
	stored, answer := d.ask(t, asked, old, dryRun)
	if labels[corev1.LabelMetadataName] != metav1.NamespaceSystem {
		d.Compare(t, o, old, labels, answer)
	} else if len(answer.Said()) > 0 {
		t.Errorf("in an excluded namespace the policies say %q", answer.Said())
	}
	if answer.Other != nil {
		return nil
	}
	stored.SetResourceVersion("1")
	return stored
}

// inFamilies gives a Service the families of its addresses, as the API server does.
func (d *differential) inFamilies(o client.Object) {
	svc, ok := o.(*corev1.Service)
	if !ok || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
	svc.Spec.IPFamilies = alone.OneOf(d.Source, []corev1.IPFamily{v4}, []corev1.IPFamily{v6}, []corev1.IPFamily{v4, v6}, []corev1.IPFamily{v6, v4})
	svc.Spec.IPFamilyPolicy = new(alone.OneOf(d.Source, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack))
	if len(svc.Spec.IPFamilies) == 2 {
		svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack)
	}
}

// allocate chooses the numbers that are left out, as the API server does before it asks policies: any number of the range, and on a dry
// run 32769, or one more than the highest that it was given. It reports false if that is taken, so that it had to look further.
func (d *differential) allocate(svc *corev1.Service, old client.Object, dryRun bool) (isNext bool) {
	isNext = true
	holds := svc.Spec.Type == corev1.ServiceTypeNodePort
	isBalanced := svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	if isBalanced && (svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts) {
		holds = true
	}
	had, given := numbersOf(old), numbersOf(svc)
	next := func() int32 {
		n := int32(30000 + d.IntN(2768))
		if dryRun {
			n = 32769
			if fresh := slices.DeleteFunc(slices.Clone(given), func(n int32) bool { return slices.Contains(had, n) }); len(fresh) > 0 {
				n = slices.Max(fresh) + 1
			}
		}
		for slices.Contains(given, n) || slices.Contains(had, n) {
			n, isNext = n+1, false
		}
		given = append(given, n)
		return n
	}
	if holds {
		for i := range svc.Spec.Ports {
			if svc.Spec.Ports[i].NodePort == 0 {
				svc.Spec.Ports[i].NodePort = next()
			}
		}
	}
	if isBalanced && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = next()
	}
	return isNext
}

// numbersOf are the numbers that a Service holds or asks for.
func numbersOf(o client.Object) []int32 {
	svc, ok := o.(*corev1.Service)
	if !ok {
		return nil
	}
	numbers := []int32{svc.Spec.HealthCheckNodePort}
	for _, p := range svc.Spec.Ports {
		numbers = append(numbers, p.NodePort)
	}
	return slices.DeleteFunc(numbers, func(n int32) bool { return n == 0 })
}
