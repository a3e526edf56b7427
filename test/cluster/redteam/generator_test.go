package redteam

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// source draws requests that a tenant may make: every kind with a pod template, every label and annotation that means something
// to Portcullis, owner references to whatever there is, patches, scale and deletion.
type source struct{ *rand.Rand }

// request is one of the tenant's.
type request struct {
	verb   string // create, patch, scale or delete
	object *unstructured.Unstructured
	form   types.PatchType
	patch  string // of patch and scale
	dryRun bool
}

func (r request) String() string {
	if r.verb == "create" {
		return fmt.Sprintf("create (dry run: %t) %s", r.dryRun, marshal(r.object))
	}
	return fmt.Sprintf("%s %s %s/%s %s", r.verb, r.object.GetKind(), r.object.GetNamespace(), r.object.GetName(), r.patch)
}

// request draws one about a namespace in which these objects are stored.
func (s source) request(namespace string, stored []*unstructured.Unstructured) request {
	n := s.IntN(100)
	if n < 55 || len(stored) == 0 {
		return request{verb: "create", object: s.object(s.pick(append(searched(), "Service", "Service")...), namespace, stored), dryRun: s.chance(5)}
	}
	r := request{verb: "delete", object: stored[s.IntN(len(stored))]}
	switch {
	case n < 80:
		r.verb = "patch"
		r.form, r.patch = s.patch(r.object, stored)
	case n < 87:
		r.verb, r.form, r.patch = "scale", types.MergePatchType, fmt.Sprintf(`{"spec": {"replicas": %d}}`, s.IntN(3))
	}
	return r
}

func (s source) pick(of ...string) string { return of[s.IntN(len(of))] }

func (s source) chance(percent int) bool { return s.IntN(100) < percent }

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

func (s source) meta(namespace string, all []*unstructured.Unstructured) raw {
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

func (s source) ownerReference(all []*unstructured.Unstructured) raw {
	of := all[s.IntN(len(all))]
	uid := string(of.GetUID())
	if s.chance(10) {
		uid = "00000000-0000-0000-0000-000000000000"
	}
	return raw{"apiVersion": of.GetAPIVersion(), "kind": of.GetKind(), "name": of.GetName(), "uid": uid, "controller": !s.chance(10)}
}

func (s source) labels() raw {
	labels := raw{"app": s.pick("a", "b")}
	for key, value := range inOrder(map[string]string{
		"edge": "yes", "svccontroller.k3s.cattle.io/svcname": "shop", "svccontroller.k3s.cattle.io/svcnamespace": "victim",
		"pod-template-hash": "x1", "service.kubernetes.io/service-proxy-name": "mine", "app.kubernetes.io/name": "portcullis",
	}) {
		if s.chance(8) {
			labels[key] = value
		}
	}
	return labels
}

func (s source) annotations() raw {
	annotations := raw{}
	for key, value := range inOrder(map[string]string{
		"kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file", "portcullis.dev/probe": "true", "portcullis.dev/hold": "Ignore",
		"portcullis.dev/host-port.p": "auto", "portcullis.dev/assigned-host-port.p": "80", "portcullis.dev/reserved-ports": "1-65535", "portcullis.dev/sandbox-id": "x",
	}) {
		if s.chance(6) {
			annotations[key] = value
		}
	}
	return annotations
}

func (s source) object(kind, namespace string, all []*unstructured.Unstructured) *unstructured.Unstructured {
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
	return unstructuredOf(o)
}

// unstructuredOf is an object with the types that JSON has.
func unstructuredOf(o raw) *unstructured.Unstructured {
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(marshal(o)); err != nil {
		panic(err)
	}
	return &u
}

func marshal(o any) []byte {
	data, err := json.Marshal(o)
	if err != nil {
		panic(err) // of values that JSON has
	}
	return data
}

func (s source) job() raw {
	return raw{"suspend": s.chance(30), "parallelism": s.IntN(3), "template": raw{"metadata": raw{"labels": s.labels(), "annotations": s.annotations()}, "spec": s.podSpec("Never")}}
}

func (s source) podSpec(restart string) raw {
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

func (s source) port() int {
	if s.chance(20) {
		return firstOfFew + s.IntN(ofFew)
	}
	return []int{80, 9100, 10250, 30800, 8080}[s.IntN(5)]
}

func (s source) service() raw {
	p := raw{"name": "p", "port": []int{80, 9100, 8443}[s.IntN(3)]}
	if s.chance(50) {
		p["nodePort"] = []int{30800, firstOfFew + s.IntN(ofFew), 30000 + s.IntN(2000)}[s.IntN(3)]
	}
	spec := raw{"type": s.pick("ClusterIP", "NodePort", "LoadBalancer", "ClusterIP"), "ports": []any{p}, "selector": raw{"app": "a"}}
	if s.chance(30) {
		p["nodePort"] = firstOfFew + s.IntN(ofFew)
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
func (s source) patch(o *unstructured.Unstructured, all []*unstructured.Unstructured) (types.PatchType, string) {
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
	if s.chance(30) {
		return types.StrategicMergePatchType, string(marshal(change))
	}
	return types.MergePatchType, string(marshal(change))
}
