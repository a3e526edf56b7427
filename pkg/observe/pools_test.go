package observe

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func newPool(name, ranges string) *v1alpha1.PortPool {
	p := mustRead[v1alpha1.PortPool]("{metadata: {name: " + name + "}, spec: {ranges: [" + ranges + "], namespaceSelector: {}}}")
	p.Default()
	return p
}

func newPolicy(name, spec string) *v1alpha1.PortPolicy {
	p := mustRead[v1alpha1.PortPolicy]("{metadata: {name: " + name + "}, spec: {" + spec + "}}")
	p.Default()
	return p
}

func newClaim(port, namespace, phase string) *v1alpha1.PortClaim {
	return mustRead[v1alpha1.PortClaim]("{metadata: {name: np-" + port + "}, spec: {port: " + port + ", pool: p, service: {namespace: " + namespace + ", name: web}}, status: {phase: " + phase + "}}")
}

const badSelector = "namespaceSelector: {matchExpressions: [{key: a, operator: Nonsense}]}"

// shown is what an observer shows of pools and policies, by name.
func shown(o *Observer) []string {
	var names []string
	for _, m := range o.Pools().Members() {
		names = append(names, m.Name+" "+m.Effective.String())
	}
	for _, p := range o.Policies() {
		names = append(names, "policy "+p.Name)
	}
	return names
}

// TestPoolsFollowTheCluster: pools and policies are those that are understood, clipped to the nodePort range.
func TestPoolsFollowTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(newPool("a", "{port: 30100, endPort: 30109}"))
		o := started(t, c, Options{Pools: true, NodePortRange: ports.MustParseRange("30000-32767")})
		bad := newPool("b", "{port: 30200}")
		bad.Spec.NamespaceSelector = &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Nonsense"}}}
		for _, step := range []struct {
			why    string
			change func()
			want   []string
		}{
			{"what was there", func() {}, []string{"a 30100-30109"}},
			{"another pool", func() { c.set(newPool("b", "{port: 30200}, {port: 40000}")) }, []string{"a 30100-30109", "b 30200"}},
			{"that is not understood any more", func() { c.set(bad) }, []string{"a 30100-30109"}},
			{"and is again", func() { c.set(newPool("b", "{port: 30201}")) }, []string{"a 30100-30109", "b 30201"}},
			{"and goes", func() { c.remove(newPool("b", "{port: 30201}"), true) }, []string{"a 30100-30109"}},
			{"policies, sorted by name", func() {
				c.set(newPolicy("m2", "namespaceSelector: {}"))
				c.set(newPolicy("m1", "namespaceSelector: {}"))
			}, []string{"a 30100-30109", "policy m1", "policy m2"}},
			{"one that is not understood", func() { c.set(newPolicy("m1", badSelector)) }, []string{"a 30100-30109", "policy m2"}},
			{"one goes", func() { c.remove(newPolicy("m2", "namespaceSelector: {}"), false) }, []string{"a 30100-30109"}},
		} {
			step.change()
			if diff := cmp.Diff(step.want, shown(o)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.why, diff)
			}
		}
	})
}

// TestClaimsFollowTheCluster: a port is claimed for a namespace as long as its claim is there, also once it is released.
func TestClaimsFollowTheCluster(t *testing.T) {
	o := New(newCluster(), Options{Pools: true})
	for _, step := range []struct {
		why         string
		claim       *v1alpha1.PortClaim
		gone        bool
		here, there []uint16 // claimed in the namespaces here and there
		known       bool     // the claim of 30100
	}{
		{"one", newClaim("30100", "here", "Requested"), false, []uint16{30100}, nil, true},
		{"it is bound", newClaim("30100", "here", "Bound"), false, []uint16{30100}, nil, true},
		{"another one", newClaim("30099", "here", "Bound"), false, []uint16{30099, 30100}, nil, true},
		{"of another namespace", newClaim("30101", "there", "Bound"), false, []uint16{30099, 30100}, []uint16{30101}, true},
		{"the first is released", newClaim("30100", "here", "Released"), false, []uint16{30099, 30100}, []uint16{30101}, true},
		{"and asked for elsewhere, under the same name", newClaim("30100", "there", "Requested"), false, []uint16{30099}, []uint16{30100, 30101}, true},
		{"and goes", newClaim("30100", "there", "Requested"), true, []uint16{30099}, []uint16{30101}, false},
		{"one that was never there goes", newClaim("30100", "there", "Requested"), true, []uint16{30099}, []uint16{30101}, false},
		{"what is not a port", newClaim("70000", "here", "Bound"), false, []uint16{30099}, []uint16{30101}, false},
		{"all go", newClaim("30099", "here", "Bound"), true, nil, []uint16{30101}, false},
	} {
		o.apply(step.claim, step.gone)
		if diff := cmp.Diff(step.here, o.Claimed("here")); diff != "" {
			t.Errorf("%s, here (-want +got):\n%s", step.why, diff)
		}
		if diff := cmp.Diff(step.there, o.Claimed("there")); diff != "" {
			t.Errorf("%s, there (-want +got):\n%s", step.why, diff)
		}
		if known := o.Claim(30100) != nil; known != step.known {
			t.Errorf("%s: the claim is known %v, want %v", step.why, known, step.known)
		}
	}
}

// TestNamespaceLabels: the labels are those of the namespace as it is, and none when it is gone.
func TestNamespaceLabels(t *testing.T) {
	o := New(newCluster(), Options{})
	ns := func(team string) *corev1.Namespace {
		return mustRead[corev1.Namespace]("{metadata: {name: ns, labels: {team: " + team + "}}}")
	}
	for _, step := range []struct {
		object *corev1.Namespace
		gone   bool
		want   string
	}{{ns("blue"), false, "blue"}, {ns("red"), false, "red"}, {ns("red"), true, ""}} {
		o.apply(step.object, step.gone)
		if got := o.NamespaceLabels("ns")["team"]; got != step.want {
			t.Errorf("%q, want %q", got, step.want)
		}
	}
}

// TestOneObject: a pod or a node as far as it is kept, nil for one that is not known.
func TestOneObject(t *testing.T) {
	o := New(finding{pods: map[string]*corev1.Pod{"ns/p": newPod("Running")}}, Options{Scheme: manifest.Scheme(), Live: finding{}})
	o.apply(newNode("n1", "a"), false)
	if pod := o.Pod("ns", "p"); pod == nil || pod.Spec.NodeName != "n1" {
		t.Errorf("%v", pod)
	}
	if pod := o.Pod("ns", "q"); pod != nil {
		t.Errorf("%v, want nil", pod)
	}
	for name, want := range map[string]bool{"p": true, "q": false} {
		ref := ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: name}
		if seen := o.Shown(t.Context(), ref); (seen != nil) != want || want && seen.Owner.Ref != ref {
			t.Errorf("%s is shown: %+v", name, seen)
		}
	}
	if seen := o.Shown(t.Context(), ports.Ref{APIVersion: "v1", Kind: "Unknown", Name: "x"}); seen != nil {
		t.Errorf("an object of no kind is shown: %+v", seen)
	}
	for _, name := range []string{"", "a/b"} {
		if seen, err := o.Read(t.Context(), ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: name}); seen != nil || err != nil {
			t.Errorf("%q, which is the name of no object: %v, %v", name, seen, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Read(ended, ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: "p"}); !errors.Is(err, context.Canceled) {
		t.Errorf("read for a client that has gone: %v", err)
	}
	if node := o.Node("n1"); node == nil || node.Labels["zone"] != "a" {
		t.Errorf("%v", node)
	}
	if node := o.Node("n2"); node != nil {
		t.Errorf("%v, want nil", node)
	}
}

// finding is a cache that finds pods.
type finding struct {
	cache.Cache
	pods map[string]*corev1.Pod
}

func (f finding) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	pod := f.pods[key.String()]
	if pod == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, key.Name)
	}
	pod.DeepCopyInto(object.(*corev1.Pod))
	return nil
}

// lacking is a cluster that does not serve some kinds, or of which a kind cannot be watched or listed.
type lacking struct {
	*cluster
	lacks   map[reflect.Type]bool
	refuses map[reflect.Type]error
	deaf    map[reflect.Type]error // no handler can be added
	lists   error
}

var errDown = errors.New("connection refused")

func (l *lacking) GetInformer(ctx context.Context, kind client.Object, options ...cache.InformerGetOption) (cache.Informer, error) {
	of := reflect.TypeOf(kind)
	l.mu.Lock()
	lacks, err, deaf := l.lacks[of], l.refuses[of], l.deaf[of]
	l.mu.Unlock()
	if lacks {
		return nil, &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: of.Elem().Name()}}
	}
	if err != nil {
		return nil, err
	}
	informer, err := l.cluster.GetInformer(ctx, kind, options...)
	if deaf != nil {
		return deafInformer{informer, deaf}, err
	}
	return informer, err
}

type deafInformer struct {
	cache.Informer
	err error
}

func (d deafInformer) AddEventHandler(toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	return nil, d.err
}

func (l *lacking) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	l.mu.Lock()
	err := l.lists
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.cluster.List(ctx, list, options...)
}

// TestKindsThatAreNotServed: pools that are waited for make the view incomplete until they are served; ServiceCIDRs are
// not waited for.
func TestKindsThatAreNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claims := reflect.TypeFor[*v1alpha1.PortClaim]()
		l := &lacking{cluster: newCluster(newPod("Running")), lacks: map[reflect.Type]bool{claims: true, reflect.TypeFor[*networkingv1.ServiceCIDR](): true}}
		o := New(l, Options{Pools: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- o.Start(ctx) }()
		time.Sleep(time.Hour)
		if o.IsComplete() {
			t.Error("complete without PortClaims")
		}
		l.mu.Lock()
		delete(l.lacks, claims)
		l.mu.Unlock()
		time.Sleep(2 * time.Second)
		if !o.IsComplete() || len(held(o)) != 1 {
			t.Errorf("complete %v, held %v", o.IsComplete(), held(o))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestStartFails: what cannot be watched is an error that says so, and ends with its context.
func TestStartFails(t *testing.T) {
	pods := reflect.TypeFor[*corev1.Pod]()
	for _, c := range []struct {
		name string
		l    *lacking
		want error
	}{
		{"no informer", &lacking{refuses: map[reflect.Type]error{pods: errDown}}, errDown},
		{"no handler", &lacking{deaf: map[reflect.Type]error{pods: errDown}}, errDown},
		{"not served, and told to stop", &lacking{lacks: map[reflect.Type]bool{pods: true}}, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.l.cluster = newCluster()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := New(c.l, Options{}).Start(ctx); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
		})
	}
}

// TestListsThatFail: without a list nothing is found to have drifted.
func TestListsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lacking{cluster: newCluster(newNode("n1", "a"), newDaemonSet(hostPort80))}
		o := New(l, Options{RebuildEvery: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- o.Start(ctx) }()
		time.Sleep(time.Second)
		before := held(o)
		l.mu.Lock()
		l.lists = errDown
		l.mu.Unlock()
		time.Sleep(time.Hour)
		if _, err := o.Rebuild(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("%v, want %v", err, errDown)
		}
		if diff := cmp.Diff(before, held(o)); diff != "" || len(before) != 1 {
			t.Errorf("(-before +after):\n%s", diff)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRebuildEnds: who looks for drift stops with its context.
func TestRebuildEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := started(t, newCluster(newPod("Running")), Options{})
		o.ledger.Release(ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: "p"})
		ctx, cancel := context.WithTimeout(t.Context(), settleTime/2)
		defer cancel()
		if drifted, err := o.Rebuild(ctx); !errors.Is(err, context.DeadlineExceeded) || drifted != nil {
			t.Errorf("%v, %v", drifted, err)
		}
	})
}

func TestCacheOptionsStrip(t *testing.T) {
	pod := newPod("Running")
	pod.Annotations = map[string]string{"a": "b"}
	kept, err := CacheOptions().DefaultTransform(pod)
	if err != nil || len(kept.(*corev1.Pod).Annotations) != 0 {
		t.Errorf("%v, %v", kept, err)
	}
}
