package redteam

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestSearch has a tenant write at random what could get around the policies: every kind with a pod template, every label and
// annotation that means something to Portcullis, owner references to whatever there is, patches and subresources. What is
// stored afterwards must break none of the rules, by a model that reads nothing else.
func TestSearch(t *testing.T) {
	r := rig.Run(t, rig.Options{})
	w := newWorld(t, r)
	s := &search{world: w, Rand: seed.Rand(t), counts: map[string]int{}, known: map[string]*unstructured.UnstructuredList{}}
	for name, labels := range map[string]map[string]string{"none-1": noPorts(), "none-2": noPorts(), "few": {"pool": "few"}, "plain": nil} {
		s.places = append(s.places, w.namespace(t, labels))
		s.named = append(s.named, name)
	}
	n := seed.Rounds(2000, 20000)
	for i := range n {
		s.step()
		if i%50 == 49 || i == n-1 {
			if broken := s.broken(); len(broken) > 0 {
				t.Fatalf("request %d: %s\nthe last requests:\n%s", i, strings.Join(broken, "\n"), strings.Join(s.log[max(0, len(s.log)-60):], "\n"))
			}
		}
	}
	t.Log(s.counts)
	for _, code := range []string{"PC0201", "PC0204", "PC0302", "PC0307", "PC0310", "PC0311", "PC0312", "PC0315", "ok"} {
		if s.counts[code] < 3 {
			t.Errorf("%s came %d times, which proves little", code, s.counts[code])
		}
	}
}

type search struct {
	*world
	*rand.Rand
	places, named []string                                  // namespaces, and what each is
	known         map[string]*unstructured.UnstructuredList // what is stored of a kind in each, until that is changed
	log           []string
	counts        map[string]int // of codes, and of what was let through
}

func (s *search) pick(of ...string) string { return of[s.IntN(len(of))] }

func (s *search) chance(percent int) bool { return s.IntN(100) < percent }

// raw is an object as JSON has it.
type raw = map[string]any

func searched() []string {
	return []string{"Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Job", "CronJob", "Service"}
}

func versionOf(kind string) string {
	switch kind {
	case "Pod", "Service", "ReplicationController":
		return "v1"
	case "Job", "CronJob":
		return "batch/v1"
	default:
		return "apps/v1"
	}
}

// step makes one request as the tenant.
func (s *search) step() {
	namespace := s.places[s.IntN(len(s.places))]
	all := s.stored(namespace)
	var err error
	var what, kind string
	switch n := s.IntN(100); {
	case n < 55 || len(all) == 0:
		kind = s.pick(searched()...)
		o := s.object(kind, namespace, all)
		what = "create " + text(o)
		var options []client.CreateOption
		if s.chance(5) {
			options = append(options, client.DryRunAll)
		}
		err = s.tenant.Create(s.t.Context(), o, options...)
	case n < 80:
		o := all[s.IntN(len(all))]
		form, patch := s.patch(o, all)
		kind, what = o.GetKind(), fmt.Sprintf("patch %s %s/%s %s", o.GetKind(), namespace, o.GetName(), patch)
		err = s.tenant.Patch(s.t.Context(), o, client.RawPatch(form, []byte(patch)))
	case n < 87:
		o := all[s.IntN(len(all))]
		patch := fmt.Sprintf(`{"spec": {"replicas": %d}}`, s.IntN(3))
		kind, what = o.GetKind(), fmt.Sprintf("scale %s %s/%s %s", o.GetKind(), namespace, o.GetName(), patch)
		err = s.tenant.SubResource("scale").Patch(s.t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch)))
	default:
		o := all[s.IntN(len(all))]
		kind, what = o.GetKind(), fmt.Sprintf("delete %s %s/%s", o.GetKind(), namespace, o.GetName())
		err = s.tenant.Delete(s.t.Context(), o, client.GracePeriodSeconds(0), client.PropagationPolicy(metav1.DeletePropagationOrphan))
	}
	answer := finding.Answer(err)
	s.log = append(s.log, what+" -> "+answer)
	code := finding.Code(answer)
	if err == nil {
		code = "ok"
		delete(s.known, namespace+"/"+kind)
	}
	s.counts[code]++
}

func text(o *unstructured.Unstructured) string {
	data, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// stored is what is stored in a namespace; each kind is read again after it was written to.
func (s *search) stored(namespace string) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, kind := range searched() {
		list, known := s.known[namespace+"/"+kind]
		if !known {
			list = &unstructured.UnstructuredList{}
			list.SetAPIVersion(versionOf(kind))
			list.SetKind(kind + "List")
			s.must(s.admin.List(context.Background(), list, client.InNamespace(namespace)))
			s.known[namespace+"/"+kind] = list
		}
		for i := range list.Items {
			all = append(all, list.Items[i].DeepCopy())
		}
	}
	return all
}

func (s *search) meta(namespace string, all []*unstructured.Unstructured) raw {
	m := raw{"namespace": namespace, "labels": s.labels(), "annotations": s.annotations()}
	if s.chance(20) {
		m["generateName"] = "g-"
	} else {
		m["name"] = fmt.Sprintf("x%d", s.IntN(30))
	}
	if s.chance(30) && len(all) > 0 {
		m["ownerReferences"] = []any{s.ownerReference(all)}
	}
	return m
}

func (s *search) ownerReference(all []*unstructured.Unstructured) raw {
	of := all[s.IntN(len(all))]
	uid := string(of.GetUID())
	if s.chance(10) {
		uid = "00000000-0000-0000-0000-000000000000"
	}
	return raw{"apiVersion": of.GetAPIVersion(), "kind": of.GetKind(), "name": of.GetName(), "uid": uid, "controller": !s.chance(10)}
}

func (s *search) labels() raw {
	labels := raw{"app": s.pick("a", "b")}
	for key, value := range map[string]string{
		"edge": "yes", "svccontroller.k3s.cattle.io/svcname": "shop", "svccontroller.k3s.cattle.io/svcnamespace": "victim",
		"pod-template-hash": "x1", "service.kubernetes.io/service-proxy-name": "mine", "app.kubernetes.io/name": "portcullis",
	} {
		if s.chance(8) {
			labels[key] = value
		}
	}
	return labels
}

func (s *search) annotations() raw {
	annotations := raw{}
	for key, value := range map[string]string{
		"kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file", "portcullis.dev/probe": "true", "portcullis.dev/hold": "Ignore",
		"portcullis.dev/host-port.p": "auto", "portcullis.dev/assigned-host-port.p": "80", "portcullis.dev/reserved-ports": "1-65535", "portcullis.dev/sandbox-id": "x",
	} {
		if s.chance(6) {
			annotations[key] = value
		}
	}
	return annotations
}

func (s *search) object(kind, namespace string, all []*unstructured.Unstructured) *unstructured.Unstructured {
	o := raw{"apiVersion": versionOf(kind), "kind": kind, "metadata": s.meta(namespace, all)}
	switch kind {
	case "Service":
		o["spec"] = s.service()
	case "Pod":
		o["spec"] = s.podSpec("Always")
	case "Job":
		o["spec"] = s.job()
	case "CronJob":
		o["spec"] = raw{"schedule": "0 0 1 1 *", "suspend": s.chance(30), "jobTemplate": raw{"spec": s.job()}}
	default:
		labels := s.labels()
		spec := raw{"template": raw{"metadata": raw{"labels": labels, "annotations": s.annotations()}, "spec": s.podSpec("Always")}}
		if spec["selector"] = (raw{"matchLabels": raw{"app": labels["app"]}}); kind == "ReplicationController" {
			spec["selector"] = raw{"app": labels["app"]}
		}
		if kind != "DaemonSet" {
			spec["replicas"] = s.IntN(3)
		}
		if kind == "StatefulSet" {
			spec["serviceName"] = "s"
		}
		o["spec"] = spec
	}
	return &unstructured.Unstructured{Object: jsonOf(o)}
}

// jsonOf is a value with the types that JSON has, which unstructured objects need.
func jsonOf(o raw) raw {
	var u unstructured.Unstructured
	data, err := json.Marshal(o)
	if err == nil {
		err = u.UnmarshalJSON(data)
	}
	if err != nil {
		panic(err)
	}
	return u.Object
}

func (s *search) job() raw {
	return raw{"suspend": s.chance(30), "parallelism": s.IntN(3), "template": raw{"metadata": raw{"labels": s.labels(), "annotations": s.annotations()}, "spec": s.podSpec("Never")}}
}

func (s *search) podSpec(restart string) raw {
	isHost := s.chance(15)
	container := func(name string) raw {
		c := raw{"name": name, "image": "i"}
		if s.chance(60) {
			port := s.port()
			p := raw{"name": "p", "containerPort": port}
			if isHost || s.chance(75) {
				p["hostPort"] = port
			}
			if s.chance(40) {
				p["hostIP"] = s.pick("0.0.0.0", "::", "10.0.0.1", "127.0.0.1", "::ffff:10.0.0.2", "fd00::1", "0:0:0:0:0:0:0:0")
			}
			if s.chance(30) {
				p["protocol"] = s.pick("TCP", "UDP", "SCTP")
			}
			c["ports"] = []any{p}
		}
		return c
	}
	spec := raw{"restartPolicy": restart, "containers": []any{container(s.pick("c", "kubelet", "kube-proxy", "lb-tcp-80"))}}
	if isHost {
		spec["hostNetwork"] = true
	}
	if s.chance(20) {
		init := container("init")
		if s.chance(50) {
			init["restartPolicy"] = "Always"
		}
		spec["initContainers"] = []any{init}
	}
	if s.chance(30) {
		spec["nodeName"] = s.pick("n1", "n2", "nowhere")
	} else if s.chance(20) {
		spec["nodeSelector"] = raw{"no": "node"}
	}
	return spec
}

func (s *search) port() int {
	if s.chance(20) {
		return 31000 + s.IntN(10)
	}
	return []int{80, 9100, 10250, 30800, 8080}[s.IntN(5)]
}

func (s *search) service() raw {
	p := raw{"name": "p", "port": []int{80, 9100, 8443}[s.IntN(3)]}
	if s.chance(50) {
		p["nodePort"] = []int{30800, 31000 + s.IntN(10), 30000 + s.IntN(2000)}[s.IntN(3)]
	}
	spec := raw{"type": s.pick("ClusterIP", "NodePort", "LoadBalancer", "ClusterIP"), "ports": []any{p}, "selector": raw{"app": "a"}}
	if s.chance(30) {
		p["nodePort"] = 31000 + s.IntN(10)
	}
	if spec["type"] == "ClusterIP" {
		delete(p, "nodePort")
	}
	if s.chance(50) {
		spec["externalIPs"] = []any{s.pick("10.0.0.1", "10.0.0.2", "10.96.7.7", "192.0.2.1", "010.000.000.001")}
	}
	if spec["type"] == "LoadBalancer" {
		spec["allocateLoadBalancerNodePorts"] = s.chance(50)
		spec["externalTrafficPolicy"] = s.pick("Local", "Cluster")
	}
	return spec
}

// patch changes something of an object.
func (s *search) patch(o *unstructured.Unstructured, all []*unstructured.Unstructured) (types.PatchType, string) {
	change := raw{}
	switch n := s.IntN(10); {
	case n < 3:
		labels := raw{"edge": nil}
		if s.chance(50) {
			labels = s.labels()
		}
		change["metadata"] = raw{"labels": labels, "annotations": s.annotations()}
	case n < 4:
		change["metadata"] = raw{"ownerReferences": []any{s.ownerReference(all)}}
	case o.GetKind() == "Service":
		change["spec"] = s.service()
	case o.GetKind() == "Pod":
		change["metadata"] = raw{"labels": s.labels()}
	case o.GetKind() == "CronJob":
		change["spec"] = raw{"suspend": s.chance(50), "jobTemplate": raw{"spec": raw{"template": raw{"spec": s.podSpec("Never")}}}}
	case o.GetKind() == "Job":
		change["spec"] = raw{"suspend": s.chance(50), "parallelism": s.IntN(3)}
	default:
		change["spec"] = raw{"replicas": s.IntN(3), "template": raw{"metadata": raw{"labels": raw{"edge": nil}}, "spec": s.podSpec("Always")}}
		if s.chance(50) {
			delete(change["spec"].(raw), "replicas")
		}
	}
	data, err := json.Marshal(change)
	s.must(err)
	if s.chance(30) {
		return types.StrategicMergePatchType, string(data)
	}
	return types.MergePatchType, string(data)
}

// broken returns which stored objects break a rule. It knows the rules from forbidden and victim, and reads nothing but what
// is stored.
func (s *search) broken() []string {
	var broken []string
	clear(s.known)
	for i, namespace := range s.places {
		numbers := map[int64]bool{}
		for _, o := range s.stored(namespace) {
			say := func(format string, args ...any) {
				broken = append(broken, fmt.Sprintf("%s %s/%s (%s): %s", o.GetKind(), namespace, o.GetName(), s.named[i], fmt.Sprintf(format, args...)))
			}
			if o.GetKind() == "Service" {
				brokenService(o, s.named[i], say, numbers)
			} else {
				brokenPods(o, s.named[i], say)
			}
		}
		if len(numbers) > 2 {
			broken = append(broken, fmt.Sprintf("%s has %v of the pool, and 2 are the most", s.named[i], slices.Sorted(maps.Keys(numbers))))
		}
	}
	return broken
}

func brokenService(o *unstructured.Unstructured, where string, say func(string, ...any), numbers map[int64]bool) {
	list, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	excepted, tenants := o.GetLabels()["edge"] == "yes", strings.HasPrefix(where, "none")
	health, _, _ := unstructured.NestedInt64(o.Object, "spec", "healthCheckNodePort")
	held := []int64{health}
	external, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "externalIPs")
	for _, entry := range list {
		p, _ := entry.(raw)
		number, _ := p["nodePort"].(int64)
		held = append(held, number)
		for _, ip := range external {
			if isNode(ip) && p["port"] == int64(9100) {
				say("port 9100 at %s is the exporter's", ip)
			}
		}
	}
	for _, number := range held {
		switch {
		case number == 0:
		case tenants && !excepted:
			say("node port %d", number)
		case number >= 31000 && number <= 31009 && where != "few":
			say("node port %d of a pool of others", number)
		case number >= 31000 && number <= 31009:
			numbers[number] = true
		}
	}
	for _, ip := range external {
		if isNode(ip) && tenants && !excepted {
			say("external IP %s of a node", ip)
		}
		if ip == "10.96.7.7" {
			say("external IP %s, which is another Service's", ip)
		}
	}
}

// isNode reports whether an external IP is a node's, also in the spelling that the API server still takes.
func isNode(ip string) bool { return ip == "10.0.0.1" || ip == "10.0.0.2" || ip == "010.000.000.001" }

func brokenPods(o *unstructured.Unstructured, where string, say func(string, ...any)) {
	spec, labels, isIdle := podSpecOf(o)
	excepted, tenants := labels["edge"] == "yes", strings.HasPrefix(where, "none")
	if _, selects := spec["nodeSelector"]; selects && o.GetKind() == "DaemonSet" {
		isIdle = true // there is no such node, and it has no pod
	}
	hostNetwork, _ := spec["hostNetwork"].(bool)
	if hostNetwork && tenants && !excepted {
		say("host network")
	}
	for _, list := range []string{"containers", "initContainers"} {
		containers, _ := spec[list].([]any)
		for _, entry := range containers {
			c, _ := entry.(raw)
			isShort := list == "initContainers" && c["restartPolicy"] != "Always"
			portList, _ := c["ports"].([]any)
			for _, entry := range portList {
				p, _ := entry.(raw)
				number, _ := p["hostPort"].(int64)
				if number == 0 {
					continue
				}
				ip, _ := p["hostIP"].(string)
				protocol, _ := p["protocol"].(string)
				isTCP := protocol == "" || protocol == "TCP"
				isIPv4 := ip == "" || strings.Contains(ip, ".")
				switch {
				case tenants && !excepted:
					say("host port %d", number)
				case isShort:
				case number == 9100:
					say("host port 9100 is the exporter's")
				case number == 10250 && isTCP:
					say("host port 10250 is the kubelet's")
				case number == 30800 && isTCP && isIPv4 && !isIdle:
					say("host port 30800 is the victim's node port")
				}
			}
		}
	}
}

// podSpecOf returns the pod spec and the labels of the pods, and whether there are to be no pods.
func podSpecOf(o *unstructured.Unstructured) (spec raw, labels map[string]string, isIdle bool) {
	number := func(path ...string) int64 {
		n, found, _ := unstructured.NestedInt64(o.Object, path...)
		if !found {
			return 1
		}
		return n
	}
	flag := func(path ...string) bool { b, _, _ := unstructured.NestedBool(o.Object, path...); return b }
	template := []string{"spec", "template"}
	switch o.GetKind() {
	case "Pod":
		spec, _, _ = unstructured.NestedMap(o.Object, "spec")
		return spec, o.GetLabels(), false
	case "CronJob":
		template = []string{"spec", "jobTemplate", "spec", "template"}
		isIdle = flag("spec", "suspend") || number("spec", "jobTemplate", "spec", "parallelism") == 0
	case "Job":
		isIdle = flag("spec", "suspend") || number("spec", "parallelism") == 0
	default:
		isIdle = number("spec", "replicas") == 0
	}
	spec, _, _ = unstructured.NestedMap(o.Object, append(slices.Clone(template), "spec")...)
	labels, _, _ = unstructured.NestedStringMap(o.Object, append(slices.Clone(template), "metadata", "labels")...)
	return spec, labels, isIdle
}
