package policies

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// places are the labels of the namespaces in which objects are tried.
func places() []map[string]string {
	return []map[string]string{{}, {"team": "a"}, {"policy": "none"}, {"policy": "some"}, {"policy": "pools", "team": "games"}, {"policy": "noisy", "team": "b"}}
}

// TestPolicies is all that the policies of everyConfig and everyRestriction are held to, on one API server: it takes as long
// to compile them as to try them out.
func TestPolicies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, controlplane.Options{
		ControllerManager: true, ControllerManagerFlags: []string{"--controllers=serviceaccount-controller,validatingadmissionpolicy-status-controller"},
	})
	d, hostile := c.newDifferential(t), c.newHostile(t)
	everything := "enforcement: {PC0101: Warn, PC0102: Warn, PC0104: Warn, PC0301: Warn, PC0302: Warn, PC0303: Warn, PC0304: Warn, PC0306: Warn, " +
		"PC0307: Warn, PC0310: Warn, PC0311: Warn, PC0312: Warn, PC0403: Warn, PC0502: Warn, PC0504: Warn}\nonUncertain: Warn\n"
	t.Run("all told", func(t *testing.T) {
		source := source(t, everyConfig+everything, everyRestriction)
		c.install(t, source)
		c.settle(t)
		d.run(t, source)
	})
	c.settle(t)
	t.Run("as enforced", func(t *testing.T) {
		source := source(t, everyConfig, everyRestriction)
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
	for _, labels := range places() {
		name := c.namespace(t, labels)
		labels[corev1.LabelMetadataName] = name
		d.namespaces = append(d.namespaces, namespace{name, labels})
	}
	d.bases = c.bases(t, d.s, d.namespaces)
	return d
}

func (d *differential) run(t *testing.T, source vap.Source) {
	t.Helper()
	r := &run{d.cluster, newOracle(t, source), map[string]int{}}
	for range specimen.Rounds(700) {
		in := d.namespaces[d.s.IntN(len(d.namespaces))]
		o := draw(d.s, in.name)
		r.compare(t, in, o, nil, d.dryRun(t.Context(), o.DeepCopyObject().(client.Object)))
	}
	for range specimen.Rounds(300) {
		b := d.bases[d.s.IntN(len(d.bases))]
		o := redraw(d.s, b.object)
		r.compare(t, b.in, o, b.object, d.try(func() error { return d.as(o).Update(t.Context(), o.DeepCopyObject().(client.Object), client.DryRunAll) }))
	}
	r.tell(t)
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
		o := draw(s, in.name)
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
	made := source(t, "", "")
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

// run compares and counts.
type run struct {
	*cluster
	*oracle
	count map[string]int
}

func (r *run) compare(t *testing.T, in namespace, object, old client.Object, a answer) {
	t.Helper()
	if a.other != nil {
		r.count["refused by the API server itself"]++
		return
	}
	r.count["compared"]++
	want := r.judge(object, old, in.labels)
	for _, w := range want {
		r.count[string(w.code)]++
	}
	diff := ""
	isDenied := len(codesOf(want, check.Deny)) > 0
	switch {
	case isDenied != (a.denied != ""):
		diff = fmt.Sprintf("denied by pkg/check: %v, by the policies: %q", isDenied, a.denied)
	case isDenied && !slices.Contains(codesOf(want, check.Deny), codes([]string{a.denied})[0]):
		diff = fmt.Sprintf("denied for %q, want one of %v", a.denied, codesOf(want, check.Deny))
	default:
		diff = cmp.Diff(codesOf(want, check.Warn), codes(a.warnings))
	}
	for _, w := range want {
		said := a.warnings
		if w.as == check.Deny {
			continue // one is told, and which one is the API server's choice
		}
		if diff == "" && w.as == check.Warn && !slices.ContainsFunc(said, func(s string) bool { return sameWords(s, w) }) {
			diff = fmt.Sprintf("nobody says %q", w.sentence)
		}
	}
	if diff == "" {
		return
	}
	var texts []string
	for _, o := range []client.Object{object, old} {
		if o != nil {
			text, _ := yaml.Marshal(o) // it was sent to the API server
			texts = append(texts, string(text))
		}
	}
	t.Errorf("%s in %v:\n%s\nwant %+v\ngot %q\n%s", object.GetName(), in.labels, diff, want, a.said(), strings.Join(texts, "--- before\n"))
	if r.count["differences"]++; r.count["differences"] == 3 {
		t.FailNow()
	}
}

// tell prints what was compared, and fails if a check never found anything.
func (r *run) tell(t *testing.T) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(r.count)) {
		t.Logf("%5d %s", r.count[what], what)
	}
	for _, code := range vap.Codes() {
		if r.count[string(code)] == 0 && code != check.OutsideSmaller {
			t.Errorf("%s was never met", code)
		}
	}
	if r.count["compared"] < r.count["refused by the API server itself"] {
		t.Error("most objects were refused by the API server itself")
	}
}
