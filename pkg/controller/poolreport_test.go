package controller

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// poolOf is the stored status of the pool p, as summary has it.
func poolOf(b *bench) string {
	p := portPool()
	if !b.get(p) {
		return ""
	}
	return summary(p.Status)
}

// hostPool is a pool of 31000-31001 for the host ports of blue namespaces.
func hostPool() *v1alpha1.PortPool {
	return portPool(func(p *v1alpha1.PortPool) {
		p.Spec.For, p.Spec.Ranges = v1alpha1.HostPorts, []v1alpha1.PortRange{{Port: 31000, EndPort: new(int32(31001))}}
	})
}

func podIn(namespace, name string, ports ...int32) *corev1.Pod {
	p := hostPod(name, 1)
	p.Namespace, p.Spec.Containers[0].Ports = namespace, nil
	for _, n := range ports {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: n, HostPort: n, Protocol: corev1.ProtocolTCP})
	}
	return p
}

// TestPoolReport: the stored status follows the cluster, whoever changes it.
func TestPoolReport(t *testing.T) {
	const (
		good  = "Valid Serving !None !PortsAvailable "
		empty = "30100-30109 | 10 0 10 0 0 | " + good + "Empty"
	)
	create := func(make func() client.Object) func(*bench) { return func(b *bench) { b.create(make()) } }
	type step struct {
		why  string
		do   func(b *bench)
		want string
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"Services", []step{
			{"a pool", func(b *bench) { b.create(namespace("ns", "blue"), portPool()) }, empty},
			{"a Service", create(func() client.Object { return service("web", "1", 30100) }), "30100-30109 | 10 1 9 0 0 | " + good + "!InUse"},
			{"it goes", func(b *bench) { b.remove(service("web", "")) }, "30100-30109 | 10 0 9 1 0 | " + good + "!InUse"},
			{"and its claim", func(*bench) { pass(time.Minute) }, empty},
			{"a Service of another namespace", func(b *bench) {
				svc := service("web", "1", 30100)
				svc.Namespace = "red"
				b.create(namespace("red", "red"), svc)
			}, "30100-30109 | 10 0 9 0 1 | " + good + "Empty"},
			{"one whose port is outside", create(func() client.Object { return service("out", "2", 30200) }), "30100-30109 | 10 0 9 0 1 | " + good + "Empty | ns/out:30200 NotAllocated"},
		}},
		{"the spec", []step{
			{"a pool", create(func() client.Object { return portPool() }), empty},
			{"other ranges", func(b *bench) {
				edit(b, portPool(), func(p *v1alpha1.PortPool) { p.Spec.Ranges = []v1alpha1.PortRange{{Port: 30100}} })
			}, "30100-30100 | 1 0 1 0 0 | " + good + "Empty"},
			{"what is no pool", func(b *bench) { edit(b, portPool(), invalidSelector) }, " | - | !InvalidSelector !Pending !None NoPortLeft Empty"},
			{"a pool again", func(b *bench) {
				edit(b, portPool(), func(p *v1alpha1.PortPool) { p.Spec = portPool().Spec })
			}, empty},
			{"somebody else writes its status", func(b *bench) {
				p := portPool()
				b.get(p)
				p.Status = v1alpha1.PortPoolStatus{}
				if err := b.stored.Status().Update(b.t.Context(), p); err != nil {
					b.t.Fatal(err)
				}
			}, empty},
		}},
		{"host ports", []step{
			{"a pool", func(b *bench) { b.create(namespace("blue", "blue"), namespace("red", "red"), hostPool()) }, "31000-31001 | 2 0 2 0 0 | " + good + "Empty"},
			{"a pod", create(func() client.Object { return podIn("blue", "a", 31000) }), "31000-31001 | 2 1 1 0 0 | " + good + "!InUse"},
			{"of another namespace", create(func() client.Object { return podIn("red", "b", 31001) }), "31000-31001 | 2 1 0 0 1 | Valid Serving !None NoPortLeft !InUse"},
			{"it ends", func(b *bench) {
				p := podIn("red", "b")
				b.get(p)
				p.Status.Phase = corev1.PodSucceeded
				if err := b.stored.Status().Update(b.t.Context(), p); err != nil {
					b.t.Fatal(err)
				}
			}, "31000-31001 | 2 1 1 0 0 | " + good + "!InUse"},
			{"on the host network: in the way, and no hostPort", create(func() client.Object {
				p := podIn("blue", "c", 31001)
				p.Spec.HostNetwork = true
				return p
			}), "31000-31001 | 2 1 0 0 1 | Valid Serving !None NoPortLeft !InUse"},
			{"they go", func(b *bench) { b.remove(podIn("blue", "a"), podIn("blue", "c")) }, "31000-31001 | 2 0 2 0 0 | " + good + "Empty"},
			{"two protocols are one port", create(func() client.Object {
				p := podIn("blue", "d", 31000, 31000)
				p.Spec.Containers[0].Ports[1].Protocol = corev1.ProtocolUDP
				return p
			}), "31000-31001 | 2 1 1 0 0 | " + good + "!InUse"},
			{"one outside", create(func() client.Object { return podIn("blue", "e", 9000) }), "31000-31001 | 2 1 1 0 0 | " + good + "!InUse | blue/e:9000 NotAllocated"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b)
				for _, s := range c.steps {
					s.do(b)
					pass(2 * StatusEvery)
					if got := poolOf(b); got != s.want {
						t.Errorf("%s: %s\nwant %s", s.why, got, s.want)
					}
				}
				p := portPool()
				if b.get(p); p.Status.ObservedGeneration != p.Generation {
					t.Errorf("generation %d is observed of %d", p.Status.ObservedGeneration, p.Generation)
				}
				if n := b.errorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, b.logs)
				}
			})
		})
	}
}

// TestReservedPorts: no pool gives away a port of the nodes' own daemons.
func TestReservedPorts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b, func(o *Options) { o.Reserved = []uint16{30100, 30101, 10250} })
		b.create(portPool())
		pass(2 * StatusEvery)
		if got, want := poolOf(b), "30100-30109 | 10 0 8 0 2 | Valid Serving !None !PortsAvailable Empty"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// TestStatusEvery: a busy pool's status is written now and then, and what has not changed is not written.
func TestStatusEvery(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		b.create(portPool(func(p *v1alpha1.PortPool) { p.Spec.Ranges[0].EndPort = new(int32(30199)) }), namespace("ns", "blue"))
		pass(time.Minute)
		b.forget()
		for i := range int32(30) {
			b.create(service(fmt.Sprint("s", i), fmt.Sprint(i), 30100+i))
			pass(time.Second)
		}
		if n := b.count("status PortPool"); n < 6 || n > 7 {
			t.Errorf("%d writes in half a minute, want one in %s", n, StatusEvery)
		}
		pass(time.Minute)
		b.forget()
		pass(3 * time.Hour)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("nothing changes: %v", w)
		}
	})
}

// TestStatusRefused: status that cannot be written, or made, is tried again, with one line about it.
func TestStatusRefused(t *testing.T) {
	lists := []string{"cache-list PortPool", "cache-list Namespace", "cache-list PortClaim", "cache-list Service", "cache-list Pod", "cache-list PortPolicy"}
	for _, call := range append(lists, "status PortPool", "status PortPolicy") {
		t.Run(call, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				c := watching(b)
				end := b.refuse(call, errDown)
				go c.reportUntil(b.context())
				b.create(namespace("ns", "blue"), portPool(), policy())
				pass(time.Minute)
				if n, tries := b.errorsLogged(), b.count(call); n != 1 || tries < 12 {
					t.Errorf("%d errors in %d tries: %q", n, tries, b.logs)
				}
				end()
				pass(StatusEvery)
				if got := poolOf(b); !strings.HasPrefix(got, "30100-30109 | 10 0 10 0 0") {
					t.Errorf("%s", got)
				}
				if got := policyOf(b); got != "True Valid 1" {
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
		meanwhile func(b *bench)
	}{
		{"its labels change", func(b *bench) {
			editNow(b, portPool(), func(p *v1alpha1.PortPool) { p.Labels = map[string]string{"a": "b"} })
		}},
		{"it is deleted, and comes back", func(b *bench) {
			if err := b.stored.Delete(b.t.Context(), portPool()); err != nil {
				b.t.Error(err)
			}
			time.AfterFunc(time.Second, func() { b.create(portPool()) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b)
				b.once("status PortPool", func(client.Object) error { c.meanwhile(b); return nil })
				b.create(portPool())
				pass(3 * StatusEvery)
				if got := poolOf(b); !strings.HasPrefix(got, "30100-30109 | 10 0 10 0 0") {
					t.Errorf("%s", got)
				}
				if n := b.errorsLogged(); n > 0 {
					t.Errorf("%d errors: %q", n, b.logs)
				}
			})
		})
	}
}

// TestStatusOfAGeneration: a pool that changes while status is made waits for the next round.
func TestStatusOfAGeneration(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		b.create(portPool())
		pass(time.Minute)
		b.forget()
		looks := 0
		b.before("cache-list Pod", func(client.Object) error { // after the pools, before their status
			if looks++; looks == 1 {
				editNow(b, portPool(), func(p *v1alpha1.PortPool) { p.Spec.Ranges = []v1alpha1.PortRange{{Port: 30105}} })
				time.Sleep(time.Millisecond) // until informers have it
			}
			return nil
		})
		b.create(namespace("ns", "blue"))
		pass(StatusEvery - time.Second)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("%v, of a generation that was not looked at", w)
		}
		pass(StatusEvery)
		if got := poolOf(b); !strings.HasPrefix(got, "30105-30105 | 1 0 1 0 0") {
			t.Errorf("%s", got)
		}
	})
}

// TestPoolEvents: what is new in a status is an event, once.
func TestPoolEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		small := portPool(func(p *v1alpha1.PortPool) { p.Spec.Ranges[0].EndPort = nil })
		b.create(namespace("ns", "blue"), small)
		pass(time.Minute)
		for _, c := range []struct {
			why  string
			do   func()
			want []string
		}{
			{"nothing", func() {}, nil},
			{"the last port", func() { b.create(service("web", "1", 30100)) }, []string{"Warning PoolExhausted PortPool/p"}},
			{"still", func() { b.create(namespace("other", "red")) }, nil},
			{"a port outside", func() { b.create(service("out", "2", 30200)) }, []string{"Warning PortOutOfPool Service/out"}},
			{"another one", func() { b.create(service("out2", "3", 30201)) }, []string{"Warning PortOutOfPool Service/out2"}},
			{"it is wider", func() {
				edit(b, portPool(), func(p *v1alpha1.PortPool) { p.Spec.Ranges[0].EndPort = new(int32(30101)) })
			}, nil},
			{"the last port again", func() { b.create(service("web2", "4", 30101)) }, []string{"Warning PoolExhausted PortPool/p"}},
			{"what is no pool is exhausted, but not by anybody", func() { edit(b, portPool(), invalidSelector) }, nil},
		} {
			b.forget()
			c.do()
			pass(time.Minute)
			if diff := cmp.Diff(c.want, b.eventsSeen()); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", c.why, diff)
			}
		}
	})
}

// TestPodEvents: an event about a pod is the pod's.
func TestPodEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		leading(b)
		b.create(namespace("blue", "blue"), hostPool(), podIn("blue", "a", 9000))
		pass(time.Minute)
		if diff := cmp.Diff([]string{"Warning PortOutOfPool Pod/a"}, b.eventsSeen()); diff != "" {
			t.Error(diff)
		}
	})
}

// policy is a PortPolicy of blue namespaces.
func policy() *v1alpha1.PortPolicy {
	p := &v1alpha1.PortPolicy{ObjectMeta: metav1.ObjectMeta{Name: "policy"}, Spec: v1alpha1.PortPolicySpec{NamespaceSelector: teamSelector("blue")}}
	p.Default()
	return p
}

// policyOf is the stored status of the policy: accepted, why, how many namespaces.
func policyOf(b *bench) string {
	p := policy()
	b.get(p)
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
		{"of no namespace", func(s *v1alpha1.PortPolicySpec) { s.NamespaceSelector = teamSelector("green") }, "True Valid 0"},
		{"of every namespace", func(s *v1alpha1.PortPolicySpec) { s.NamespaceSelector = &v1alpha1.LabelSelector{} }, "True Valid 3"},
		{"a bad selector", func(s *v1alpha1.PortPolicySpec) { s.NamespaceSelector = bad }, "False InvalidSelector unknown"},
		{"a bad selector of reserved ports", func(s *v1alpha1.PortPolicySpec) {
			s.Reserved = []v1alpha1.ReservedPorts{{}, {NodeSelector: bad}}
		}, "False InvalidSelector unknown"},
		{"a bad selector of an exception", func(s *v1alpha1.PortPolicySpec) {
			s.Exceptions = []v1alpha1.PolicyException{{NamespaceSelector: bad}}
		}, "False InvalidSelector unknown"},
		{"a bad selector of an exception's objects", func(s *v1alpha1.PortPolicySpec) {
			s.Exceptions = []v1alpha1.PolicyException{{NamespaceSelector: teamSelector("blue"), ObjectSelector: bad}}
		}, "False InvalidSelector unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				leading(b)
				b.create(namespace("a", "blue"), namespace("b", "blue"), namespace("c", "red"), policy())
				pass(time.Minute)
				edit(b, policy(), func(p *v1alpha1.PortPolicy) { c.edit(&p.Spec) })
				pass(time.Minute)
				if got := policyOf(b); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
				b.forget()
				pass(time.Hour)
				if w := b.writes(); len(w) > 0 {
					t.Errorf("nothing changes: %v", w)
				}
			})
		})
	}
}

// TestStatusMetrics: what metrics say of pools and claims is what status says, and goes with the pool.
func TestStatusMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		registry := prometheus.NewRegistry()
		leading(b, func(o *Options) { o.Metrics = NewMetrics(registry) })
		b.create(portPool(), requested())
		pass(6 * time.Second)
		if got, want := series(t, registry), "claims requested=1, pool_ports p allocated=1, pool_ports p available=9, pool_ports p total=10"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		b.remove(portPool())
		pass(6 * time.Second)
		if got, want := series(t, registry), "claims requested=1"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

// TestControllerBegins: who cannot watch a kind says so, and who is told to stop does.
func TestControllerBegins(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		c, err := New(b.cluster(), Options{Now: time.Now})
		if err != nil || c.NeedLeaderElection() {
			t.Fatal(err)
		}
		b.informers.refuses[reflect.TypeFor[*v1alpha1.PortClaim]()] = errDown
		if err := c.Start(t.Context()); err == nil {
			t.Error("no error")
		}
		select {
		case <-c.Watching():
			t.Error("it says that it has seen everything")
		default:
		}
		b.informers.refuses = nil
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Start(ended); err != nil {
			t.Errorf("%v of who is told to stop", err)
		}
	})
}
