package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const (
	churners  = 8
	spaces    = 6  // namespaces
	nodes     = 20 // of which each pod is put on one
	perWorker = 40 // Services, and as many pods, that a worker has at most
)

// TestChurn has clients create, change and delete what claims ports through the real API server and the real program, and
// every few seconds, while they pause, holds the size of the program's ledger to a fresh list. The program itself, which
// compares every second, must never find drift. At the end it must not have grown.
func TestChurn(t *testing.T) {
	r := rig.Run(t, rig.Options{})
	as := r.RESTConfig()
	as.WarningHandler = rest.NoWarnings{} // of host ports among the node ports, which it is about
	api, err := kubernetes.NewForConfig(as)
	if err != nil {
		t.Fatal(err)
	}
	c := &churn{Rig: r, api: api}
	c.prepare(t)
	from := seed.Of(t)
	looks, every := seed.Rounds(6, 120), time.Duration(seed.Rounds(3, 10))*time.Second
	over := make(chan struct{})
	var all sync.WaitGroup
	stop := sync.OnceFunc(func() { close(over); all.Wait() })
	defer stop()
	for i := range churners {
		w := &churner{churn: c, id: i, random: rand.New(rand.NewPCG(from, uint64(i))), services: map[string]bool{}, pods: map[string]bool{}}
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := c.step(t.Context(), w); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	var sizes []size
	// On a busy machine it takes longer until there was a churn.
	isChurn := func() bool { return c.stored.Load() >= 1000 && c.refused.Load() >= 10 }
	for (len(sizes) < looks || !isChurn()) && len(sizes) < 5*looks && !t.Failed() {
		time.Sleep(every)
		sizes = append(sizes, c.look(t))
	}
	stop()
	c.look(t)
	t.Logf("%d writes were stored, %d refused; the ledger was right %d times", c.stored.Load(), c.refused.Load(), len(sizes)+1)
	if !isChurn() {
		t.Errorf("%d stored and %d refused are no churn", c.stored.Load(), c.refused.Load())
	}
	if drift, err := r.Webhook.Count(t.Context(), "portcullis_ledger_rebuild_drift_total"); err != nil || drift != 0 {
		t.Errorf("drift %v, %v", drift, err)
	}
	hasNotGrown(t, sizes)
}

// churn is a cluster that never rests but while it is looked at.
type churn struct {
	*rig.Rig
	api             kubernetes.Interface
	settings        *extract.Settings
	pause           sync.RWMutex
	stored, refused atomic.Int64
}

func (c *churn) prepare(t *testing.T) {
	t.Helper()
	defaults, err := configv1alpha1.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.settings, err = extract.NewSettings(defaults); err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}}
		if _, err := c.Client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range spaces {
		space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space(i)}}
		if _, err := c.Client.CoreV1().Namespaces().Create(t.Context(), space, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func space(i int) string { return fmt.Sprint("churn-", i%spaces) }

// churner is one client, with the objects that it has.
type churner struct {
	*churn
	id, n          int
	random         *rand.Rand
	services, pods map[string]bool
}

// step does one thing, unless all pause.
func (c *churn) step(ctx context.Context, w *churner) error {
	c.pause.RLock()
	defer c.pause.RUnlock()
	err := w.act(ctx, c.api)
	switch {
	case err == nil:
		c.stored.Add(1)
	case apierrors.IsInvalid(err):
		c.refused.Add(1) // by the webhook, or by the API server for a number that another client has just got
	default:
		return err
	}
	return nil
}

// act creates, changes or deletes a Service or a pod, or labels a namespace.
func (w *churner) act(ctx context.Context, api kubernetes.Interface) error {
	w.n++
	name, at := fmt.Sprintf("w%d-%d", w.id, w.n), space(w.id)
	services, pods := api.CoreV1().Services(at), api.CoreV1().Pods(at)
	// Few enough numbers that clients meet, also Services and pods.
	number := int32(30000 + w.random.IntN(1200))
	switch what := w.random.IntN(20); {
	case what < 5 && len(w.services) < perWorker:
		s := nodePortService(name, 0)
		if what < 3 {
			s.Spec.Ports[0].NodePort = number
		}
		s.ObjectMeta = metav1.ObjectMeta{Name: name}
		_, err := services.Create(ctx, s, metav1.CreateOptions{})
		return keep(w.services, name, err)
	case what < 10 && len(w.pods) < perWorker:
		p := hostPortPod(name, number)
		p.ObjectMeta = metav1.ObjectMeta{Name: name}
		p.Spec.NodeName, p.Spec.Containers[0].VolumeMounts = fmt.Sprint("n", w.random.IntN(nodes)), nil
		_, err := pods.Create(ctx, p, metav1.CreateOptions{})
		return keep(w.pods, name, err)
	case what < 13 && len(w.services) > 0:
		patch := fmt.Appendf(nil, `[{"op":"replace","path":"/spec/ports/0/nodePort","value":%d}]`, number)
		_, err := services.Patch(ctx, w.pick(w.services), types.JSONPatchType, patch, metav1.PatchOptions{})
		return err
	case what < 15 && len(w.services) > 0:
		gone := w.pick(w.services)
		delete(w.services, gone)
		return services.Delete(ctx, gone, metav1.DeleteOptions{})
	case what < 19 && len(w.pods) > 0:
		gone, now := w.pick(w.pods), int64(0)
		delete(w.pods, gone)
		return pods.Delete(ctx, gone, metav1.DeleteOptions{GracePeriodSeconds: &now})
	default:
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"turn":"%d"}}}`, w.n)
		_, err := api.CoreV1().Namespaces().Patch(ctx, at, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
}

func keep(set map[string]bool, name string, err error) error {
	if err == nil {
		set[name] = true
	}
	return err
}

// pick picks one of a set, the same one for the same seed.
func (w *churner) pick(set map[string]bool) string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[w.random.IntN(len(names))]
}

// size is how large the program is.
type size struct{ heap, resident, goroutines float64 }

// look has all clients pause, and holds the ledger to a fresh list as soon as its watch can have shown it. It returns how
// large the program is.
func (c *churn) look(t *testing.T) size {
	t.Helper()
	c.pause.Lock()
	defer c.pause.Unlock()
	owners, claims, err := c.count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		hasOwners, err1 := c.Webhook.Count(t.Context(), "portcullis_ledger_owners")
		hasClaims, err2 := c.Webhook.Count(t.Context(), "portcullis_ledger_claims")
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if int(hasOwners) == owners && int(hasClaims) == claims {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("the ledger has %v owners with %v claims, the cluster %d with %d", hasOwners, hasClaims, owners, claims)
			break
		}
	}
	heap, err1 := c.Webhook.Count(t.Context(), "go_memstats_heap_inuse_bytes")
	resident, err2 := c.Webhook.Count(t.Context(), "process_resident_memory_bytes")
	goroutines, err3 := c.Webhook.Count(t.Context(), "go_goroutines")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return size{heap, resident, goroutines}
}

// count is what a ledger of the cluster as it is would have.
func (c *churn) count(ctx context.Context) (owners, claims int, err error) {
	services, err1 := c.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	pods, err2 := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	add := func(n int, isKnown bool) {
		if claims += n; n > 0 || isKnown {
			owners++
		}
	}
	for i := range services.Items {
		s := extract.Service(&services.Items[i], c.settings.NodePorts)
		add(len(s.Claims), len(s.Owner.ClusterIPs) > 0)
	}
	for i := range pods.Items {
		add(len(extract.Pod(&pods.Items[i], nil, nil).Claims), false)
	}
	return owners, claims, nil
}

// hasNotGrown compares the last third of the looks with the first, of which the very first look is left out: the cluster
// was small then. The number of objects is bounded, so that nothing may grow; the margins are for the garbage collector,
// which lets the heap double, and for connections.
func hasNotGrown(t *testing.T, sizes []size) {
	t.Helper()
	third := len(sizes) / 3
	if third < 2 {
		t.Fatalf("%d looks are too few to compare", len(sizes))
	}
	early, late := sizes[1:third+1], sizes[len(sizes)-third:]
	for _, c := range []struct {
		name   string
		of     func(size) float64
		factor float64
		plus   float64
	}{
		{"heap in use", func(s size) float64 { return s.heap }, 1.5, 16 << 20},
		{"resident memory", func(s size) float64 { return s.resident }, 1.5, 32 << 20},
		{"goroutines", func(s size) float64 { return s.goroutines }, 1, 50},
	} {
		most, least := c.of(early[0]), c.of(late[0])
		for _, s := range early {
			most = max(most, c.of(s))
		}
		for _, s := range late {
			least = min(least, c.of(s))
		}
		t.Logf("%s: at most %.0f in the first third, at least %.0f in the last", c.name, most, least)
		if bound := most*c.factor + c.plus; least > bound {
			t.Errorf("%s has grown from %.0f to %.0f, which is beyond %.0f", c.name, most, least, bound)
		}
	}
}
