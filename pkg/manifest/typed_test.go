package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
