package controller

import (
	"bytes"
	"crypto/x509"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
)

const servingName = "portcullis.portcullis-system.svc"

// Lives that are short enough to be followed to the end.
const (
	authorityLife = 10 * time.Minute
	servingLife   = 3 * time.Minute
)

// keeper is a replica's keeper of certificates.
func keeper(b *bench) *Certificates {
	return &Certificates{
		Reader: b, Writer: b, Secret: client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis-ca"}, Configuration: "portcullis",
		Names: []string{servingName, "10.0.0.9"}, AuthorityLifetime: authorityLife, Lifetime: servingLife, Now: time.Now,
	}
}

func mutating() *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "portcullis"}, Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "mutate-pods.portcullis.dev"}},
	}
}

func secret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "portcullis-system", Name: "portcullis-ca"}}
}

// injected returns the bundles of all webhooks of both configurations, each once.
func injected(b *bench) [][]byte {
	m, v := mutating(), validating(ignores, nil)
	b.get(m)
	b.get(v)
	var all [][]byte
	for _, configuration := range []client.Object{m, v} {
		for _, hook := range clientsOf(configuration) {
			if len(all) == 0 || !bytes.Equal(all[len(all)-1], hook.CABundle) {
				all = append(all, hook.CABundle)
			}
		}
	}
	return all
}

// trusts reports how an API server that has a bundle takes what a replica serves.
func trusts(bundle []byte, c *Certificates) error {
	serving, err := c.Serving(nil)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return errors.New("no bundle")
	}
	_, err = serving.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: servingName, CurrentTime: time.Now()})
	return err
}

// TestFirstCertificate: the Secret is made by whoever comes first, the bundle is injected by the leader, and the API
// server trusts what is served.
func TestFirstCertificate(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(mutating(), validating(ignores, nil))
		b.forget()
		c, registry := keeper(b), prometheus.NewRegistry()
		c.Expiry = NewExpiryMetric(registry)
		if _, err := c.Serving(nil); err == nil || c.Roots() != nil || c.NeedLeaderElection() {
			t.Errorf("%v, %v, before there is a certificate", err, c.Roots())
		}
		b.start(c.Start)
		pass(0)
		serving, err := c.Serving(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range c.Names {
			if _, err := serving.Leaf.Verify(x509.VerifyOptions{Roots: c.Roots(), DNSName: name, CurrentTime: time.Now()}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := trusts(injected(b)[0], c); err == nil {
			t.Error("a bundle is injected by who does not lead")
		}
		b.start(leads(c.Lead))
		pass(time.Minute)
		if all := injected(b); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("%d different bundles, %v", len(all), trusts(all[0], c))
		}
		s := secret()
		if !b.get(s) || s.Labels["app.kubernetes.io/name"] != "portcullis" {
			t.Errorf("the Secret: %v", s.Labels)
		}
		want := "certificate_expiry_timestamp_seconds ca=946685400, certificate_expiry_timestamp_seconds serving=946684980"
		if got := series(t, registry); got != want {
			t.Errorf("metrics %s, want %s", got, want)
		}
		if diff := cmp.Diff([]string{
			"create Secret portcullis-ca", "update MutatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
		}, b.writes()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestTwoBeginners: of two replicas that make an authority at the same time, one takes the other's.
func TestTwoBeginners(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		one, two := keeper(b), keeper(b)
		b.once("create Secret", func(client.Object) error {
			time.Sleep(time.Millisecond) // the other one has asked, too, and not found it
			return nil
		})
		b.start(one.Start, two.Start)
		pass(time.Second)
		if n := b.count("create Secret"); n != 2 {
			t.Errorf("%d tries to create it, want both", n)
		}
		s := secret()
		b.get(s)
		for _, c := range []*Certificates{one, two} {
			if err := trusts(s.Data["bundle.crt"], c); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRotation lives through several authorities, with two replicas of which one leads, and now and then refused
// requests: at every moment what either serves is trusted by what is injected, and by what was injected a moment ago.
func TestRotation(t *testing.T) {
	for _, c := range []struct {
		name    string
		disturb func(b *bench)
	}{
		{"in peace", func(*bench) {}},
		{"with conflicts", func(b *bench) {
			n := 0
			b.before("update", func(client.Object) error {
				if n++; n%2 == 1 {
					return errConflict
				}
				return nil
			})
		}},
		{"with an API server that is down half of the time", func(b *bench) {
			down := func(client.Object) error {
				if time.Now().Second()/15%2 == 1 {
					return errDown
				}
				return nil
			}
			b.before("", down)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(mutating(), validating(ignores, nil))
				leader, other := keeper(b), keeper(b)
				b.start(leader.Start, other.Start, leads(leader.Lead))
				pass(10 * time.Second)
				c.disturb(b)
				authorities, leaves := map[string]bool{}, map[string]bool{}
				earlier := injected(b)
				for end := time.Now().Add(2 * authorityLife); time.Now().Before(end); pass(11 * time.Second) {
					now := injected(b)
					for _, bundle := range append(earlier, now...) {
						for _, replica := range []*Certificates{leader, other} {
							if err := trusts(bundle, replica); err != nil {
								t.Fatalf("%s: %v", time.Now().Format(time.TimeOnly), err)
							}
						}
					}
					earlier = now
					leaf, _ := other.Serving(nil)
					if left := time.Until(leaf.Leaf.NotAfter); left < servingLife/4 {
						t.Fatalf("%s are left of the serving certificate", left)
					}
					authorities[string(leaf.Leaf.RawIssuer)], leaves[leaf.Leaf.SerialNumber.String()] = true, true
				}
				if len(authorities) < 3 || len(leaves) < 8 {
					t.Errorf("%d authorities, %d serving certificates in %s", len(authorities), len(leaves), 2*authorityLife)
				}
			})
		})
	}
}

// TestTwoRotators: two that lead at the same time make one successor.
func TestTwoRotators(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(mutating(), validating(ignores, nil))
		one, two := keeper(b), keeper(b)
		b.start(one.Start, two.Start, leads(one.Lead), leads(two.Lead))
		for range authorityLife / (20 * time.Second) {
			pass(20 * time.Second)
			for _, bundle := range injected(b) {
				for _, c := range []*Certificates{one, two} {
					if err := trusts(bundle, c); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s := secret()
		b.get(s)
		store, err := certificate.Parse(s.Data)
		if err != nil || len(store.Trusted) > 2 {
			t.Errorf("%d authorities are trusted: %v", len(store.Trusted), err)
		}
	})
}

// TestSecretIsLost: what happens to the Secret is mended from what replicas remember, and nobody stops serving.
func TestSecretIsLost(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *bench)
		same bool // the authority stays
	}{
		{"deleted", func(b *bench) { b.remove(secret()) }, true},
		{"emptied", func(b *bench) { edit(b, secret(), func(s *corev1.Secret) { s.Data = nil }) }, true},
		{"without its key", func(b *bench) { edit(b, secret(), func(s *corev1.Secret) { delete(s.Data, "tls.key") }) }, true},
		{"overwritten with nonsense", func(b *bench) {
			edit(b, secret(), func(s *corev1.Secret) { s.Data["tls.crt"] = []byte("nonsense") })
		}, true},
		{"restored from an older cluster", func(b *bench) {
			store, err := certificate.NewStore(time.Now(), authorityLife)
			if err != nil {
				b.t.Fatal(err)
			}
			edit(b, secret(), func(s *corev1.Secret) {
				if s.Data, err = store.Data(); err != nil {
					b.t.Fatal(err)
				}
			})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(mutating(), validating(ignores, nil))
				replica := keeper(b)
				b.start(replica.Start, leads(replica.Lead))
				pass(time.Minute)
				before, _ := replica.Serving(nil)
				c.do(b)
				pass(time.Minute)
				after, err := replica.Serving(nil)
				if err != nil {
					t.Fatal(err)
				}
				if same := bytes.Equal(before.Leaf.RawIssuer, after.Leaf.RawIssuer); same != c.same {
					t.Errorf("the authority is the same: %v, want %v", same, c.same)
				}
				s := secret()
				b.get(s)
				if _, err := certificate.Parse(s.Data); err != nil || !bytes.Equal(s.Data["bundle.crt"], injected(b)[0]) {
					t.Errorf("what is injected is not what is stored: %v", err)
				}
				if all := injected(b); len(all) != 1 || trusts(all[0], replica) != nil {
					t.Errorf("%d bundles, %v", len(all), trusts(all[0], replica))
				}
			})
		})
	}
}

// TestSecretIsMended: a leader writes a Secret anew that cannot be understood when something is to be done.
func TestSecretIsMended(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		broken := secret()
		broken.Data = map[string][]byte{"tls.crt": []byte("nonsense")}
		b.create(broken, mutating(), validating(ignores, nil))
		c := keeper(b)
		b.start(c.Start, leads(c.Lead))
		pass(time.Minute)
		if _, err := c.Serving(nil); err != nil {
			t.Fatal(err)
		}
		if all := injected(b); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("%d bundles, %v", len(all), trusts(all[0], c))
		}
	})
}

// TestInjection: what is as it should be is not written; what somebody applied anew is.
func TestInjection(t *testing.T) {
	for _, c := range []struct {
		name    string
		objects []client.Object
		change  func(b *bench)
		want    []string // writes
	}{
		{"no configurations", nil, func(*bench) {}, nil},
		{"no mutating one", []client.Object{validating(ignores, nil)}, func(*bench) {}, []string{"update ValidatingWebhookConfiguration portcullis"}},
		{"no validating one", []client.Object{mutating()}, func(*bench) {}, []string{"update MutatingWebhookConfiguration portcullis"}},
		{"one is applied anew", []client.Object{mutating(), validating(ignores, nil)}, func(b *bench) {
			edit(b, mutating(), func(c *admissionregistrationv1.MutatingWebhookConfiguration) { c.Webhooks = mutating().Webhooks })
		}, []string{
			"update MutatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
			"update MutatingWebhookConfiguration portcullis",
		}},
		{"one comes later", []client.Object{mutating()}, func(b *bench) { b.create(validating(ignores, nil)) }, []string{
			"update MutatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
		}},
		{"a write is refused", []client.Object{validating(ignores, nil)}, func(b *bench) {
			end := b.refuse("update ValidatingWebhookConfiguration", errConflict)
			edit(b, validating(ignores, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				c.Webhooks[1].ClientConfig.CABundle = nil
			})
			pass(6 * time.Second)
			end()
		}, []string{
			"update ValidatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
		}},
		{"a read is refused", []client.Object{mutating()}, func(b *bench) {
			end := b.refuse("get MutatingWebhookConfiguration", errDown)
			edit(b, mutating(), func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
				c.Webhooks[0].ClientConfig.CABundle = nil
			})
			pass(time.Minute)
			if n := b.errorsLogged(); n != 1 {
				b.t.Errorf("%d errors, want one that lasts: %q", n, b.logs)
			}
			end()
		}, []string{"update MutatingWebhookConfiguration portcullis", "update MutatingWebhookConfiguration portcullis"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(c.objects...)
				replica := keeper(b)
				b.start(replica.Start)
				pass(time.Second)
				b.forget()
				b.start(leads(replica.Lead))
				pass(time.Minute)
				c.change(b)
				pass(time.Minute)
				if diff := cmp.Diff(c.want, b.writes()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				for _, bundle := range injected(b) {
					if len(bundle) > 0 && trusts(bundle, replica) != nil {
						t.Error(trusts(bundle, replica))
					}
				}
			})
		})
	}
}

// TestSuccessorWaits: an authority signs only when its certificate has been injected for long enough, counted from the
// last time that somebody took it out.
func TestSuccessorWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(mutating(), validating(ignores, nil))
		c := keeper(b)
		b.start(c.Start, leads(c.Lead))
		next := func() bool {
			s := secret()
			b.get(s)
			_, there := s.Data["next.crt"]
			return there
		}
		for !next() {
			pass(time.Second)
		}
		if age := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); age < authorityLife*2/3 || age > authorityLife*2/3+time.Minute {
			t.Errorf("the successor is made after %s", age)
		}
		end := b.refuse("update", errDown)
		for range 60 { // the API servers do not hear of it
			edit(b, validating(ignores, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				c.Webhooks[0].ClientConfig.CABundle = nil
			})
			pass(time.Second)
		}
		if !next() {
			t.Error("it signs, and was not trusted by everybody")
		}
		end()
		pass(certificate.Settle(authorityLife) - 10*time.Second)
		if !next() {
			t.Error("it signs too soon")
		}
		pass(20 * time.Second)
		if next() {
			t.Error("it does not sign")
		}
	})
}

// TestNoSecret: what a replica needs and cannot have is said once, and it goes on with what it has.
func TestNoSecret(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		c := keeper(b)
		end := b.refuse("get Secret", errDown)
		b.start(c.Start, leads(c.Lead))
		pass(time.Minute)
		if _, err := c.Serving(nil); err == nil {
			t.Error("there is a certificate")
		}
		if n := b.errorsLogged(); n != 2 {
			t.Errorf("%d errors, want one of each: %q", n, b.logs)
		}
		end()
		pass(5 * time.Second)
		first, err := c.Serving(nil)
		if err != nil {
			t.Fatal(err)
		}
		b.refuse("get Secret", errDown)
		pass(servingLife)
		second, _ := c.Serving(nil)
		if first == second || time.Now().After(second.Leaf.NotAfter) || !bytes.Equal(first.Leaf.RawIssuer, second.Leaf.RawIssuer) {
			t.Error("the certificate was not renewed by the authority that is remembered")
		}
	})
}

// TestRefusedSuccessor: as long as the Secret cannot be written, the authority that is known signs.
func TestRefusedSuccessor(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(mutating(), validating(ignores, nil))
		c := keeper(b)
		b.start(c.Start, leads(c.Lead))
		pass(time.Minute)
		s := secret()
		b.get(s)
		before := maps.Clone(s.Data)
		end := b.refuse("update Secret", errDown)
		pass(authorityLife * 3 / 4)
		b.get(s)
		if diff := cmp.Diff(before, s.Data); diff != "" {
			t.Error(diff)
		}
		if all := injected(b); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("%d bundles, %v", len(all), trusts(all[0], c))
		}
		end()
		pass(authorityLife / 2)
		if all := injected(b); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("afterwards %d bundles, %v", len(all), trusts(all[0], c))
		}
	})
}
