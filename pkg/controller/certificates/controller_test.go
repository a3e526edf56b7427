package certificates

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
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

const servingName = "portcullis.portcullis-system.svc"

const ignore = admissionregistrationv1.Ignore

// Lives that are short enough to be followed to the end.
const (
	authorityLife = 10 * time.Minute
	servingLife   = 3 * time.Minute
)

// keeper is a replica's keeper of certificates.
func keeper(api *fake.Cluster) *Controller {
	return &Controller{
		Reader: api, Writer: api, Secret: client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis-ca"}, Configuration: "portcullis",
		Names: []string{servingName, "10.0.0.9"}, AuthorityLifetime: authorityLife, Lifetime: servingLife, Now: time.Now,
	}
}

func mutating() *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "portcullis"}, Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: hooks.MutatePodsName}},
	}
}

func secret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "portcullis-system", Name: "portcullis-ca"}}
}

// injected returns the bundles of all webhooks of both configurations, each once.
func injected(api *fake.Cluster) [][]byte {
	m, v := mutating(), fake.ValidatingConfiguration(ignore, nil)
	api.Load(m)
	api.Load(v)
	var all [][]byte
	for _, configuration := range []client.Object{m, v} {
		for _, hook := range clientConfigs(configuration) {
			if len(all) == 0 || !bytes.Equal(all[len(all)-1], hook.CABundle) {
				all = append(all, hook.CABundle)
			}
		}
	}
	return all
}

// trusts reports how an API server that has a bundle takes what a replica serves.
func trusts(bundle []byte, c *Controller) error {
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
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(mutating(), fake.ValidatingConfiguration(ignore, nil))
		api.Reset()
		c, registry := keeper(api), prometheus.NewRegistry()
		c.Expiry = NewExpiryMetric(registry)
		if _, err := c.Serving(nil); err == nil || c.Roots() != nil || c.NeedLeaderElection() {
			t.Errorf("%v, %v, before there is a certificate", err, c.Roots())
		}
		api.Start(c.Start)
		fake.Pass(0)
		serving, err := c.Serving(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range c.Names {
			if _, err := serving.Leaf.Verify(x509.VerifyOptions{Roots: c.Roots(), DNSName: name, CurrentTime: time.Now()}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := trusts(injected(api)[0], c); err == nil {
			t.Error("a bundle is injected by who does not lead")
		}
		api.Start(fake.Task(c.Lead))
		fake.Pass(time.Minute)
		if all := injected(api); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("%d different bundles, %v", len(all), trusts(all[0], c))
		}
		s := secret()
		if !api.Load(s) || s.Labels["app.kubernetes.io/name"] != "portcullis" {
			t.Errorf("the Secret: %v", s.Labels)
		}
		want := "certificate_expiry_timestamp_seconds ca=946685400, certificate_expiry_timestamp_seconds serving=946684980"
		if got := fake.Series(t, registry); got != want {
			t.Errorf("metrics %s, want %s", got, want)
		}
		if diff := cmp.Diff([]string{
			"create Secret portcullis-ca", "update MutatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
		}, api.Writes()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestTwoBeginners: of two replicas that make an authority at the same time, one takes the other's.
func TestTwoBeginners(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		one, two := keeper(api), keeper(api)
		api.Once("create Secret", func(client.Object) error {
			time.Sleep(time.Millisecond) // the other one has asked, too, and not found it
			return nil
		})
		api.Start(one.Start, two.Start)
		fake.Pass(time.Second)
		if n := api.Count("create Secret"); n != 2 {
			t.Errorf("%d tries to create it, want both", n)
		}
		s := secret()
		api.Load(s)
		for _, c := range []*Controller{one, two} {
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
		disturb func(api *fake.Cluster)
	}{
		{"in peace", func(*fake.Cluster) {}},
		{"with conflicts", func(api *fake.Cluster) {
			n := 0
			api.Before("update", func(client.Object) error {
				if n++; n%2 == 1 {
					return fake.ErrConflict
				}
				return nil
			})
		}},
		{"with an API server that is down half of the time", func(api *fake.Cluster) {
			down := func(client.Object) error {
				if time.Now().Second()/15%2 == 1 {
					return fake.ErrDown
				}
				return nil
			}
			api.Before("", down)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(mutating(), fake.ValidatingConfiguration(ignore, nil))
				leader, other := keeper(api), keeper(api)
				api.Start(leader.Start, other.Start, fake.Task(leader.Lead))
				fake.Pass(10 * time.Second)
				c.disturb(api)
				authorities, leaves := map[string]bool{}, map[string]bool{}
				earlier := injected(api)
				for end := time.Now().Add(2 * authorityLife); time.Now().Before(end); fake.Pass(11 * time.Second) {
					now := injected(api)
					for _, bundle := range append(earlier, now...) {
						for _, replica := range []*Controller{leader, other} {
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
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(mutating(), fake.ValidatingConfiguration(ignore, nil))
		one, two := keeper(api), keeper(api)
		api.Start(one.Start, two.Start, fake.Task(one.Lead), fake.Task(two.Lead))
		for range authorityLife / (20 * time.Second) {
			fake.Pass(20 * time.Second)
			for _, bundle := range injected(api) {
				for _, c := range []*Controller{one, two} {
					if err := trusts(bundle, c); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s := secret()
		api.Load(s)
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
		do   func(api *fake.Cluster)
		same bool // the authority stays
	}{
		{"deleted", func(api *fake.Cluster) { api.Remove(secret()) }, true},
		{"emptied", func(api *fake.Cluster) { fake.Edit(api, secret(), func(s *corev1.Secret) { s.Data = nil }) }, true},
		{"without its key", func(api *fake.Cluster) {
			fake.Edit(api, secret(), func(s *corev1.Secret) { delete(s.Data, "tls.key") })
		}, true},
		{"overwritten with nonsense", func(api *fake.Cluster) {
			fake.Edit(api, secret(), func(s *corev1.Secret) { s.Data["tls.crt"] = []byte("nonsense") })
		}, true},
		{"restored from an older cluster", func(api *fake.Cluster) {
			store, err := certificate.NewStore(time.Now(), authorityLife)
			if err != nil {
				api.T.Fatal(err)
			}
			fake.Edit(api, secret(), func(s *corev1.Secret) {
				if s.Data, err = store.Data(); err != nil {
					api.T.Fatal(err)
				}
			})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(mutating(), fake.ValidatingConfiguration(ignore, nil))
				replica := keeper(api)
				api.Start(replica.Start, fake.Task(replica.Lead))
				fake.Pass(time.Minute)
				before, _ := replica.Serving(nil)
				c.do(api)
				fake.Pass(time.Minute)
				after, err := replica.Serving(nil)
				if err != nil {
					t.Fatal(err)
				}
				if same := bytes.Equal(before.Leaf.RawIssuer, after.Leaf.RawIssuer); same != c.same {
					t.Errorf("the authority is the same: %v, want %v", same, c.same)
				}
				s := secret()
				api.Load(s)
				if _, err := certificate.Parse(s.Data); err != nil || !bytes.Equal(s.Data["bundle.crt"], injected(api)[0]) {
					t.Errorf("what is injected is not what is stored: %v", err)
				}
				if all := injected(api); len(all) != 1 || trusts(all[0], replica) != nil {
					t.Errorf("%d bundles, %v", len(all), trusts(all[0], replica))
				}
			})
		})
	}
}

// TestSecretIsMended: a leader writes a Secret anew that cannot be understood when something is to be done.
func TestSecretIsMended(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		broken := secret()
		broken.Data = map[string][]byte{"tls.crt": []byte("nonsense")}
		api.Add(broken, mutating(), fake.ValidatingConfiguration(ignore, nil))
		c := keeper(api)
		api.Start(c.Start, fake.Task(c.Lead))
		fake.Pass(time.Minute)
		if _, err := c.Serving(nil); err != nil {
			t.Fatal(err)
		}
		if all := injected(api); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("%d bundles, %v", len(all), trusts(all[0], c))
		}
	})
}

// TestInjection: what is as it should be is not written; what somebody applied anew is.
func TestInjection(t *testing.T) {
	for _, c := range []struct {
		name    string
		objects []client.Object
		change  func(api *fake.Cluster)
		want    []string // writes
	}{
		{"no configurations", nil, func(*fake.Cluster) {}, nil},
		{"no mutating one", []client.Object{fake.ValidatingConfiguration(ignore, nil)}, func(*fake.Cluster) {}, []string{"update ValidatingWebhookConfiguration portcullis"}},
		{"no validating one", []client.Object{mutating()}, func(*fake.Cluster) {}, []string{"update MutatingWebhookConfiguration portcullis"}},
		{"one is applied anew", []client.Object{mutating(), fake.ValidatingConfiguration(ignore, nil)}, func(api *fake.Cluster) {
			fake.Edit(api, mutating(), func(c *admissionregistrationv1.MutatingWebhookConfiguration) { c.Webhooks = mutating().Webhooks })
		}, []string{
			"update MutatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
			"update MutatingWebhookConfiguration portcullis",
		}},
		{"one comes later", []client.Object{mutating()}, func(api *fake.Cluster) { api.Add(fake.ValidatingConfiguration(ignore, nil)) }, []string{
			"update MutatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
		}},
		{"a write is refused", []client.Object{fake.ValidatingConfiguration(ignore, nil)}, func(api *fake.Cluster) {
			end := api.Reject("update ValidatingWebhookConfiguration", fake.ErrConflict)
			fake.Edit(api, fake.ValidatingConfiguration(ignore, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				c.Webhooks[1].ClientConfig.CABundle = nil
			})
			fake.Pass(6 * time.Second)
			end()
		}, []string{
			"update ValidatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis", "update ValidatingWebhookConfiguration portcullis",
		}},
		{"a read is refused", []client.Object{mutating()}, func(api *fake.Cluster) {
			end := api.Reject("get MutatingWebhookConfiguration", fake.ErrDown)
			fake.Edit(api, mutating(), func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
				c.Webhooks[0].ClientConfig.CABundle = nil
			})
			fake.Pass(time.Minute)
			if n := api.ErrorsLogged(); n != 1 {
				api.T.Errorf("%d errors, want one that lasts: %q", n, api.Logs())
			}
			end()
		}, []string{"update MutatingWebhookConfiguration portcullis", "update MutatingWebhookConfiguration portcullis"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(c.objects...)
				replica := keeper(api)
				api.Start(replica.Start)
				fake.Pass(time.Second)
				api.Reset()
				api.Start(fake.Task(replica.Lead))
				fake.Pass(time.Minute)
				c.change(api)
				fake.Pass(time.Minute)
				if diff := cmp.Diff(c.want, api.Writes()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				for _, bundle := range injected(api) {
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
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(mutating(), fake.ValidatingConfiguration(ignore, nil))
		c := keeper(api)
		api.Start(c.Start, fake.Task(c.Lead))
		next := func() bool {
			s := secret()
			api.Load(s)
			_, there := s.Data["next.crt"]
			return there
		}
		for !next() {
			fake.Pass(time.Second)
		}
		if age := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); age < authorityLife*2/3 || age > authorityLife*2/3+time.Minute {
			t.Errorf("the successor is made after %s", age)
		}
		end := api.Reject("update", fake.ErrDown)
		for range 60 { // the API servers do not hear of it
			fake.Edit(api, fake.ValidatingConfiguration(ignore, nil), func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
				c.Webhooks[0].ClientConfig.CABundle = nil
			})
			fake.Pass(time.Second)
		}
		if !next() {
			t.Error("it signs, and was not trusted by everybody")
		}
		end()
		fake.Pass(certificate.Settle(authorityLife) - 10*time.Second)
		if !next() {
			t.Error("it signs too soon")
		}
		fake.Pass(20 * time.Second)
		if next() {
			t.Error("it does not sign")
		}
	})
}

// TestNoSecret: what a replica needs and cannot have is said once, and it goes on with what it has.
func TestNoSecret(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		c := keeper(api)
		end := api.Reject("get Secret", fake.ErrDown)
		api.Start(c.Start, fake.Task(c.Lead))
		fake.Pass(time.Minute)
		if _, err := c.Serving(nil); err == nil {
			t.Error("there is a certificate")
		}
		if n := api.ErrorsLogged(); n != 2 {
			t.Errorf("%d errors, want one of each: %q", n, api.Logs())
		}
		end()
		fake.Pass(5 * time.Second)
		first, err := c.Serving(nil)
		if err != nil {
			t.Fatal(err)
		}
		api.Reject("get Secret", fake.ErrDown)
		fake.Pass(servingLife)
		second, _ := c.Serving(nil)
		if first == second || time.Now().After(second.Leaf.NotAfter) || !bytes.Equal(first.Leaf.RawIssuer, second.Leaf.RawIssuer) {
			t.Error("the certificate was not renewed by the authority that is remembered")
		}
	})
}

// TestRefusedSuccessor: as long as the Secret cannot be written, the authority that is known signs.
func TestRefusedSuccessor(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(mutating(), fake.ValidatingConfiguration(ignore, nil))
		c := keeper(api)
		api.Start(c.Start, fake.Task(c.Lead))
		fake.Pass(time.Minute)
		s := secret()
		api.Load(s)
		before := maps.Clone(s.Data)
		end := api.Reject("update Secret", fake.ErrDown)
		fake.Pass(authorityLife * 3 / 4)
		api.Load(s)
		if diff := cmp.Diff(before, s.Data); diff != "" {
			t.Error(diff)
		}
		if all := injected(api); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("%d bundles, %v", len(all), trusts(all[0], c))
		}
		end()
		fake.Pass(authorityLife / 2)
		if all := injected(api); len(all) != 1 || trusts(all[0], c) != nil {
			t.Errorf("afterwards %d bundles, %v", len(all), trusts(all[0], c))
		}
	})
}
