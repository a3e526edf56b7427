package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
)

// thing is an object of a random cluster as the model sees it: what it takes, spelled out address by address.
type thing struct {
	name  string // "Pod default/p1"
	root  string // who made it, or itself
	since int    // minutes; of the root
	depth int    // how many made it
	takes map[string]string
}

// random is a cluster of bound pods, Services and Deployments, which meet often.
type random struct {
	specimen.Source
	objects []runtime.Object
	things  []thing
}

func (r *random) metaOf(name string, minute int) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Unix(int64(60*minute), 0)),
	}
}

func randomNodes() []string { return []string{"n1", "n2", "n3"} }

// addresses are those of a node, as a hostIP takes them. A nodePort has all but ::1.
func addresses(node, hostIP string) []string {
	n := strings.TrimPrefix(node, "n")
	v4, v6 := []string{"10.0.0." + n, "127.0.0.1"}, []string{"fd00::" + n, "::1"}
	switch hostIP {
	case "":
		return slices.Concat(v4, v6)
	case "0.0.0.0":
		return v4
	case "::":
		return v6
	case "nodePort":
		return []string{v4[0], v4[1], v6[0]}
	default:
		return []string{hostIP}
	}
}

var numbers = []int32{30001, 30002, 30003, 8080, 8081}

func (r *random) addNodes() {
	for _, name := range randomNodes() {
		n := strings.TrimPrefix(name, "n")
		r.objects = append(r.objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: "10.0.0." + n}, {Type: corev1.NodeInternalIP, Address: "fd00::" + n},
		}}})
	}
}

func (r *random) protocol() corev1.Protocol {
	return []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(3)]
}

func (r *random) addService(i int) {
	m := r.metaOf(fmt.Sprint("s", i), r.IntN(30))
	number, protocol := numbers[r.IntN(3)], r.protocol()
	r.objects = append(r.objects, &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort,
		Ports: []corev1.ServicePort{{Port: 80, NodePort: number, Protocol: protocol}}}})
	t := thing{name: "Service default/" + m.Name, root: "Service default/" + m.Name, since: int(m.CreationTimestamp.Unix() / 60), takes: map[string]string{}}
	word := fmt.Sprintf("%d/%s", number, protocol)
	t.takes[fmt.Sprint("book ", number)] = word
	for _, node := range append(randomNodes(), "undecided") {
		for _, a := range addresses(node, "nodePort") {
			t.takes[fmt.Sprintf("%s %s %s", node, a, word)] = word
		}
	}
	r.things = append(r.things, t)
}

// spec draws what a pod takes of its node.
func (r *random) spec() (corev1.PodSpec, string, string) {
	hostIP, number, protocol := []string{"", "", "0.0.0.0", "::", "127.0.0.1", "::1"}[r.IntN(6)], numbers[r.IntN(5)], r.protocol()
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{
		{ContainerPort: 80, HostPort: number, HostIP: hostIP, Protocol: protocol},
	}}}}, hostIP, fmt.Sprintf("%d/%s", number, protocol)
}

func taken(node, hostIP, word string) map[string]string {
	takes := map[string]string{}
	for _, a := range addresses(node, hostIP) {
		takes[fmt.Sprintf("%s %s %s", node, a, word)] = word
	}
	return takes
}

func (r *random) addPod(i int) {
	spec, hostIP, word := r.spec()
	spec.NodeName = randomNodes()[r.IntN(3)]
	m := r.metaOf(fmt.Sprint("p", i), r.IntN(30))
	r.objects = append(r.objects, &corev1.Pod{ObjectMeta: m, Spec: spec})
	r.things = append(r.things, thing{name: "Pod default/" + m.Name, root: "Pod default/" + m.Name, since: int(m.CreationTimestamp.Unix() / 60), takes: taken(spec.NodeName, hostIP, word)})
}

// addWorkload adds a StatefulSet with pods, some of them of another template than it has now.
func (r *random) addWorkload(i int) {
	now, hostIP, word := r.spec()
	m := r.metaOf(fmt.Sprint("w", i), r.IntN(30))
	r.objects = append(r.objects, &appsv1.StatefulSet{ObjectMeta: m, Spec: appsv1.StatefulSetSpec{Replicas: new(int32(1)), Template: corev1.PodTemplateSpec{Spec: now}}})
	root := thing{name: "StatefulSet default/" + m.Name, root: "StatefulSet default/" + m.Name, since: int(m.CreationTimestamp.Unix() / 60), takes: map[string]string{}}
	for _, a := range addresses("undecided", hostIP) { // it can meet Services only, which are everywhere
		root.takes[fmt.Sprintf("undecided %s %s", a, word)] = word
	}
	r.things = append(r.things, root)
	for j := range r.IntN(3) {
		spec, ip, was := now, hostIP, word
		if r.IntN(3) == 0 {
			spec, ip, was = r.spec()
		}
		spec.NodeName = randomNodes()[r.IntN(3)]
		p := r.metaOf(fmt.Sprintf("w%d-%d", i, j), 30+r.IntN(30)) // pods come after all else, and are no younger for it
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: m.Name, UID: m.UID, Controller: new(true)}}
		r.objects = append(r.objects, &corev1.Pod{ObjectMeta: p, Spec: spec})
		r.things = append(r.things, thing{name: "Pod default/" + p.Name, root: root.name, since: root.since, depth: 1, takes: taken(spec.NodeName, ip, was)})
	}
}

// expected compares each object with each other one.
func (r *random) expected() []string {
	found := map[string]bool{}
	for _, young := range r.things {
		for _, old := range r.things {
			if young.root == old.root || !isOlder(old, young) || isTemplate(young) && isTemplate(old) {
				continue // two templates whose pods have no nodes may go to different ones
			}
			if word, meets := meeting(young, old); meets {
				found[young.name+" "+word+" <- "+old.root] = true
			}
		}
	}
	told := maps.Clone(found)
	for _, t := range r.things {
		for violation := range found {
			if rest, of := strings.CutPrefix(violation, t.name+" "); of && t.depth > 0 && found[t.root+" "+rest] {
				delete(told, violation)
			}
		}
	}
	return slices.Sorted(maps.Keys(told))
}

func isTemplate(t thing) bool { return strings.HasPrefix(t.name, "StatefulSet") }

func isOlder(a, b thing) bool {
	if a.since != b.since {
		return a.since < b.since
	}
	return a.root < b.root
}

// meeting returns what of young is held by old.
func meeting(young, old thing) (string, bool) {
	for what, word := range young.takes {
		if _, both := old.takes[what]; both {
			return word, true
		}
	}
	return "", false
}

// TestModel compares audits of random clusters with a comparison of each object with each other one.
func TestModel(t *testing.T) {
	s := specimen.New(t)
	conflicts, merged := 0, 0
	for range specimen.Rounds(150) {
		r := &random{Source: s}
		r.addNodes()
		for i := range r.IntN(6) {
			r.addService(i)
		}
		for i := range r.IntN(6) {
			r.addPod(i)
		}
		for i := range r.IntN(4) {
			r.addWorkload(i)
		}
		r.Shuffle(len(r.objects), func(i, j int) { r.objects[i], r.objects[j] = r.objects[j], r.objects[i] })
		findings, err := Everything(settings(t), r.objects, time.Unix(10000, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, f := range findings {
			if f.Code == check.Held {
				for _, h := range f.Holders() {
					got = append(got, fmt.Sprintf("%s %s <- %s", f.Object, f.Claim.PortProtocol(), h.Ref))
				}
				if f.Object.Kind == "StatefulSet" && len(f.Nodes) > 0 {
					merged++
				}
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(append([]string{}, r.expected()...), slices.Compact(got)); diff != "" {
			var all []string
			for _, thing := range r.things {
				all = append(all, fmt.Sprintf("%s of %s at %d: %v", thing.name, thing.root, thing.since, slices.Sorted(maps.Keys(thing.takes))))
			}
			t.Fatalf("(-model +audit):\n%s\n%s", diff, strings.Join(all, "\n"))
		}
		conflicts += len(got)
	}
	t.Logf("%d conflicts, %d of templates with the nodes of their pods", conflicts, merged)
	if conflicts < specimen.Rounds(150) || merged == 0 {
		t.Error("the clusters are too quiet to prove anything")
	}
}
