package policies

import (
	"context"
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// TestPolicies is all that the policies of alone.EveryConfig and alone.EveryRestriction are held to, on one API server: it takes as long
// to compile them as to try them out.
func TestPolicies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.Options{
		ControllerManager: true, ControllerManagerFlags: []string{"--controllers=serviceaccount-controller,validatingadmissionpolicy-status-controller"},
	})
	d, hostile := c.newDifferential(t), c.newHostile(t)
	t.Run("all told", func(t *testing.T) {
		source := alone.Source(t, alone.EveryConfig+alone.EverythingWarns, alone.EveryRestriction)
		c.install(t, source)
		c.settle(t)
		d.run(t, source)
	})
	c.settle(t)
	t.Run("as enforced", func(t *testing.T) {
		source := alone.Source(t, alone.EveryConfig, alone.EveryRestriction)
		made := c.install(t, source)
		c.settle(t)
		t.Run("differential", func(t *testing.T) { d.run(t, source) })
		d.clear(t) // the others are tried with their numbers
		t.Run("hostile", hostile.test)
		t.Run("rules", c.testRules)
		t.Run("types", func(t *testing.T) { c.testTypes(t, made) })
	})
}

// differential is random objects of which the API server says what pkg/check says of each alone, in the same words.
type differential struct {
	*cluster
	s          specimen.Source
	namespaces []namespace
	bases      []base
}

// newDifferential stores what is changed later, as long as no policy is there.
func (c *cluster) newDifferential(t *testing.T) *differential {
	t.Helper()
	d := &differential{cluster: c, s: specimen.New(t)}
	for _, labels := range alone.Places() {
		name := c.namespace(t, labels)
		labels[corev1.LabelMetadataName] = name
		d.namespaces = append(d.namespaces, namespace{name, labels})
	}
	d.bases = c.bases(t, d.s, d.namespaces)
	return d
}

func (d *differential) run(t *testing.T, source vap.Source) {
	t.Helper()
	r := alone.NewComparison(t, source)
	for range specimen.Rounds(700) {
		in := d.namespaces[d.s.IntN(len(d.namespaces))]
		o := alone.Draw(d.s, in.name)
		r.Compare(t, o, nil, in.labels, d.dryRun(t.Context(), o.DeepCopyObject().(client.Object)))
	}
	for range specimen.Rounds(300) {
		b := d.bases[d.s.IntN(len(d.bases))]
		o := alone.Redraw(d.s, b.object)
		r.Compare(t, o, b.object, b.in.labels, d.try(func() error { return d.as(o).Update(t.Context(), o.DeepCopyObject().(client.Object), client.DryRunAll) }))
	}
	r.Tell(t)
}

func (d *differential) clear(t *testing.T) {
	t.Helper()
	for _, b := range d.bases {
		if err := d.Delete(t.Context(), b.object); err != nil {
			t.Fatal(err)
		}
	}
}

type namespace struct {
	name   string
	labels map[string]string
}

// base is an object that exists.
type base struct {
	in     namespace
	object client.Object
}

// bases stores objects as long as no policy is there.
func (c *cluster) bases(t *testing.T, s specimen.Source, namespaces []namespace) []base {
	t.Helper()
	var bases []base
	for len(bases) < 60 {
		in := namespaces[len(bases)%len(namespaces)]
		o := alone.Draw(s, in.name)
		if _, isPod := o.(*corev1.Pod); isPod {
			continue // whose ports cannot be changed
		}
		if _, isService := o.(*corev1.Service); !isService && len(bases)%2 == 0 {
			continue // so that half of them are Services
		}
		o.SetName(fmt.Sprintf("base-%d", len(bases)))
		if err := c.Create(t.Context(), o); err == nil {
			bases = append(bases, base{in, o})
		}
	}
	return bases
}

// settle returns when the API server has taken up all policies that there are: it takes them up in order, so that a last one
// tells.
func (c *cluster) settle(t *testing.T) {
	t.Helper()
	made := alone.Source(t, "", "")
	sentinel, err := made.Validating()
	if err != nil {
		t.Fatal(err)
	}
	p := sentinel.Objects[0].(*admissionregistrationv1.ValidatingAdmissionPolicy)
	b := sentinel.Objects[1].(*admissionregistrationv1.ValidatingAdmissionPolicyBinding)
	p.Name, b.Name, b.Spec.PolicyName = "sentinel", "sentinel", "sentinel"
	p.Spec.Variables, p.Spec.MatchConditions = nil, nil
	p.Spec.Validations = []admissionregistrationv1.Validation{{Expression: "false", Message: "the sentinel stands"}}
	p.Spec.MatchConstraints.ResourceRules[0].Rule.APIGroups = []string{""}
	p.Spec.MatchConstraints.ResourceRules = p.Spec.MatchConstraints.ResourceRules[:1]
	p.Spec.MatchConstraints.ResourceRules[0].Resources = []string{"configmaps"}
	probe := func(context.Context) error {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "sentinel", Namespace: "default"}}
		return c.Create(t.Context(), m, client.DryRunAll)
	}
	for _, o := range []client.Object{p, b} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	poll.Within(t, typeChecked, func(context.Context) error {
		if err := probe(t.Context()); err == nil || !strings.Contains(err.Error(), "the sentinel stands") {
			return fmt.Errorf("the sentinel does not stand: %w", err)
		}
		return nil
	})
	for _, o := range []client.Object{p, b} {
		if err := c.Delete(context.WithoutCancel(t.Context()), o); err != nil {
			t.Fatal(err)
		}
	}
	poll.Within(t, typeChecked, probe)
}
