package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// pool stands for a kind of our own.
type pool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Ranges            []struct {
		Port int32 `json:"port"`
	} `json:"ranges"`
}

func (p *pool) DeepCopyObject() runtime.Object { c := *p; return &c }

// TestUnknownFieldsOfOurKinds wants them refused, in the kinds that the scheme knows.
func TestUnknownFieldsOfOurKinds(t *testing.T) {
	scheme := Scheme()
	for _, group := range []string{"portcullis.dev", "config.portcullis.dev", "notportcullis.dev"} {
		scheme.AddKnownTypeWithName(schema.GroupVersionKind{Group: group, Version: "v1alpha1", Kind: "Pool"}, &pool{})
	}
	const rest = "/v1alpha1\nkind: Pool\nmetadata:\n  nam: a\nranges:\n- port: 1\n- port: 2\n  proto: TCP\n"
	const refused = "f:4: metadata.nam: no such field; correct or remove it\nf:8: ranges[1].proto: no such field; correct or remove it"
	for _, tt := range []struct{ text, want string }{
		{"apiVersion: portcullis.dev" + rest, refused},
		{"apiVersion: config.portcullis.dev" + rest, refused},
		{"apiVersion: notportcullis.dev" + rest, ""},
		{"apiVersion: portcullis.dev/v1alpha1\nkind: Pool\nranges: [{port: 1}]", ""},
		{"apiVersion: portcullis.dev/v1alpha1\nkind: Pool\nranges: [{port: a}]", `f:3: ranges[0].port: want a whole number of 32 bits, not "a"`},
		{"apiVersion: portcullis.dev/v1alpha1\nkind: Unknown\nx: 1", ""},
	} {
		got := ""
		if _, err := Parse("f", []byte(tt.text), scheme); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Parse(%q), error (-want +got):\n%s", tt.text, diff)
		}
	}
}

// TestMisfits: an object is read without what does not fit, and everything else in it is where it was.
func TestMisfits(t *testing.T) {
	const text = `apiVersion: v1
kind: Pod
metadata: {name: a, labels: {m: 1, app: web}}
spec:
  hostNetwork: "yes"
  containers:
  - command: [a, 5]
    resources: {limits: {memory: "${MEMORY}"}}
    ports:
    - {containerPort: http, hostPort: 80}
    - {containerPort: 81}
`
	in, _ := Parse("f", []byte(text), Scheme())
	pod := in.Objects[0].Object.(*corev1.Pod)
	want := &corev1.Pod{TypeMeta: pod.TypeMeta, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Command: []string{"a", ""}, Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{}},
		Ports: []corev1.ContainerPort{{HostPort: 80}, {ContainerPort: 81}},
	}}}}
	want.Name, want.Labels = "a", map[string]string{"app": "web"}
	if diff := cmp.Diff(want, pod); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const lines = `f:3: metadata.labels.m: want text, not 1: put it in quotes
f:5: spec.hostNetwork: want true or false, not "yes"
f:7: spec.containers[0].command[1]: want text, not 5: put it in quotes
f:8: spec.containers[0].resources.limits.memory: this looks like a template; render it first: "${MEMORY}" does not fit
f:10: spec.containers[0].ports[0].containerPort: want a whole number of 32 bits, not "http"`
	if diff := cmp.Diff(lines, wrong(in)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestManyMisfits: where they are too many to take them out, the object still has its name.
func TestManyMisfits(t *testing.T) {
	in, _ := Parse("f", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n"+numbers(300)), Scheme())
	if diff := cmp.Diff("f:1 #0 v1 ConfigMap a untyped", summary(t, in)); diff != "" || len(in.Objects[0].Misfits) != 100 {
		t.Errorf("%d misfits, (-want +got):\n%s", len(in.Objects[0].Misfits), diff)
	}
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  k%d: %d\n", i, i)
	}
	return b.String()
}
