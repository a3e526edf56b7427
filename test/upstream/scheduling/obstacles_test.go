package scheduling

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// TestObstacles: what a ledger of the cluster knows about a pod and a node is what the plugin says of them, to the word:
// which nodes are refused, by whom, and whether preemption may help.
func TestObstacles(t *testing.T) {
	s := specimen.New(t)
	judged, refused, everywhere, byPods := 0, 0, 0, 0
	for i := range specimen.Rounds(300) {
		c := drawCluster(s)
		args, err := json.Marshal(c.args)
		if err != nil {
			t.Fatal(err)
		}
		settings, err := extract.NewSettings(c.args.Configuration())
		if err != nil {
			t.Fatal(err)
		}
		p := portClaims(t, string(args), c.services...)
		for range 20 {
			c.change(t)
			pod := c.drawPod()
			pod.Status.Phase = corev1.PodPending
			held := c.ledger(t, pod, settings)
			seeker := check.NewSeeker(extract.Pod(pod, nil, settings.Check.Trusted), held.Snapshot(), settings.Check.Reserved)
			state, before := preFilter(t.Context(), p, pod)
			for _, node := range c.nodes {
				reserved, _ := extract.ReservedPorts(node.Node()) // malformed entries are drawn on purpose
				status, here := before, seeker.On(check.Node{Name: node.Node().Name, Labels: node.Node().Labels, Reserved: reserved})
				said := here
				if status == nil {
					status = p.Filter(t.Context(), state, pod, node)
				} else {
					said = seeker.Everywhere()
				}
				if problem := differs(status, here, said); problem != "" {
					t.Fatalf("cluster %d: %s\npod %s\nnode %s\nargs %s\nservices %s", i, problem, asJSON(pod), asJSON([]any{node.Node(), podsOn(node)}), args, asJSON(c.services))
				}
				judged++
				refused += count(isRefused(status))
				everywhere += count(isRefused(before))
				byPods += count(status.Code() == fwk.Unschedulable)
			}
		}
	}
	t.Logf("%d judged, %d refused, %d of them everywhere, %d by pods alone", judged, refused, everywhere, byPods)
	if refused < judged/20 || refused > judged*19/20 || everywhere == 0 || byPods == 0 {
		t.Error("the clusters are too much alike to prove anything")
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// ledger holds what is in a pod's way, bound and nominated pods and Services, and what is in nobody's: the pod itself,
// one that waits too, and a template.
func (c *cluster) ledger(t *testing.T, seeker *corev1.Pod, settings *extract.Settings) *ledger.Ledger {
	t.Helper()
	l := &ledger.Ledger{}
	for _, svc := range c.services {
		s := extract.Service(svc, settings.NodePorts)
		l.Replace(s.Owner, s.Claims)
	}
	waiting := c.drawPod()
	waiting.Status = corev1.PodStatus{}
	var nodes extract.NodeList
	var workloads []*check.Workload
	for _, node := range c.nodes {
		nodes = append(nodes, node.Node())
		l.ReplaceNode(node.Node().Name, extract.NodeAddresses(node.Node()))
		for _, pod := range podsOn(node) {
			if pod.Spec.NodeName == "" {
				pod = pod.DeepCopy()
				pod.Status.NominatedNodeName = node.Node().Name
			}
			if pod = extract.InTheWay(pod, seeker); pod != nil {
				workloads = append(workloads, extract.Pod(pod, nil, settings.Check.Trusted))
			}
		}
	}
	daemon := &appsv1.DaemonSet{}
	daemon.Name, daemon.Spec.Template.Spec = "d", c.drawPod().Spec
	template, ok := extract.Workload(daemon, nodes, settings.Check.Trusted)
	if !ok || extract.InTheWay(waiting, seeker) != nil {
		t.Fatal("a DaemonSet is no workload, or a pod that waits is in the way")
	}
	for _, w := range append(workloads, template, extract.Pod(seeker, nil, settings.Check.Trusted), extract.Pod(waiting, nil, settings.Check.Trusted)) {
		l.Replace(w.Owner, w.Claims)
	}
	return l
}

// differs tells in what a status is not what obstacles say: those that are said, and those that there are.
func differs(status *fwk.Status, here, said []check.Obstacle) string {
	if isRefused(status) != (len(here) > 0) {
		return fmt.Sprintf("%v, but the obstacles are %v", status, report.Blocked(here, extract.ReservedPortsAnnotation))
	}
	if !isRefused(status) {
		return ""
	}
	code := fwk.Unschedulable
	if slices.ContainsFunc(here, func(o check.Obstacle) bool { return !o.ByPod() }) {
		code = fwk.UnschedulableAndUnresolvable
	}
	if status.Code() != code {
		return fmt.Sprintf("%v, want %v", status, code)
	}
	if diff := cmp.Diff(status.Reasons(), report.Blocked(said, extract.ReservedPortsAnnotation)); diff != "" {
		return "reasons (-plugin +obstacles):\n" + diff
	}
	return ""
}
