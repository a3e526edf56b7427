package status

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// leading returns a controller that leads, once it has seen everything.
func leading(api *fake.Cluster, change ...func(*Options)) *Controller {
	api.T.Helper()
	c := watching(api, change...)
	api.Start(fake.Task(c.Lead))
	synctest.Wait()
	return c
}

// watching returns one that does not lead.
func watching(api *fake.Cluster, change ...func(*Options)) *Controller {
	api.T.Helper()
	o := Options{NodePortRange: ports.MustParseRange("30000-32767")}
	for _, f := range change {
		f(&o)
	}
	c, err := New(api.Manager(), o)
	if err != nil {
		api.T.Fatal(err)
	}
	api.Start(c.Start)
	<-c.Synced()
	synctest.Wait()
	return c
}

// claim is of 30100 from the pool p for the Service ns/web.
func claim(phase v1alpha1.ClaimPhase, uid string) *v1alpha1.PortClaim {
	return &v1alpha1.PortClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(30100)},
		Spec: v1alpha1.PortClaimSpec{
			Port: 30100, Pool: "p", Service: v1alpha1.ClaimingService{Namespace: "ns", Name: "web"}, RequestedAt: metav1.NewTime(time.Now()),
		},
		Status: v1alpha1.PortClaimStatus{Phase: phase, ServiceUID: uid},
	}
}

// setPhase is what another controller writes.
func setPhase(api *fake.Cluster, phase v1alpha1.ClaimPhase) {
	c := claim("", "")
	api.Load(c)
	c.Status.Phase = phase
	if err := api.Stored.Status().Update(api.T.Context(), c); err != nil {
		api.T.Fatal(err)
	}
	synctest.Wait()
}

// poolOf is the stored status of the pool p, as summary has it.
func poolOf(api *fake.Cluster) string {
	p := fake.PortPool()
	if !api.Load(p) {
		return ""
	}
	return summary(p.Status)
}

// hostPool is a pool of 31000-31001 for the host ports of blue namespaces.
func hostPool() *v1alpha1.PortPool {
	return fake.PortPool(func(p *v1alpha1.PortPool) {
		p.Spec.For, p.Spec.Ranges = v1alpha1.HostPorts, []v1alpha1.PortRange{{Port: 31000, EndPort: new(int32(31001))}}
	})
}

// TestPoolReport: the stored status follows the cluster, whoever changes it.
func TestPoolReport(t *testing.T) {
	const (
		good  = "Valid Serving !None !PortsAvailable "
		empty = "30100-30109 | 10 0 10 0 0 | " + good + "Empty"
	)
	create := func(make func() client.Object) func(*fake.Cluster) {
		return func(api *fake.Cluster) { api.Add(make()) }
	}
	type step struct {
		why  string
		do   func(api *fake.Cluster)
		want string
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"Services", []step{
			{"a pool", func(api *fake.Cluster) { api.Add(fake.Namespace("ns", "blue"), fake.PortPool()) }, empty},
			{"a Service", create(func() client.Object { return fake.Service("web", "1", 30100) }), "30100-30109 | 10 1 9 0 0 | " + good + "!InUse"},
			{"its claim", create(func() client.Object { return claim(v1alpha1.ClaimBound, "1") }), "30100-30109 | 10 1 9 0 0 | " + good + "!InUse"},
			{"it goes", func(api *fake.Cluster) {
				api.Remove(fake.Service("web", ""))
				setPhase(api, v1alpha1.ClaimReleased)
			}, "30100-30109 | 10 0 9 1 0 | " + good + "!InUse"},
			{"and its claim", func(api *fake.Cluster) { api.Remove(claim("", "")) }, empty},
			{"a Service of another namespace", func(api *fake.Cluster) {
				svc := fake.Service("web", "1", 30100)
				svc.Namespace = "red"
				api.Add(fake.Namespace("red", "red"), svc)
			}, "30100-30109 | 10 0 9 0 1 | " + good + "Empty"},
			{"one whose port is outside", create(func() client.Object { return fake.Service("out", "2", 30200) }), "30100-30109 | 10 0 9 0 1 | " + good + "Empty | ns/out:30200 NotAllocated"},
		}},
		{"the spec", []step{
			{"a pool", create(func() client.Object { return fake.PortPool() }), empty},
			{"other ranges", func(api *fake.Cluster) {
				fake.Edit(api, fake.PortPool(), func(p *v1alpha1.PortPool) { p.Spec.Ranges = []v1alpha1.PortRange{{Port: 30100}} })
			}, "30100-30100 | 1 0 1 0 0 | " + good + "Empty"},
			{"what is no pool", func(api *fake.Cluster) { fake.Edit(api, fake.PortPool(), fake.InvalidSelector) }, " | - | !InvalidSelector !Pending !None NoPortLeft Empty"},
			{"a pool again", func(api *fake.Cluster) {
				fake.Edit(api, fake.PortPool(), func(p *v1alpha1.PortPool) { p.Spec = fake.PortPool().Spec })
			}, empty},
			{"somebody else writes its status", func(api *fake.Cluster) {
				p := fake.PortPool()
				api.Load(p)
				p.Status = v1alpha1.PortPoolStatus{}
				if err := api.Stored.Status().Update(api.T.Context(), p); err != nil {
					api.T.Fatal(err)
				}
			}, empty},
		}},
		{"host ports", []step{
			{"a pool", func(api *fake.Cluster) {
				api.Add(fake.Namespace("blue", "blue"), fake.Namespace("red", "red"), hostPool())
			}, "31000-31001 | 2 0 2 0 0 | " + good + "Empty"},
			{"a pod", create(func() client.Object { return fake.Pod("blue", "a", 31000) }), "31000-31001 | 2 1 1 0 0 | " + good + "!InUse"},
			{"of another namespace", create(func() client.Object { return fake.Pod("red", "b", 31001) }), "31000-31001 | 2 1 0 0 1 | Valid Serving !None NoPortLeft !InUse"},
			{"it ends", func(api *fake.Cluster) {
				p := fake.Pod("red", "b")
				api.Load(p)
				p.Status.Phase = corev1.PodSucceeded
				if err := api.Stored.Status().Update(api.T.Context(), p); err != nil {
					api.T.Fatal(err)
				}
			}, "31000-31001 | 2 1 1 0 0 | " + good + "!InUse"},
			{"on the host network: in the way, and no hostPort", create(func() client.Object {
				p := fake.Pod("blue", "c", 31001)
				p.Spec.HostNetwork = true
				return p
			}), "31000-31001 | 2 1 0 0 1 | Valid Serving !None NoPortLeft !InUse"},
			{"they go", func(api *fake.Cluster) { api.Remove(fake.Pod("blue", "a"), fake.Pod("blue", "c")) }, "31000-31001 | 2 0 2 0 0 | " + good + "Empty"},
			{"two protocols are one port", create(func() client.Object {
				p := fake.Pod("blue", "d", 31000, 31000)
				p.Spec.Containers[0].Ports[1].Protocol = corev1.ProtocolUDP
				return p
			}), "31000-31001 | 2 1 1 0 0 | " + good + "!InUse"},
			{"one outside", create(func() client.Object { return fake.Pod("blue", "e", 9000) }), "31000-31001 | 2 1 1 0 0 | " + good + "!InUse | blue/e:9000 NotAllocated"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				for _, s := range c.steps {
					s.do(api)
					fake.Pass(2 * minInterval)
					if got := poolOf(api); got != s.want {
						t.Errorf("%s: %s\nwant %s", s.why, got, s.want)
					}
				}
				p := fake.PortPool()
				if api.Load(p); p.Status.ObservedGeneration != p.Generation {
					t.Errorf("generation %d is observed of %d", p.Status.ObservedGeneration, p.Generation)
				}
				if n := api.ErrorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, api.Logs())
				}
			})
		})
	}
}

// TestReservedPorts: no pool gives away a port of the nodes' own daemons.
func TestReservedPorts(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api, func(o *Options) { o.Reserved = []uint16{30100, 30101, 10250} })
		api.Add(fake.PortPool())
		fake.Pass(2 * minInterval)
		if got, want := poolOf(api), "30100-30109 | 10 0 8 0 2 | Valid Serving !None !PortsAvailable Empty"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// TestMinInterval: a busy pool's status is written now and then, and what has not changed is not written.
func TestMinInterval(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		api.Add(fake.PortPool(func(p *v1alpha1.PortPool) { p.Spec.Ranges[0].EndPort = new(int32(30199)) }), fake.Namespace("ns", "blue"))
		fake.Pass(time.Minute)
		api.Reset()
		for i := range int32(30) {
			api.Add(fake.Service(fmt.Sprint("s", i), fmt.Sprint(i), 30100+i))
			fake.Pass(time.Second)
		}
		if n := api.Count("status PortPool"); n < 6 || n > 7 {
			t.Errorf("%d writes in half a minute, want one in %s", n, minInterval)
		}
		fake.Pass(time.Minute)
		api.Reset()
		fake.Pass(3 * time.Hour)
		if w := api.Writes(); len(w) > 0 {
			t.Errorf("nothing changes: %v", w)
		}
	})
}

// TestStatusRefused: status that cannot be written, or made, is tried again, with one line about it.
func TestStatusRefused(t *testing.T) {
	lists := []string{"cache-list PortPool", "cache-list Namespace", "cache-list PortClaim", "cache-list Service", "cache-list Pod", "cache-list PortPolicy"}
	for _, call := range append(lists, "status PortPool", "status PortPolicy") {
		t.Run(call, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				c := watching(api)
				end := api.Reject(call, fake.ErrDown)
				api.Start(fake.Task(c.Lead))
				api.Add(fake.Namespace("ns", "blue"), fake.PortPool(), policy())
				fake.Pass(time.Minute)
				if n, tries := api.ErrorsLogged(), api.Count(call); n != 1 || tries < 12 {
					t.Errorf("%d errors in %d tries: %q", n, tries, api.Logs())
				}
				end()
				fake.Pass(minInterval)
				if got := poolOf(api); !strings.HasPrefix(got, "30100-30109 | 10 0 10 0 0") {
					t.Errorf("%s", got)
				}
				if got := policyOf(api); got != "True Valid 1" {
					t.Errorf("the policy: %s", got)
				}
			})
		})
	}
}

// TestStatusConflict: what somebody else has written since is looked at again, and is no error.
func TestStatusConflict(t *testing.T) {
	for _, c := range []struct {
		name      string
		meanwhile func(api *fake.Cluster)
	}{
		{"its labels change", func(api *fake.Cluster) {
			fake.EditNow(api, fake.PortPool(), func(p *v1alpha1.PortPool) { p.Labels = map[string]string{"a": "b"} })
		}},
		{"it is deleted, and comes back", func(api *fake.Cluster) {
			if err := api.Stored.Delete(api.T.Context(), fake.PortPool()); err != nil {
				api.T.Error(err)
			}
			time.AfterFunc(time.Second, func() { api.Add(fake.PortPool()) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				api.Once("status PortPool", func(client.Object) error { c.meanwhile(api); return nil })
				api.Add(fake.PortPool())
				fake.Pass(3 * minInterval)
				if got := poolOf(api); !strings.HasPrefix(got, "30100-30109 | 10 0 10 0 0") {
					t.Errorf("%s", got)
				}
				if n := api.ErrorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, api.Logs())
				}
			})
		})
	}
}

// TestStatusOfAGeneration: a pool that changes while status is made waits for the next round.
func TestStatusOfAGeneration(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		api.Add(fake.PortPool())
		fake.Pass(time.Minute)
		api.Reset()
		looks := 0
		api.Before("cache-list Pod", func(client.Object) error { // after the pools, before their status
			if looks++; looks == 1 {
				fake.EditNow(api, fake.PortPool(), func(p *v1alpha1.PortPool) { p.Spec.Ranges = []v1alpha1.PortRange{{Port: 30105}} })
				time.Sleep(time.Millisecond) // until informers have it
			}
			return nil
		})
		api.Add(fake.Namespace("ns", "blue"))
		fake.Pass(minInterval - time.Second)
		if w := api.Writes(); len(w) > 0 {
			t.Errorf("%v, of a generation that was not looked at", w)
		}
		fake.Pass(minInterval)
		if got := poolOf(api); !strings.HasPrefix(got, "30105-30105 | 1 0 1 0 0") {
			t.Errorf("%s", got)
		}
	})
}

// TestPoolEvents: what is new in a status is an event, once.
func TestPoolEvents(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		small := fake.PortPool(func(p *v1alpha1.PortPool) { p.Spec.Ranges[0].EndPort = nil })
		api.Add(fake.Namespace("ns", "blue"), small)
		fake.Pass(time.Minute)
		for _, c := range []struct {
			why  string
			do   func()
			want []string
		}{
			{"nothing", func() {}, nil},
			{"the last port", func() { api.Add(fake.Service("web", "1", 30100)) }, []string{"Warning PoolExhausted PortPool/p"}},
			{"still", func() { api.Add(fake.Namespace("other", "red")) }, nil},
			{"a port outside", func() { api.Add(fake.Service("out", "2", 30200)) }, []string{"Warning PortOutOfPool Service/out"}},
			{"another one", func() { api.Add(fake.Service("out2", "3", 30201)) }, []string{"Warning PortOutOfPool Service/out2"}},
			{"it is wider", func() {
				fake.Edit(api, fake.PortPool(), func(p *v1alpha1.PortPool) { p.Spec.Ranges[0].EndPort = new(int32(30101)) })
			}, nil},
			{"the last port again", func() { api.Add(fake.Service("web2", "4", 30101)) }, []string{"Warning PoolExhausted PortPool/p"}},
			{"what is no pool is exhausted, but not by anybody", func() { fake.Edit(api, fake.PortPool(), fake.InvalidSelector) }, nil},
		} {
			api.Reset()
			c.do()
			fake.Pass(time.Minute)
			if diff := cmp.Diff(c.want, api.Events()); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", c.why, diff)
			}
		}
	})
}

// TestPodEvents: an event about a pod is the pod's.
func TestPodEvents(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		leading(api)
		api.Add(fake.Namespace("blue", "blue"), hostPool(), fake.Pod("blue", "a", 9000))
		fake.Pass(time.Minute)
		if diff := cmp.Diff([]string{"Warning PortOutOfPool Pod/a"}, api.Events()); diff != "" {
			t.Error(diff)
		}
	})
}

// policy is a PortPolicy of blue namespaces.
func policy() *v1alpha1.PortPolicy {
	p := &v1alpha1.PortPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}, Spec: v1alpha1.PortPolicySpec{NamespaceSelector: fake.TeamSelector("blue")}}
	p.Default()
	return p
}

// policyOf is the stored status of the policy: accepted, why, how many namespaces.
func policyOf(api *fake.Cluster) string {
	p := policy()
	api.Load(p)
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted)
	if c == nil || p.Status.ObservedGeneration != p.Generation {
		return "not written"
	}
	if p.Status.MatchedNamespaces == nil {
		return fmt.Sprint(c.Status, " ", c.Reason, " unknown")
	}
	return fmt.Sprint(c.Status, " ", c.Reason, " ", *p.Status.MatchedNamespaces)
}

// TestPolicyReport: a policy is accepted if all of its selectors are understood.
func TestPolicyReport(t *testing.T) {
	bad := &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Nonsense"}}}
	for _, c := range []struct {
		name string
		edit func(*v1alpha1.PortPolicySpec)
		want string
	}{
		{"as it is", func(*v1alpha1.PortPolicySpec) {}, "True Valid 2"},
		{"of no namespace", func(s *v1alpha1.PortPolicySpec) { s.NamespaceSelector = fake.TeamSelector("green") }, "True Valid 0"},
		{"of every namespace", func(s *v1alpha1.PortPolicySpec) { s.NamespaceSelector = &v1alpha1.LabelSelector{} }, "True Valid 3"},
		{"a bad selector", func(s *v1alpha1.PortPolicySpec) { s.NamespaceSelector = bad }, "False InvalidSelector unknown"},
		{"a bad selector of reserved ports", func(s *v1alpha1.PortPolicySpec) {
			s.Reserved = []v1alpha1.ReservedPorts{{}, {NodeSelector: bad}}
		}, "False InvalidSelector unknown"},
		{"a bad selector of an exception", func(s *v1alpha1.PortPolicySpec) {
			s.Exceptions = []v1alpha1.PolicyException{{NamespaceSelector: bad}}
		}, "False InvalidSelector unknown"},
		{"a bad selector of an exception's objects", func(s *v1alpha1.PortPolicySpec) {
			s.Exceptions = []v1alpha1.PolicyException{{NamespaceSelector: fake.TeamSelector("blue"), ObjectSelector: bad}}
		}, "False InvalidSelector unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				leading(api)
				api.Add(fake.Namespace("a", "blue"), fake.Namespace("b", "blue"), fake.Namespace("c", "red"), policy())
				fake.Pass(time.Minute)
				fake.Edit(api, policy(), func(p *v1alpha1.PortPolicy) { c.edit(&p.Spec) })
				fake.Pass(time.Minute)
				if got := policyOf(api); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
				api.Reset()
				fake.Pass(time.Hour)
				if w := api.Writes(); len(w) > 0 {
					t.Errorf("nothing changes: %v", w)
				}
			})
		})
	}
}

// TestStatusMetrics: what metrics say of pools and claims is what status says, and goes with the pool and with the term.
func TestStatusMetrics(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		registry := prometheus.NewRegistry()
		c := watching(api, func(o *Options) { o.Metrics = NewMetrics(registry) })
		end := api.Start(fake.Task(c.Lead))
		expect := func(want string) {
			t.Helper()
			fake.Pass(6 * time.Second)
			if got := fake.Series(t, registry); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
		}
		api.Add(fake.Namespace("ns", "blue"), fake.PortPool(), claim("", ""))
		expect("claims requested=1, pool_ports p allocated=1, pool_ports p available=9, pool_ports p total=10")
		api.Add(fake.Service("web", "1", 30100, 30101))
		setPhase(api, v1alpha1.ClaimBound)
		expect("claims bound=1, pool_ports p allocated=2, pool_ports p available=8, pool_ports p total=10")
		api.Remove(fake.Service("web", ""))
		setPhase(api, v1alpha1.ClaimReleased)
		expect("claims released=1, pool_ports p available=9, pool_ports p quarantined=1, pool_ports p total=10")
		api.Remove(fake.PortPool())
		expect("claims released=1")
		end()
		expect("")
	})
}

// TestOnlyTheLeaderWrites: another replica watches and waits; one whose term is over stops; a new term begins with all.
func TestOnlyTheLeaderWrites(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		c := watching(api)
		api.Add(fake.Namespace("ns", "blue"), fake.PortPool(), policy())
		idle := func(why string) {
			t.Helper()
			fake.Pass(time.Hour)
			if w := api.Writes(); len(w) > 0 {
				t.Errorf("%s: %v", why, w)
			}
		}
		idle("a replica that does not lead")
		end := api.Start(fake.Task(c.Lead))
		fake.Pass(time.Second)
		end()
		if got := policyOf(api); got != "True Valid 1" || poolOf(api) == "" {
			t.Errorf("after the first term: %s, %s", got, poolOf(api))
		}
		api.Reset()
		api.Add(fake.Service("web", "1", 30100))
		idle("a replica that no longer leads")
		api.Start(fake.Task(c.Lead))
		fake.Pass(time.Second)
		if got := poolOf(api); !strings.HasPrefix(got, "30100-30109 | 10 1 9 0 0") {
			t.Errorf("in the second term: %s", got)
		}
	})
}

// TestHandlers: what each event has looked at.
func TestHandlers(t *testing.T) {
	labelled := func(svc *corev1.Service) *corev1.Service { svc.Labels = map[string]string{"a": "b"}; return svc }
	status := func(p *v1alpha1.PortPool) { p.Status.ObservedGeneration = 1 }
	udp := func(svc *corev1.Service) *corev1.Service { svc.Spec.Ports[0].Protocol = corev1.ProtocolUDP; return svc }
	for _, c := range []struct {
		name          string
		before, after client.Object // nil: it comes, or goes
		want          bool
	}{
		{"a Service without nodePorts", nil, fake.Service("web", "1"), false},
		{"a Service with some", nil, fake.Service("web", "1", 30100, 30101), true},
		{"a Service that goes", fake.Service("web", "1", 30100), nil, true},
		{"a Service that goes and had none", fake.Service("web", "1"), nil, false},
		{"a Service that changes nothing here", fake.Service("web", "1", 30100), fake.Service("web", "1", 30100), false},
		{"a Service that changes a nodePort", fake.Service("web", "1", 30100), fake.Service("web", "1", 30101), true},
		{"a Service that changes a protocol", fake.Service("web", "1", 30100), udp(fake.Service("web", "1", 30100)), true},
		{"a Service that gets one", fake.Service("web", "1"), fake.Service("web", "1", 30101), true},
		{"a Service's labels", fake.Service("web", "1", 30100), labelled(fake.Service("web", "1", 30100)), true},
		{"labels of one without nodePorts", fake.Service("web", "1"), labelled(fake.Service("web", "1")), false},
		{"a Service in another's place", fake.Service("web", "1", 30100), fake.Service("web", "2", 30100), true},
		{"a claim", nil, claim("", ""), true},
		{"a claim that changes", claim("", ""), claim(v1alpha1.ClaimBound, "1"), true},
		{"a claim that goes", claim("", ""), nil, true},
		{"a pool", nil, fake.PortPool(), true},
		{"a pool that goes", fake.PortPool(), nil, true},
		{"a pool's status", fake.PortPool(), fake.PortPool(status), true},
		{"a namespace", nil, fake.Namespace("ns", "blue"), true},
		{"a namespace that goes", fake.Namespace("ns", "blue"), nil, true},
		{"a namespace's labels", fake.Namespace("ns", "blue"), fake.Namespace("ns", "red"), true},
		{"a namespace that changes nothing here", fake.Namespace("ns", "blue"), fake.Namespace("ns", "blue"), false},
		{"a pod", nil, fake.Pod("default", "p", 80), true},
		{"a pod that goes", fake.Pod("default", "p", 80), nil, true},
		{"a pod without ports", nil, &corev1.Pod{}, false},
		{"a pod without ports that goes", &corev1.Pod{}, nil, false},
		{"a policy", nil, policy(), true},
		{"a policy that goes", policy(), nil, true},
	} {
		controller := &Controller{changed: periodic.NewTrigger()}
		fake.Deliver(controller.handlers(), c.before, c.after)
		if got := len(controller.changed) > 0; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestIndexes: which Services and pods are listed.
func TestIndexes(t *testing.T) {
	for _, c := range []struct {
		name   string
		object client.Object
		want   bool
	}{
		{"a Service", fake.Service("web", "1", 30100, 30101), true},
		{"a Service without nodePorts", fake.Service("web", "1"), false},
		{"a pod", fake.Pod("default", "p", 80), true},
		{"a pod without host ports", fake.Pod("default", "p"), false},
		{"neither", &corev1.Node{}, false},
	} {
		if got := len(claimKeys(c.object)) == 1; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for _, kind := range []reflect.Type{reflect.TypeFor[*corev1.Service](), reflect.TypeFor[*corev1.Pod]()} {
		fake.Run(t, func(t *testing.T, api *fake.Cluster) {
			api.Cache.Rejects[kind] = fake.ErrDown
			if _, err := New(api.Manager(), Options{}); err == nil {
				t.Errorf("no error without an index of %s", kind)
			}
		})
	}
}

// TestControllerBegins: a controller that cannot watch a kind says so, and one that is to stop does.
func TestControllerBegins(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		c, err := New(api.Manager(), Options{})
		if err != nil || c.NeedLeaderElection() {
			t.Fatal(err)
		}
		api.Cache.Rejects[reflect.TypeFor[*v1alpha1.PortPolicy]()] = fake.ErrDown
		if err := c.Start(t.Context()); err == nil {
			t.Error("no error")
		}
		select {
		case <-c.Synced():
			t.Error("it says that it has seen everything")
		default:
		}
		api.Cache.Rejects = nil
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Start(ended); err != nil {
			t.Errorf("%v of one that is to stop", err)
		}
	})
}
