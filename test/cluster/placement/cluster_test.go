// Package placement proves the scheduler with the plugin, as it is built and configured to be installed, against a real
// API server: where pods go, what those that wait are told, and what wakes them.
package placement

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	logf.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// What ships.
const (
	secondConfig  = "../../../config/scheduler/scheduler.yaml"
	defaultConfig = "../../../config/scheduler/default-scheduler.yaml"
)

// The names of schedulers.
const (
	shipped  = corev1.DefaultSchedulerName // what ships in place of the default scheduler
	alone    = "portclaims-alone"          // PortClaims, and not NodePorts
	upstream = "upstream"                  // NodePorts, and not PortClaims
	both     = "both"                      // as the shipped one
	hasty    = "without-reserve"           // both, and no last look
)

// profiles is the configuration of a scheduler that compares plugins. No pod has to wait long before it is tried again.
const profiles = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {qps: 1000, burst: 2000}
podMaxBackoffSeconds: 1
profiles:
- schedulerName: portclaims-alone
  plugins: {multiPoint: {disabled: [{name: NodePorts}], enabled: [{name: PortClaims}]}}
- schedulerName: upstream
- schedulerName: both
  plugins: {multiPoint: {disabled: [{name: NodePorts}], enabled: [{name: PortClaims}, {name: NodePorts}]}}
- schedulerName: without-reserve
  plugins:
    multiPoint: {disabled: [{name: NodePorts}], enabled: [{name: PortClaims}, {name: NodePorts}]}
    reserve: {disabled: [{name: PortClaims}]}
`

// cluster is a control plane with its nodes and two schedulers: the shipped one, and one with the other profiles.
type cluster struct {
	*controlplane.ControlPlane
	client.Client
	kubelet   *kubelet.Kubelet
	program   string // the scheduler with the plugin
	scheduler *rig.Scheduler
	compared  *rig.Scheduler

	mu    sync.Mutex
	nodes int // made so far
	sites int
}

// TestPlacement is all that can share a cluster. Each test has nodes of its own.
func TestPlacement(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	t.Run("side by side", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T){
			"four replicas on three nodes":  c.testTooManyReplicas,
			"a pod that only we refuse":     c.testOurHint,
			"a rollout that must stall":     c.testStall,
			"a DaemonSet":                   c.testDaemonSet,
			"a Service in the way":          c.testServices,
			"a Service that comes later":    c.testServiceComesLater,
			"the node's annotation":         c.testAnnotation,
			"a node without addresses":      c.testNoAddresses,
			"pods without host ports":       c.testSkip,
			"preemption":                    c.testPreemption,
			"preemption that cannot help":   c.testNoPreemption,
			"the second scheduler installs": c.testSecondScheduler,
			"the program's version":         c.testVersion,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	})
	t.Run("every pair", c.testMatrix)
	t.Run("races", c.testRaces)
	t.Run("the API server comes back", c.testRestart)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{program: binaries.For(t, binaries.PortcullisScheduler)}
	c.ControlPlane = controlplane.Run(t, controlplane.Options{
		ControllerManager:      true,
		NodeMonitorGracePeriod: 24 * time.Hour, // nodes that nobody looks after do not become lost
		APIServerFlags:         []string{"--requestheader-client-ca-file=" + frontProxyCA(t)},
	})
	c.Client = newClient(t, c.ControlPlane)
	c.kubelet = kubelet.Run(t, c.RESTConfig(), kubelet.Options{})
	c.scheduler = rig.RunScheduler(t, c.ControlPlane, rig.SchedulerOptions{Program: c.program, Config: read(t, defaultConfig)})
	c.compared = rig.RunScheduler(t, c.ControlPlane, rig.SchedulerOptions{Program: c.program, Config: []byte(profiles)})
	return c
}

func newClient(t testing.TB, cp *controlplane.ControlPlane) client.Client {
	t.Helper()
	config := cp.RESTConfig()
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// frontProxyCA writes the certificate of an authority that signs nothing: what schedulers learn from the API server about
// whom to trust is complete with it, as it is in every installation.
func frontProxyCA(t testing.TB) string {
	t.Helper()
	certificate, _, err := cert.GenerateSelfSignedCertKey("front-proxy-ca", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "front-proxy-ca.crt")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// stock is the path of kube-scheduler as it comes.
func stock(t testing.TB) string {
	t.Helper()
	dir := binaries.For(t, binaries.KubeScheduler)
	return dir
}

// site is a namespace, and nodes that only its pods go to.
type site struct {
	*cluster
	namespace string
	nodes     []kubelet.Node
	scheduler string // for pods that name none
}

// site makes nodes, which a kubelet looks after, for the pods of a scheduler.
func (c *cluster) site(t *testing.T, scheduler string, nodes int) *site {
	t.Helper()
	s := c.newSite(t, scheduler)
	for range nodes {
		s.addNode(t, c.node())
	}
	return s
}

func (c *cluster) newSite(t testing.TB, scheduler string) *site {
	t.Helper()
	c.mu.Lock()
	c.sites++
	s := &site{cluster: c, namespace: fmt.Sprint("site", c.sites), scheduler: scheduler}
	c.mu.Unlock()
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.leave(t) })
	return s
}

// own runs a scheduler, configured as the shipped one, for this site alone, so that its metrics are exact.
func (s *site) own(t *testing.T) *rig.Scheduler {
	t.Helper()
	s.scheduler = s.namespace
	config := strings.Replace(string(read(t, defaultConfig)), "schedulerName: "+shipped, "schedulerName: "+s.scheduler, 1)
	config = strings.Replace(config, "leaderElect: true", "leaderElect: false", 1)
	return rig.RunScheduler(t, s.ControlPlane, rig.SchedulerOptions{Program: s.program, Config: []byte(config)})
}

// node describes a node that there was not before.
func (c *cluster) node() kubelet.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes++
	return kubelet.Nodes(c.nodes)[c.nodes-1]
}

func (s *site) addNode(t *testing.T, n kubelet.Node) {
	t.Helper()
	n.Labels = map[string]string{"site": s.namespace}
	if err := s.kubelet.AddNode(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	s.nodes = append(s.nodes, n)
}

// leave removes what the site claims. What is not there any more wakes no pod of another test.
func (s *site) leave(t testing.TB) {
	ctx := context.WithoutCancel(t.Context())
	if t.Failed() {
		s.tell(ctx, t)
	}
	if err := s.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}); err != nil {
		t.Error(err)
	}
	s.empty(t)
}

// empty removes the pods.
func (s *site) empty(t testing.TB) {
	t.Helper()
	err := s.DeleteAllOf(context.WithoutCancel(t.Context()), &corev1.Pod{}, client.InNamespace(s.namespace), client.GracePeriodSeconds(0))
	if err != nil {
		t.Error(err)
	}
}

// tell says what became of the pods.
func (s *site) tell(ctx context.Context, t testing.TB) {
	var pods corev1.PodList
	if err := s.List(ctx, &pods, client.InNamespace(s.namespace)); err != nil {
		t.Error(err)
	}
	for i, p := range pods.Items {
		if i == 20 {
			t.Logf("and %d more", len(pods.Items)-i)
			return
		}
		t.Logf("%s: node %q, %s %s %s", p.Name, p.Spec.NodeName, p.Status.Phase, p.Status.Reason, verdict(&p).message)
	}
}

// pod is one of the site's.
func (s *site) pod(name string, ports ...corev1.ContainerPort) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: s.spec(ports...)}
	return pod
}

func (s *site) spec(ports ...corev1.ContainerPort) corev1.PodSpec {
	return corev1.PodSpec{
		SchedulerName: s.scheduler,
		NodeSelector:  map[string]string{"site": s.namespace},
		Containers:    []corev1.Container{{Name: "main", Image: "example", Ports: ports}},
	}
}

// tcp is a hostPort.
func tcp(hostIP string, number int32) corev1.ContainerPort {
	return corev1.ContainerPort{HostIP: hostIP, HostPort: number, ContainerPort: number, Protocol: corev1.ProtocolTCP}
}

func (c *cluster) create(t testing.TB, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) delete(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// remove deletes a pod and waits until it is gone.
func (s *site) remove(t *testing.T, name string) {
	t.Helper()
	pod := s.pod(name)
	s.delete(t, pod)
	poll.Until(t, func(context.Context) error {
		err := s.Get(t.Context(), client.ObjectKeyFromObject(pod), pod)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("%s is still there", name))
	})
}

// outcome is what a scheduler has decided.
type outcome struct {
	node    string // empty for one that waits
	message string // why it waits; empty if nothing is decided yet
}

func verdict(pod *corev1.Pod) outcome {
	o := outcome{node: pod.Spec.NodeName}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			o.message = c.Message
		}
	}
	return o
}

func (s *site) verdict(ctx context.Context, name string) (outcome, error) {
	pod := &corev1.Pod{}
	err := s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, pod)
	return verdict(pod), err
}

// placed waits until a pod has a node, and returns it.
func (s *site) placed(t *testing.T, name string) string {
	t.Helper()
	var got outcome
	poll.Until(t, func(context.Context) (err error) {
		if got, err = s.verdict(t.Context(), name); err == nil && got.node == "" {
			err = fmt.Errorf("%s has no node: %q", name, got.message)
		}
		return err
	})
	return got.node
}

// refused waits until a pod waits for each of the reasons.
func (s *site) refused(t *testing.T, name string, reasons ...string) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		got, err := s.verdict(t.Context(), name)
		if err != nil {
			return err
		}
		if got.node != "" {
			return fmt.Errorf("%s is on %s", name, got.node)
		}
		for _, r := range reasons {
			if !strings.Contains(got.message, r) {
				return fmt.Errorf("%s waits: %q, want %q", name, got.message, r)
			}
		}
		if got.message == "" {
			return fmt.Errorf("nothing is said of %s", name)
		}
		return nil
	})
}

// names returns the site's nodes.
func (s *site) names() []string {
	var names []string
	for _, n := range s.nodes {
		names = append(names, n.Name)
	}
	return slices.Sorted(slices.Values(names))
}

// running returns the pods of an app that run, by their node.
func (s *site) running(ctx context.Context, app string) (map[string]corev1.Pod, error) {
	var pods corev1.PodList
	if err := s.List(ctx, &pods, client.InNamespace(s.namespace), client.MatchingLabels{"app": app}); err != nil {
		return nil, err
	}
	found := map[string]corev1.Pod{}
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
			continue
		}
		if other, ok := found[p.Spec.NodeName]; ok {
			return nil, fmt.Errorf("%s and %s both run on %s", other.Name, p.Name, p.Spec.NodeName)
		}
		found[p.Spec.NodeName] = p
	}
	return found, nil
}

// oneOnEach waits until an app has one pod on each of the site's nodes.
func (s *site) oneOnEach(t *testing.T, app string) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		found, err := s.running(t.Context(), app)
		if got := slices.Sorted(maps.Keys(found)); err == nil && !slices.Equal(got, s.names()) {
			err = fmt.Errorf("pods run on %v, want one on each of %v", got, s.names())
		}
		return err
	})
}

// waiting waits for the one pod of an app that has no node, and returns its name.
func (s *site) waiting(t *testing.T, app string) string {
	t.Helper()
	var name string
	poll.Until(t, func(context.Context) error {
		var pods corev1.PodList
		if err := s.List(t.Context(), &pods, client.InNamespace(s.namespace), client.MatchingLabels{"app": app}); err != nil {
			return err
		}
		pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName != "" || p.DeletionTimestamp != nil })
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d pods of %s have no node, want 1", len(pods.Items), app)
		}
		name = pods.Items[0].Name
		return nil
	})
	return name
}

// count is a scheduler's metric.
func count(t *testing.T, s *rig.Scheduler, metric string, labels ...string) float64 {
	t.Helper()
	n, err := s.Count(t.Context(), metric, labels...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// each does something for each number below n, several at a time.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}
