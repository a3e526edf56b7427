//go:build linux

package operations

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// TestFirstInstall: the manifests as they ship, two replicas, and nothing else: no Secret, no caBundle, no order. It ends
// armed; what somebody takes away of it comes back.
func TestFirstInstall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, controlplane.Options{})
	if got, err := w.policy(t.Context()); err != nil || got != admissionregistrationv1.Ignore {
		t.Fatalf("before anything runs failurePolicy is %q, %v", got, err)
	}
	if err := deployment(t.Context(), w.client, 8080); err != nil {
		t.Errorf("before anything runs: %v", err)
	}
	begin := time.Now()
	first, second := w.replica(t, thisVersion), w.replica(t, thisVersion)
	poll.Until(t, first.ready)
	poll.Until(t, second.ready)
	ready := time.Since(begin)
	w.awaitPolicy(t, admissionregistrationv1.Fail)
	t.Logf("ready after %s, armed after %s", ready.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	w.hold(t)

	client := w.client.AdmissionregistrationV1()
	t.Run("applied again", func(t *testing.T) { // as kubectl replace does: no caBundle, Ignore
		for _, patch := range []string{
			`[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]`,
			`[{"op": "remove", "path": "/webhooks/1/clientConfig/caBundle"}]`,
		} {
			if _, err := client.ValidatingWebhookConfigurations().Patch(t.Context(), hooks.ConfigurationName, types.JSONPatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		w.awaitPolicy(t, admissionregistrationv1.Fail)
		poll.Until(t, func(ctx context.Context) error { return w.trusted(ctx, first, second) })
	})
	t.Run("the Secret deleted", func(t *testing.T) { // it comes back with the same authority
		secrets := w.client.CoreV1().Secrets(system)
		before, err := secrets.Get(t.Context(), "portcullis-ca", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := secrets.Delete(t.Context(), "portcullis-ca", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		poll.Until(t, func(ctx context.Context) error {
			after, err := secrets.Get(ctx, "portcullis-ca", metav1.GetOptions{})
			if err == nil && string(after.Data["tls.crt"]) != string(before.Data["tls.crt"]) {
				t.Error("another authority")
			}
			return err
		})
	})
	t.Run("the Secret spoilt", func(t *testing.T) {
		patch := []byte(`{"data": {"tls.key": "bm9uc2Vuc2U="}}`)
		spoilt, err := w.client.CoreV1().Secrets(system).Patch(t.Context(), "portcullis-ca", types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil || string(spoilt.Data["tls.key"]) != "nonsense" {
			t.Fatal(err, spoilt.Data)
		}
		poll.Until(t, func(ctx context.Context) error {
			secret, err := w.client.CoreV1().Secrets(system).Get(ctx, "portcullis-ca", metav1.GetOptions{})
			if err == nil && string(secret.Data["tls.key"]) == "nonsense" {
				err = fmt.Errorf("the Secret is still spoilt")
			}
			return err
		})
		if got := outcomeOf(deployment(t.Context(), w.client, held)); got != refused {
			t.Errorf("after all that: %s", got)
		}
	})
}

// trusted returns nil if every hook's caBundle vouches for what every replica serves.
func (w *world) trusted(ctx context.Context, replicas ...*replica) error {
	v, err := w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	m, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var bundles [][]byte
	for _, h := range v.Webhooks {
		bundles = append(bundles, h.ClientConfig.CABundle)
	}
	for _, h := range m.Webhooks {
		bundles = append(bundles, h.ClientConfig.CABundle)
	}
	for _, bundle := range bundles {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(bundle) {
			return fmt.Errorf("a hook has no caBundle")
		}
		for _, r := range replicas {
			dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "portcullis.portcullis-system.svc"}}
			conn, err := dialer.DialContext(ctx, "tcp", r.address+":9443")
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			_ = conn.Close()
		}
	}
	return nil
}

// TestRotation: an authority whose whole life is a minute, serving certificates of a third of that, and 50 admissions a
// second, until the first authority has been replaced and is trusted no more: no call fails.
func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, controlplane.Options{})
	w.replicas(t, "--ca-lifetime", "60s", "--certificate-lifetime", "20s")
	w.hold(t)
	tr := w.traffic(t, 50)
	generations := 1
	if seed.Soaking() {
		generations = 10
	}
	var bundles []string // those that were there, in turn
	first := func() string { return strings.SplitAfter(bundles[0], "-----END CERTIFICATE-----")[0] }
	gone := 0
	deadline := time.Now().Add(time.Duration(generations+2) * time.Minute)
	for gone < generations && time.Now().Before(deadline) {
		c, err := w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), hooks.ConfigurationName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		bundle := string(c.Webhooks[0].ClientConfig.CABundle)
		if len(bundles) == 0 || bundle != bundles[len(bundles)-1] {
			bundles = append(bundles, bundle)
		}
		if !strings.Contains(bundle, first()) {
			gone++
			bundles = bundles[len(bundles)-1:]
		}
		time.Sleep(200 * time.Millisecond)
	}
	if failures := tr.check(t, "rotation"); failures > 0 {
		t.Errorf("%d calls failed: %v", failures, tr.samples)
	}
	t.Logf("%d authorities have come and gone", gone)
	if gone < generations {
		t.Errorf("%d authorities have come and gone in %d minutes", gone, generations+2)
	}
}
