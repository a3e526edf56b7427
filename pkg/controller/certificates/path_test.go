package certificates

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
)

// served is a keeper of certificates that the Service leads to, and that may be cut off from the API server.
type served struct {
	*Controller
	client.Reader
	cut atomic.Bool
}

func (r *served) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	if r.cut.Load() {
		return fake.ErrDown
	}
	return r.Reader.Get(ctx, key, object, opts...)
}

func newServed(api *fake.Cluster, pod string, secretPath bool) *served {
	r := &served{Controller: keeper(api), Reader: api}
	r.Controller.Reader = r
	r.SecretPath, r.Service = secretPath, client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis"}
	r.Replica = []string{pod, ""}
	return r
}

// leadsTo has the Service lead to pods, and to nothing else.
func leadsTo(api *fake.Cluster, pods ...string) {
	var endpoints []discoveryv1.Endpoint
	for i, pod := range pods {
		endpoints = append(endpoints, fake.Endpoint(pod, "10.0.0."+string(rune('1'+i)), nil))
	}
	s := fake.EndpointSlice("a", "portcullis", endpoints...)
	if !api.Load(fake.EndpointSlice("a", "portcullis")) {
		api.Add(s)
		return
	}
	fake.Edit(api, fake.EndpointSlice("a", "portcullis"), func(stored *discoveryv1.EndpointSlice) { stored.Endpoints = s.Endpoints })
}

// called are both configurations, with a path at a Service, and one at a URL.
func called() []client.Object {
	m, v := mutating(), fake.ValidatingConfiguration(ignore, nil)
	for i, hook := range slices.Concat(clientConfigs(m), clientConfigs(v)) {
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
func registered(api *fake.Cluster) []string {
	api.T.Helper()
	var all []string
	m, v := mutating(), fake.ValidatingConfiguration(ignore, nil)
	api.Load(m)
	api.Load(v)
	for _, hook := range slices.Concat(clientConfigs(m), clientConfigs(v)) {
		path := ""
		if hook.Service != nil {
			path = *hook.Service.Path
		} else {
			path = *hook.URL
		}
		match := registeredPath.FindStringSubmatch(path)
		if match == nil || (match[1] == "") != (hook.URL == nil) {
			api.T.Fatalf("a hook is called at %s", path)
		}
		if !slices.Contains(all, match[2]) {
			all = append(all, match[2])
		}
	}
	return all
}

// follow lets time pass until done, and at every moment holds that each replica accepts what is registered, and what was a
// few seconds before, which an API server may still use.
func follow(api *fake.Cluster, longest time.Duration, replicas []*served, done func(now []string) bool) {
	api.T.Helper()
	earlier := registered(api)
	for end := time.Now().Add(longest); ; fake.Pass(3 * time.Second) {
		now := registered(api)
		for _, segment := range slices.Concat(earlier, now) {
			for _, r := range replicas {
				if !r.Accepts(segment) {
					api.T.Fatalf("%s: %s does not accept %q", time.Now().Format(time.TimeOnly), r.Replica[0], segment)
				}
			}
		}
		earlier = now
		if done(now) {
			return
		}
		if time.Now().After(end) {
			api.T.Fatalf("after %s %q is registered", longest, now)
		}
	}
}

// storedKeys are the keys of the Secret that are about paths.
func storedKeys(api *fake.Cluster) []string {
	s := secret()
	api.Load(s)
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
		disturb func(api *fake.Cluster)
	}{
		{"in peace", func(*fake.Cluster) {}},
		{"with conflicts", func(api *fake.Cluster) {
			var n atomic.Int64
			api.Before("update", func(client.Object) error {
				if n.Add(1)%2 == 1 {
					return fake.ErrConflict
				}
				return nil
			})
		}},
		{"with an API server that is down half of the time", func(api *fake.Cluster) {
			api.Before("", func(client.Object) error {
				if time.Now().Second()/15%2 == 1 {
					return fake.ErrDown
				}
				return nil
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(called()...)
				old := newServed(api, "old", false)
				leadsTo(api, "old")
				api.Start(old.Start)
				endOld := api.Start(fake.Task(old.Lead))
				fake.Pass(20 * time.Second)
				c.disturb(api)
				all := []*served{old}
				follow(api, time.Minute, all, func(now []string) bool { return slices.Equal(now, []string{""}) })
				if keys := storedKeys(api); len(keys) > 0 {
					t.Errorf("without the flag the Secret has %q", keys)
				}

				one, two := newServed(api, "one", true), newServed(api, "two", true)
				api.Start(one.Start, two.Start)
				fake.Pass(time.Minute)
				leadsTo(api, "old", "one", "two")
				all = append(all, one, two)
				endOld()
				endOne := api.Start(fake.Task(one.Lead))
				follow(api, 10*time.Minute, all, func(now []string) bool { return now[0] != "" && len(now) == 1 })
				seen := map[string]bool{}
				follow(api, 4*authorityLife, all, func(now []string) bool {
					seen[now[0]] = true
					return len(seen) == 3 && !one.Accepts("")
				})

				endOne()
				last := newServed(api, "last", false)
				api.Start(last.Start)
				fake.Pass(time.Minute)
				leadsTo(api, "one", "two", "last")
				all = []*served{one, two, last}
				segment := registered(api)[0]
				api.Start(fake.Task(last.Lead))
				follow(api, 10*time.Minute, all, func(now []string) bool { return slices.Equal(now, []string{""}) })
				follow(api, 10*time.Minute, all, func([]string) bool {
					return !slices.ContainsFunc(all, func(r *served) bool { return r.Accepts(segment) })
				})
				if keys := storedKeys(api); len(keys) > 0 {
					t.Errorf("afterwards the Secret has %q", keys)
				}
				for _, line := range api.Logs() {
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
		cut  func(api *fake.Cluster, other *served) (end func())
	}{
		{"one is cut off from the API server", func(_ *fake.Cluster, other *served) func() {
			other.cut.Store(true)
			return func() { other.cut.Store(false) }
		}},
		{"one is of a version that knows no prefixes", func(api *fake.Cluster, _ *served) func() {
			leadsTo(api, "one", "two", "former")
			return func() { leadsTo(api, "one", "two") }
		}},
		{"it is not known which there are", func(api *fake.Cluster, _ *served) func() { return api.Reject("list EndpointSlice", fake.ErrDown) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				api.Add(called()...)
				one, two := newServed(api, "one", true), newServed(api, "two", false)
				leadsTo(api, "one", "two")
				api.Start(one.Start, two.Start)
				fake.Pass(10 * time.Second)
				first := api.ErrorsLogged() // both created the Secret
				end := c.cut(api, two)
				api.Start(fake.Task(one.Lead))
				fake.Pass(4 * time.Minute)
				if got := registered(api); !slices.Equal(got, []string{""}) {
					t.Errorf("%q is registered", got)
				}
				if n := api.ErrorsLogged() - first; n == 0 || n > 2 {
					t.Errorf("%d errors, want each that lasts once: %q", n, api.Logs())
				}
				end()
				follow(api, time.Minute, []*served{one, two}, func(now []string) bool { return now[0] != "" && len(now) == 1 })
			})
		})
	}
}

// TestPathOrder: at the moment in which a path is written into a configuration it is in the Secret, and every replica
// accepts it; and so does one that starts at that moment.
func TestPathOrder(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(called()...)
		one, two := newServed(api, "one", true), newServed(api, "two", true)
		leadsTo(api, "one", "two")
		api.Start(one.Start, two.Start)
		fake.Pass(10 * time.Second)
		written := map[string]bool{}
		api.Before("update MutatingWebhookConfiguration", func(o client.Object) error {
			match := registeredPath.FindStringSubmatch(*clientConfigs(o)[0].Service.Path)
			s, late := secret(), newServed(api, "late", true)
			api.Load(s)
			if err := late.follow(api.Context()); err != nil {
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
		api.Start(fake.Task(one.Lead))
		fake.Pass(2 * authorityLife)
		if len(written) < 3 {
			t.Errorf("%d paths were registered", len(written))
		}
	})
}

// TestPathIsTaken: paths that somebody applied anew are written again.
func TestPathIsTaken(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(called()...)
		one := newServed(api, "one", true)
		leadsTo(api, "one")
		api.Start(one.Start, fake.Task(one.Lead))
		fake.Pass(time.Second)
		follow(api, 5*time.Minute, []*served{one}, func([]string) bool { return !one.Accepts("") })
		before := registered(api)
		fake.Edit(api, mutating(), func(c *admissionregistrationv1.MutatingWebhookConfiguration) {
			c.Webhooks = called()[0].(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks
		})
		fake.Pass(6 * time.Second)
		if diff := cmp.Diff(before, registered(api)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	})
}
