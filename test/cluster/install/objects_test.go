package install

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// objects are what a way to install would create, by kind, namespace and name.
type objects map[string]*unstructured.Unstructured

func key(o *unstructured.Unstructured) string {
	return strings.Join([]string{o.GetKind(), o.GetNamespace(), o.GetName()}, "/")
}

// parsed reads a stream of YAML documents; what is empty, or only a comment, is none.
func parsed(t *testing.T, text []byte) objects {
	t.Helper()
	all := objects{}
	for r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(document, &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(o.Object) == 0 {
			continue
		}
		if all[key(o)] != nil {
			t.Errorf("%s stands there twice", key(o))
		}
		all[key(o)] = o
	}
}

// decoded reads every object into its own type, where an unknown field is an error. Kinds of others, which this module
// has no types of, it returns by name.
func (all objects) decoded(t *testing.T) (typed map[string]runtime.Object, foreign []string) {
	t.Helper()
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), apiextensionsv1.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	typed = map[string]runtime.Object{}
	for k, o := range all {
		if !known.Recognizes(o.GroupVersionKind()) {
			foreign = append(foreign, o.GroupVersionKind().GroupKind().String())
			continue
		}
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if typed[k], _, err = decoder.Decode(text, nil, nil); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	slices.Sort(foreign)
	return typed, slices.Compact(foreign)
}

// one returns the object of a key, decoded.
func one[T runtime.Object](t *testing.T, all objects, k string) T {
	t.Helper()
	typed, _ := all.decoded(t)
	o, ok := typed[k].(T)
	if !ok {
		t.Fatalf("there is no %s of type %T", k, o)
	}
	return o
}

const namespace = "portcullis-system"

// templated is what Helm makes of the chart in a namespace with a file of values; what Helm says if it refuses.
func templated(t *testing.T, inNamespace, values string, args ...string) (objects, string) {
	t.Helper()
	cmd := helm(t, append([]string{"template", "portcullis", chart, "--namespace", inNamespace, "--kube-version", "1.37.2"}, append(args, "--values", "-")...)...)
	cmd.Stdin = strings.NewReader(values)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, stderr.String()
	}
	return parsed(t, out.Bytes()), ""
}

// rendered is templated, for values that Helm must take.
func rendered(t *testing.T, values string, args ...string) objects {
	t.Helper()
	all, refusal := templated(t, namespace, values, args...)
	if refusal != "" {
		t.Fatal(refusal)
	}
	return all
}

// helm is a command of Helm that knows nothing of who runs it.
func helm(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binaries.For(t, binaries.Helm), args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(home, "none"), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
	return cmd
}
