//go:build linux

package operations

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// TestSecretPath rolls out --secret-path under load, waits for a rotation, and rolls it back: whoever posts to a hook without
// the segment that is registered gets 404, and no call of the API server fails.
func TestSecretPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, controlplane.Options{})
	lives := []string{"--ca-lifetime", "60s", "--certificate-lifetime", "20s"}
	before := w.replicas(t, lives...)
	w.hold(t)
	tr := w.traffic(t, 20)
	if status := before[0].post(t, hooks.PathValidatePods); status == http.StatusNotFound {
		t.Fatalf("without the flag a post to a plain path gets %d", status)
	}

	with := w.rollOut(t, before, append(lives, "--secret-path")...)
	first := w.awaitSegment(t, func(segment string) bool { return segment != "" })
	w.awaitRefused(t, with, hooks.PathValidatePods)
	for _, r := range with {
		for path, isServed := range map[string]bool{
			"/" + first + hooks.PathMutateServices:                   true,
			"/" + strings.Repeat("0", 32) + hooks.PathMutateServices: false,
			hooks.PathMutatePods:                                     false,
		} {
			if status := r.post(t, path); (status != http.StatusNotFound) != isServed {
				t.Errorf("%s: a post to %s gets %d", r.name, strings.Replace(path, first, "SEGMENT", 1), status)
			}
		}
		if body := r.metrics(t); !strings.Contains(body, `portcullis_http_refused_total{status="404"}`) || strings.Contains(body, first) {
			t.Errorf("%s: no refusal is counted, or the metrics have the segment", r.name)
		}
	}
	w.holdDoctor(t)
	second := w.awaitSegment(t, func(segment string) bool { return segment != first })
	w.awaitRefused(t, with, "/"+first+hooks.PathValidatePods)
	if got := outcomeOf(deployment(t.Context(), w.client, held)); got != refused {
		t.Errorf("after a rotation: %s", got)
	}

	without := w.rollOut(t, with, lives...)
	w.awaitSegment(t, func(segment string) bool { return segment == "" })
	w.awaitRefused(t, without, "/"+second+hooks.PathValidatePods)
	if failures := tr.check(t, "secret path"); failures > 0 {
		t.Errorf("%d calls failed: %v", failures, tr.samples)
	}
	for _, r := range slices.Concat(before, with, without) {
		log, err := os.ReadFile(r.logFile())
		if err != nil || strings.Contains(string(log), first) || strings.Contains(string(log), second) {
			t.Errorf("%s: %v, or its log has a segment", r.name, err)
		}
	}
}

// rollOut replaces replicas one by one, as a Deployment does: another one is ready before one leaves.
func (w *world) rollOut(t *testing.T, old []*replica, flags ...string) []*replica {
	t.Helper()
	var all []*replica
	for _, r := range old {
		next := w.replica(t, thisVersion, flags...)
		poll.Until(t, next.ready)
		poll.Until(t, func(ctx context.Context) error { return w.listed(ctx, next) })
		all = append(all, next)
		r.stop()
	}
	return all
}

// awaitSegment waits until all hooks are registered with the same segment, which is as wanted, and returns it; it is empty
// for plain paths.
func (w *world) awaitSegment(t *testing.T, wanted func(segment string) bool) (segment string) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		v, err := w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		m, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var paths []string
		for _, h := range v.Webhooks {
			paths = append(paths, *h.ClientConfig.Service.Path)
		}
		for _, h := range m.Webhooks {
			paths = append(paths, *h.ClientConfig.Service.Path)
		}
		var segments []string
		for _, path := range paths {
			parts := strings.Split(path, "/")
			segments = append(segments, strings.Join(parts[1:len(parts)-1], "/"))
		}
		slices.Sort(segments)
		if segments = slices.Compact(segments); len(segments) != 1 || !wanted(segments[0]) {
			return fmt.Errorf("the hooks are called at %q", paths)
		}
		segment = segments[0]
		return nil
	})
	return segment
}

// awaitRefused waits until no replica serves a path any more.
func (w *world) awaitRefused(t *testing.T, replicas []*replica, path string) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		for _, r := range replicas {
			if status := r.post(t, path); status != http.StatusNotFound {
				return fmt.Errorf("%s: a post to a path that is registered no more gets %d", r.name, status)
			}
		}
		return nil
	})
}

// post asks a replica as anybody on the network can.
func (r *replica) post(t *testing.T, path string) (status int) {
	t.Helper()
	anybody := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	resp, err := anybody.Post("https://"+r.address+":9443"+path, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (r *replica) metrics(t *testing.T) string {
	t.Helper()
	resp, err := r.http.Get("http://" + r.address + ":8080/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// holdDoctor holds that doctor finds the configurations as they ship.
func (w *world) holdDoctor(t *testing.T) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := w.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	out, _ := command(program(thisVersion), "doctor", "--kubeconfig", kubeconfig).CombinedOutput() // it ends with 1 for want of a Deployment
	if !strings.Contains(string(out), "both are there, and as portcullis "+thisVersion+" ships them") {
		t.Errorf("doctor: %s", out)
	}
}
