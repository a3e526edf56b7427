package conformance

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	v1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"
	"k8s.io/kubernetes/pkg/scheduler/util"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// TestHostPortsAsTheScheduler: what a pod holds is what kube-scheduler counts, over random pods. The differences:
//
//   - a hostIP that is not an address is a key like any other to the scheduler; to us it claims nothing and is PC0101;
//   - numbers and protocols that the API server refuses are not looked at here.
func TestHostPortsAsTheScheduler(t *testing.T) {
	s := specimen.New(t)
	compared := 0
	for range specimen.Rounds(1500) {
		pod := specimen.Draw[corev1.Pod](s)
		pod.Status.Phase = corev1.PodRunning // the scheduler's informer filters the finished ones
		asWritten := holding(extract.Pod(pod, nil, nil).Claims)
		v1defaults.SetObjectDefaults_Pod(pod)
		ours := holding(extract.Pod(pod, nil, nil).Claims)
		theirs := counted(pod)
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("%s\nholds (-scheduler +ours):\n%s", spec(pod), diff)
		}
		// What the API server defaults, we read in the same way before it has.
		if diff := cmp.Diff(ours, asWritten); diff != "" {
			t.Fatalf("%s\nholds (-defaulted +as written):\n%s", spec(pod), diff)
		}
		compared += len(ours)
	}
	if compared < specimen.Rounds(1500) {
		t.Errorf("only %d host ports were compared", compared)
	}
}

func spec(pod *corev1.Pod) string {
	return fmt.Sprintf("hostNetwork %v\ninit %+v\ncontainers %+v", pod.Spec.HostNetwork, containers(pod.Spec.InitContainers), containers(pod.Spec.Containers))
}

func containers(list []corev1.Container) []string {
	var all []string
	for _, c := range list {
		all = append(all, fmt.Sprintf("sidecar %v %+v", c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways, c.Ports))
	}
	return all
}

// holding returns the sockets that are held as long as the pod runs.
func holding(claims []ports.Claim) []string {
	var all []string
	for _, c := range claims {
		if !c.InitOnly {
			all = append(all, c.Socket.String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func counted(pod *corev1.Pod) []string {
	var all []string
	for _, p := range util.GetHostPorts(pod) {
		address, badAddress := ports.ParseAddress(p.HostIP)
		protocol, badProtocol := ports.ParseProtocol(string(p.Protocol))
		if badAddress != nil || badProtocol != nil || p.HostPort > 65535 {
			continue
		}
		if pod.Spec.HostNetwork && address == ports.AllIPv6() {
			address = ports.AllAddresses() // a process that binds :: holds both families
		}
		all = append(all, ports.Socket{Address: address, Protocol: protocol, Port: uint16(p.HostPort)}.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestServicesAsDefaulted: what the API server defaults in a Service, we read in the same way before it has.
func TestServicesAsDefaulted(t *testing.T) {
	s := specimen.New(t)
	compared := 0
	for range specimen.Rounds(1500) {
		svc := specimen.Draw[corev1.Service](s)
		asWritten := holding(extract.Service(svc, extract.NodePortAddresses{}).Claims)
		v1defaults.SetObjectDefaults_Service(svc)
		if diff := cmp.Diff(holding(extract.Service(svc, extract.NodePortAddresses{}).Claims), asWritten); diff != "" {
			t.Fatalf("%+v\nclaims (-defaulted +as written):\n%s", svc.Spec, diff)
		}
		compared += len(asWritten)
	}
	if compared < specimen.Rounds(100) {
		t.Errorf("only %d claims were compared", compared)
	}
}

// TestTemplatesAsTheirPods: the template of a DaemonSet claims what the pods will that are made of it.
func TestTemplatesAsTheirPods(t *testing.T) {
	s := specimen.New(t)
	for range specimen.Rounds(500) {
		daemons := specimen.Draw[appsv1.DaemonSet](s)
		w, _ := extract.Workload(daemons, nil, nil)
		pod := &corev1.Pod{Spec: *daemons.Spec.Template.Spec.DeepCopy()}
		v1defaults.SetObjectDefaults_Pod(pod)
		if diff := cmp.Diff(holding(extract.Pod(pod, nil, nil).Claims), holding(w.Claims)); diff != "" {
			t.Fatalf("%s\nholds (-pod +template):\n%s", spec(pod), diff)
		}
	}
}

// onNode returns a pod of one host port on a node.
func onNode(name, hostIP string, protocol corev1.Protocol) *corev1.Pod {
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{
		Name: "a", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, Protocol: protocol, HostIP: hostIP}},
	}}}}
	pod.Name, pod.Namespace = name, "default"
	return pod
}

// refuses reports whether kube-scheduler's NodePorts keeps pod from a node that held is on.
func refuses(held, pod *corev1.Pod) bool { return !nodeports.Fits(pod, framework.NewNodeInfo(held)) }

// conflict reports whether we say that the two cannot both work.
func conflict(held, pod *corev1.Pod) bool {
	for _, w := range extract.Pod(pod, nil, nil).Claims {
		for _, h := range extract.Pod(held, nil, nil).Claims {
			if _, ok := ports.Meet(w, h, nobody{}); ok {
				return true
			}
		}
	}
	return false
}

// A difference between kube-scheduler and us, and the pairs of hostIPs that show it, in any order.
type difference struct {
	why   string
	pairs [][2]string
}

func stricterUpstream() []difference {
	const anyIPv4 = "upstream's only wildcard is 0.0.0.0, which it takes for both families: to us it is IPv4"
	return []difference{
		{anyIPv4, [][2]string{
			{"0.0.0.0", "::"}, {"0.0.0.0", "0:0:0:0:0:0:0:0"}, {"0.0.0.0", "::1"}, {"0.0.0.0", "0:0::1"}, {"0.0.0.0", "fd00::1"}, {"0.0.0.0", "FD00::1"},
		}},
	}
}

func stricterOurs() []difference {
	return []difference{
		{"upstream takes :: for an address like any other: to us it is all of IPv6", [][2]string{
			{"::", "::1"}, {"::", "0:0::1"}, {"::", "fd00::1"}, {"::", "FD00::1"},
			{"0:0:0:0:0:0:0:0", "::1"}, {"0:0:0:0:0:0:0:0", "0:0::1"}, {"0:0:0:0:0:0:0:0", "fd00::1"}, {"0:0:0:0:0:0:0:0", "FD00::1"},
		}},
		{"upstream compares addresses as text: to us every spelling is the address", [][2]string{
			{"::", "0:0:0:0:0:0:0:0"}, {"::1", "0:0::1"}, {"fd00::1", "FD00::1"}, {"10.0.0.1", "::ffff:10.0.0.1"}, {"127.0.0.1", "::ffff:7f00:1"},
		}},
	}
}

func hostIPs() []string {
	return []string{
		"", "0.0.0.0", "::", "0:0:0:0:0:0:0:0", "127.0.0.1", "::ffff:7f00:1", "::1", "0:0::1",
		"10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "fd00::1", "FD00::1",
	}
}

// TestHostIPsAsTheScheduler goes through every pair of hostIPs. Where we and kube-scheduler differ is listed above, with
// the reason.
func TestHostIPsAsTheScheduler(t *testing.T) {
	listed := map[[2]string]bool{} // whether we are the stricter
	for ours, list := range map[bool][]difference{true: stricterOurs(), false: stricterUpstream()} {
		for _, d := range list {
			for _, p := range d.pairs {
				listed[p], listed[[2]string{p[1], p[0]}] = ours, ours
			}
		}
	}
	for _, held := range hostIPs() {
		for _, wanted := range hostIPs() {
			h, w := onNode("held", held, corev1.ProtocolTCP), onNode("wanted", wanted, corev1.ProtocolTCP)
			theirs, ours := refuses(h, w), conflict(h, w)
			stricter, differ := listed[[2]string{held, wanted}]
			if (theirs != ours) != differ || differ && ours != stricter {
				t.Errorf("held %q, wanted %q: the scheduler refuses: %v, we find a conflict: %v, listed: %v", held, wanted, theirs, ours, differ)
			}
			udp := onNode("wanted", wanted, corev1.ProtocolUDP)
			if refuses(h, udp) || conflict(h, udp) {
				t.Errorf("held %q TCP, wanted %q UDP: protocols never meet", held, wanted)
			}
			delete(listed, [2]string{held, wanted})
		}
	}
	for p := range listed {
		t.Errorf("%q is listed and no pair of hostIPs here", p)
	}
}

// TestPodsAsTheScheduler: with the hostIPs on which we agree, random pods are refused and let through alike.
func TestPodsAsTheScheduler(t *testing.T) {
	s := specimen.New(t)
	agreed := []string{"", "", "127.0.0.1", "10.0.0.1", "10.0.0.2", "fd00::1"}
	met := 0
	for range specimen.Rounds(3000) {
		held, wanted := specimen.Draw[corev1.Pod](s), specimen.Draw[corev1.Pod](s)
		for i, pod := range []*corev1.Pod{held, wanted} {
			pod.Name, pod.Namespace, pod.Spec.NodeName, pod.Status.Phase = fmt.Sprint("p", i), "default", "n1", corev1.PodRunning
			eachPort(pod, func(p *corev1.ContainerPort) {
				p.HostIP = agreed[s.IntN(len(agreed))]
				p.Protocol = []corev1.Protocol{"", "TCP", "UDP"}[s.IntN(3)]
				p.HostPort = []int32{0, 0, 80, 81, 82, 83, 84, 85}[s.IntN(8)]
				p.ContainerPort = 90 + int32(s.IntN(10))
			})
			v1defaults.SetObjectDefaults_Pod(pod)
		}
		theirs, ours := refuses(held, wanted), conflict(held, wanted)
		if theirs != ours {
			t.Fatalf("held %s\nwanted %s\nthe scheduler refuses: %v, we find a conflict: %v", spec(held), spec(wanted), theirs, ours)
		}
		if ours {
			met++
		}
	}
	if rounds := specimen.Rounds(3000); met < rounds/20 || met > rounds*19/20 {
		t.Errorf("%d of %d met: the pods are too much alike to prove anything", met, rounds)
	}
}

func eachPort(pod *corev1.Pod, change func(*corev1.ContainerPort)) {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for j := range list[i].Ports {
				change(&list[i].Ports[j])
			}
		}
	}
}

// nobody has an address.
type nobody struct{}

func (nobody) NodeOf(netip.Addr) (string, bool, bool) { return "", false, false }

// TestTwiceAsTheAPIServer: what the API server refuses as a host port that a pod has twice, we find at the same field.
// We find more: other spellings, wildcards, and sidecars beside the main containers.
func TestTwiceAsTheAPIServer(t *testing.T) {
	s := specimen.New(t)
	compared := 0
	for range specimen.Rounds(1500) {
		pod := specimen.Draw[corev1.Pod](s)
		pod.Status.Phase = corev1.PodRunning
		eachPort(pod, func(p *corev1.ContainerPort) {
			p.HostIP = []string{"", "", "10.0.0.1", "::ffff:10.0.0.1"}[s.IntN(4)]
			p.Protocol = []corev1.Protocol{"", "TCP", "UDP"}[s.IntN(3)]
			p.HostPort, p.ContainerPort = []int32{0, 80, 81}[s.IntN(3)], 80+int32(s.IntN(2))
		})
		v1defaults.SetObjectDefaults_Pod(pod)
		var ours []string
		for _, f := range check.Check(check.Input{Workload: extract.Pod(pod, nil, nil), Held: (&ledger.Ledger{}).Snapshot(), Settings: &check.Settings{}}) {
			if f.Code == check.SocketTwice {
				ours = append(ours, f.Field)
			}
		}
		for _, field := range duplicates(t, pod) {
			compared++
			if !slices.Contains(ours, field) {
				t.Fatalf("%s\nthe API server refuses %s, we find %q", spec(pod), field, ours)
			}
		}
	}
	if compared < specimen.Rounds(200) {
		t.Errorf("only %d duplicates were compared", compared)
	}
}

// duplicates are the fields that the API server's validation finds.
func duplicates(t *testing.T, pod *corev1.Pod) []string {
	t.Helper()
	var fields []string
	look := func(list []corev1.Container, path *field.Path) {
		internal := make([]core.Container, len(list))
		for i := range list {
			if err := v1defaults.Convert_v1_Container_To_core_Container(&list[i], &internal[i], nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range validation.AccumulateUniqueHostPorts(internal, &sets.Set[string]{}, path) {
			fields = append(fields, err.Field)
		}
	}
	look(pod.Spec.Containers, field.NewPath("spec", "containers"))
	for i := range pod.Spec.InitContainers {
		// Each by itself; the path has the index within the list that is looked at.
		before := len(fields)
		look(pod.Spec.InitContainers[i:i+1], field.NewPath("spec", "initContainers"))
		for j := range fields[before:] {
			fields[before+j] = strings.Replace(fields[before+j], "initContainers[0]", fmt.Sprintf("initContainers[%d]", i), 1)
		}
	}
	return fields
}
