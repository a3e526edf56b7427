package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	eventrecorder "sigs.k8s.io/controller-runtime/pkg/recorder"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// bench is a cluster in memory, for a synctest bubble. Its client records each call and may refuse it; stored is the same
// API without that, for what a test itself reads and writes. informers shows it by watches.
type bench struct {
	client.WithWatch
	t         *testing.T
	stored    client.WithWatch
	informers *informers
	logs      []string // messages of errors, and "info: " with those that are none

	mu     sync.Mutex
	calls  []string // "verb Kind name"
	rules  []*rule
	events []string // "type reason Kind/name"
	uids   atomic.Int64
}

// rule is what happens before calls that begin with a pattern.
type rule struct {
	pattern string
	do      func(object client.Object) error
	left    int // calls; negative: all
}

// inBubble runs a test with a bench, and time that passes only when everybody waits.
func inBubble(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newBench(t)) })
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	scheme := runtime.NewScheme() // as small as can be: the fake client goes through all of it with each write
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme,
		admissionregistrationv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	b.stored = fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&v1alpha1.PortPool{}, &v1alpha1.PortPolicy{}, &v1alpha1.PortClaim{}, &corev1.Service{}, &corev1.Pod{}).Build()
	b.WithWatch = interceptor.NewClient(b.stored, b.intercepted())
	b.informers = newInformers(t, b)
	return b
}

// admit gives an object what the API server gives it.
func (b *bench) admit(object client.Object) {
	if object.GetUID() == "" {
		object.SetUID(types.UID(fmt.Sprint("uid-", b.uids.Add(1))))
	}
	if object.GetCreationTimestamp().Time.IsZero() {
		object.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	}
	object.SetGeneration(max(object.GetGeneration(), 1))
}

func (b *bench) intercepted() interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return b.call(ctx, "get", o, key.Name, func() error { return c.Get(ctx, key, o, opts...) })
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			return b.call(ctx, "list", l, "", func() error { return c.List(ctx, l, opts...) })
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			verb := "create"
			if options := new(client.CreateOptions).ApplyOptions(opts); len(options.DryRun) > 0 {
				verb = "dryrun"
			}
			return b.call(ctx, verb, o, o.GetName(), func() error {
				b.admit(o)
				return c.Create(ctx, o, opts...)
			})
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return b.call(ctx, "update", o, o.GetName(), func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return b.call(ctx, "patch", o, o.GetName(), func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			u := o.(interface{ GetName() string })
			return b.call(ctx, "apply", o, u.GetName(), func() error { return c.Apply(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return b.call(ctx, "delete", o, o.GetName(), func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return b.call(ctx, sub, o, o.GetName(), func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
	}
}

// call makes a call unless a rule refuses it, or ctx has ended: the client of controller-runtime's fake does not look.
func (b *bench) call(ctx context.Context, verb string, object any, name string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o, _ := object.(client.Object)
	text := strings.TrimSpace(verb + " " + kindOf(object) + " " + name)
	b.mu.Lock()
	b.calls = append(b.calls, text)
	var first func(client.Object) error
	for _, r := range b.rules {
		if first == nil && r.left != 0 && strings.HasPrefix(text, r.pattern) {
			first = r.do
			r.left--
		}
	}
	b.mu.Unlock()
	if first != nil {
		if err := cmp.Or(first(o), ctx.Err()); err != nil {
			return err
		}
	}
	return do()
}

// kindOf is the kind of an object, of the items for a list.
func kindOf(object any) string {
	if u, ok := object.(interface{ GetKind() string }); ok {
		return strings.TrimSuffix(u.GetKind(), "List")
	}
	if strings.Contains(fmt.Sprintf("%T", object), "unstructured") {
		return "Report" // what is applied
	}
	return strings.TrimSuffix(reflect.TypeOf(object).Elem().Name(), "List")
}

// before has something done before each call that begins with pattern, "verb Kind name"; an error refuses the call. The
// first rule wins. The result takes the rule back.
func (b *bench) before(pattern string, do func(client.Object) error) (end func()) {
	r := &rule{pattern, do, -1}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = append(b.rules, r)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.rules = slices.DeleteFunc(b.rules, func(o *rule) bool { return o == r })
	}
}

func (b *bench) refuse(pattern string, err error) (end func()) {
	return b.before(pattern, func(client.Object) error { return err })
}

// once is before for the next call alone.
func (b *bench) once(pattern string, do func(client.Object) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = append(b.rules, &rule{pattern, do, 1})
}

// count returns how many calls began with pattern since the last forget.
func (b *bench) count(pattern string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, call := range b.calls {
		if strings.HasPrefix(call, pattern) {
			n++
		}
	}
	return n
}

// writes returns the calls that wrote something since the last forget, in order.
func (b *bench) writes() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, call := range b.calls {
		if verb, _, _ := strings.Cut(call, " "); !slices.Contains([]string{"get", "list", "dryrun", "cache-get", "cache-list"}, verb) {
			all = append(all, call)
		}
	}
	return all
}

func (b *bench) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls, b.events = nil, nil
}

// get reads an object as it is stored, and reports whether it is there.
func (b *bench) get(object client.Object) bool {
	b.t.Helper()
	err := b.stored.Get(b.t.Context(), client.ObjectKeyFromObject(object), object)
	if client.IgnoreNotFound(err) != nil {
		b.t.Fatal(err)
	}
	return err == nil
}

func (b *bench) create(objects ...client.Object) {
	b.t.Helper()
	for _, object := range objects {
		b.admit(object)
		if err := b.stored.Create(b.t.Context(), object); err != nil {
			b.t.Fatal(err)
		}
	}
	synctest.Wait()
}

func (b *bench) remove(objects ...client.Object) {
	b.t.Helper()
	for _, object := range objects {
		if err := b.stored.Delete(b.t.Context(), object); err != nil {
			b.t.Fatal(err)
		}
	}
	synctest.Wait()
}

// edit changes an object, as somebody who writes its spec does, and waits until that has come through.
func edit[T client.Object](b *bench, object T, change func(T)) {
	b.t.Helper()
	editNow(b, object, change)
	synctest.Wait()
}

// editNow is edit from within a call.
func editNow[T client.Object](b *bench, object T, change func(T)) {
	b.t.Helper()
	if !b.get(object) {
		b.t.Fatalf("%T %s is not there", object, object.GetName())
	}
	change(object)
	object.SetGeneration(object.GetGeneration() + 1)
	if err := b.stored.Update(context.WithoutCancel(b.t.Context()), object); err != nil {
		b.t.Fatal(err)
	}
}

// start runs what a manager would run until the test ends, or until end is called, which waits for it.
func (b *bench) start(runs ...func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(b.context())
	var running sync.WaitGroup
	for _, run := range runs {
		running.Go(func() {
			if err := run(ctx); err != nil {
				b.t.Errorf("%v, want to run until the end", err)
			}
		})
	}
	end = func() {
		cancel()
		running.Wait()
	}
	b.t.Cleanup(end)
	return end
}

func leads(lead func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		lead(ctx)
		return nil
	}
}

// context is that of the test, with a log that the bench keeps.
func (b *bench) context() context.Context {
	return logf.IntoContext(b.t.Context(), funcr.New(func(_, args string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.logs = append(b.logs, args)
	}, funcr.Options{LogCallerFunc: false, RenderBuiltinsHook: onlyMessage}))
}

// onlyMessage leaves of a line the text of an error, or that there is none.
func onlyMessage(line []any) []any {
	for i := 0; i+1 < len(line); i += 2 {
		if line[i] == "error" {
			return []any{"error", line[i+1]}
		}
	}
	return []any{"info", ""}
}

// errorsLogged counts the lines that are about errors.
func (b *bench) errorsLogged() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, line := range b.logs {
		if strings.HasPrefix(line, `"error"`) {
			n++
		}
	}
	return n
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// cluster is the bench as a manager shows it.
func (b *bench) cluster() cluster.Cluster { return benchCluster{b: b} }

type benchCluster struct {
	cluster.Cluster
	b *bench
}

func (c benchCluster) GetCache() cache.Cache                               { return c.b.informers }
func (c benchCluster) GetClient() client.Client                            { return c.b }
func (c benchCluster) GetAPIReader() client.Reader                         { return c.b }
func (c benchCluster) GetEventRecorder(string) eventrecorder.EventRecorder { return recorder{b: c.b} }

// recorder keeps events as "type reason Kind/name".
type recorder struct {
	eventrecorder.EventRecorder
	b *bench
}

func (r recorder) Eventf(regarding, _ runtime.Object, kind, reason, _, _ string, _ ...any) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	m, err := meta.Accessor(regarding)
	if err != nil {
		panic(err)
	}
	r.b.events = append(r.b.events, fmt.Sprintf("%s %s %s/%s", kind, reason, kindOf(regarding), m.GetName()))
}

func (b *bench) eventsSeen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(slices.Values(b.events))
}

// series are the metrics of a registry that are not 0, "name labels=value", without portcullis_.
func series(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "portcullis_")
			for _, l := range metric.GetLabel() {
				name += " " + l.GetValue()
			}
			if v := metric.GetGauge().GetValue() + metric.GetCounter().GetValue(); v != 0 {
				all = append(all, name+"="+strconv.FormatFloat(v, 'f', -1, 64))
			}
		}
	}
	return strings.Join(all, ", ")
}

// Errors as an API server, or what stands before it, answers.
var (
	errDown     = errors.New("connection refused")
	errConflict = apierrors.NewConflict(schema.GroupResource{Resource: "things"}, "thing", errors.New("the object has been modified"))
)

func errNoKind(kind string) error {
	return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: kind}}
}
