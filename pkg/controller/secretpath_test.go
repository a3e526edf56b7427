package controller

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// served is a keeper of certificates that the Service leads to, and that may be cut off from the API server.
type served struct {
	*Certificates
	client.Reader
	cut atomic.Bool
}

func (r *served) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	if r.cut.Load() {
		return errDown
	}
	return r.Reader.Get(ctx, key, object, opts...)
}

func newServed(b *bench, pod string, secretPath bool) *served {
	r := &served{Certificates: keeper(b), Reader: b}
	r.Certificates.Reader = r
	r.SecretPath, r.Service = secretPath, client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis"}
	r.Replica = []string{pod, ""}
	return r
}

// leadsTo has the Service lead to pods, and to nothing else.
func leadsTo(b *bench, pods ...string) {
	var endpoints []discoveryv1.Endpoint
	for i, pod := range pods {
		endpoints = append(endpoints, endpoint(pod, "10.0.0."+string(rune('1'+i)), nil))
	}
	s := slice("a", "portcullis", endpoints...)
	if !b.get(slice("a", "portcullis")) {
		b.create(s)
		return
	}
	edit(b, slice("a", "portcullis"), func(stored *discoveryv1.EndpointSlice) { stored.Endpoints = s.Endpoints })
}

// called are both configurations, with a path at a Service, and one at a URL.
func called() []client.Object {
	m, v := mutating(), validating(ignores, nil)
	for i, hook := range slices.Concat(clientsOf(m), clientsOf(v)) {
		path := "/hook-" + string(rune('a'+i))
		hook.Service = &admissionregistrationv1.ServiceReference{Namespace: "portcullis-system", Name: "portcullis", Path: &path}
		if i == 1 {
			hook.Service, hook.URL = nil, new("https://10.0.0.9:9443/base"+path)
		}
	}
	return []client.Object{m, v}
}

var registeredPath = regexp.MustCompile(`^(https://10\.0\.0\.9:9443/base)?/(?:([0-9a-f]{32})/)?hook-[abcd]$`)

// registered returns the segments of all hooks of both configurations, each once; "" for a plain path.
func registered(b *bench) []string {
	b.t.Helper()
	var all []string
	m, v := mutating(), validating(ignores, nil)
	b.get(m)
	b.get(v)
	for _, hook := range slices.Concat(clientsOf(m), clientsOf(v)) {
		path := ""
		if hook.Service != nil {
			path = *hook.Service.Path
		} else {
			path = *hook.URL
		}
		match := registeredPath.FindStringSubmatch(path)
		if match == nil || (match[1] == "") != (hook.URL == nil) {
			b.t.Fatalf("a hook is called at %s", path)
		}
		if !slices.Contains(all, match[2]) {
			all = append(all, match[2])
		}
	}
	return all
}

// follow lets time pass until done, and at every moment holds that each replica accepts what is registered, and what was a
// few seconds before, which an API server may still use.
func follow(b *bench, longest time.Duration, replicas []*served, done func(now []string) bool) {
	b.t.Helper()
	earlier := registered(b)
	for end := time.Now().Add(longest); ; pass(3 * time.Second) {
		now := registered(b)
		for _, segment := range slices.Concat(earlier, now) {
			for _, r := range replicas {
				if !r.Accepts(segment) {
					b.t.Fatalf("%s: %s does not accept %q", time.Now().Format(time.TimeOnly), r.Replica[0], segment)
				}
			}
		}
		earlier = now
		if done(now) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("after %s %q is registered", longest, now)
		}
	}
}

// storedKeys are the keys of the Secret that are about paths.
func storedKeys(b *bench) []string {
	s := secret()
	b.get(s)
	var keys []string
	for key := range s.Data {
		if strings.HasPrefix(key, "path.") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// TestSecretPath lives through the whole of it, in rollouts as a Deployment makes them: replicas without the flag, replicas
// with it, two rotations, and replicas without it again. A leader with it is followed by replicas without, and the other
// way round. No replica ever refuses what is registered.
func TestSecretPath(t *testing.T) {
	for _, c := range []struct {
		name    string
		disturb func(b *bench)
	}{
		{"in peace", func(*bench) {}},
		{"with conflicts", func(b *bench) {
			var n atomic.Int64
			b.before("update", func(client.Object) error {
				if n.Add(1)%2 == 1 {
					return errConflict
				}
				return nil
			})
		}},
		{"with an API server that is down half of the time", func(b *bench) {
			b.before("", func(client.Object) error {
				if time.Now().Second()/15%2 == 1 {
					return errDown
				}
				return nil
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(called()...)
				old := newServed(b, "old", false)
				leadsTo(b, "old")
				b.start(old.Start)
				endOld := b.start(leads(old.Lead))
				pass(20 * time.Second)
				c.disturb(b)
				all := []*served{old}
				follow(b, time.Minute, all, func(now []string) bool { return slices.Equal(now, []string{""}) })
				if keys := storedKeys(b); len(keys) > 0 {
					t.Errorf("without the flag the Secret has %q", keys)
				}

				one, two := newServed(b, "one", true), newServed(b, "two", true)
				b.start(one.Start, two.Start)
				pass(time.Minute)
				leadsTo(b, "old", "one", "two")
				all = append(all, one, two)
				endOld()
				endOne := b.start(leads(one.Lead))
				follow(b, 10*time.Minute, all, func(now []string) bool { return now[0] != "" && len(now) == 1 })
				seen := map[string]bool{}
				follow(b, 4*authorityLife, all, func(now []string) bool {
					seen[now[0]] = true
					return len(seen) == 3 && !one.Accepts("")
				})

				endOne()
				last := newServed(b, "last", false)
				b.start(last.Start)
				pass(time.Minute)
				leadsTo(b, "one", "two", "last")
				all = []*served{one, two, last}
				segment := registered(b)[0]
				b.start(leads(last.Lead))
				follow(b, 10*time.Minute, all, func(now []string) bool { return slices.Equal(now, []string{""}) })
				follow(b, 10*time.Minute, all, func([]string) bool {
					return !slices.ContainsFunc(all, func(r *served) bool { return r.Accepts(segment) })
				})
				if keys := storedKeys(b); len(keys) > 0 {
					t.Errorf("afterwards the Secret has %q", keys)
				}
				for _, line := range b.logs {
					if match := regexp.MustCompile(`[0-9a-f]{32}`).FindString(line); match != "" {
						t.Errorf("the log has a segment: %s", line)
					}
				}
			})
		})
	}
}

// TestPathWaitsForReplicas: a segment is registered once every replica that the Service lists accepts it, be it ready or
// not, and it stays known who does not.
func TestPathWaitsForReplicas(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(b *bench, other *served) (end func())
	}{
		{"one is cut off from the API server", func(_ *bench, other *served) func() {
			other.cut.Store(true)
			return func() { other.cut.Store(false) }
		}},
		{"one is of a version that knows no prefixes", func(b *bench, _ *served) func() {
			leadsTo(b, "one", "two", "former")
			return func() { leadsTo(b, "one", "two") }
		}},
		{"it is not known which there are", func(b *bench, _ *served) func() { return b.refuse("list EndpointSlice", errDown) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.create(called()...)
				one, two := newServed(b, "one", true), newServed(b, "two", false)
				leadsTo(b, "one", "two")
				b.start(one.Start, two.Start)
				pass(10 * time.Second)
				b.mu.Lock()
				b.logs = nil // both made the Secret
				b.mu.Unlock()
				end := c.cut(b, two)
				b.start(leads(one.Lead))
				pass(4 * time.Minute)
				if got := registered(b); !slices.Equal(got, []string{""}) {
					t.Errorf("%q is registered", got)
				}
				if n := b.errorsLogged(); n == 0 || n > 2 {
					t.Errorf("%d errors, want each that lasts once: %q", n, b.logs)
				}
				end()
				follow(b, time.Minute, []*served{one, two}, func(now []string) bool { return now[0] != "" && len(now) == 1 })
			})
		})
	}
}

// TestPathOrder: at the moment in which a path is written into a configuration it is in the Secret, and every replica
// accepts it; and so does one that starts at that moment.
func TestPathOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(called()...)
		one, two := newServed(b, "one", true), newServed(b, "two", true)
		leadsTo(b, "one", "two")
		b.start(one.Start, two.Start)
		pass(10 * time.Second)
		written := map[string]bool{}
		b.before("update MutatingWebhookConfiguration", func(o client.Object) error {
			match := registeredPath.FindStringSubmatch(*clientsOf(o)[0].Service.Path)
			s, late := secret(), newServed(b, "late", true)
			b.get(s)
			if err := late.follow(b.context()); err != nil {
				t.Error(err)
			}
			for _, r := range []*served{one, two, late} {
				if !r.Accepts(match[2]) {
					t.Errorf("%s does not accept %q", r.Replica[0], match[2])
				}
			}
			if current := strings.Trim(string(s.Data["path.current"]), "/"); current != match[2] {
				t.Errorf("%q is registered, %q in the Secret", match[2], current)
			}
			written[match[2]] = true
			return nil
		})
		b.start(leads(one.Lead))
		pass(2 * authorityLife)
		if len(written) < 3 {
			t.Errorf("%d paths were registered", len(written))
		}
	})
}

// TestPathIsTaken: paths that somebody applied anew are written again.
func TestPathIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.create(called()...)
		one := newServed(b, "one", true)
		leadsTo(b, "one")
		b.start(one.Start, leads(one.Lead))
		pass(time.Second)
		follow(b, 5*time.Minute, []*served{one}, func([]string) bool { return !one.Accepts("") })
		before := registered(b)
		edit(b, mutating(), func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
			c.Webhooks = called()[0].(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks
		})
		pass(6 * time.Second)
		if diff := cmp.Diff(before, registered(b)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	})
}

// TestNoSegmentIsTold: the API server puts the URL of a hook that does not answer into its error, which is logged, and an
// event if it is another's.
func TestNoSegmentIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		const segment = "00112233445566778899aabbccddeeff"
		b.create(validating(ignores, nil))
		b.refuse("dryrun Deployment", errors.New(`failed calling webhook "validate-services.portcullis.dev": Post "https://a.b.svc:443/`+segment+`/validate-services": EOF`))
		a, _ := newArming(b, nil)
		recorder := events.NewFakeRecorder(10)
		a.Events = recorder
		b.start(leads(a.Lead))
		pass(time.Minute)
		if text := <-recorder.Events + strings.Join(b.logs, "\n"); strings.Contains(text, segment) || strings.Count(text, "443/***/validate-services") != 2 {
			t.Error(text)
		}
	})
}
