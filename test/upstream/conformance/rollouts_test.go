package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
)

// outlook is what we say of a workload's rollout.
type outlook struct {
	never    bool // to finish
	findings []check.Finding
}

// progress is how far a rollout has come.
type progress struct {
	seen     string // what there was to see
	since    time.Time
	finished bool
	quiet    bool // nothing more will happen
}

// TestRolloutsAsTheControllers: of random Deployments, DaemonSets and StatefulSets with host ports, those of which we say
// that they can never finish are those that the real controllers and the real scheduler do not finish. We say so by an
// error, or by a warning that pods wait, that the rollout stalls or that no node is left.
func TestRolloutsAsTheControllers(t *testing.T) {
	t.Parallel()
	f := newFeatures("Deployment", "DaemonSet", "StatefulSet", "RollingUpdate", "Recreate", "default strategy", "percentage", "number", "maxSurge", "DaemonSet with maxSurge",
		"nodeSelector", "affinity", "only edge nodes", "tainted node", "toleration", "host network", "hostIP", "init container", "sidecar", "TCP", "UDP", "SCTP",
		"held by pods", "held by a DaemonSet", "an ended pod", "no replicas", "one node", "several nodes",
		string(check.WorkloadsMeet), string(check.TooFewNodes), string(check.RolloutStalls), string(check.SurgeInPlace), string(check.StricterThere),
		"stalls", "comes up and stalls", "finishes")
	p := rollouts{places{specimen.New(t)}}
	for i := range seed.Rounds(1, 9) {
		t.Run(fmt.Sprint(i), func(t *testing.T) { newRolloutBatch(t, p, f).run(t) })
	}
	f.check(t)
	if n := f.seen["stalls"]; n < f.cases/10 || n > f.cases*9/10 {
		t.Errorf("%d of %d stall: they are too much alike to prove anything", n, f.cases)
	}
}

// rolloutBatch are cases that run side by side in one cluster.
type rolloutBatch struct {
	client   client.Client
	settings *extract.Settings
	cases    []*rolloutCase
	f        *features
}

func newRolloutBatch(t *testing.T, p rollouts, f *features) *rolloutBatch {
	t.Helper()
	b := &rolloutBatch{f: f}
	config, err := configv1alpha1.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.settings, err = extract.NewSettings(config); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		b.cases = append(b.cases, p.rolloutCase(fmt.Sprintf("r%d", i), wishOf(i)))
	}
	// A pod that could not be placed is tried again at once when a port becomes free, not after up to ten seconds.
	scheduler := filepath.Join(t.TempDir(), "scheduler.yaml")
	text := "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\npodInitialBackoffSeconds: 1\npodMaxBackoffSeconds: 1\n"
	if err := os.WriteFile(scheduler, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cp := controlplane.Run(t, controlplane.Options{ControllerManager: true, Scheduler: true, SchedulerConfig: scheduler})
	kubelet.Run(t, cp.RESTConfig(), kubelet.Options{Nodes: b.nodes()})
	if b.client, err = client.New(cp.RESTConfig(), client.Options{Scheme: manifest.Scheme()}); err != nil {
		t.Fatal(err)
	}
	return b
}

// nodes gives the nodes of all cases their addresses.
func (b *rolloutBatch) nodes() []kubelet.Node {
	var all []kubelet.Node
	for _, c := range b.cases {
		all = append(all, c.nodes...)
	}
	for i, n := range kubelet.Nodes(len(all)) {
		all[i].Addresses, all[i].PodCIDRs = n.Addresses, n.PodCIDRs
	}
	return all
}

func (b *rolloutBatch) run(t *testing.T) {
	t.Helper()
	b.each(t, b.hold)
	b.await(t, "the holders run", b.holdersRun)
	b.endSome(t)
	for _, c := range b.cases {
		b.count(c)
	}
	cluster := b.cluster(t)
	for _, c := range b.cases {
		c.outlook = b.judge(cluster, c, nil)
	}
	b.each(t, func(ctx context.Context, c *rolloutCase) error { return b.client.Create(ctx, c.object) })
	b.settle(t)
	for _, c := range b.cases {
		c.first = c.progress.finished
	}
	cluster = b.cluster(t)
	b.each(t, func(ctx context.Context, c *rolloutCase) error { return b.change(ctx, cluster, c) })
	b.settle(t)
	for _, c := range b.cases {
		b.compare(t, c)
	}
}

// each does something for all cases, several at a time.
func (b *rolloutBatch) each(t *testing.T, do func(context.Context, *rolloutCase) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(8)
	for _, c := range b.cases {
		group.Go(func() error {
			if err := do(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (b *rolloutBatch) hold(ctx context.Context, c *rolloutCase) error {
	for _, h := range c.holders {
		if err := b.client.Create(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

func (b *rolloutBatch) await(t *testing.T, what string, condition func(ctx context.Context) (bool, error)) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if done, err := condition(t.Context()); err != nil {
			t.Fatal(err)
		} else if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen that %s", what)
		}
	}
}

// holdersRun reports whether all holders that were made are on their nodes and run.
func (b *rolloutBatch) holdersRun(ctx context.Context) (bool, error) {
	for _, c := range b.cases {
		for _, h := range c.holders {
			if err := b.client.Get(ctx, client.ObjectKeyFromObject(h), h); err != nil {
				return false, err
			}
			if pod, ok := h.(*corev1.Pod); ok && pod.Status.Phase != corev1.PodRunning {
				return false, nil
			}
			if set, ok := h.(*appsv1.DaemonSet); ok && !isRolledOut(set) {
				return false, nil
			}
		}
	}
	return true, nil
}

// endSome ends the pods that are marked so: they exist and hold nothing.
func (b *rolloutBatch) endSome(t *testing.T) {
	t.Helper()
	b.each(t, func(ctx context.Context, c *rolloutCase) error {
		for _, h := range c.holders {
			if pod, ok := h.(*corev1.Pod); ok && pod.Labels["ends"] != "" {
				pod.Status.Phase = corev1.PodSucceeded
				if err := b.client.Status().Update(ctx, pod); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// cluster is what there is.
type cluster struct {
	nodes extract.NodeList
	held  *ledger.Snapshot
}

// cluster looks at everything as an observer does.
func (b *rolloutBatch) cluster(t *testing.T) cluster {
	t.Helper()
	var nodes corev1.NodeList
	var pods corev1.PodList
	var deployments appsv1.DeploymentList
	var daemons appsv1.DaemonSetList
	var sets appsv1.StatefulSetList
	for _, list := range []client.ObjectList{&nodes, &pods, &deployments, &daemons, &sets} {
		if err := b.client.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	var known cluster
	for i := range nodes.Items {
		known.nodes = append(known.nodes, &nodes.Items[i])
	}
	l := &ledger.Ledger{}
	record := func(w *check.Workload, _ bool) { l.Replace(w.Owner, w.Claims) }
	for i := range pods.Items {
		record(extract.Pod(&pods.Items[i], known.nodes, nil), true)
	}
	for i := range deployments.Items {
		record(extract.Workload(&deployments.Items[i], known.nodes, nil))
	}
	for i := range daemons.Items {
		record(extract.Workload(&daemons.Items[i], known.nodes, nil))
	}
	for i := range sets.Items {
		record(extract.Workload(&sets.Items[i], known.nodes, nil))
	}
	known.held = l.Snapshot()
	return known
}

func (b *rolloutBatch) judge(known cluster, c *rolloutCase, old client.Object) outlook {
	in := check.Input{Held: known.held, Settings: &b.settings.Check}
	in.Workload, _ = extract.Workload(c.object, known.nodes, nil)
	if old != nil {
		in.OldWorkload, _ = extract.Workload(old, known.nodes, nil)
	}
	c.eligible = len(in.Workload.Eligible)
	var o outlook
	if in.Workload.Rollout.Replicas == 0 {
		return o // what is to run nowhere now is judged all the same: it will be scaled up one day
	}
	for _, f := range check.Check(in) {
		if saysNever(f) {
			o.never, o.findings = true, append(o.findings, f)
		}
	}
	return o
}

// saysNever reports whether a finding says that a rollout can never finish.
func saysNever(f check.Finding) bool {
	switch f.Code {
	case check.Held, check.WorkloadsMeet:
		return f.Severity == check.Error || f.Case == check.SomeNodesTaken && isOnEachNode(f)
	case check.TooFewNodes:
		return f.Case == check.SomePodsWait || f.Case == check.NoNodeSuits
	case check.RolloutStalls, check.SurgeInPlace, check.StricterThere:
		return true
	default:
		return false
	}
}

func isOnEachNode(f check.Finding) bool { return f.Object.Kind == "DaemonSet" }

// change updates the template, as every new version of a program does.
func (b *rolloutBatch) change(ctx context.Context, known cluster, c *rolloutCase) error {
	for {
		if err := b.client.Get(ctx, client.ObjectKeyFromObject(c.object), c.object); err != nil {
			return err
		}
		old := c.object.DeepCopyObject().(client.Object)
		templateOf(c.object).Spec.Containers[0].Env = []corev1.EnvVar{{Name: "VERSION", Value: "2"}}
		again := b.judge(known, c, old)
		if again.never != c.outlook.never {
			return fmt.Errorf("before it was made we said that it never finishes: %v, now with its own pods there: %v\n%+v\n%+v",
				c.outlook.never, again.never, c.outlook.findings, again.findings)
		}
		if err := b.client.Update(ctx, c.object); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// settle waits until every rollout has finished, or has come to a standstill.
func (b *rolloutBatch) settle(t *testing.T) {
	t.Helper()
	for _, c := range b.cases {
		c.progress = progress{since: time.Now()}
	}
	b.await(t, "all rollouts finish or stand still", func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := b.client.List(ctx, &pods); err != nil {
			return false, err
		}
		mine := map[string][]*corev1.Pod{}
		for i := range pods.Items {
			pod := &pods.Items[i]
			mine[pod.Labels["app"]] = append(mine[pod.Labels["app"]], pod)
		}
		done := true
		for _, c := range b.cases {
			if c.progress.finished || c.progress.quiet {
				continue
			}
			if err := b.client.Get(ctx, client.ObjectKeyFromObject(c.object), c.object); err != nil {
				return false, err
			}
			c.look(mine[c.name])
			done = done && (c.progress.finished || c.progress.quiet)
		}
		return done, nil
	})
}

// look takes note of a rollout's state. It stands still if the scheduler has said of every pod that there is no place for
// it, or the kubelet runs it, and nothing has changed for a while: for longer where we say that it will finish.
func (c *rolloutCase) look(pods []*corev1.Pod) {
	seen, settled := describe(c.object), true
	for _, pod := range pods {
		scheduled, ready := condition(pod, corev1.PodScheduled), condition(pod, corev1.PodReady)
		settled = settled && pod.DeletionTimestamp == nil && (scheduled == corev1.ConditionFalse || ready == corev1.ConditionTrue)
		seen += fmt.Sprintf("\n%s on %q scheduled %s ready %s going %v", pod.Name, pod.Spec.NodeName, scheduled, ready, pod.DeletionTimestamp != nil)
	}
	c.progress.finished = isRolledOut(c.object)
	if seen != c.progress.seen || !settled {
		c.progress.seen, c.progress.since = seen, time.Now()
		return
	}
	patience := 5 * time.Second
	if !c.outlook.never {
		patience = 20 * time.Second
	}
	c.progress.quiet = time.Since(c.progress.since) > patience
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		return ""
	}
	return pod.Status.Conditions[i].Status
}

func describe(object client.Object) string {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return fmt.Sprintf("%s %d %d/%d/%d/%d", o.Name, o.Status.ObservedGeneration, o.Status.Replicas, o.Status.UpdatedReplicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas)
	case *appsv1.DaemonSet:
		s := o.Status
		return fmt.Sprintf("%s %d %d/%d/%d/%d", o.Name, s.ObservedGeneration, s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.UpdatedNumberScheduled, s.NumberAvailable)
	case *appsv1.StatefulSet:
		return fmt.Sprintf("%s %d %d/%d/%d/%d", o.Name, o.Status.ObservedGeneration, o.Status.Replicas, o.Status.UpdatedReplicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas)
	default:
		panic(fmt.Sprintf("%T is not drawn", object))
	}
}

// isRolledOut reports whether all pods are of the last template and available, as kubectl rollout status does.
func isRolledOut(object client.Object) bool {
	switch o := object.(type) {
	case *appsv1.Deployment:
		s, n := o.Status, *o.Spec.Replicas
		return s.ObservedGeneration >= o.Generation && s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n
	case *appsv1.DaemonSet:
		s, n := o.Status, o.Status.DesiredNumberScheduled
		return s.ObservedGeneration >= o.Generation && s.UpdatedNumberScheduled == n && s.NumberAvailable == n
	case *appsv1.StatefulSet:
		s, n := o.Status, *o.Spec.Replicas
		return s.ObservedGeneration >= o.Generation && s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n
	default:
		panic(fmt.Sprintf("%T is not drawn", object))
	}
}

func (b *rolloutBatch) compare(t *testing.T, c *rolloutCase) {
	t.Helper()
	b.f.saw("stalls", !c.progress.finished)
	b.f.saw("comes up and stalls", c.first && !c.progress.finished)
	b.f.saw("finishes", c.progress.finished)
	for _, f := range c.outlook.findings {
		b.f.saw(string(f.Code), true)
	}
	// What has not even come up is another thing than what cannot be replaced.
	comesUp := !slices.ContainsFunc(c.outlook.findings, func(f check.Finding) bool { return f.Code != check.RolloutStalls && f.Code != check.SurgeInPlace })
	if c.outlook.never == c.progress.finished || comesUp != c.first {
		c.object.SetManagedFields(nil)
		text := []string{fmt.Sprintf("%T %s", c.object, written(c.object))}
		for _, n := range c.nodes {
			text = append(text, fmt.Sprintf("node %s %v %v", n.Name, n.Labels, n.Taints))
		}
		for _, h := range c.holders {
			h.SetManagedFields(nil)
			text = append(text, fmt.Sprintf("held by %T %s", h, written(h)))
		}
		t.Errorf("%s\n%s\ncame up: %v, finished: %v, we say never: %v %+v", strings.Join(text, "\n"), c.progress.seen, c.first, c.progress.finished, c.outlook.never, c.outlook.findings)
	}
	if set, ok := c.object.(*appsv1.DaemonSet); ok && int(set.Status.DesiredNumberScheduled) != c.eligible {
		t.Errorf("DaemonSet %s wants %d pods, we say %d", written(set), set.Status.DesiredNumberScheduled, c.eligible)
	}
}

func (b *rolloutBatch) count(c *rolloutCase) {
	b.f.cases++
	spec := &templateOf(c.object).Spec
	switch o := c.object.(type) {
	case *appsv1.Deployment:
		b.f.saw("Deployment", true)
		b.f.saw("RollingUpdate", o.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType)
		b.f.saw("Recreate", o.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType)
		b.f.saw("default strategy", o.Spec.Strategy.Type == "")
		b.f.saw("no replicas", *o.Spec.Replicas == 0)
		if r := o.Spec.Strategy.RollingUpdate; r != nil {
			b.f.saw("percentage", r.MaxSurge.StrVal != "" || r.MaxUnavailable.StrVal != "")
			b.f.saw("number", r.MaxSurge.StrVal == "" || r.MaxUnavailable.StrVal == "")
			b.f.saw("maxSurge", !isNone(*r.MaxSurge))
		}
	case *appsv1.DaemonSet:
		b.f.saw("DaemonSet", true)
		b.f.saw("DaemonSet with maxSurge", o.Spec.UpdateStrategy.RollingUpdate != nil && o.Spec.UpdateStrategy.RollingUpdate.MaxSurge != nil)
	case *appsv1.StatefulSet:
		b.f.saw("StatefulSet", true)
	}
	b.f.saw("nodeSelector", spec.NodeSelector != nil)
	b.f.saw("affinity", spec.Affinity != nil)
	b.f.saw("only edge nodes", selectsTier(spec))
	b.f.saw("toleration", len(spec.Tolerations) > 0)
	b.f.saw("host network", spec.HostNetwork)
	b.f.saw("tainted node", slices.ContainsFunc(c.nodes, func(n kubelet.Node) bool { return len(n.Taints) > 0 }))
	b.f.saw("one node", len(c.nodes) == 1)
	b.f.saw("several nodes", len(c.nodes) > 1)
	b.f.saw("init container", len(spec.InitContainers) > 0 && spec.InitContainers[0].RestartPolicy == nil)
	b.f.saw("sidecar", len(spec.InitContainers) > 0 && spec.InitContainers[0].RestartPolicy != nil)
	for _, port := range ownPorts(spec) {
		b.f.saw("hostIP", port.HostIP != "")
		b.f.saw("TCP", port.Protocol == "" || port.Protocol == corev1.ProtocolTCP)
		b.f.saw("UDP", port.Protocol == corev1.ProtocolUDP)
		b.f.saw("SCTP", port.Protocol == corev1.ProtocolSCTP)
	}
	for _, h := range c.holders {
		pod, isPod := h.(*corev1.Pod)
		b.f.saw("held by pods", isPod)
		b.f.saw("held by a DaemonSet", !isPod)
		b.f.saw("an ended pod", isPod && pod.Labels["ends"] != "")
	}
}
