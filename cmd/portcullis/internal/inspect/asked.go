package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// asked is what a person calls the pod, or an object with a pod template.
type asked struct {
	kind            schema.GroupVersionKind
	namespace, name string // the namespace is "" where none is named
}

func (a asked) ref() ports.Ref {
	return extract.Ref(a.kind, &metav1.ObjectMeta{Namespace: a.namespace, Name: a.name})
}

// parseAsked reads NAME, NAMESPACE/NAME, KIND/NAME or NAMESPACE/KIND/NAME. A first part that is a kind is one.
func parseAsked(text, namespace string) (asked, error) {
	a := asked{kind: corev1.SchemeGroupVersion.WithKind("Pod"), namespace: namespace}
	parts := strings.Split(text, "/")
	a.name = parts[len(parts)-1]
	rest := parts[:len(parts)-1]
	if len(rest) > 0 {
		if kind, ok := kindNamed(rest[len(rest)-1]); ok {
			a.kind, rest = kind, rest[:len(rest)-1]
		}
	}
	if len(rest) == 1 && namespace != "" && rest[0] != namespace && isOtherKind(rest[0]) {
		return a, fmt.Errorf("%q is not a kind with a pod template; use pod, deployment, statefulset, daemonset, replicaset, replicationcontroller, job or cronjob", rest[0])
	}
	if len(rest) == 1 && namespace != "" && rest[0] != namespace {
		return a, fmt.Errorf("%q names the namespace %s, and -n %s: leave one of the two out", text, rest[0], namespace)
	}
	if len(rest) == 1 {
		a.namespace = rest[0]
	}
	if len(rest) > 1 || slices.Contains(parts, "") {
		return a, fmt.Errorf("%q names no pod: write NAME, NAMESPACE/NAME, or KIND/NAME as deployment/tomcat", text)
	}
	return a, nil
}

// kindNamed reads a kind as kubectl takes and prints it: deploy, deployment, deployments, deployment.apps.
func kindNamed(text string) (schema.GroupVersionKind, bool) {
	word, _, _ := strings.Cut(strings.ToLower(text), ".")
	for _, k := range []struct {
		group       schema.GroupVersion
		kind, short string
	}{
		{corev1.SchemeGroupVersion, "Pod", "po"}, {corev1.SchemeGroupVersion, "ReplicationController", "rc"},
		{appsv1.SchemeGroupVersion, "Deployment", "deploy"}, {appsv1.SchemeGroupVersion, "StatefulSet", "sts"},
		{appsv1.SchemeGroupVersion, "DaemonSet", "ds"}, {appsv1.SchemeGroupVersion, "ReplicaSet", "rs"},
		{batchv1.SchemeGroupVersion, "Job", "job"}, {batchv1.SchemeGroupVersion, "CronJob", "cj"},
	} {
		if long := strings.ToLower(k.kind); word == k.short || word == long || word == long+"s" {
			return k.group.WithKind(k.kind), true
		}
	}
	return schema.GroupVersionKind{}, false
}

// isOtherKind reports whether a text is a kind without a pod template, as kubectl takes it, and not a namespace.
func isOtherKind(text string) bool {
	word, _, _ := strings.Cut(strings.ToLower(text), ".")
	return slices.Contains([]string{
		"service", "services", "svc", "node", "nodes", "no", "namespace", "namespaces", "ns", "configmap", "configmaps", "cm",
		"ingress", "ingresses", "ing", "endpoints", "ep", "endpointslice", "endpointslices",
	}, word)
}

// listed returns a pod of the template of a workload in files; nil if there is no such workload.
func (v *view) listed(a asked) (*corev1.Pod, error) {
	for _, object := range v.workloads {
		if w, ok := extract.Workload(object, nil, nil); ok && w.Owner.Ref == a.ref() {
			pod, _ := extract.PodToBe(object)
			return pod, nil
		}
	}
	return nil, nil
}

// find returns the pod that is asked about: of a workload one that waits, else a pod of its template, which is nil if
// there is no such workload.
func (v *view) find(a asked, template func(asked) (*corev1.Pod, error)) (*corev1.Pod, error) {
	ref := a.ref()
	isPod := ref.Kind == "Pod"
	var waiting []*corev1.Pod
	for _, pod := range v.pods {
		w := extract.Pod(pod, nil, nil)
		v.controllers.Adopt(w, pod)
		if isPod && w.Owner.Ref == ref {
			return pod, nil
		}
		if !isPod && slices.Contains(slices.Collect(w.Owner.Chain()), ref) && pod.Spec.NodeName == "" && !extract.IsFinished(pod) {
			waiting = append(waiting, pod)
		}
	}
	if len(waiting) > 0 {
		return slices.MinFunc(waiting, func(x, y *corev1.Pod) int { return strings.Compare(x.Name, y.Name) }), nil
	}
	if !isPod {
		pod, err := template(a)
		if pod != nil || err != nil {
			return pod, err
		}
		return nil, fmt.Errorf("there is no %s", ref)
	}
	return nil, v.noPod(ref)
}

// noPod names pods whose names are close to one that is not there: the same in another namespace first.
func (v *view) noPod(ref ports.Ref) error {
	const most = 5
	type near struct {
		name     string
		distance int
	}
	var close []near
	for _, pod := range v.pods {
		other := extract.Ref(corev1.SchemeGroupVersion.WithKind("Pod"), pod)
		distance := distanceOf(ref.Name, other.Name)
		if distance > 0 && strings.Contains(other.Name, ref.Name) { // the name of its controller, or the beginning of its own
			distance = 1
		}
		if distance <= 2 {
			away := 0
			if other.Namespace != ref.Namespace {
				away = 1
			}
			close = append(close, near{other.Namespace + "/" + other.Name, 2*distance + away})
		}
	}
	text := fmt.Sprintf("there is no %s", ref)
	if len(close) == 0 {
		for _, object := range v.workloads {
			if w, ok := extract.Workload(object, nil, nil); ok && w.Owner.Namespace == ref.Namespace && w.Owner.Name == ref.Name {
				return fmt.Errorf("%s, but there is %s: portcullis why %s/%s", text, w.Owner.Ref, strings.ToLower(w.Owner.Kind), ref.Name)
			}
		}
		return errors.New(text + "; kubectl get pods -A lists all there are")
	}
	slices.SortFunc(close, func(a, b near) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, n := range close[:min(most, len(close))] {
		names = append(names, n.name)
	}
	if len(close) > most {
		names = append(names, fmt.Sprintf("and %s more", cli.Grouped(len(close)-most)))
	}
	return fmt.Errorf("%s; there are %s", text, strings.Join(names, ", "))
}

// distanceOf is how many letters must be added, dropped or changed to make one word of the other (Levenshtein).
func distanceOf(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}
