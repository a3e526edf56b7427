//go:build linux

package operations

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

func command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// held is the nodePort of a Service that stands.
const held = 30062

// hold creates that Service and waits until it is refused to others.
func (w *world) hold(t *testing.T) {
	t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "holder"}}
	svc.Spec.Type = corev1.ServiceTypeNodePort
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80, NodePort: held}}
	if _, err := w.client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, func(ctx context.Context) error {
		if got := outcomeOf(deployment(ctx, w.client, held)); got != refused {
			return fmt.Errorf("the port that is held: %s", got)
		}
		return nil
	})
}

// outcome is what became of a request.
type outcome string

const (
	admitted outcome = "admitted"
	refused  outcome = "refused" // by the webhook, in its own words
	failed   outcome = "failed"  // the API server could not ask the webhook
	unheard  outcome = "unheard" // the API server did not answer
	muddled  outcome = "muddled" // anything else
)

func outcomeOf(err error) outcome {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return admitted
	case apierrors.IsInvalid(err) && strings.Contains(err.Error(), "denied the request") && strings.Contains(err.Error(), "(PC0201)"):
		return refused
	case strings.Contains(err.Error(), "failed calling webhook"):
		return failed
	case !errors.As(err, &status), apierrors.IsServiceUnavailable(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsInternalError(err):
		return unheard
	default:
		return muddled
	}
}

// The three requests, all dry runs: the webhook judges them like others, and nothing is left behind.
func deployment(ctx context.Context, c kubernetes.Interface, port int32) error {
	labels := map[string]string{"app": "traffic"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "traffic"}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec(port)}
	_, err := c.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func pod(ctx context.Context, c kubernetes.Interface, port int32) error {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "traffic"}, Spec: podSpec(port)}
	_, err := c.CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func podSpec(port int32) corev1.PodSpec {
	container := corev1.Container{Name: "c", Image: "i"}
	if port != 0 {
		container.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: port}}
	}
	return corev1.PodSpec{Containers: []corev1.Container{container}}
}

// traffic is requests of which the answers are known.
type traffic struct {
	calls   atomic.Int64
	mu      sync.Mutex
	seen    map[string]int // by what was asked and what came
	samples map[string]string
	late    int           // of those that failed, the ones that ran into the webhook's timeout
	slowest time.Duration // that the API server took to answer what no webhook was asked about
	stop    func()
}

// traffic sends that many requests a second until stopped: templates and pods with a free port, with the port that is
// held, and with none.
func (w *world) traffic(t *testing.T, perSecond int) *traffic {
	t.Helper()
	tr := &traffic{seen: map[string]int{}, samples: map[string]string{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var working sync.WaitGroup
	working.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			working.Go(func() { tr.ask(context.WithoutCancel(ctx), w.client, i) })
		}
	})
	tr.stop = sync.OnceFunc(func() { cancel(); working.Wait() })
	t.Cleanup(tr.stop)
	return tr
}

func (tr *traffic) ask(ctx context.Context, c kubernetes.Interface, i int) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	what, port := "free", int32(8080)
	switch i % 3 {
	case 1:
		what, port = "held", held
	case 2:
		what, port = "none", 0
	}
	send := deployment
	if i%2 == 0 {
		send = pod
	}
	began := time.Now()
	err := send(ctx, c, port)
	took := time.Since(began)
	tr.calls.Add(1)
	got := outcomeOf(err)
	key := what + " " + string(got)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if got == failed && strings.Contains(err.Error(), "context deadline exceeded") {
		tr.late++
	}
	if what == "none" && got == admitted {
		tr.slowest = max(tr.slowest, took)
	}
	tr.seen[key]++
	if err != nil && tr.samples[key] == "" {
		tr.samples[key] = err.Error()
	}
}

// count returns how often something was asked with an outcome.
func (tr *traffic) count(what string, o outcome) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.seen[what+" "+string(o)]
}

// check stops the traffic, prints its figures, and holds that no answer was wrong: a port that is held was never let
// through while the policy was Fail, one that is free was never refused, and what has no port was never in anybody's way.
// Failures are for the test to judge. Those that ran into the webhook's timeout of 3 s are none where the API server was as
// slow by itself: then it is the machine that is late.
func (tr *traffic) check(t *testing.T, what string) (failures int) {
	t.Helper()
	tr.stop()
	failures = tr.count("free", failed) + tr.count("held", failed)
	wrong := tr.count("held", admitted) + tr.count("free", refused) + tr.count("none", refused) + tr.count("none", failed) +
		tr.count("free", muddled) + tr.count("held", muddled) + tr.count("none", muddled)
	t.Logf("%s: %d calls, %d failures, %d of them late, %d wrong answers; %v; without a webhook the slowest took %s",
		what, tr.calls.Load(), failures, tr.late, wrong, tr.seen, tr.slowest.Round(time.Millisecond))
	if tr.slowest > time.Second {
		failures -= tr.late
	}
	if wrong > 0 {
		t.Errorf("%s: %d wrong answers: %v", what, wrong, tr.samples)
	}
	return failures
}
