// Package fake is a cluster in memory for the tests of the controllers. Run calls a test in a synctest bubble, where time
// passes only when every goroutine waits, with a Cluster:
//
//	controller -> Cluster (client, reader): records each call, and a rule may reject it -> Stored
//	controller <- Cache (informers):        shows what is stored, unless it is paused  <- Stored
//	test       -> Stored:                   reads and writes, recorded by nobody
//
// A call is written "verb Kind name", as in "update Secret portcullis-ca"; the verbs are those of the client, dryrun for a
// create that stores nothing, status for an update of it, and cache-get and cache-list. Before, Reject, Once and Count take the
// beginning of one. objects.go has the objects that several tests need.
package fake

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
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	eventrecorder "sigs.k8s.io/controller-runtime/pkg/recorder"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// Cluster is a cluster in memory. As a client it records each call, and rejects it if a rule says so.
type Cluster struct {
	client.WithWatch
	T      *testing.T
	Stored client.WithWatch // the same API, without records and rules
	Cache  *Cache           // shows what is stored

	mu     sync.Mutex
	logs   []string // of Context
	calls  []string // "verb Kind name"
	rules  []*rule
	events []string // "type reason Kind/name"
	uids   atomic.Int64
}

// rule is what is done before calls that begin with a pattern.
type rule struct {
	pattern string
	do      func(object client.Object) error
	left    int // calls; negative: all
}

// Run runs a test in a synctest bubble.
func Run(t *testing.T, test func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newCluster(t)) })
}

func newCluster(t *testing.T) *Cluster {
	t.Helper()
	c := &Cluster{T: t}
	scheme := runtime.NewScheme() // as small as can be: the fake client goes through all of it with each write
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme,
		admissionregistrationv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c.Stored = clientfake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&v1alpha1.PortPool{}, &v1alpha1.PortPolicy{}, &v1alpha1.PortClaim{}, &corev1.Service{}, &corev1.Pod{}).Build()
	c.WithWatch = interceptor.NewClient(c.Stored, c.intercepted())
	c.Cache = newCache(t, c)
	return c
}

// admit sets what the API server sets.
func (c *Cluster) admit(object client.Object) {
	if object.GetUID() == "" {
		object.SetUID(types.UID(fmt.Sprint("uid-", c.uids.Add(1))))
	}
	if object.GetCreationTimestamp().Time.IsZero() {
		object.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	}
	object.SetGeneration(max(object.GetGeneration(), 1))
}

func (c *Cluster) intercepted() interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, next client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return c.call(ctx, "get", o, key.Name, func() error { return next.Get(ctx, key, o, opts...) })
		},
		List: func(ctx context.Context, next client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			return c.call(ctx, "list", l, "", func() error { return next.List(ctx, l, opts...) })
		},
		Create: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			verb := "create"
			if options := new(client.CreateOptions).ApplyOptions(opts); len(options.DryRun) > 0 {
				verb = "dryrun"
			}
			return c.call(ctx, verb, o, o.GetName(), func() error {
				c.admit(o)
				return next.Create(ctx, o, opts...)
			})
		},
		Update: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return c.call(ctx, "update", o, o.GetName(), func() error { return next.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, next client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return c.call(ctx, "patch", o, o.GetName(), func() error { return next.Patch(ctx, o, p, opts...) })
		},
		Apply: func(ctx context.Context, next client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			u := o.(interface{ GetName() string })
			return c.call(ctx, "apply", o, u.GetName(), func() error { return next.Apply(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, next client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return c.call(ctx, "delete", o, o.GetName(), func() error { return next.Delete(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, next client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return c.call(ctx, sub, o, o.GetName(), func() error { return next.SubResource(sub).Update(ctx, o, opts...) })
		},
	}
}

// call makes a call, unless a rule rejects it or ctx has ended, at which the client of controller-runtime does not look.
func (c *Cluster) call(ctx context.Context, verb string, object any, name string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o, _ := object.(client.Object)
	text := strings.TrimSpace(verb + " " + KindOf(object) + " " + name)
	c.mu.Lock()
	c.calls = append(c.calls, text)
	var first func(client.Object) error
	for _, r := range c.rules {
		if first == nil && r.left != 0 && strings.HasPrefix(text, r.pattern) {
			first = r.do
			r.left--
		}
	}
	c.mu.Unlock()
	if first != nil {
		if err := cmp.Or(first(o), ctx.Err()); err != nil {
			return err
		}
	}
	return do()
}

// KindOf returns the kind of an object; for a list, that of its items.
func KindOf(object any) string {
	if u, ok := object.(interface{ GetKind() string }); ok {
		return strings.TrimSuffix(u.GetKind(), "List")
	}
	if strings.Contains(fmt.Sprintf("%T", object), "unstructured") {
		return "Report" // what is applied
	}
	return strings.TrimSuffix(reflect.TypeOf(object).Elem().Name(), "List")
}

// Before has something done before each call that begins with pattern; an error rejects the call. The first rule wins. end
// removes the rule.
func (c *Cluster) Before(pattern string, do func(client.Object) error) (end func()) {
	r := &rule{pattern, do, -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = append(c.rules, r)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.rules = slices.DeleteFunc(c.rules, func(o *rule) bool { return o == r })
	}
}

// Reject rejects each call that begins with pattern. end removes the rule.
func (c *Cluster) Reject(pattern string, err error) (end func()) {
	return c.Before(pattern, func(client.Object) error { return err })
}

// Once is Before for the next call alone.
func (c *Cluster) Once(pattern string, do func(client.Object) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = append(c.rules, &rule{pattern, do, 1})
}

// Count returns how many calls began with pattern since the last Reset.
func (c *Cluster) Count(pattern string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, call := range c.calls {
		if strings.HasPrefix(call, pattern) {
			n++
		}
	}
	return n
}

// Writes returns the calls that wrote something since the last Reset, in order.
func (c *Cluster) Writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, call := range c.calls {
		if verb, _, _ := strings.Cut(call, " "); !slices.Contains([]string{"get", "list", "dryrun", "cache-get", "cache-list"}, verb) {
			all = append(all, call)
		}
	}
	return all
}

// Reset forgets the calls and events so far.
func (c *Cluster) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.events = nil, nil
}

// Load reads an object as it is stored, and reports whether it exists.
func (c *Cluster) Load(object client.Object) bool {
	c.T.Helper()
	err := c.Stored.Get(c.T.Context(), client.ObjectKeyFromObject(object), object)
	if client.IgnoreNotFound(err) != nil {
		c.T.Fatal(err)
	}
	return err == nil
}

// Add stores objects, and waits until the controllers have reacted.
func (c *Cluster) Add(objects ...client.Object) {
	c.T.Helper()
	for _, object := range objects {
		c.admit(object)
		if err := c.Stored.Create(c.T.Context(), object); err != nil {
			c.T.Fatal(err)
		}
	}
	synctest.Wait()
}

// Remove deletes objects, and waits until the controllers have reacted.
func (c *Cluster) Remove(objects ...client.Object) {
	c.T.Helper()
	for _, object := range objects {
		if err := c.Stored.Delete(c.T.Context(), object); err != nil {
			c.T.Fatal(err)
		}
	}
	synctest.Wait()
}

// Edit changes an object as a user does who writes its spec, and waits until the controllers have reacted.
func Edit[T client.Object](c *Cluster, object T, change func(T)) {
	c.T.Helper()
	EditNow(c, object, change)
	synctest.Wait()
}

// EditNow is Edit within a call, where nothing can be waited for.
func EditNow[T client.Object](c *Cluster, object T, change func(T)) {
	c.T.Helper()
	if !c.Load(object) {
		c.T.Fatalf("%T %s does not exist", object, object.GetName())
	}
	change(object)
	object.SetGeneration(object.GetGeneration() + 1)
	if err := c.Stored.Update(context.WithoutCancel(c.T.Context()), object); err != nil {
		c.T.Fatal(err)
	}
}

// Start runs what a manager would run, until the test ends or until end is called, which waits for it.
func (c *Cluster) Start(runs ...func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(c.Context())
	var running sync.WaitGroup
	for _, run := range runs {
		running.Go(func() {
			if err := run(ctx); err != nil {
				c.T.Errorf("%v, want to run until the end", err)
			}
		})
	}
	end = func() {
		cancel()
		running.Wait()
	}
	c.T.Cleanup(end)
	return end
}

// Task makes a task of a leader something to Start.
func Task(lead func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		lead(ctx)
		return nil
	}
}

// Context is the context of the test, with a logger for Logs.
func (c *Cluster) Context() context.Context {
	return logf.IntoContext(c.T.Context(), funcr.New(func(_, args string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.logs = append(c.logs, args)
	}, funcr.Options{LogCallerFunc: false, RenderBuiltinsHook: onlyMessage}))
}

// onlyMessage reduces a line to the text of its error, or to the fact that it has none.
func onlyMessage(line []any) []any {
	for i := 0; i+1 < len(line); i += 2 {
		if line[i] == "error" {
			return []any{"error", line[i+1]}
		}
	}
	return []any{"info", ""}
}

// Logs returns the lines that were logged: `"error"=TEXT`, or `"info"=""`.
func (c *Cluster) Logs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.logs)
}

// ErrorsLogged counts the lines with an error.
func (c *Cluster) ErrorsLogged() int {
	n := 0
	for _, line := range c.Logs() {
		if strings.HasPrefix(line, `"error"`) {
			n++
		}
	}
	return n
}

// Deliver has the handler of a kind see an event: before is nil for an object that is added, after for one that is deleted,
// which comes as one that the watch has missed.
func Deliver(handlers map[client.Object]toolscache.ResourceEventHandler, before, after client.Object) {
	for kind, handler := range handlers {
		switch {
		case before == nil && KindOf(kind) == KindOf(after):
			handler.OnAdd(after, false)
		case before == nil || KindOf(kind) != KindOf(before):
		case after == nil:
			handler.OnDelete(toolscache.DeletedFinalStateUnknown{Key: before.GetName(), Obj: before})
		default:
			handler.OnUpdate(before, after)
		}
	}
}

// Pass lets time pass.
func Pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Manager is the cluster as a manager provides it.
func (c *Cluster) Manager() cluster.Cluster { return manager{c: c} }

type manager struct {
	cluster.Cluster
	c *Cluster
}

func (m manager) GetCache() cache.Cache                               { return m.c.Cache }
func (m manager) GetClient() client.Client                            { return m.c }
func (m manager) GetAPIReader() client.Reader                         { return m.c }
func (m manager) GetEventRecorder(string) eventrecorder.EventRecorder { return recorder{c: m.c} }

// recorder keeps events as "type reason Kind/name".
type recorder struct {
	eventrecorder.EventRecorder
	c *Cluster
}

func (r recorder) Eventf(regarding, _ runtime.Object, kind, reason, _, _ string, _ ...any) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	m, err := meta.Accessor(regarding)
	if err != nil {
		panic(err)
	}
	r.c.events = append(r.c.events, fmt.Sprintf("%s %s %s/%s", kind, reason, KindOf(regarding), m.GetName()))
}

// Events returns the events that were recorded since the last Reset, "type reason Kind/name", sorted.
func (c *Cluster) Events() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.events))
}

// Series returns the metrics of a registry that are not 0, "name labels=value", without the prefix portcullis_.
func Series(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			words := []string{strings.TrimPrefix(f.GetName(), "portcullis_")}
			for _, l := range metric.GetLabel() {
				words = append(words, l.GetValue())
			}
			if v := metric.GetGauge().GetValue() + metric.GetCounter().GetValue(); v != 0 {
				all = append(all, strings.Join(words, " ")+"="+strconv.FormatFloat(v, 'f', -1, 64))
			}
		}
	}
	return strings.Join(all, ", ")
}

// What an API server, or a network, answers.
var (
	ErrDown     = errors.New("connection refused")
	ErrConflict = apierrors.NewConflict(schema.GroupResource{Resource: "things"}, "thing", errors.New("the object has been modified"))
)

// ErrNoKind is the answer of a client whose cluster does not have a kind.
func ErrNoKind(kind string) error {
	return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: kind}}
}
