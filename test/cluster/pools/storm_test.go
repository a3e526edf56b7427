package pools

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const (
	clients   = 64
	pools     = 6
	firstPort = 28000
	lastPort  = 31999
)

// count is how many Services there are, and how many numbers the pools have together.
func count() int { return seed.Rounds(180, 3000) }

// breakingTime is how long things break. Whoever leads is killed before long, and the next one has to wait for the Lease
// to end: while that goes on, numbers that were asked for in vain do not come back.
func breakingTime() time.Duration {
	if seed.Soaking() {
		return time.Minute
	}
	return 15 * time.Second
}

// site is a control plane of two API servers with three replicas behind a balancer.
type site struct {
	*rig.Rig
	admin    client.Client // of the first API server
	configs  []*rest.Config
	replicas []*rig.Replica
	balancer *rig.Balancer
}

func newSite(t *testing.T) *site {
	t.Helper()
	r := rig.Run(t, rig.Options{Unarmed: true, ControlPlane: controlplane.Options{NodePortRange: fmt.Sprintf("%d-%d", firstPort, lastPort)}, Config: config()})
	s := &site{Rig: r}
	second, err := r.AddAPIServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.configs = []*rest.Config{r.RESTConfig(), second}
	s.replicas = []*rig.Replica{r.Webhook, r.ReplicaAt(t, config(), ""), r.ReplicaAt(t, config(), second.Host)}
	if s.balancer, err = rig.NewBalancer(t.Context(), s.replicas...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.balancer.Close)
	s.admin = s.newClient(t, 0)
	for i := range pools {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team(i), Labels: map[string]string{"team": strconv.Itoa(i)}}}
		if err := s.admin.Create(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
		if err := s.admin.Create(t.Context(), newPool(i)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func config() string {
	return fmt.Sprintf("apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nnodePortRange: %d-%d\n", firstPort, lastPort)
}

func team(i int) string { return fmt.Sprint("team-", i%pools) }

// ours is the range of a team's pool.
func ours(i int) (first, last int32) {
	size := int32(count() / pools)
	first = firstPort + int32(i)*size
	return first, first + size - 1
}

func newPool(i int) *v1alpha1.PortPool {
	first, last := ours(i)
	strategies := []v1alpha1.AllocationStrategy{v1alpha1.Hashed, v1alpha1.LowestFree, v1alpha1.Random}
	p := &v1alpha1.PortPool{ObjectMeta: metav1.ObjectMeta{Name: team(i)}}
	p.Spec = v1alpha1.PortPoolSpec{
		Ranges:            []v1alpha1.PortRange{{Port: first, EndPort: &last}},
		NamespaceSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"team": v1alpha1.LabelValue(strconv.Itoa(i))}},
		Allocation:        v1alpha1.PortAllocation{Strategy: strategies[i%len(strategies)], ReuseDelay: &metav1.Duration{}},
		Enforcement:       v1alpha1.Deny,
	}
	return p
}

func (s *site) newClient(t *testing.T, server int) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(s.configs[server], client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// arm has both API servers ask the replicas through the balancer.
func (s *site) arm(t *testing.T) {
	t.Helper()
	registration := s.Registration()
	var ca []byte
	for _, g := range s.replicas {
		ca = append(ca, g.CA...)
	}
	registration.ClientConfig = hooks.URLClient(s.balancer.URL(), ca)
	admission := s.Client.AdmissionregistrationV1()
	if _, err := admission.MutatingWebhookConfigurations().Create(t.Context(), hooks.Mutating(registration), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admission.ValidatingWebhookConfigurations().Create(t.Context(), hooks.Validating(registration), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for server := range s.configs {
		c := s.newClient(t, server)
		poll.Within(t, time.Minute, func(context.Context) error {
			probe := service("probe", "default")
			probe.Spec.Ports[0].NodePort = 1
			err := c.Create(t.Context(), probe, client.DryRunAll)
			if apierrors.IsInvalid(err) && strings.Contains(err.Error(), hooks.Suffix) {
				return nil
			}
			return fmt.Errorf("API server %d does not ask the webhook: %w", server, err)
		})
	}
}

func service(name, namespace string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	svc.Spec.Type = corev1.ServiceTypeNodePort
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	return svc
}

// storm is what the clients meet.
type storm struct {
	*site
	seed     uint64
	abandons bool // half of the requests are given up in the middle
	breaks   bool // the replicas and etcd fail, and clients see it
	again    atomic.Int64
	broken   atomic.Int64
	given    atomic.Int64 // up
	mu       sync.Mutex
	took     []time.Duration
}

// run has the clients create all Services, and returns when each of them exists.
func (s *storm) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	next := atomic.Int64{}
	var all sync.WaitGroup
	for i := range clients {
		c := s.newClient(t, i%len(s.configs))
		random := rand.New(rand.NewPCG(s.seed, uint64(i)))
		all.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= count() || ctx.Err() != nil {
					return
				}
				if err := s.create(ctx, c, random, fmt.Sprint("svc-", n), team(n)); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
}

// create tries until the Service exists, and returns an error that no client should see.
func (s *storm) create(ctx context.Context, c client.Client, random *rand.Rand, name, namespace string) error {
	for {
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if s.abandons && random.IntN(2) == 0 {
			attempt, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(20_000))*time.Microsecond)
		}
		start := time.Now()
		err := c.Create(attempt, service(name, namespace))
		took := time.Since(start)
		abandoned := attempt != ctx && attempt.Err() != nil
		cancel()
		switch {
		case err == nil, apierrors.IsAlreadyExists(err):
			s.mu.Lock()
			s.took = append(s.took, took)
			s.mu.Unlock()
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s/%s: in time there was only: %w", namespace, name, err)
		case abandoned:
			s.given.Add(1)
		case apierrors.IsTooManyRequests(err) && strings.Contains(err.Error(), "try again in a second"):
			s.again.Add(1)
		case s.abandons && strings.Contains(err.Error(), "provided port is already allocated"):
			// The API server still has the number for the request that was given up.
			s.broken.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		case s.breaks && isOutage(err):
			s.broken.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		default:
			return fmt.Errorf("%s/%s: %w", namespace, name, err)
		}
	}
}

// isOutage reports whether an error is of what the test breaks: a replica that is killed, etcd that does not answer.
func isOutage(err error) bool {
	return apierrors.IsInternalError(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsServiceUnavailable(err) ||
		strings.Contains(err.Error(), "etcdserver") || strings.Contains(err.Error(), "context deadline exceeded")
}

// check counts what the API servers have, once the controllers are through.
func (s *site) check(t *testing.T, want int) {
	t.Helper()
	for server := range s.configs {
		c := s.newClient(t, server)
		poll.Within(t, 3*time.Minute, func(context.Context) error { return checkOnce(t.Context(), c, want) })
	}
}

func checkOnce(ctx context.Context, c client.Client, want int) error {
	var services corev1.ServiceList
	var claims v1alpha1.PortClaimList
	if err := errors.Join(c.List(ctx, &services), c.List(ctx, &claims)); err != nil {
		return err
	}
	var wrong []string
	holders, held := map[int32]*corev1.Service{}, 0
	for i := range services.Items {
		svc := &services.Items[i]
		if !strings.HasPrefix(svc.Namespace, "team-") {
			continue
		}
		held++
		number := svc.Spec.Ports[0].NodePort
		if other := holders[number]; other != nil {
			wrong = append(wrong, fmt.Sprintf("%d is held twice, by %s/%s and %s/%s", number, other.Namespace, other.Name, svc.Namespace, svc.Name))
		}
		holders[number] = svc
		index, _ := strconv.Atoi(strings.TrimPrefix(svc.Namespace, "team-"))
		if first, last := ours(index); number < first || number > last {
			wrong = append(wrong, fmt.Sprintf("%s/%s strays: it has %d, its pool %d-%d", svc.Namespace, svc.Name, number, first, last))
		}
	}
	if held != want {
		wrong = append(wrong, fmt.Sprintf("%d Services, want %d", held, want))
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		svc := holders[claim.Spec.Port]
		if svc == nil {
			wrong = append(wrong, fmt.Sprintf("%s has leaked: it is %s for %s/%s", claim.Name, claim.Status.Phase, claim.Spec.Service.Namespace, claim.Spec.Service.Name))
			continue
		}
		delete(holders, claim.Spec.Port)
		if claim.Status.Phase != v1alpha1.ClaimBound || claim.Status.ServiceUID != string(svc.UID) || claim.Spec.Service.Name != svc.Name || claim.Spec.Pool != svc.Namespace {
			wrong = append(wrong, fmt.Sprintf("%s is %s for %s/%s of pool %s; %s/%s has the number", claim.Name, claim.Status.Phase,
				claim.Spec.Service.Namespace, claim.Spec.Service.Name, claim.Spec.Pool, svc.Namespace, svc.Name))
		}
	}
	for _, number := range slices.Sorted(maps.Keys(holders)) {
		wrong = append(wrong, fmt.Sprintf("%d has no claim, and is %s/%s's", number, holders[number].Namespace, holders[number].Name))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d wrong: %s", len(wrong), strings.Join(wrong[:min(8, len(wrong))], "; "))
	}
	return nil
}

// clear deletes all Services, and waits until every number is free again.
func (s *site) clear(t *testing.T) {
	t.Helper()
	for i := range pools {
		if err := s.admin.DeleteAllOf(t.Context(), &corev1.Service{}, client.InNamespace(team(i))); err != nil {
			t.Fatal(err)
		}
	}
	s.check(t, 0)
}

// takeAll has every number of the pools again, by name: nothing has leaked, in the API server's book either.
func (s *site) takeAll(t *testing.T) {
	t.Helper()
	work := make(chan int32)
	var all sync.WaitGroup
	for i := range 16 {
		c := s.newClient(t, i%len(s.configs))
		all.Go(func() {
			for number := range work {
				index := int(number-firstPort) / (count() / pools)
				svc := service(fmt.Sprint("by-number-", number), team(index))
				svc.Spec.Ports[0].NodePort = number
				if err := c.Create(t.Context(), svc); err != nil {
					t.Errorf("nodePort %d: %v", number, err)
				}
			}
		})
	}
	for number := range int32(count()) {
		work <- firstPort + number
	}
	close(work)
	all.Wait()
	s.check(t, count())
}

// TestStorm: every Service has a number of its pool, no number is had twice, no client sees an error but the announced
// 429, and nothing is left when all are gone.
func TestStorm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bare := &storm{site: s, seed: seed.Of(t)}
	bare.run(t) // without us, for comparison
	for i := range pools {
		if err := s.admin.DeleteAllOf(t.Context(), &corev1.Service{}, client.InNamespace(team(i))); err != nil {
			t.Fatal(err)
		}
	}
	s.check(t, 0)
	s.arm(t)
	run := &storm{site: s, seed: bare.seed}
	run.run(t)
	s.check(t, count())
	t.Logf("%d Services, %d clients: median %v, p99 %v; without us %v, %v: ratio %.2f, %.2f; told to try again %d times", count(), clients,
		quantile(run.took, 50), quantile(run.took, 99), quantile(bare.took, 50), quantile(bare.took, 99),
		ratio(run.took, bare.took, 50), ratio(run.took, bare.took, 99), run.again.Load())
	s.clear(t)
	s.takeAll(t)
	s.clear(t)
}

// TestStormWhileThingsBreak: the same while replicas are killed and started again, etcd stands still for a while, and
// clients give up half of their requests. They see outages then, and still no number is had twice, lost, or a stranger's.
func TestStormWhileThingsBreak(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.arm(t)
	run := &storm{site: s, seed: seed.Of(t), abandons: true, breaks: true}
	ctx, cancel := context.WithTimeout(t.Context(), breakingTime())
	var breaking sync.WaitGroup
	breaking.Go(func() { s.killInTurn(ctx, t) })
	breaking.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
		if err := s.Pause(t.Context(), binaries.Etcd, 5*time.Second); err != nil {
			t.Error(err)
		}
	})
	run.run(t)
	cancel()
	breaking.Wait()
	for _, g := range s.replicas {
		poll.Within(t, time.Minute, func(context.Context) error { return g.Ready(t.Context()) })
	}
	t.Logf("%d Services: %d requests given up, %d met an outage, %d told to try again", count(), run.given.Load(), run.broken.Load(), run.again.Load())
	s.check(t, count())
	s.clear(t)
	s.takeAll(t)
}

// killInTurn kills a replica every two seconds and starts it again.
func (s *site) killInTurn(ctx context.Context, t *testing.T) {
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		g := s.replicas[i%len(s.replicas)]
		g.Kill()
		if err := g.Launch(); err != nil {
			t.Error(err)
			return
		}
	}
}

func quantile(took []time.Duration, percent int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Round(100 * time.Microsecond)
}

func ratio(a, b []time.Duration, percent int) float64 {
	return float64(quantile(a, percent)) / float64(max(1, quantile(b, percent)))
}
