package observe

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// cluster is a cache that shows what it was told, stripped as a real one does it. How the observer fares with real
// informers and a real API server is the end-to-end tests' business.
type cluster struct {
	cache.Cache
	handlers map[reflect.Type][]toolscache.ResourceEventHandler
	lagging  bool // the informers never finish
	mu       sync.Mutex
	objects  []client.Object // in the order in which they came
}

// informer is that of one kind.
type informer struct {
	cache.Informer
	of      *cluster
	watches reflect.Type
}

type registration struct {
	toolscache.ResourceEventHandlerRegistration
	of *cluster
}

func (r registration) HasSynced() bool { return !r.of.lagging }

func (c *cluster) GetInformer(_ context.Context, kind client.Object, _ ...cache.InformerGetOption) (cache.Informer, error) {
	return informer{of: c, watches: reflect.TypeOf(kind)}, nil
}

func (i informer) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	i.of.handlers[i.watches] = append(i.of.handlers[i.watches], h)
	for _, object := range i.of.all() {
		if reflect.TypeOf(object) == i.watches {
			h.OnAdd(object, true)
		}
	}
	return registration{of: i.of}, nil
}

func (c *cluster) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	kind := reflect.PointerTo(reflect.TypeOf(items).Elem().Elem())
	var all []runtime.Object
	for _, object := range c.all() {
		if reflect.TypeOf(object) == kind {
			all = append(all, object)
		}
	}
	return meta.SetList(list, all)
}

// set adds an object or takes the place of one.
func (c *cluster) set(object client.Object) {
	object = mustStrip(object)
	c.mu.Lock()
	at := c.find(object)
	if at < 0 {
		c.objects = append(c.objects, object)
	} else {
		c.objects[at] = object
	}
	c.mu.Unlock()
	for _, h := range c.handlers[reflect.TypeOf(object)] {
		if at < 0 {
			h.OnAdd(object, false)
		} else {
			h.OnUpdate(nil, object)
		}
	}
}

// remove tells of a deletion; the watch may have missed it.
func (c *cluster) remove(object client.Object, missed bool) {
	object = mustStrip(object)
	c.mu.Lock()
	c.objects = slices.Delete(c.objects, c.find(object), c.find(object)+1)
	c.mu.Unlock()
	for _, h := range c.handlers[reflect.TypeOf(object)] {
		if missed {
			h.OnDelete(toolscache.DeletedFinalStateUnknown{Key: object.GetName(), Obj: object})
		} else {
			h.OnDelete(object)
		}
	}
}

func (c *cluster) all() []client.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.objects)
}

func (c *cluster) find(object client.Object) int {
	return slices.IndexFunc(c.objects, func(o client.Object) bool {
		return reflect.TypeOf(o) == reflect.TypeOf(object) && o.GetName() == object.GetName()
	})
}

func mustRead[T any](text string) *T {
	object := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return object
}

const hostPort80 = "containers: [{name: a, ports: [{hostPort: 80}]}]"

func newDaemonSet(spec string) *appsv1.DaemonSet {
	return mustRead[appsv1.DaemonSet]("{metadata: {name: agent, namespace: ns}, spec: {template: {spec: {" + spec + "}}}}")
}

func newPod(status string) *corev1.Pod {
	return mustRead[corev1.Pod]("{metadata: {name: p, namespace: ns}, spec: {nodeName: n1, " + hostPort80 + "}, status: {phase: " + status + "}}")
}

func held(o *Observer) []string {
	var lines []string
	for _, c := range o.Snapshot().Claims() {
		lines = append(lines, c.String())
	}
	return lines
}

func newCluster(objects ...client.Object) *cluster {
	c := &cluster{handlers: map[reflect.Type][]toolscache.ResourceEventHandler{}}
	for _, object := range objects {
		c.set(object)
	}
	return c
}

// started runs an observer of c until the test ends, and waits until it has seen everything. Time is synctest's.
func started(t *testing.T, c *cluster, options Options) *Observer {
	t.Helper()
	o := New(c, options)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- o.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Start: %v", err)
		}
	})
	time.Sleep(time.Second)
	synctest.Wait()
	return o
}

func TestObserverFollowsTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daemons, node1, node2 := newDaemonSet(hostPort80), newNode("n1", "a", "10.0.0.1"), newNode("n2", "b", "10.0.0.2")
		c := newCluster(daemons, node2, node1)
		var seen []string
		o := started(t, c, Options{Seen: func(s Seen) {
			seen = append(seen, fmt.Sprint(s.Owner.Ref, len(s.Claims), s.Gone))
		}})
		if !o.IsComplete() || o.NeedLeaderElection() {
			t.Errorf("complete %v, needs to lead %v", o.IsComplete(), o.NeedLeaderElection())
		}
		const (
			daemonOnBoth = "hostPort *:80/TCP of DaemonSet ns/agent on n1,n2"
			daemonOn1    = "hostPort *:80/TCP of DaemonSet ns/agent on n1"
			podOn1       = "hostPort *:80/TCP of Pod ns/p on n1"
			reservedOn2  = "hostNetwork port *:9100/TCP of Node n2 on n2"
			webNodePort  = "nodePort * (not loopback):30080/TCP of Service ns/web on every node"
		)
		web := mustRead[corev1.Service]("{metadata: {name: web, namespace: ns}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}}")
		noPorts := mustRead[corev1.Service]("{metadata: {name: web, namespace: ns}, spec: {type: ClusterIP, ports: [{port: 80}]}}")
		reserving := newNode("n2", "b", "10.0.0.2")
		reserving.Annotations = map[string]string{extract.ReservedPortsAnnotation: "9100/TCP,x"}
		tainted := newNode("n2", "b", "10.0.0.2")
		tainted.Spec.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
		for _, step := range []struct {
			why    string
			change func()
			seen   []string
			held   []string
		}{
			{"what was there", func() {}, []string{"DaemonSet ns/agent 1 false"}, []string{daemonOnBoth}},
			{"a pod", func() { c.set(newPod("Running")) }, []string{"Pod ns/p 1 false"}, []string{daemonOnBoth, podOn1}},
			{"it is finished", func() { c.set(newPod("Succeeded")) }, []string{"Pod ns/p 0 false"}, []string{daemonOnBoth}},
			{"it is replaced", func() { c.set(newPod("Running")) }, []string{"Pod ns/p 1 false"}, []string{daemonOnBoth, podOn1}},
			{"it is gone, and the watch missed it", func() { c.remove(newPod("Running"), true) }, []string{"Pod ns/p 1 true"}, []string{daemonOnBoth}},
			{"a Service", func() { c.set(web) }, []string{"Service ns/web 1 false"}, []string{daemonOnBoth, webNodePort}},
			{"it becomes a ClusterIP", func() { c.set(noPorts) }, []string{"Service ns/web 0 false"}, []string{daemonOnBoth}},
			{"it is gone", func() { c.remove(noPorts, false) }, []string{"Service ns/web 0 true"}, []string{daemonOnBoth}},
			{"a node reports that it is alive", func() { c.set(node2) }, nil, []string{daemonOnBoth}},
			{"a node reserves a port", func() { c.set(reserving) }, nil, []string{daemonOnBoth, reservedOn2}},
			{"and no longer", func() { c.set(node2) }, nil, []string{daemonOnBoth}},
			{"and goes while it does", func() { c.set(reserving); c.remove(reserving, false); seen = nil }, nil, []string{daemonOn1}},
			{"and comes back", func() { c.set(node2) }, []string{"DaemonSet ns/agent 1 false"}, []string{daemonOnBoth}},
			{"a node is tainted", func() { c.set(tainted) }, []string{"DaemonSet ns/agent 1 false"}, []string{daemonOn1}},
			{"a node goes on which it was not", func() { c.remove(tainted, false) }, nil, []string{daemonOn1}},
			{"a node comes", func() { c.set(node2) }, []string{"DaemonSet ns/agent 1 false"}, []string{daemonOnBoth}},
			{"the DaemonSet selects", func() { c.set(newDaemonSet("nodeSelector: {zone: a}, " + hostPort80)) }, []string{"DaemonSet ns/agent 1 false"}, []string{daemonOn1}},
		} {
			step.change()
			if diff := cmp.Diff(step.held, held(o)); diff != "" {
				t.Errorf("%s: held (-want +got):\n%s", step.why, diff)
			}
			if step.why == "what was there" {
				seen = slices.Compact(seen) // once with each node
			}
			if diff := cmp.Diff(step.seen, seen); diff != "" {
				t.Errorf("%s: seen (-want +got):\n%s", step.why, diff)
			}
			seen = nil
		}
		if node, primary, known := o.Snapshot().NodeOf(netip.MustParseAddr("10.0.0.2")); node != "n2" || !primary || !known {
			t.Errorf("10.0.0.2 is of %q, primary %v, known %v", node, primary, known)
		}
	})
}

// TestTemplatesWithBadHostIPsAreKnown: their pods are let through by it.
func TestTemplatesWithBadHostIPsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := newDaemonSet("containers: [{name: a, ports: [{hostPort: 80, hostIP: nonsense}]}]")
		c := newCluster(bad)
		o := started(t, c, Options{})
		known := func() bool {
			_, _, ok := o.Snapshot().Owner(ports.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "ns", Name: "agent"})
			return ok
		}
		if !known() {
			t.Error("it is not known")
		}
		if drifted, err := o.Rebuild(t.Context()); len(drifted) > 0 || err != nil {
			t.Errorf("drifted %v, %v", drifted, err)
		}
		if c.set(newDaemonSet("containers: [{name: a}]")); known() {
			t.Error("it is known still, without any port")
		}
	})
}

// TestClusterIPsAreKnown, also of Services that claim no port.
func TestClusterIPsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := mustRead[corev1.Service]("{metadata: {name: web, namespace: ns}, spec: {type: ClusterIP, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7'], ports: [{port: 80}]}}")
		c := newCluster(web)
		o := started(t, c, Options{})
		known := func(text string) string {
			owner, ok := o.Snapshot().ServiceAt(netip.MustParseAddr(text), ports.Ref{})
			if !ok {
				return ""
			}
			return owner.Ref.String()
		}
		if known("10.96.0.7") != "Service ns/web" || known("fd00::7") != "Service ns/web" {
			t.Errorf("at them are %q and %q", known("10.96.0.7"), known("fd00::7"))
		}
		if drifted, err := o.Rebuild(t.Context()); len(drifted) > 0 || err != nil {
			t.Errorf("drifted %v, %v", drifted, err)
		}
		c.set(mustRead[corev1.Service]("{metadata: {name: web, namespace: ns}, spec: {type: ClusterIP, clusterIP: None, ports: [{port: 80}]}}"))
		if known("10.96.0.7") != "" {
			t.Errorf("%s has it still", known("10.96.0.7"))
		}
	})
}

func TestNeverCompleteBeforeAllIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(newPod("Running"))
		c.lagging = true
		if o := started(t, c, Options{}); o.IsComplete() {
			t.Error("it is complete")
		}
	})
}

// TestDrift: a ledger that differs from the cluster is mended and told of; events that are on their way are no drift.
func TestDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(newNode("n1", "a"), newDaemonSet(hostPort80), newPod("Running"))
		registry := prometheus.NewRegistry()
		o := started(t, c, Options{RebuildEvery: time.Minute, Metrics: NewMetrics(registry)})
		right := held(o)
		pod, stranger := ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: "p"}, ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: "zz"}
		spoil := func() {
			o.ledger.Release(pod)
			o.ledger.Replace(ports.Owner{Ref: stranger}, hold81())
		}

		spoil()
		drifted, err := o.Rebuild(t.Context())
		if diff := cmp.Diff([]ports.Ref{pod, stranger}, drifted); diff != "" || err != nil {
			t.Errorf("%v, drifted (-want +got):\n%s", err, diff)
		}
		if diff := cmp.Diff(right, held(o)); diff != "" {
			t.Errorf("mended (-want +got):\n%s", diff)
		}
		if drifted, err := o.Rebuild(t.Context()); len(drifted) > 0 || err != nil {
			t.Errorf("a second time: %v, %v", drifted, err)
		}

		spoil()
		time.Sleep(2 * time.Minute) // by itself
		synctest.Wait()
		if diff := cmp.Diff(right, held(o)); diff != "" {
			t.Errorf("mended by itself (-want +got):\n%s", diff)
		}

		for _, moves := range []struct {
			why         string
			first, then func()
		}{
			{"an event that comes late", func() { o.ledger.Release(pod) }, func() { c.set(newPod("Running")) }},
			{"one that differs in another way", func() { o.ledger.Release(pod) }, func() { o.ledger.Replace(ports.Owner{Ref: pod}, hold81()) }},
			{"one that has just begun", func() { o.ledger.Replace(ports.Owner{Ref: stranger}, hold81()) }, func() { o.ledger.Release(stranger); o.ledger.Release(pod) }},
		} {
			moves.first()
			go func() {
				time.Sleep(settleTime / 2)
				moves.then()
			}()
			if drifted, err := o.Rebuild(t.Context()); len(drifted) > 0 || err != nil {
				t.Errorf("%s is no drift: %v, %v", moves.why, drifted, err)
			}
			c.set(newPod("Running"))
		}
		want := "portcullis_ledger_claims 2, portcullis_ledger_complete 1, portcullis_ledger_owners 2, portcullis_ledger_rebuild_drift_total 4"
		if got := metrics(t, registry); got != want {
			t.Errorf("metrics: %s\nwant     %s", got, want)
		}
	})
}

func hold81() []ports.Claim {
	return []ports.Claim{{Socket: ports.MustParseSocket("*:81/TCP"), Kind: ports.HostPort}}
}

func metrics(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range families {
		m := f.GetMetric()[0]
		all = append(all, fmt.Sprintf("%s %v", f.GetName(), m.GetGauge().GetValue()+m.GetCounter().GetValue()))
	}
	return strings.Join(all, ", ")
}

// TestPlacesFollowNodes: where a template's pods may run, and which node a hostname is, follows the nodes, whatever came first.
func TestPlacesFollowNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := func(name, zone, hostname string) *corev1.Node {
			n := newNode(name, zone)
			n.Labels[corev1.LabelHostname] = hostname
			return n
		}
		c := newCluster(
			mustRead[appsv1.Deployment]("{metadata: {name: web, namespace: ns}, spec: {replicas: 2, template: {spec: {nodeSelector: {zone: a}, "+hostPort80+"}}}}"),
			mustRead[corev1.Pod]("{metadata: {name: p, namespace: ns}, spec: {nodeSelector: {kubernetes.io/hostname: host-1}, "+hostPort80+"}}"),
			host("n1", "a", "host-1"), host("n2", "b", "host-2"))
		o := started(t, c, Options{})
		places := func() string {
			_, web, _ := o.Snapshot().Owner(ports.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "ns", Name: "web"})
			_, pod, _ := o.Snapshot().Owner(ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: "p"})
			count, among := web[0].Scope.Among()
			return fmt.Sprint(count, " of ", among, ", ", pod[0].Scope)
		}
		for _, step := range []struct {
			why    string
			change func()
			want   string
		}{
			{"what was there", func() {}, "2 of [n1], n1"},
			{"a node comes", func() { c.set(host("n3", "a", "host-3")) }, "2 of [n1 n3], n1"},
			{"the hostname is another node's", func() { c.set(host("n1", "a", "other")); c.set(host("n3", "a", "host-1")) }, "2 of [n1 n3], n3"},
			{"a node goes", func() { c.remove(host("n1", "a", "other"), false) }, "2 of [n3], n3"},
			{"its hostname, too", func() { c.remove(host("n3", "a", "host-1"), false) }, "2 of [], a node"},
		} {
			step.change()
			if got := places(); got != step.want {
				t.Errorf("%s: %s, want %s", step.why, got, step.want)
			}
		}
	})
}

// TestEvidence: the ports that probes show are kept as long as their object is there, and are no claims.
func TestEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(probe string) *corev1.Pod {
			return mustRead[corev1.Pod]("{metadata: {name: p, namespace: ns}, spec: {hostNetwork: true, nodeName: n1, containers: [{name: c" + probe + "}]}}")
		}
		c := newCluster(newNode("n1", "a"), read(", livenessProbe: {httpGet: {path: /x, port: 9808}}, readinessProbe: {grpc: {port: 9809}}, startupProbe: {tcpSocket: {port: 9810, host: 127.0.0.1}}"))
		o := started(t, c, Options{})
		shown := func() (shown []string) {
			for _, claim := range o.Evidence().Claims() {
				shown = append(shown, claim.PortProtocol()+" on "+claim.Scope.String())
			}
			return shown
		}
		if diff := cmp.Diff([]string{"9808/TCP on n1", "9809/TCP on n1"}, shown()); diff != "" || len(held(o)) != 0 {
			t.Errorf("held %q, evidence (-want +got):\n%s", held(o), diff)
		}
		c.set(read(", livenessProbe: {exec: {command: [x]}}"))
		if got := shown(); got != nil {
			t.Errorf("evidence of a pod without probed ports: %q", got)
		}
		c.set(read(", livenessProbe: {tcpSocket: {port: 9808}}"))
		c.remove(read(""), false)
		if got := shown(); got != nil {
			t.Errorf("evidence of a pod that is gone: %q", got)
		}
	})
}
