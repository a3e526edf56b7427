package conformance

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Where kube-scheduler's NodePorts and our findings about a pod on a node differ, and why. Nothing else may.
const (
	wholeIPv6    = "ours alone: :: is all of IPv6, and with the host network of IPv4 too"
	anySpelling  = "ours alone: every spelling of an address is the address"
	onlyThere    = "ours alone: a pod that is not bound yet and can only come to this node"
	sameOwner    = "theirs alone: pods of one controller replace each other"
	isNoAddress  = "theirs alone: a hostIP that is not an address is PC0101"
	falseAlarm   = "both: the scheduler's false conflict of 0.0.0.0 with an IPv6 address, PC0404"
	trueConflict = "both: a conflict"
)

// TestNodesAsTheScheduler: on a node with several pods, beside other nodes, a pod is refused by kube-scheduler's
// NodePorts exactly where we find that a pod holds its host port, or that the scheduler will think so; but for the
// differences above.
func TestNodesAsTheScheduler(t *testing.T) {
	p := hostPods{places{specimen.New(t)}}
	f := newFeatures("TCP", "UDP", "SCTP", "IPv4 address", "IPv6 address", "4-in-6", "no hostIP", "0.0.0.0", "::", "host network", "sidecar", "init container",
		"finished", "terminating", "waiting for a node", "pinned by affinity", "owned", "on another node", "Services",
		wholeIPv6, anySpelling, onlyThere, sameOwner, isNoAddress, falseAlarm, trueConflict, "refused", "let through")
	for range specimen.Rounds(500) {
		c := p.nodeCase()
		f.cases++
		c.count(f)
		c.compare(t, f)
	}
	f.check(t)
	if n := f.seen["refused"]; n < f.cases/10 || n > f.cases*9/10 {
		t.Errorf("%d of %d refused: they are too much alike to prove anything", n, f.cases)
	}
}

// hostPods draws pods with host ports, from few numbers, so that they meet.
type hostPods struct{ places }

// nodeCase is a pod that comes to node n1, and what there is before.
type nodeCase struct {
	wanted   *corev1.Pod
	others   []*corev1.Pod
	services []*corev1.Service
}

func (p hostPods) nodeCase() nodeCase {
	var c nodeCase
	for i := range 1 + p.IntN(12) {
		c.others = append(c.others, p.pod(fmt.Sprint("p", i)))
	}
	for i := range p.IntN(2) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i)}}
		svc.Spec.Type = corev1.ServiceTypeNodePort
		svc.Spec.Ports = []corev1.ServicePort{{Port: 80, NodePort: p.number(), Protocol: p.protocol()}}
		c.services = append(c.services, svc)
	}
	for c.wanted = p.pod("wanted"); nodeNamed(c.wanted) != "n1" || extract.IsFinished(c.wanted); {
		c.wanted = p.pod("wanted")
	}
	return c
}

func (p hostPods) number() int32 { return pick(p.places, int32(80), 81) }

func (p hostPods) protocol() corev1.Protocol {
	return pick(p.places, "", corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

func (p hostPods) pod(name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	pod.Spec.HostNetwork = p.IntN(4) == 0
	pod.Status.Phase = pick(p.places, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed)
	if p.IntN(5) == 0 {
		pod.DeletionTimestamp = &metav1.Time{}
	}
	switch node := pick(p.places, "n1", "n1", "n1", "n2", "n3"); p.IntN(5) {
	case 0: // the scheduler decides
	case 1:
		pod.Spec.Affinity = pinnedTo(node)
	case 2:
		pod.Spec.Affinity = pinnedTo(node)
		pod.Spec.NodeName = node
	default:
		pod.Spec.NodeName = node
	}
	if p.IntN(3) == 0 {
		isController := true
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "a", Controller: &isController}}
	}
	for range 1 + p.IntN(2) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Ports: p.ports(pod)})
	}
	for range p.IntN(2) {
		c := corev1.Container{Ports: p.ports(pod)}
		if p.IntN(2) == 0 {
			always := corev1.ContainerRestartPolicyAlways
			c.RestartPolicy = &always
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	v1defaults.SetObjectDefaults_Pod(pod)
	return pod
}

func (p hostPods) ports(pod *corev1.Pod) []corev1.ContainerPort {
	return some(p.places, 3, func() corev1.ContainerPort {
		port := corev1.ContainerPort{Protocol: p.protocol(), HostPort: p.number(), HostIP: pick(p.places, append(hostIPs(), "", "", "localhost", "localhost")...)}
		if port.ContainerPort = port.HostPort; !pod.Spec.HostNetwork && p.IntN(4) == 0 {
			port.HostPort = 0
		}
		return port
	})
}

func pinnedTo(node string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
			Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}}}},
	}}}
}

// nodeNamed is the node that a drawn pod is on or can only come to.
func nodeNamed(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" || pod.Spec.Affinity == nil {
		return pod.Spec.NodeName
	}
	return pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
}

func (c nodeCase) String() string {
	text := "wanted " + spec(c.wanted)
	for _, pod := range c.others {
		text += fmt.Sprintf("\n%s, bound to %q, node %q, %s, owners %v: %s", pod.Name, pod.Spec.NodeName, nodeNamed(pod), pod.Status.Phase, pod.OwnerReferences, spec(pod))
	}
	return text
}

func (c nodeCase) count(f *features) {
	for _, pod := range append(c.others, c.wanted) {
		f.saw("host network", pod.Spec.HostNetwork)
		f.saw("finished", extract.IsFinished(pod))
		f.saw("terminating", pod.DeletionTimestamp != nil)
		f.saw("waiting for a node", nodeNamed(pod) == "")
		f.saw("pinned by affinity", pod.Spec.Affinity != nil)
		f.saw("owned", len(pod.OwnerReferences) > 0)
		f.saw("on another node", nodeNamed(pod) != "" && nodeNamed(pod) != "n1")
		for _, i := range pod.Spec.InitContainers {
			f.saw("sidecar", i.RestartPolicy != nil)
			f.saw("init container", i.RestartPolicy == nil)
		}
		eachPort(pod, func(port *corev1.ContainerPort) {
			f.saw(string(port.Protocol), true)
			addr, err := netip.ParseAddr(port.HostIP)
			f.saw("no hostIP", port.HostIP == "")
			f.saw("0.0.0.0", port.HostIP == "0.0.0.0")
			f.saw("::", err == nil && addr == netip.IPv6Unspecified())
			f.saw("IPv4 address", addr.Is4())
			f.saw("4-in-6", addr.Is4In6())
			f.saw("IPv6 address", addr.Is6())
		})
	}
	f.saw("Services", len(c.services) > 0)
}

// refused asks kube-scheduler's plugin. Its cache holds bound pods, and its informer leaves the finished ones out.
func (c nodeCase) refused() bool {
	info := framework.NewNodeInfo()
	for _, pod := range c.others {
		if pod.Spec.NodeName == "n1" && !extract.IsFinished(pod) {
			info.AddPod(pod)
		}
	}
	return !nodeports.Fits(c.wanted, info)
}

// findings are ours that a pod holds the port on the node, or that the scheduler sees a conflict there.
func (c nodeCase) findings() []check.Finding {
	l := &ledger.Ledger{}
	for _, svc := range c.services {
		s := extract.Service(svc, extract.NodePortAddresses{})
		l.Replace(s.Owner, s.Claims)
	}
	for _, pod := range c.others {
		w := extract.Pod(pod, nil, nil)
		l.Replace(w.Owner, w.Claims)
	}
	var found []check.Finding
	for _, f := range check.Check(check.Input{Workload: extract.Pod(c.wanted, nil, nil), Held: l.Snapshot(), Settings: &check.Settings{}}) {
		if f.Code == check.StricterThere || f.Code == check.Held && f.Holder.Claim.Kind.OfPod() {
			found = append(found, f)
		}
	}
	return found
}

func (c nodeCase) compare(t *testing.T, f *features) {
	t.Helper()
	theirs, ours := c.refused(), c.findings()
	f.saw("refused", theirs)
	f.saw("let through", !theirs)
	f.saw(trueConflict, theirs && hasCode(ours, check.Held))
	f.saw(falseAlarm, theirs && hasCode(ours, check.StricterThere))
	found := false
	for _, pod := range c.others {
		with := nodeCase{wanted: c.wanted, others: []*corev1.Pod{pod}, services: c.services}
		found = with.compareOne(t, f) || found
	}
	if found != (len(ours) > 0) {
		t.Fatalf("%s\nfound with one pod at a time: %v, with all %+v", c, found, ours)
	}
}

// compareOne compares what is said of one pod beside the wanted one, and reports whether we find anything.
func (c nodeCase) compareOne(t *testing.T, f *features) bool {
	t.Helper()
	theirs, ours := c.refused(), c.findings()
	classes := c.classes()
	allowed := theirs == (len(ours) > 0)
	for _, class := range []string{wholeIPv6, anySpelling, onlyThere} {
		shown := !theirs && len(ours) > 0 && classes[class]
		f.saw(class, shown)
		allowed = allowed || shown && (class == onlyThere || !hasCode(ours, check.StricterThere))
	}
	for _, class := range []string{sameOwner, isNoAddress} {
		shown := theirs && len(ours) == 0 && classes[class]
		f.saw(class, shown)
		allowed = allowed || shown
	}
	if !allowed {
		t.Fatalf("%s\nthe scheduler refuses: %v, we find %+v", c, theirs, ours)
	}
	return len(ours) > 0
}

func hasCode(findings []check.Finding, code check.Code) bool {
	for _, f := range findings {
		if f.Code == code {
			return true
		}
	}
	return false
}

// classes tells which of the listed differences two pods of the case show.
func (c nodeCase) classes() map[string]bool {
	classes := map[string]bool{}
	for _, pod := range c.others {
		if nodeNamed(pod) != "n1" || extract.IsFinished(pod) {
			continue
		}
		for _, wanted := range running(c.wanted) {
			for _, held := range running(pod) {
				if wanted.HostPort == held.HostPort && wanted.Protocol == held.Protocol {
					classes[classOf(c.wanted, pod, wanted.HostIP, held.HostIP)] = true
				}
			}
		}
	}
	return classes
}

// running are the ports of the containers that run as long as the pod does.
func running(pod *corev1.Pod) []corev1.ContainerPort {
	var all []corev1.ContainerPort
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil {
			all = append(all, c.Ports...)
		}
	}
	for _, c := range pod.Spec.Containers {
		all = append(all, c.Ports...)
	}
	return all
}

// classOf says how two hostIPs on one number are seen differently, or "" if they are not.
func classOf(wanted, held *corev1.Pod, a, b string) string {
	aIP, aErr := ports.ParseAddress(a)
	bIP, bErr := ports.ParseAddress(b)
	textual := a == b || isAnyIPv4(a) || isAnyIPv4(b)
	switch {
	case aErr != nil || bErr != nil:
		return isNoAddress
	case len(wanted.OwnerReferences) > 0 && len(held.OwnerReferences) > 0 && wanted.OwnerReferences[0].Name == held.OwnerReferences[0].Name:
		return sameOwner
	case held.Spec.NodeName == "":
		return onlyThere
	case textual:
		return ""
	case aIP == bIP:
		return anySpelling
	case aIP == ports.AllIPv6() || bIP == ports.AllIPv6():
		return wholeIPv6
	default:
		return ""
	}
}

// isAnyIPv4 is the scheduler's only wildcard.
func isAnyIPv4(hostIP string) bool { return strings.Trim(hostIP, "0.") == "" }
