package audit_test

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/audit"
)

// What lint says of objects that are to be created beside others, with the configuration's defaults.
func ExampleJudge_All() {
	exists := []runtime.Object{&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "app1"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30062}}},
	}}
	wanted := []runtime.Object{&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 30062}},
		}}},
	}}

	judge, err := audit.New(nil, exists, wanted, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, findings := range judge.All(wanted, nil) {
		for _, f := range findings {
			fmt.Println("object", i, f.Severity, f.Code, f.Field, "meets", f.Holder.Ref) // report.Sentence says it in words
		}
	}
	// Output:
	// object 0 error PC0201 spec.containers[0].ports[0].hostPort meets Service default/app1
}
