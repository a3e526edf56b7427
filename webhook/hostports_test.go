package webhook

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	jsonpatch "gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// matching selects what has all of its labels.
type matching map[string]string

func (m matching) Matches(of map[string]string) bool {
	for key, value := range m {
		if of[key] != value {
			return false
		}
	}
	return true
}

func (m matching) String() string { return labels.FormatLabels(m) }

// portPool is an exclusive pool for everybody that allocates its lowest free port and enforces by Deny.
func portPool(name, ranges string, edits ...func(*pool.Pool)) pool.Pool {
	parsed, err := ports.ParseRanges(ranges)
	if err != nil {
		panic(err)
	}
	p := pool.Pool{
		Name: name, For: pool.NodePorts, Ranges: parsed, Priority: 500, Namespaces: matching{}, Mode: pool.Auto,
		Strategy: pool.LowestFree, Exclusive: true, State: pool.Active, Enforcement: pool.Deny,
	}
	return *with(&p, edits...)
}

// Edits of pools.

func forHostPorts(p *pool.Pool) { p.For = pool.HostPorts }
func explicitOnly(p *pool.Pool) { p.Mode = pool.Explicit }
func draining(p *pool.Pool)     { p.State = pool.Draining }
func sharedPool(p *pool.Pool)   { p.Exclusive = false }
func warns(p *pool.Pool)        { p.Enforcement = pool.Warn }
func audits(p *pool.Pool)       { p.Enforcement = pool.Audit }

func limits(perNamespace, perService int) func(*pool.Pool) {
	return func(p *pool.Pool) { p.PerNamespace, p.PerService = perNamespace, perService }
}

func serves(team string) func(*pool.Pool) {
	return func(p *pool.Pool) { p.Namespaces = matching{"team": team} }
}

func servesLabelled(key, value string) func(*pool.Pool) {
	return func(p *pool.Pool) { p.Services = matching{key: value} }
}

// asksFor asks for a hostPort for the container ports of a name; value is auto, or a pool's name.
func asksFor(name, value string) func(*corev1.Pod) {
	return annotated(extract.HostPortAnnotation+name, value)
}

// web has one container port called web, without a hostPort.
func web(edits ...func(*corev1.Pod)) *corev1.Pod {
	return with(with(hostPortPod("p", 0), portCalled("web"), asksFor("web", "auto")), edits...)
}

// TestHostPortOnRequest: a pod that asks for a hostPort by the name of a container port gets one from a pool for host ports.
func TestHostPortOnRequest(t *testing.T) {
	host := func(ranges string, edits ...func(*pool.Pool)) []pool.Pool {
		return []pool.Pool{portPool("hosts", ranges, append(edits, forHostPorts)...)}
	}
	const asked = "metadata.annotations[portcullis.dev/host-port.web]"
	gets := func(port string) string {
		return "/metadata/annotations/portcullis.dev~1assigned-host-port.web=" + port + " /spec/containers/0/ports/0/hostIP=0.0.0.0 /spec/containers/0/ports/0/hostPort=" + port
	}
	second := func(name string, hostPort int32, protocol corev1.Protocol) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Ports: []corev1.ContainerPort{{Name: name, ContainerPort: 81, HostPort: hostPort, Protocol: protocol, HostIP: "0.0.0.0"}}})
		}
	}
	nodes := holding(node("n1"), node("n2"), node("n3"))
	at := func(name string, port int32, node string) *corev1.Pod {
		return with(hostPortPod(name, port), onNode(node))
	}
	for _, c := range []struct {
		name    string
		pools   []pool.Pool
		held    []runtime.Object
		pod     *corev1.Pod
		want    string
		patches string
	}{
		{"one", host("9000-9001"), nil, web(), "allow", gets("9000")},
		{"by the pool's name", host("9000-9001"), nil, web(asksFor("web", "hosts")), "allow", gets("9000")},
		{"by another pool's name", host("9000-9001"), nil, web(asksFor("web", "others")), "deny: PC0314 " + asked, ""},
		{"no pool", nil, nil, web(), "deny: PC0314 " + asked, ""},
		{"a pool for node ports", []pool.Pool{portPool("nodes", "9000")}, nil, web(), "deny: PC0314 " + asked, ""},
		{"a pool of others", host("9000", serves("b")), nil, web(), "deny: PC0314 " + asked, ""},
		{"an Explicit pool", host("9000", explicitOnly), nil, web(), "deny: PC0314 " + asked, ""},
		{"a draining pool", host("9000", draining), nil, web(), "deny: PC0314 " + asked, ""},
		{"no port of that name", host("9000"), nil, web(portCalled("x")), "deny: PC0314 " + asked, ""},
		{"host network", host("9000"), nil, web(hostNetwork), "deny: PC0314 " + asked, ""},
		{"it has a hostPort", host("9000-9001"), nil, web(func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].HostPort = 9001 }), "allow", "/spec/containers/0/ports/0/hostIP=0.0.0.0"},
		{"another port of the name has one", host("9000-9001"), nil, web(second("web", 9001, "UDP")), "allow", gets("9001")},
		{"two protocols of one name", host("9000-9001"), nil, web(second("web", 0, "UDP")), "allow", gets("9000") + " /spec/containers/1/ports/0/hostPort=9000"},
		{"two names", host("9000-9001"), nil, web(second("dns", 0, "UDP"), asksFor("dns", "auto")), "allow", "/metadata/annotations/portcullis.dev~1assigned-host-port.dns=9000 " + gets("9001") + " /spec/containers/1/ports/0/hostPort=9000"},
		{"the protocol is left out", host("9000"), nil, web(protocol("")), "allow", gets("9000") + " /spec/containers/0/ports/0/protocol=TCP"},
		{"the protocol is none", host("9000"), nil, web(protocol("tcp")), "deny: PC0106 spec.containers[0].ports[0].protocol; PC0314 " + asked, ""},
		{"a limit of the namespace's", host("9000-9001", limits(1, 0)), holding(at("q", 9000, "n1")), web(), "deny: PC0314 " + asked, ""},
		{"another namespace's does not count", host("9000-9001", limits(1, 0)), holding(with(at("q", 9000, "n1"), func(p *corev1.Pod) { p.Namespace = "other" })), web(), "allow", gets("9001")},

		{"held by a Service", host("9000-9001"), holding(with(nodePortService("s", 9000))), web(), "allow", gets("9001")},
		{"held everywhere by a pod, nodes not known", host("9000-9001"), holding(at("q", 9000, "n1")), web(), "allow", gets("9001")},
		{"held by a pod without a node", host("9000-9001"), holding(hostPortPod("q", 9000)), web(), "allow", gets("9001")},
		{"held on every node by a DaemonSet", host("9000-9001"), holding(workload("DaemonSet", "d", 9000)), web(), "allow", gets("9001")},
		{"held on one of three nodes, the other free on all", host("9000-9001"), append(nodes, at("q", 9000, "n1")), web(), "allow", gets("9001")},
		{"held on one node, the other on two", host("9000-9001"), append(nodes, at("q", 9000, "n1"), at("r", 9001, "n1"), at("s", 9001, "n2")), web(), "allow", gets("9000")},
		{"held on two nodes, the other on two", host("9000-9001"), append(nodes, at("q", 9000, "n1"), at("r", 9000, "n2"), at("s", 9001, "n1"), at("t", 9001, "n2")), web(), "allow", gets("9000")},
		{"held on every node", host("9000"), append(nodes, at("q", 9000, "n1"), at("r", 9000, "n2"), at("s", 9000, "n3")), web(), "deny: PC0314 " + asked, ""},
		{"as many pods without a node as nodes", host("9000"), append(nodes, hostPortPod("q", 9000), hostPortPod("r", 9000), hostPortPod("s", 9000)), web(), "deny: PC0314 " + asked, ""},
		{"on its node, free there and held on another", host("9000"), append(nodes, at("q", 9000, "n2")), web(onNode("n1")), "allow", gets("9000")},
		{"of a DaemonSet, free on its node and held on another", host("9000"), append(nodes, at("q", 9000, "n2")), web(requiresNode("n1")), "allow", gets("9000")},
		{"on its node, held there", host("9000-9001"), append(nodes, at("q", 9000, "n1")), web(onNode("n1")), "allow", gets("9001")},
		{"on its node, all held there", host("9000"), append(nodes, at("q", 9000, "n1")), web(onNode("n1")), "deny: PC0314 " + asked, ""},
		{"over another protocol", host("9000"), append(nodes, with(at("q", 9000, "n1"), protocol("UDP"))), web(), "allow", gets("9000")},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(c.held...)
			b.cluster.pools = c.pools
			d := b.decideOn(t, hooks.PathMutatePods, creates("Pod", c.pod))
			if got := outcome(d); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := patched(d.patches); got != c.patches {
				t.Errorf("got patches %q\nwant %q", got, c.patches)
			}
		})
	}
}

// TestAssignedHostPortByClient: an annotation that reports an assigned host port is kept where a port of that name has it, as in a
// pod that is restored, or when the API server calls the webhook again, and is overwritten or removed elsewhere.
func TestAssignedHostPortByClient(t *testing.T) {
	assigned := func(name, value string) func(*corev1.Pod) {
		return annotated(extract.AssignedHostPortAnnotation+name, value)
	}
	const at = "portcullis.dev/assigned-host-port."
	for _, c := range []struct {
		name  string
		pod   *corev1.Pod
		want  map[string]string
		edits int
	}{
		{"of the port that gets one", web(assigned("web", "1")), map[string]string{at + "web": "9000"}, 4},
		{"of a port that has it", with(hostPortPod("p", 8080), portCalled("web"), assigned("web", "8080")), map[string]string{at + "web": "8080"}, 1},
		{"of a port that has it, asked for", with(hostPortPod("p", 8080), portCalled("web"), asksFor("web", "auto"), assigned("web", "8080")), map[string]string{at + "web": "8080"}, 1},
		{"of a port that has another", with(hostPortPod("p", 8080), portCalled("web"), assigned("web", "8081")), map[string]string{}, 2},
		{"spelled otherwise", with(hostPortPod("p", 8080), portCalled("web"), assigned("web", "08080")), map[string]string{}, 2},
		{"of a port without one", with(hostPortPod("p", 8080), onNode("n1"), portCalled("web"), assigned("dns", "0")), map[string]string{}, 2},
		{"of another port than the one that gets one", web(assigned("x~y/z", "9000"), assigned("dns", "53")), map[string]string{at + "web": "9000"}, 5},
		{"on the host network", with(hostPortPod("p", 8080), hostNetwork, portCalled("web"), assigned("web", "80")), map[string]string{}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			b.cluster.pools = []pool.Pool{portPool("hosts", "9000", forHostPorts)}
			d := b.decideOn(t, hooks.PathMutatePods, creates("Pod", c.pod))
			if got := outcome(d); got != "allow" || len(d.patches) != c.edits {
				t.Errorf("%s, %d patches, want %d: %v", got, len(d.patches), c.edits, d.patches)
			}
			got := map[string]string{}
			for key, value := range afterPatches(t, c.pod, d.patches) {
				if strings.HasPrefix(key, at) {
					got[key] = value
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// afterPatches are the annotations that a pod has after patches.
func afterPatches(t *testing.T, pod *corev1.Pod, patches []jsonpatch.JsonPatchOperation) map[string]string {
	t.Helper()
	after := maps.Clone(pod.Annotations)
	for _, p := range patches {
		pointer, ok := strings.CutPrefix(p.Path, "/metadata/annotations/")
		if !ok {
			continue
		}
		key := strings.NewReplacer("~1", "/", "~0", "~").Replace(pointer)
		if _, has := after[key]; p.Operation == "remove" && !has {
			t.Errorf("%s is not there to be removed", key)
		}
		delete(after, key)
		if p.Operation == "add" {
			after[key] = p.Value.(string)
		}
	}
	return after
}

// TestHostPortOnRequestInPart: where what cannot be met is not refused, the pod gets the others.
func TestHostPortOnRequestInPart(t *testing.T) {
	b := newBench(t, "enforcement: {PC0314: Warn}\n")
	b.cluster.pools = []pool.Pool{portPool("hosts", "9000", forHostPorts)}
	d := b.decideOn(t, hooks.PathMutatePods, creates("Pod", web(asksFor("absent", "auto"))))
	if got, want := outcome(d), "warn: PC0314 metadata.annotations[portcullis.dev/host-port.absent]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := patched(d.patches); !strings.Contains(got, "/spec/containers/0/ports/0/hostPort=9000") {
		t.Errorf("patches %q", got)
	}
}

// TestHostPortOnRequestDryRun: on a dry run no hostPort is chosen, as nobody would hold it.
func TestHostPortOnRequestDryRun(t *testing.T) {
	b := newBench(t, "")
	b.cluster.pools = []pool.Pool{portPool("hosts", "9000", forHostPorts)}
	d := b.decideOn(t, hooks.PathMutatePods, dryRun(creates("Pod", web())))
	if got := outcome(d); got != "allow" || len(d.patches) > 0 || len(b.flight.owners) > 0 {
		t.Errorf("%s, patches %q, %d in flight", got, patched(d.patches), len(b.flight.owners))
	}
}

// TestHostPortOnRequestInFlight: until the validating webhook sees the name of a pod that the API server names, its host
// ports stand for it; then they are the pod's.
func TestHostPortOnRequestInFlight(t *testing.T) {
	generated := func(p *corev1.Pod) { p.Name, p.GenerateName = "", "p-" }
	for name, edits := range map[string][]func(*corev1.Pod){"named": nil, "generateName": {generated}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "")
			b.cluster.pools = []pool.Pool{portPool("hosts", "9000-9001", forHostPorts)}
			first := web(edits...)
			got := func(pod *corev1.Pod) string {
				return patched(b.decideOn(t, hooks.PathMutatePods, creates("Pod", pod)).patches)
			}
			if patches := got(first); !strings.Contains(patches, "hostPort=9000") {
				t.Fatal(patches)
			}
			if patches := got(web(func(p *corev1.Pod) { p.Name = "other" })); !strings.Contains(patches, "hostPort=9001") {
				t.Errorf("the second pod gets %q", patches)
			}
			if n := testutil.ToFloat64(b.metrics.allocations.WithLabelValues("assigned")); n != 2 {
				t.Errorf("%v allocations", n)
			}
			first.Spec.Containers[0].Ports[0].HostPort = 9000
			first.Name = "p-x7x9z"
			if name == "named" {
				first.Name = "p"
			}
			if out := outcome(b.decideOn(t, hooks.PathValidatePods, creates("Pod", first))); out != "allow" {
				t.Error(out)
			}
			var inFlight []string
			for ref := range b.flight.owners {
				inFlight = append(inFlight, ref.Name)
			}
			slices.Sort(inFlight)
			if diff := cmp.Diff([]string{"other", first.Name}, inFlight); diff != "" {
				t.Error(diff)
			}
			if third := outcome(b.decideOn(t, hooks.PathMutatePods, creates("Pod", web(func(p *corev1.Pod) { p.Name = "third" })))); !strings.HasPrefix(third, "deny: PC0314") {
				t.Error(third)
			}
			if n := testutil.ToFloat64(b.metrics.allocations.WithLabelValues("exhausted")); n != 1 {
				t.Errorf("%v exhausted", n)
			}
		})
	}
}
