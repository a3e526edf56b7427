package webhook

import (
	"errors"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// scales is a request that writes the scale of an object.
func scales(kind, name string, from, to int32) admissionv1.AdmissionRequest {
	of := func(replicas int32) *autoscalingv1.Scale {
		return &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: replicas}}
	}
	req := updates(kind, of(to), of(from))
	req.Name, req.SubResource, req.Kind = name, "scale", metav1.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
	return req
}

// idle is an object of a kind that wants no pods.
func idle(kind, name string, hostPorts ...int32) client.Object {
	object := workload(kind, name, hostPorts...)
	switch o := object.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = new(int32)
	case *appsv1.StatefulSet:
		o.Spec.Replicas = new(int32)
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = new(int32)
	case *corev1.ReplicationController:
		o.Spec.Replicas = new(int32)
	case *batchv1.Job:
		o.Spec.Suspend = new(true)
	case *batchv1.CronJob:
		o.Spec.Suspend = new(true)
	}
	return object.(client.Object)
}

const byService = "PC0201 spec.template.spec.containers[0].ports[0].hostPort by Service default/s"

// TestScale: what has wanted no pods and begins to is judged like a new object; who scales what runs is not.
func TestScale(t *testing.T) {
	for _, kind := range []string{"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"} {
		for _, c := range []struct {
			name     string
			from, to int32
			then     func(*bench)
			want     string
		}{
			{"up from nothing", 0, 2, func(b *bench) { b.holds(nodePortService("s", 30777)) }, "deny: " + byService},
			{"up from nothing, free", 0, 2, func(*bench) {}, "warn: PC0303"},
			{"up from nothing, the template cannot be read", 0, 2, func(b *bench) { b.cluster.fails = errors.New("timeout") }, "uncertain"},
			{"up from nothing, there is no such object", 0, 2, func(b *bench) { b.deletes(idle(kind, "w", 30777)) }, "allow"},
			{"from one to two", 1, 2, func(b *bench) { b.holds(nodePortService("s", 30777)) }, "allow"},
			{"down", 2, 0, func(b *bench) { b.holds(nodePortService("s", 30777)) }, "allow"},
		} {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				b := newBench(t, "").stores(idle(kind, "w", 30777))
				c.then(b)
				got := outcome(b.decideOn(t, hooks.PathValidateScale, scales(kind, "w", c.from, c.to)))
				if !strings.HasPrefix(got, c.want) || c.want == "allow" && got != "allow" {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			})
		}
	}
	b := newBench(t, "").stores(idle("Deployment", "w", 30001))
	b.decideOn(t, hooks.PathValidateScale, dryRun(scales("Deployment", "w", 0, 1)))
	if got := b.another(t); got != free {
		t.Errorf("after a dry run: %s", got)
	}
	b.decideOn(t, hooks.PathValidateScale, scales("Deployment", "w", 0, 1))
	if got := b.another(t); got != contended {
		t.Errorf("while the scale is written: %s", got)
	}
	for name, req := range map[string]admissionv1.AdmissionRequest{
		"not the scale":           updates("Deployment", workload("Deployment", "w"), workload("Deployment", "w")),
		"of a Service":            scales("Service", "w", 0, 1),
		"no scale in it":          withoutObject(scales("Deployment", "w", 0, 1)),
		"of a kind that has none": scales("DaemonSet", "w", 0, 1),
	} {
		if got := outcome(b.decideOn(t, hooks.PathValidateScale, req)); got != "malformed" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func withoutObject(req admissionv1.AdmissionRequest) admissionv1.AdmissionRequest {
	req.Object.Raw = nil
	return req
}

// TestBecomesActive: an update by which an object begins to want pods is judged like a new one.
func TestBecomesActive(t *testing.T) {
	for _, kind := range []string{"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"} {
		conflict := "PC0201 " + specOf(kind) + ".containers[0].ports[0].hostPort by Service default/s"
		for _, c := range []struct {
			name     string
			old, now runtime.Object
			want     string
		}{
			{"it begins", idle(kind, "w", 30777), workload(kind, "w", 30777), "deny: " + conflict},
			{"it ends", workload(kind, "w", 30777), idle(kind, "w", 30777), "allow: " + conflict + " before"},
			{"it goes on", workload(kind, "w", 30777), workload(kind, "w", 30777), "warn: " + conflict + " before"},
			{"it stays idle", idle(kind, "w", 30777), idle(kind, "w", 30777), "allow: " + conflict + " before"},
		} {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				b := newBench(t, "").holds(nodePortService("s", 30777))
				if got := outcome(b.decideOn(t, hooks.PathValidateWorkload, updates(kind, c.now, c.old))); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			})
		}
	}
}

// inInit moves a ReplicaSet's containers to its init containers.
func inInit(object runtime.Object) runtime.Object {
	spec := &object.(*appsv1.ReplicaSet).Spec.Template.Spec
	spec.InitContainers, spec.Containers = spec.Containers, []corev1.Container{{Name: "main"}}
	return object
}

func templateLabelled(object runtime.Object) runtime.Object {
	object.(*appsv1.ReplicaSet).Spec.Template.Labels = map[string]string{"app": "w"}
	return object
}

func nowhere(object runtime.Object) runtime.Object {
	object.(*appsv1.DaemonSet).Spec.Template.Spec.NodeSelector = map[string]string{"no": "node"}
	return object
}

// TestInherited: the pods of a controller that is there, wants pods and has their claims come back, whatever holds their
// ports; and nobody else's.
func TestInherited(t *testing.T) {
	controller := func(kind string, uid types.UID) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "w", UID: uid, Controller: new(true)}}
		}
	}
	stored := func(uid types.UID, object runtime.Object) func(*bench) {
		object.(client.Object).SetUID(uid)
		return func(b *bench) { b.stores(object) }
	}
	onHostNetwork := func() runtime.Object {
		d := workload("DaemonSet", "w").(*appsv1.DaemonSet)
		d.Spec.Template.Spec = corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c"}}}
		return d
	}
	const refused, excused, later = "deny: PC0201", "warn: PC0201", "busy"
	for _, c := range []struct {
		name string
		then func(*bench)
		pod  *corev1.Pod
		want string
	}{
		{"nobody's pod", func(*bench) {}, hostPortPod("p", 30777), refused},
		{"a DaemonSet's", stored("1", workload("DaemonSet", "w", 30777)), with(hostPortPod("p", 30777), controller("DaemonSet", "1")), excused},
		{"a ReplicaSet's", stored("1", workload("ReplicaSet", "w", 30777)), with(hostPortPod("p", 30777), controller("ReplicaSet", "1")), excused},
		{"a ReplicationController's", stored("1", &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "w", Namespace: "default"}, Spec: corev1.ReplicationControllerSpec{
			Template: &corev1.PodTemplateSpec{Spec: hostPortPod("w", 30777).Spec},
		}}), with(hostPortPod("p", 30777), func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ReplicationController", Name: "w", UID: "1", Controller: new(true)}}
		}), excused},
		{"of a Deployment, which makes no pods", stored("1", workload("Deployment", "w", 30777)), with(hostPortPod("p", 30777), controller("Deployment", "1")), refused},
		{"of a template that has the port for a moment", stored("1", inInit(workload("ReplicaSet", "w", 30777))), with(hostPortPod("p", 30777), controller("ReplicaSet", "1")), refused},
		{"without the labels of the template", stored("1", templateLabelled(workload("ReplicaSet", "w", 30777))), with(hostPortPod("p", 30777), controller("ReplicaSet", "1")), refused},
		{"with the labels of the template", stored("1", templateLabelled(workload("ReplicaSet", "w", 30777))), with(hostPortPod("p", 30777), controller("ReplicaSet", "1"), func(p *corev1.Pod) { p.Labels = map[string]string{"app": "w", "more": ""} }), excused},
		{"of a DaemonSet that runs nowhere", stored("1", nowhere(workload("DaemonSet", "w", 30777))), with(hostPortPod("p", 30777), controller("DaemonSet", "1"), onNode("n1")), refused},
		{"of another uid", stored("2", workload("DaemonSet", "w", 30777)), with(hostPortPod("p", 30777), controller("DaemonSet", "1")), refused},
		{"of one that is not there", func(b *bench) { b.deletes(workload("DaemonSet", "w", 30777)) }, with(hostPortPod("p", 30777), controller("DaemonSet", "1")), refused},
		{"of one that has other ports", stored("1", workload("DaemonSet", "w", 30778)), with(hostPortPod("p", 30777), controller("DaemonSet", "1")), refused},
		{"of one that wants no pods", stored("1", idle("ReplicaSet", "w", 30777)), with(hostPortPod("p", 30777), controller("ReplicaSet", "1")), refused},
		{"of a kind that has no pods", func(b *bench) {
			s := with(nodePortService("w", 30777), func(s *corev1.Service) { s.UID = "1" })
			b.stores(s)
		}, with(hostPortPod("p", 30777), func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: "w", UID: "1", Controller: new(true)}}
		}), refused},
		{"of one that cannot be read", func(b *bench) { b.cluster.fails = errors.New("timeout") }, with(hostPortPod("p", 30777), controller("DaemonSet", "1")), later},
		{"of a kind that is not known, and cannot be read", func(b *bench) { b.cluster.fails = errors.New("timeout") }, with(hostPortPod("p", 30777), controller("Game", "1")), refused},
		{"by labels", func(b *bench) {}, with(hostPortPod("p", 30777), func(p *corev1.Pod) {
			p.Labels = map[string]string{"svccontroller.k3s.cattle.io/svcname": "s", "svccontroller.k3s.cattle.io/svcnamespace": "default"}
		}), refused},
		{"by labels where they are trusted", func(b *bench) {}, with(hostPortPod("p", 30777), func(p *corev1.Pod) {
			p.Namespace = metav1.NamespaceSystem
			p.Labels = map[string]string{"svccontroller.k3s.cattle.io/svcname": "s", "svccontroller.k3s.cattle.io/svcnamespace": "default"}
		}), "allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(nodePortService("s", 30777))
			c.then(b)
			for _, path := range []string{hooks.PathMutatePods, hooks.PathValidatePods} {
				if got := outcome(b.decideOn(t, path, creates("Pod", c.pod))); !strings.HasPrefix(got, c.want) {
					t.Errorf("%s: got %s, want %s", path, got, c.want)
				}
			}
			if inFlight := len(b.flight.owners) > 0; inFlight != (c.want == excused || c.want == "allow") {
				t.Errorf("in flight: %v", b.flight.owners)
			}
		})
	}
	t.Run("the host network is a claim, without any port", func(t *testing.T) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "9"}, Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c"}}}}
		controller("DaemonSet", "1")(pod)
		for _, template := range []struct {
			object runtime.Object
			want   bool
		}{{workload("DaemonSet", "w"), false}, {onHostNetwork(), true}} {
			b := newBench(t, "")
			stored("1", template.object)(b)
			if got, err := b.inherits(t.Context(), pod, extract.Pod(pod, b.cluster, nil)); got != template.want || err != nil {
				t.Errorf("inherits %v, %v, want %v", got, err, template.want)
			}
		}
	})
}

func TestMakes(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"Deployment", "ReplicaSet"}: true, {"Deployment", "Pod"}: false, {"CronJob", "Job"}: true, {"CronJob", "Pod"}: false,
		{"ReplicaSet", "Pod"}: true, {"Job", "Pod"}: true, {"DaemonSet", "Pod"}: true, {"DaemonSet", "ReplicaSet"}: false,
	} {
		if got := makes(pair[0], pair[1]); got != want {
			t.Errorf("a %s makes a %s: %t", pair[0], pair[1], got)
		}
	}
}

// TestIsWithin: where a pod is must be where its template may have one.
func TestIsWithin(t *testing.T) {
	undecided, n1, n2, each, every := ports.Scope{}, ports.NodeScope("n1"), ports.NodeScope("n2"), ports.EachScope([]string{"n1", "n3"}), ports.EverywhereScope()
	for _, c := range []struct {
		at, template ports.Scope
		want         bool
	}{
		{n1, each, true}, {n2, each, false}, {undecided, each, false},
		{n1, every, true}, {undecided, every, true},
		{n1, n1, true}, {n2, n1, false}, {undecided, n1, true},
		{n1, undecided, false}, {undecided, undecided, true},
	} {
		if got := isWithin(c.at, c.template); got != c.want {
			t.Errorf("%v is within %v: %t", c.at, c.template, got)
		}
	}
}

// TestExcuses: a controller excuses what its own template has, and nothing else: no other port, host network or hostIP.
func TestExcuses(t *testing.T) {
	template := hostPortPod("p", 9000)
	for _, c := range []struct {
		why      string
		template func(*corev1.Pod)
		pod      func(*corev1.Pod)
		want     bool
	}{
		{"as the template", nil, nil, true},
		{"another port", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].HostPort = 9001 }, false},
		{"on the host network", nil, hostNetwork, false},
		{"as the template, on the host network", hostNetwork, hostNetwork, true},
		{"a hostIP that is no address", nil, hostIP("x"), false},
		{"that of the template", hostIP("x"), hostIP("x"), true},
		{"another one", hostIP("x"), hostIP("y"), false},
		{"without the template's labels", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, nil, false},
		{"with more labels", nil, func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, true},
	} {
		b, set, pod := newBench(t, ""), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "default", UID: "1"}}, template.DeepCopy()
		made := template.DeepCopy()
		if c.template != nil {
			c.template(made)
		}
		if c.pod != nil {
			c.pod(pod)
		}
		set.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: made.Labels}, Spec: made.Spec}
		seen := b.seen(set)
		if got := b.excuses(&seen, "1", extract.Pod(pod, nil, nil)); got != c.want {
			t.Errorf("%s: excused %t", c.why, got)
		}
		if b.excuses(&seen, "2", extract.Pod(pod, nil, nil)) || b.excuses(nil, "1", extract.Pod(pod, nil, nil)) {
			t.Errorf("%s: excused by another object of the name, or by none", c.why)
		}
	}
}
