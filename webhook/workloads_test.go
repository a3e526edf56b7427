package webhook

import (
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

// workload is an object of a kind whose pods have a hostPort over TCP for each number.
func workload(kind, name string, hostPorts ...int32) runtime.Object {
	meta := metav1.ObjectMeta{Name: name, Namespace: "default"}
	var template corev1.PodTemplateSpec
	for _, n := range hostPorts {
		template.Spec.Containers = append(template.Spec.Containers, hostPortPod("", n).Spec.Containers...)
	}
	one := new(int32(1))
	switch kind {
	case "Deployment":
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: one, Template: template}}
	case "StatefulSet":
		return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: one, Template: template}}
	case "DaemonSet":
		return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: template}}
	case "ReplicaSet":
		return &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Replicas: one, Template: template}}
	case "ReplicationController":
		return &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Replicas: one, Template: &template}}
	case "Job":
		return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: template}}
	case "CronJob":
		return &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}}
	default:
		panic(kind)
	}
}

func workloadKinds() []string {
	return []string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"}
}

// specOf is where the pod template's spec of a kind is.
func specOf(kind string) string {
	if kind == "CronJob" {
		return "spec.jobTemplate.spec.template.spec"
	}
	return "spec.template.spec"
}

// TestValidateWorkloadKinds: the pod template of every built-in kind is judged, with the path of the field in that kind.
func TestValidateWorkloadKinds(t *testing.T) {
	for _, kind := range workloadKinds() {
		at := specOf(kind) + ".containers[0].ports[0].hostPort"
		next := specOf(kind) + ".containers[1].ports[0].hostPort"
		held := holding(nodePortService("s", 30001), nodePortService("u", 30002))
		conflict := "PC0201 " + at + " by Service default/s"
		for _, c := range []struct {
			name     string
			hostPort []int32
			old      []int32 // nil: created
			want     string
		}{
			{"no hostPort", nil, nil, "allow"},
			{"free", []int32{8080}, nil, "allow"},
			{"held by a Service", []int32{30001}, nil, "deny: " + conflict},
			{"a daemon's", []int32{10250}, nil, "deny: PC0302 " + at + " by node daemon kubelet"},
			{"an update that introduces nothing", []int32{30001}, []int32{30001}, "warn: " + conflict + " before"},
			{"an update to a held port", []int32{30001}, []int32{8080}, "deny: " + conflict},
			{"an update that adds a conflict", []int32{30001, 30002}, []int32{30001}, "deny: " + conflict + " before; PC0201 " + next + " by Service default/u"},
			{"an update that moves a conflict in its list", []int32{8080, 30001}, []int32{30001}, "warn: PC0201 " + next + " by Service default/s before"},
			{"an update that ends a conflict", []int32{8080}, []int32{30001}, "allow"},
		} {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				b := newBench(t, "").holds(held...)
				req := creates(kind, workload(kind, "w", c.hostPort...))
				if c.old != nil {
					req = updates(kind, workload(kind, "w", c.hostPort...), workload(kind, "w", c.old...))
				}
				if got := outcome(b.decideOn(t, hooks.PathValidateWorkload, req)); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			})
		}
	}
}

// TestValidateWorkloadsMeet: workloads are judged against each other by the nodes that their pods may run on.
func TestValidateWorkloadsMeet(t *testing.T) {
	w := workload
	two := holding(node("n1"), node("n2"))
	deployment := func(replicas int32, ports ...int32) runtime.Object {
		d := w("Deployment", "w", ports...).(*appsv1.Deployment)
		d.Spec.Replicas = &replicas
		return d
	}
	for _, c := range []struct {
		name   string
		kind   string
		held   []runtime.Object
		object runtime.Object
		want   string
	}{
		{"a DaemonSet has every node", "Deployment", append(two, w("DaemonSet", "d", 8080)), w("Deployment", "w", 8080), "deny: PC0202 spec.template.spec.containers[0].ports[0].hostPort by DaemonSet default/d"},
		{"a DaemonSet over another port", "Deployment", append(two, w("DaemonSet", "d", 8081)), w("Deployment", "w", 8080), "allow"},
		{"a pod on one of two nodes", "Deployment", append(two, with(hostPortPod("p", 8080), onNode("n1"))), w("Deployment", "w", 8080), "warn: PC0402 spec.strategy; PC0202 spec.template.spec.containers[0].ports[0].hostPort by Pod default/p"},
		{"two DaemonSets", "DaemonSet", append(two, w("DaemonSet", "d", 8080)), w("DaemonSet", "w", 8080), "deny: PC0202 spec.template.spec.containers[0].ports[0].hostPort by DaemonSet default/d"},
		{"a DaemonSet beside a pod", "DaemonSet", append(two, with(hostPortPod("p", 8080), onNode("n1"))), w("DaemonSet", "w", 8080), "warn: PC0202 spec.template.spec.containers[0].ports[0].hostPort by Pod default/p"},
		{"more replicas than nodes", "Deployment", two, deployment(3, 8080), "warn: PC0401 spec.replicas"},
		{"as many replicas as nodes", "Deployment", two, deployment(2, 8080), "warn: PC0402 spec.strategy"},
		{"no replicas", "Deployment", two, deployment(0, 8080), "allow"},
		{"DaemonSet with a surge", "DaemonSet", two, surging(w("DaemonSet", "w", 8080)), "deny: PC0403 spec.updateStrategy.rollingUpdate.maxSurge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "").holds(c.held...)
			if got := outcome(b.decideOn(t, hooks.PathValidateWorkload, creates(c.kind, c.object))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func surging(object runtime.Object) runtime.Object {
	d := object.(*appsv1.DaemonSet)
	d.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{
		Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: new(intstr.FromInt32(1))},
	}
	return d
}

// TestValidateWorkloadInFlight: what was let through is held until the cluster shows it. A dry run and what was refused are
// not.
func TestValidateWorkloadInFlight(t *testing.T) {
	service := func(b *bench, nodePort int32) string {
		return outcome(b.decideOn(t, hooks.PathMutateServices, dryRun(creates("Service", nodePortService("s", nodePort)))))
	}
	daemonSet := func(hostPorts ...int32) runtime.Object { return workload("DaemonSet", "d", hostPorts...) }
	for _, c := range []struct {
		name string
		req  admissionv1.AdmissionRequest
		free []int32
		held []int32
	}{
		{"created", creates("DaemonSet", daemonSet(30001)), []int32{30002}, []int32{30001}},
		{"updated", updates("DaemonSet", daemonSet(30002), daemonSet(30001)), nil, []int32{30002}},
		{"dry run", dryRun(creates("DaemonSet", daemonSet(30001))), []int32{30001}, nil},
		{"refused", creates("DaemonSet", daemonSet(30001, 10250)), []int32{30001}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "")
			b.decideOn(t, hooks.PathValidateWorkload, c.req)
			for _, n := range c.free {
				if got := service(b, n); got != "allow" {
					t.Errorf("%d: %s", n, got)
				}
			}
			for _, n := range c.held {
				if got := service(b, n); got != contended {
					t.Errorf("%d: %s", n, got)
				}
			}
		})
	}
}

// TestValidateWorkloadOtherRequests: what is no create or update of the object itself passes.
func TestValidateWorkloadOtherRequests(t *testing.T) {
	object := workload("Deployment", "w", 10250)
	scale := creates("Deployment", object)
	scale.SubResource = "scale"
	for name, req := range map[string]admissionv1.AdmissionRequest{
		"delete": request("Deployment", admissionv1.Delete, object, nil), "connect": request("Deployment", admissionv1.Connect, object, nil), "scale": scale,
	} {
		if got := outcome(newBench(t, "").decideOn(t, hooks.PathValidateWorkload, req)); got != "allow" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
