package transparency

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestActivation: what begins to want pods is judged, whoever writes it; and what conflicts since before the webhook was
// installed loses no pod to it. The controllers and the scheduler are real.
func TestActivation(t *testing.T) {
	t.Parallel()
	r := rig.Run(t, rig.Options{
		ControlPlane: controlplane.Options{ControllerManager: true, Scheduler: true},
		Kubelet:      kubelet.Options{Nodes: kubelet.Nodes(3)},
		Unarmed:      true,
	})
	c := newClient(t, r.ControlPlane)
	before := conflictsOfBefore(t, c)
	if err := r.Arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("ConflictsOfBefore", func(t *testing.T) { before(t) })
	t.Run("Autoscaler", func(t *testing.T) { autoscaler(t, r, c) })
	t.Run("ScaleFromNothing", func(t *testing.T) { t.Parallel(); scaleFromNothing(t, c) })
	t.Run("Suspended", func(t *testing.T) { t.Parallel(); suspended(t, c) })
	t.Run("RolloutUndo", func(t *testing.T) { t.Parallel(); rolloutUndo(t, c) })
}

// conflictsOfBefore fills the cluster with workloads of every kind whose host ports are Services' nodePorts, and returns a
// test that deletes each of their pods.
func conflictsOfBefore(t *testing.T, c client.Client) func(*testing.T) {
	ns := objects.Namespace(t, c)
	workloads := []string{
		objects.Workload("Deployment", "deployment", "replicas: 2,", objects.Containers("containerPort: 80, hostPort: 31001")),
		objects.Workload("DaemonSet", "daemonset", "", objects.Containers("containerPort: 80, hostPort: 31002")),
		objects.Workload("StatefulSet", "statefulset", "replicas: 2,", objects.Containers("containerPort: 80, hostPort: 31003")),
		objects.Workload("ReplicaSet", "replicaset", "replicas: 1,", objects.Containers("containerPort: 80, hostPort: 31004")),
		objects.Workload("ReplicationController", "controller", "replicas: 1,", objects.Containers("containerPort: 80, hostPort: 31005")),
		objects.Workload("Job", "job", "backoffLimit: 20,", objects.Containers("containerPort: 80, hostPort: 31006")),
	}
	for i, w := range workloads {
		objects.Create(t, c, ns, nodePort(fmt.Sprint("s", i), fmt.Sprint(31001+i)))
		objects.Create(t, c, ns, w)
	}
	const pods = 2 + 3 + 2 + 1 + 1 + 1
	objects.Running(t, c, ns, "", pods)
	return func(t *testing.T) {
		gone := map[types.UID]bool{}
		for _, p := range objects.Running(t, c, ns, "", pods) {
			gone[p.UID] = true
			if err := c.Delete(t.Context(), &p); err != nil {
				t.Fatal(err)
			}
		}
		poll.Until(t, func(context.Context) error {
			var list corev1.PodList
			if err := c.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
				return err
			}
			back := map[string]int{}
			n := 0
			for _, p := range list.Items {
				if !gone[p.UID] && p.Status.Phase == corev1.PodRunning {
					back[metav1.GetControllerOf(&p).Kind]++
					n++
				}
			}
			if n != pods {
				return fmt.Errorf("of %d pods %v are back", pods, back)
			}
			return nil
		})
	}
}

// scales writes the scale of an object, as kubectl scale and autoscalers do.
func scales(ctx context.Context, c client.Client, object client.Object, replicas int32) error {
	return c.SubResource("scale").Update(ctx, object, client.WithSubResourceBody(&autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: replicas}}))
}

func patches(ctx context.Context, c client.Client, object client.Object, patch string) error {
	return c.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch)))
}

func scaleFromNothing(t *testing.T, c client.Client) {
	ns := objects.Namespace(t, c)
	for i, kind := range []string{"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"} {
		name := strings.ToLower(kind)
		port := fmt.Sprint(30777 + i)
		object := objects.Create(t, c, ns, objects.Workload(kind, name, "replicas: 0,", objects.Containers("containerPort: 80, hostPort: "+port)))[0]
		service := objects.Create(t, c, ns, nodePort(name, port))[0]
		const up = `{"spec":{"replicas":1}}`
		want := "422 Invalid PC0201 Service " + ns + "/" + name
		for what, err := range map[string]error{
			"scale": scales(t.Context(), c, object, 2), "patch of the scale": c.SubResource("scale").Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(up))),
			"patch": patches(t.Context(), c, object, up),
		} {
			if got := finding.Answer(err); got != want {
				t.Errorf("%s, %s: %s, want %s", kind, what, got, want)
			}
		}
		if err := c.Delete(t.Context(), service); err != nil {
			t.Fatal(err)
		}
		if err := scales(t.Context(), c, object, 2); err != nil {
			t.Errorf("%s, after the Service is gone: %v", kind, err)
		}
		objects.Running(t, c, ns, name, 2)
		if err := scales(t.Context(), c, object, 0); err != nil {
			t.Error(err)
		}
	}
}

// suspended: a queue as Kueue unsuspends Jobs, and may add a nodeSelector as it does.
func suspended(t *testing.T, c client.Client) {
	ns := objects.Namespace(t, c)
	job := objects.Create(t, c, ns, objects.Workload("Job", "job", "suspend: true,", objects.Containers("containerPort: 80, hostPort: 30787")))[0]
	service := objects.Create(t, c, ns, nodePort("s", "30787"))[0]
	const go1, go2 = `{"spec":{"suspend":false}}`, `{"spec":{"suspend":false,"template":{"spec":{"nodeSelector":{"kubernetes.io/os":"linux"}}}}}`
	for _, patch := range []string{go1, go2} {
		if got, want := finding.Answer(patches(t.Context(), c, job.DeepCopyObject().(*batchv1.Job), patch)), "422 Invalid PC0201 Service "+ns+"/s"; got != want {
			t.Errorf("%s: %s, want %s", patch, got, want)
		}
	}
	if err := c.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	if err := patches(t.Context(), c, job, go1); err != nil {
		t.Errorf("after the Service is gone: %v", err)
	}
	objects.Running(t, c, ns, "job", 1)
}

// rolloutUndo: the revision before has a port that somebody has taken since.
func rolloutUndo(t *testing.T, c client.Client) {
	ns := objects.Namespace(t, c)
	d := objects.Create(t, c, ns, objects.Workload("Deployment", "web", "replicas: 1, strategy: {type: Recreate},", objects.Containers("containerPort: 80, hostPort: 30797")))[0].(*appsv1.Deployment)
	objects.Running(t, c, ns, "web", 1)
	undo := d.Spec.Template.DeepCopy()
	poll.Until(t, func(context.Context) error {
		return patches(t.Context(), c, d, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}}`)
	})
	poll.Until(t, func(ctx context.Context) error { return c.Create(ctx, objects.One(t, ns, nodePort("s", "30797"))) }) // once the old pod is gone
	poll.Until(t, func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		d.Spec.Template = *undo
		if got, want := finding.Answer(c.Update(ctx, d)), "422 Invalid PC0201 Service "+ns+"/s"; got != want {
			return fmt.Errorf("undo: %s, want %s", got, want)
		}
		return nil
	})
}

// autoscaler: the real HorizontalPodAutoscaler scales a Deployment from one to its least, and the webhook is not asked.
func autoscaler(t *testing.T, r *rig.Rig, c client.Client) {
	ns := objects.Namespace(t, c)
	objects.Create(t, c, ns, objects.Workload("Deployment", "auto", "replicas: 1,", objects.Containers("containerPort: 80, hostPort: 9100")))
	objects.Running(t, c, ns, "auto", 1)
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "auto", Namespace: ns}}
	hpa.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "auto"}
	hpa.Spec.MinReplicas, hpa.Spec.MaxReplicas = new(int32(3)), 3
	if _, err := r.Client.AutoscalingV2().HorizontalPodAutoscalers(ns).Create(t.Context(), hpa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	objects.Running(t, c, ns, "auto", 3)
	if n, err := r.Webhook.Count(t.Context(), "portcullis_admission_verdicts_total", fmt.Sprintf("hook=%q", hooks.HandlerName(hooks.PathValidateScale))); err != nil || n > 0 {
		t.Errorf("the webhook was asked %v times about the scale, %v", n, err)
	}
}
