package scheduling

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
)

// recorder keeps what is told.
type recorder struct{ told []string }

func (r *recorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	about, other := regarding.(*corev1.Pod).Name, ""
	if related != nil {
		other = related.(*corev1.Pod).Name
	}
	r.told = append(r.told, strings.Join([]string{about, other, kind, reason, action, fmt.Sprintf(note, args...)}, "|"))
}

func (r *recorder) WithLogger(klog.Logger) events.EventRecorderLogger { return r }

// snapshot is the nodes of a cycle.
type snapshot struct {
	fwk.SharedLister
	fwk.NodeInfoLister
	nodes []fwk.NodeInfo
}

func (s snapshot) NodeInfos() fwk.NodeInfoLister { return s }

func (s snapshot) List() ([]fwk.NodeInfo, error) { return s.nodes, nil }

// statuses is what became of the nodes.
type statuses struct {
	fwk.NodeToStatusReader
	by map[string]*fwk.Status
}

func (s statuses) Get(node string) *fwk.Status { return s.by[node] }

func TestPostFilter(t *testing.T) {
	p, h := newPlugin(t, "")
	recorded := &recorder{}
	h.recorder = recorded
	refused := func(by string) *fwk.Status { return fwk.NewStatus(fwk.Unschedulable, "no").WithPlugin(by) }
	h.nodes = []fwk.NodeInfo{
		node("n3", 1, pod("late", list(port(9000)), on("n3"), of("tomcat"))),
		node("n1", 1, pod("early", list(port(9000)), on("n1"), of("tomcat"))),
		annotated(node("n2", 1), "9000/TCP"),
		node("tainted", 1, pod("hidden", list(port(9000)), on("tainted"))),
		node("fits", 1),
	}
	by := map[string]*fwk.Status{"n1": refused(Name), "n2": refused(Name), "n3": refused("NodePorts"), "tainted": refused("TaintToleration")}
	wanted := pod("new", list(port(9000)))
	fail := func(pod *corev1.Pod) {
		s := newState()
		p.PreFilter(t.Context(), s, pod, nil)
		if result, status := p.PostFilter(t.Context(), s, pod, statuses{by: by}); result != nil || status.Code() != fwk.Unschedulable || len(status.Reasons()) > 0 {
			t.Errorf("PostFilter: %v, %v; want Unschedulable without a word", result, status)
		}
	}
	fail(wanted)
	fail(wanted)                             // again: too soon
	fail(pod("plain", nil))                  // wants nothing
	fail(pod("other", list(port(9001))))     // of which nobody is in the way
	fail(pod("kubelets", list(port(10250)))) // taken everywhere
	want := []string{"new|early|Warning|HostPortTaken|Scheduling|hostPort 9000/TCP is held on n1 by Pod default/early of Deployment default/tomcat," +
		" on n2 by the node itself (annotation portcullis.dev/reserved-ports), on n3 by Pod default/late of Deployment default/tomcat." +
		" All of it: portcullis why default/new"}
	if diff := cmp.Diff(want, recorded.told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Ten thousand pods that wait for one port do not write ten thousand events.
	for i := range 1000 {
		fail(pod(fmt.Sprint("waits", i), list(port(9000))))
	}
	if n := len(recorded.told); n < burst/2 || n > 3*burst {
		t.Errorf("%d events for 1000 pods, want about %d", n, burst)
	}
}
