package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// summary writes one line per object: where it stands, its Go type without pointer, kind and name.
func summary(t *testing.T, in Input) string {
	t.Helper()
	var b strings.Builder
	for _, o := range in.Objects {
		object, err := meta.Accessor(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		apiVersion, kind := o.Object.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
		untyped := ""
		if _, ok := o.Object.(*unstructured.Unstructured); ok {
			untyped = " untyped"
		}
		fmt.Fprintf(&b, "%s:%d #%d %s %s %s%s\n", o.Path, o.Line, o.Document, apiVersion, kind, object.GetName(), untyped)
	}
	for _, s := range in.Skipped {
		fmt.Fprintf(&b, "skipped %s\n", s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func parsed(t *testing.T, text string) Input {
	t.Helper()
	in, err := Parse("f", []byte(text), Scheme())
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return in
}

// wrong writes a line for everything that is not read.
func wrong(in Input) string {
	var b strings.Builder
	if err := in.Err(); err != nil {
		b.WriteString(err.Error() + "\n")
	}
	for _, o := range in.Objects {
		for _, m := range o.Misfits {
			if m.Known != "" {
				fmt.Fprintf(&b, "%s:%d: %s is spelled %s\n", o.Path, o.LineOf(m.Field), m.Field, m.Known)
			}
		}
	}
	for _, s := range in.Skipped {
		fmt.Fprintf(&b, "skipped %s\n", s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// svc is a Service in one line.
func svc(name string) string {
	return "{apiVersion: v1, kind: Service, metadata: {name: " + name + "}}"
}

func TestParse(t *testing.T) {
	const jsonPod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}}`
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"comments only", "# a\n\n# b\n", ""},
		{"empty documents", "---\n# a\n---\n---\n", ""},
		{"byte order mark only", "\ufeff", ""},
		{"one", "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n", "f:1 #0 v1 Service a"},
		{"after comments", "# a\n---\n# b\n\napiVersion: v1\nkind: Service\nmetadata:\n  name: a\n", "f:5 #0 v1 Service a"},
		{"several", svc("a") + "\n---\n" + svc("b") + "\n---\n---\n" + svc("c"), "f:1 #0 v1 Service a\nf:3 #1 v1 Service b\nf:6 #3 v1 Service c"},
		{"on the line of the dashes", "--- " + svc("a") + "\n--- " + svc("b"), "f:1 #0 v1 Service a\nf:2 #1 v1 Service b"},
		{"ends and directives", "%YAML 1.1\n---\n" + svc("a") + "\n...\n", "f:3 #0 v1 Service a"},
		{"CRLF", "# a\r\napiVersion: v1\r\nkind: Service\r\nmetadata:\r\n  name: a\r\n---\r\napiVersion: v1\r\nkind: Pod\r\n", "f:2 #0 v1 Service a\nf:7 #1 v1 Pod "},
		{"byte order mark", "\ufeffapiVersion: v1\nkind: Pod\n", "f:1 #0 v1 Pod "},
		{"JSON", jsonPod, "f:1 #0 v1 Pod p"},
		{"JSON with tabs, CRLF and byte order mark", "\ufeff\r\n{\r\n\t\"apiVersion\": \"v1\",\r\n\t\"kind\": \"Pod\"\r\n}\r\n", "f:2 #0 v1 Pod "},
		{"JSON stream", jsonPod + jsonPod + "\n\n" + jsonPod, "f:1 #0 v1 Pod p\nf:1 #1 v1 Pod p\nf:3 #2 v1 Pod p"},
		{"JSON between dashes", jsonPod + "\n---\n" + jsonPod, "f:1 #0 v1 Pod p\nf:3 #1 v1 Pod p"},
		{"JSON surrogates", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"\ud83d\ude00"}}`, "f:1 #0 v1 Pod 😀"},
		{"unknown kind", "apiVersion: example.com/v1\nkind: Web\nmetadata: {name: w}\nspec: {hostPort: abc}", "f:1 #0 example.com/v1 Web w untyped"},
		{"unknown version", "apiVersion: apps/v3\nkind: Deployment\nmetadata: {name: d}", "f:1 #0 apps/v3 Deployment d untyped"},
		{"a version that is gone", "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: d}", "f:1 #0 apps/v1 Deployment d"},
		{"list of a version that is gone", "apiVersion: apps/v1beta2\nkind: DaemonSetList\nitems:\n- metadata: {name: d}", "f:4 #0 apps/v1 DaemonSet d"},
		{"a CronJob of a version that is gone", "apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: c}", "f:1 #0 batch/v1 CronJob c"},
		{"another kind of that version", "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: i}", "f:1 #0 extensions/v1beta1 Ingress i untyped"},
		{"unknown fields are let alone", "apiVersion: v1\nkind: Pod\nspec: {nonsense: 1}\nstatis: {}", "f:1 #0 v1 Pod "},
		{"List", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n- # b\n  apiVersion: v1\n  kind: Service\n", "f:4 #0 v1 Pod \nf:7 #0 v1 Service "},
		{"List in a List", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - {apiVersion: v1, kind: Pod}\n", "f:7 #0 v1 Pod "},
		{"empty Lists", "apiVersion: v1\nkind: List\n---\napiVersion: v1\nkind: List\nitems: []\n---\napiVersion: v1\nkind: PodList\nitems: null", ""},
		{"typed list", "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n", "f:4 #0 v1 Service a\nf:5 #0 v1 Service b"},
		{"typed list of apps", "apiVersion: apps/v1\nkind: DaemonSetList\nitems:\n- metadata: {name: a}\n", "f:4 #0 apps/v1 DaemonSet a"},
		{"list of an unknown kind", "apiVersion: example.com/v1\nkind: WebList\nitems:\n- metadata: {name: a}\n", "f:4 #0 example.com/v1 Web a untyped"},
		{"kind that only ends as a list", "apiVersion: example.com/v1\nkind: AllowList\nmetadata: {name: a}\n", "f:1 #0 example.com/v1 AllowList a untyped"},
		{"JSON list", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n {\"apiVersion\": \"v1\", \"kind\": \"Pod\"},\n {\n  \"apiVersion\": \"v1\", \"kind\": \"Service\"}\n]}", "f:2 #0 v1 Pod \nf:3 #0 v1 Service "},
		{"items behind an alias", "x: &x [" + svc("a") + "]\napiVersion: v1\nkind: List\nitems: *x", "f:1 #0 v1 Service a"},
		{"the same field twice through a merge key", "x: &x {name: a, namespace: b}\napiVersion: v1\nkind: Pod\nmetadata:\n  <<: *x\n  name: c", "f:1 #0 v1 Pod c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, summary(t, parsed(t, tt.text))); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

// TestWrong compares all that is said of what cannot be read.
func TestWrong(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\n"
	for _, tt := range []struct{ name, text, want string }{
		{"no object", "a: 1", "skipped f:1: no Kubernetes object: it has no apiVersion and no kind"},
		{"no kind", "# a\napiVersion: v1", "skipped f:2: no Kubernetes object: it has no kind"},
		{"no apiVersion", "kind: Pod", "skipped f:1: no Kubernetes object: it has no apiVersion"},
		{"no apiVersion, but meant as one", "kind: Pod\nmetadata: {name: a}", "f:1: no Kubernetes object: it has no apiVersion"},
		{"no kind, but meant as one", "apiVersion: v1\nmetadata: {name: a}", "f:1: no Kubernetes object: it has no kind"},
		{"a chart", "apiVersion: v2\nname: web\ntype: application", "skipped f:1: no Kubernetes object: it has no kind"},
		{"a kind in lower case", "apiVersion: v1\nkind: service\nmetadata: {name: a}", "f:1: the API does not know the kind service of v1, it knows Service of v1"},
		{"a version in upper case", "apiVersion: apps/V1\nkind: Deployment\nmetadata: {name: a}", "f:1: the API does not know the kind Deployment of apps/V1, it knows Deployment of apps/v1"},
		{"an object of another program", "kind: Addons\nmetadata: {name: a}", "skipped f:1: no Kubernetes object: it has no apiVersion"},
		{"a pipeline of something else", "kind: pipeline\ntype: docker", "skipped f:1: no Kubernetes object: it has no apiVersion"},
		{"values with a field twice", "mode: 0644\npath: /etc/x\nmode: 0600\n", "skipped f:1: no Kubernetes object: it has no apiVersion and no kind"},
		{"broken values that name objects", "scale:\n  ref: {apiVersion: apps/v1, kind: Deployment}\n  x: {{ .a }}\n", "skipped f:3: a field's name cannot be a mapping or a list"},
		{"broken values that name objects, no YAML", "scale:\n  ref:\n    apiVersion: apps/v1\n    kind: Deployment\n  x: [\n", "skipped f:5: no valid YAML: did not find expected node content"},
		{"number for apiVersion", "apiVersion: 1\nkind: Pod", "f:1: no Kubernetes object: its apiVersion is no text"},
		{"list for kind", "apiVersion: v1\nkind: [Pod]", "f:1: no Kubernetes object: its kind is no text"},
		{"strange apiVersion", "kind: Pod\napiVersion: a/b/c", `f:2: apiVersion: "a/b/c" is no GROUP/VERSION`},
		{"word", "hello", "skipped f:1: no Kubernetes object: it does not hold fields"},
		{"list", "- a", "skipped f:1: no Kubernetes object: it does not hold fields"},
		{"item without kind", "apiVersion: v1\nkind: List\nitems:\n- a: 1\n- b", "f:4: items[0]: no Kubernetes object: it has no apiVersion and no kind\nf:5: items[1]: no Kubernetes object: it does not hold fields"},
		{"items that are no list", "apiVersion: v1\nkind: PodList\nitems: {}", "f:3: items: want a list"},

		{"syntax", pod + "spec: {\n---\n" + svc("a"), "f:3: no valid YAML: did not find expected node content"},
		{"indentation", pod + "metadata:\n  name: a\n namespace: b\n", "f:5: no valid YAML: did not find expected key"},
		{"indentation of a list", pod + "spec:\n  containers:\n  - name: a\n   image: b\n", "f:6: no valid YAML: did not find expected key"},
		{"tab", pod + "spec:\n\thostNetwork: true\n", "f:4: no valid YAML: found character that cannot start any token"},
		{"control character", pod + "# a\nspec: \x01\n", "f:4: no valid YAML: control characters are not allowed"},
		{"no UTF-8", pod + "metadata:\n  name: \xff\n", "f:4: no valid YAML: invalid leading UTF-8 octet"},
		{"no such anchor", pod + "metadata: *a\n", "f:3: no valid YAML: unknown anchor 'a' referenced"},
		{"unfinished quotes", pod + "metadata:\n  name: 'a\n", "f:4: no valid YAML: found unexpected end of stream"},
		{"JSON that breaks off", "{\"apiVersion\": \"v1\",\n\"kind\":", "f:2: no valid JSON: unexpected EOF"},
		{"JSON comma", "{\"apiVersion\": \"v1\"\n\"kind\": \"Pod\"}", "f:2: no valid JSON: invalid character '\"' after object key:value pair"},
		{"JSON stream that breaks", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}\n{\"a\": x}", "f:2: no valid JSON: invalid character 'x' looking for beginning of value"},
		{"template", "apiVersion: v1\nkind: {{ .Values.kind }}\n", "f:2: this looks like a Helm template; render it with `helm template`: a field's name cannot be a mapping or a list"},
		{"template control", "{{- if .a }}\napiVersion: v1\nkind: Pod\n{{- end }}\n", "f:1: this looks like a Helm template; render it with `helm template`: no valid JSON: invalid character '{'"},
		{"no object and a broken document", "a: 1\n---\n[", "skipped f:1: no Kubernetes object: it has no apiVersion and no kind\nskipped f:3: no valid YAML: did not find expected node content"},

		{"same field twice", pod + "metadata:\n  name: a\n  name: a\n", `f:5: "name" is given twice, first on line 4; keep one`},
		{"same field twice in JSON", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n \"kind\": \"Pod\"}", `f:2: "kind" is given twice, first on line 1; keep one`},
		{"same field in two spellings", pod + "metadata:\n  labels:\n    1: a\n    \"1\": b\n", `f:6: "1" is given twice, first on line 5; keep one`},
		{"same field twice beside a merge key", "x: &x {n: 1}\n" + pod + "spec:\n  a: 1\n  a: 2\n  <<: *x\n", `f:6: "a" is given twice, first on line 5; keep one`},
		{"several twice", pod + "kind: Pod\nspec: {a: 1, a: 2}\n", "f:3: \"kind\" is given twice, first on line 2; keep one\nf:4: \"a\" is given twice, first on line 4; keep one"},
		{"mapping for a name", pod + "? {a: b}\n: c\n", "f:3: a field's name cannot be a mapping or a list"},
		{"nothing for a name", pod + "~: c\n", "f:3: a field's name cannot be empty"},
		{"merge of text", pod + "<<: a\n", "f:3: << takes a mapping, or a list of mappings"},
		{"no number", pod + "spec: {a: .nan}\n", "f:3: .nan is not a number that JSON can hold"},
		{"tag that does not fit", pod + "spec: {a: !!int x}\n", "f:3: cannot decode !!str `x` as a !!int"},
		{"anchor in itself", pod + "spec: &a\n  x: *a\n", `f:4: the anchor "a" contains itself`},

		{"hostPort text", pod + "spec:\n  containers:\n  - name: a\n    ports:\n    - containerPort: 80\n      hostPort: \"abc\"\n", `f:8: spec.containers[0].ports[0].hostPort: want a whole number of 32 bits, not "abc"`},
		{"hostPort in quotes", pod + "spec:\n  containers:\n  - ports:\n    - {containerPort: 80}\n    - containerPort: 80\n      hostPort: \"8080\"\n", `f:8: spec.containers[0].ports[1].hostPort: want a whole number of 32 bits, not "8080": remove the quotes`},
		{"hostPort with a fraction", pod + "spec: {containers: [{ports: [{hostPort: 80.5}]}]}", `f:3: spec.containers[0].ports[0].hostPort: want a whole number of 32 bits, not 80.5`},
		{"hostPort too large", pod + "spec: {containers: [{ports: [{hostPort: 99999999999}]}]}", `f:3: spec.containers[0].ports[0].hostPort: want a whole number of 32 bits, not 99999999999`},
		{"JSON fraction", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"ports\":[\n{\"hostPort\":80.0}]}]}}", `f:2: spec.containers[0].ports[0].hostPort: want a whole number of 32 bits, not 80.0`},
		{"label that is a boolean", pod + "metadata:\n  labels:\n    example.com/on: on\n    b: 5\n", "f:5: metadata.labels[example.com/on]: want text, not true: put it in quotes\nf:6: metadata.labels.b: want text, not 5: put it in quotes"},
		{"text for a boolean", pod + "spec:\n  hostNetwork: \"true\"\n", `f:4: spec.hostNetwork: want true or false, not "true"`},
		{"mapping for a list", pod + "spec:\n  containers:\n    name: a\n", "f:4: spec.containers: want a list, not a mapping"},
		{"list for a mapping", pod + "metadata: []\nspec:\n- a\n", "f:3: metadata: want a mapping, not a list\nf:4: spec: want a mapping, not a list"},
		{"text for a mapping", pod + "metadata: " + strings.Repeat("é", 50) + "\n", `f:3: metadata: want a mapping, not "` + strings.Repeat("é", 40) + `…"`},
		{"own decoders", "apiVersion: v1\nkind: Service\nspec:\n  ports:\n  - port: 80\n    targetPort: 8.5\n", "f:6: spec.ports[0].targetPort: want a whole number of 32 bits, not 8.5"},
		{"quantity", pod + "spec: {containers: [{resources: {limits: {\ncpu: x}}}]}", "f:4: spec.containers[0].resources.limits.cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"},
		{"behind an alias", "x: &x\n  hostPort: a\n" + pod + "spec: {containers: [{ports: [*x]}]}", `f:2: spec.containers[0].ports[0].hostPort: want a whole number of 32 bits, not "a"`},
		{"behind a merge key", "x: &x\n  hostPort: a\n" + pod + "spec: {containers: [{ports: [{<<: [*x], containerPort: 1}]}]}", `f:2: spec.containers[0].ports[0].hostPort: want a whole number of 32 bits, not "a"`},
		{"in a list", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  spec:\n    healthCheckNodePort: a\n", `f:7: spec.healthCheckNodePort: want a whole number of 32 bits, not "a"`},
		{"metadata of an unknown kind", "apiVersion: a/v1\nkind: B\nmetadata:\n  name: 5\n", `f:4: metadata.name: want text, not 5: put it in quotes`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := Parse("f", []byte(tt.text), Scheme())
			if diff := cmp.Diff(tt.want, wrong(in)); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

func TestWhatIsRightIsReadNextToErrors(t *testing.T) {
	const broken = "apiVersion: v1\nkind: Service\nspec: {\n  ports: [\n"
	for _, tt := range []struct{ name, text, want, wrong string }{
		{"before and between", svc("a") + "\n---\na: 1\n---\n" + svc("b") + "\n---\n" + broken, "f:1 #0 v1 Service a\nf:5 #2 v1 Service b",
			"f:9: no valid YAML: did not find expected node content\nskipped f:3: no Kubernetes object: it has no apiVersion and no kind"},
		{"behind", broken + "---\n# b\n" + svc("b") + "\n", "f:7 #1 v1 Service b", "f:3: no valid YAML: did not find expected node content"},
		{"behind directives", "%YAML 1.1\n# a\n---\n" + svc("a") + "\n---\n" + broken + "---\r\n" + svc("b"), "f:4 #0 v1 Service a\nf:11 #2 v1 Service b",
			"f:8: no valid YAML: did not find expected node content"},
		{"between JSON", `{"apiVersion": "v1", "kind": "Pod"}` + "\n---\n" + `{"apiVersion": "v1", "kind": [}` + "\n---\n" + `{"apiVersion": "v1", "kind": "Pod"}`,
			"f:1 #0 v1 Pod \nf:5 #2 v1 Pod ", "f:3: no valid YAML: did not find expected node content"},
		{"dashes in a text", "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    ---\n    {{ x\n---\n" + broken, "f:1 #0 v1 ConfigMap ", "f:10: no valid YAML: did not find expected node content"},
		{"a chart's template", "{{- if .Values.on }}\napiVersion: v1\nkind: Service\n---\n" + svc("b") + "\n---\n{{- end }}\n", "f:5 #1 v1 Service b",
			"f:1: this looks like a Helm template; render it with `helm template`: no valid JSON: invalid character '{'"},
		{"a field twice", "apiVersion: v1\nkind: Pod\nmetadata: {name: a, name: b}\n", "f:1 #0 v1 Pod b", `f:3: "name" is given twice, first on line 3; keep one`},
		{"a broken end", svc("a") + "\n---\nspec: [\n", "f:1 #0 v1 Service a", "f:3: no valid YAML: did not find expected node content"},
		{"an item", "apiVersion: v1\nkind: List\nitems:\n- a: 1\n- " + svc("b"), "f:5 #0 v1 Service b", "f:4: items[0]: no Kubernetes object: it has no apiVersion and no kind"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := Parse("f", []byte(tt.text), Scheme())
			got := wrong(in)
			in.Skipped = nil
			if diff := cmp.Diff(tt.want+"\n"+tt.wrong, summary(t, in)+"\n"+got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestManyBrokenDocuments: the first hundred are enough to know what is going on.
func TestManyBrokenDocuments(t *testing.T) {
	in, _ := Parse("f", []byte(svc("a")+strings.Repeat("\n---\n{apiVersion: v1, kind: [", 5000)), Scheme())
	if last := in.Unread[len(in.Unread)-1]; len(in.Objects) != 1 || len(in.Unread) != maxBroken+1 || last.Line != 2*maxBroken+1 {
		t.Errorf("%d objects, %d unread, the last is %v", len(in.Objects), len(in.Unread), last)
	}
}

func TestErrorIsTyped(t *testing.T) {
	_, err := Parse("f", []byte("apiVersion: v1\nkind: [Pod]"), Scheme())
	var e *Error
	if !errors.As(err, &e) || e.Path != "f" || e.Line != 1 || errors.Unwrap(e) == nil {
		t.Errorf("error = %#v, want an *Error of line 1 of f", err)
	}
}

// TestBooleansAndMerges holds the meaning of what YAML libraries disagree on.
func TestBooleansAndMerges(t *testing.T) {
	const text = `
base: &base {hostPort: 1, containerPort: 2, protocol: UDP}
apiVersion: v1
kind: Pod
spec:
  hostNetwork: yes
  hostPID: off
  containers:
  - name: "yes"
    ports:
    - <<: *base
      hostPort: 0x50
    - containerPort: 010
      <<: *base
    - *base
`
	spec := parsed(t, text).Objects[0].Object.(*corev1.Pod).Spec
	want := corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "yes", Ports: []corev1.ContainerPort{
		{HostPort: 80, ContainerPort: 2, Protocol: "UDP"},
		{HostPort: 1, ContainerPort: 2, Protocol: "UDP"}, // as in kubectl, the merge key below replaces the field
		{HostPort: 1, ContainerPort: 2, Protocol: "UDP"},
	}}}}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUntypedNumbers(t *testing.T) {
	want := map[string]any{"int": int64(1), "big": int64(1) << 62, "float": 1.5, "list": []any{int64(1), nil, "a", true}}
	for _, text := range []string{
		"apiVersion: a/v1\nkind: B\nspec: {int: 1, big: 4611686018427387904, float: 1.5, list: [1, ~, a, on]}",
		`{"apiVersion":"a/v1","kind":"B","spec":{"int":1,"big":4611686018427387904,"float":1.5,"list":[1,null,"a",true]}}`,
	} {
		object := parsed(t, text).Objects[0].Object.DeepCopyObject().(*unstructured.Unstructured)
		if diff := cmp.Diff(want, object.Object["spec"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestFewLinesCannotFillTheMemory(t *testing.T) {
	laughs := "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol,lol]\n"
	for i := 1; i < 20; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	long := "x: &x " + strings.Repeat("a", 1<<20) + "\ny: [" + strings.Repeat("*x,", 1000) + "]\n"
	chain := "a0: &a0 []\n"
	for i := 1; i < 5000; i++ {
		chain += fmt.Sprintf("a%d: &a%d [*a%d]\n", i, i, i-1)
	}
	merges := "a0: &a0 {a: 1, b: 2}\n"
	for i := 1; i < 30; i++ {
		merges += fmt.Sprintf("a%d: &a%d {<<: [*a%d, *a%d]}\n", i, i, i-1, i-1)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"laughs", laughs, "the aliases of this document repeat too much"},
		{"one long text", long, "the aliases of this document repeat too much"},
		{"merges", merges, "the aliases of this document repeat too much"},
		{"chain", chain, "nested deeper than 1000"},
		{"YAML brackets", strings.Repeat("[", 1<<16), "exceeded max depth"},
		{"YAML lists", "a: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "nested deeper than 1000"},
		{"JSON brackets", `{"a":` + strings.Repeat("[", 1<<20), "nested deeper than 1000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := Parse("f", []byte(tt.text), Scheme())
			if got := wrong(in); !strings.HasPrefix(got, "skipped ") || !strings.Contains(got, tt.want) {
				t.Errorf("%.300s, want it skipped: %q", got, tt.want)
			}
			text := strings.ReplaceAll(tt.text, "\n", "\n  ")
			in, _ = Parse("f", []byte("{apiVersion: v1, kind: Pod}\n---\nkind: Pod\napiVersion: v1\nspec:\n  "+text), Scheme())
			if got := wrong(in); len(in.Objects) != 1 || got == "" || strings.HasPrefix(got, "skipped ") {
				t.Errorf("in an object: %.300s, %d objects; want one, and the other unread", got, len(in.Objects))
			}
		})
	}
}

func TestLineOf(t *testing.T) {
	const text = `# 1
apiVersion: apps/v1
kind: Deployment
metadata:
  name: a
  annotations:
    portcullis.dev/sandbox-id: x
spec:
  template:
    spec:
      containers:
      - name: a
        ports:
        - containerPort: 1
        - &port
          containerPort: 2
          hostPort: 3
      - name: b
        ports: [*port, {<<: *port, containerPort: 4}]
      -
        name: c
`
	o := parsed(t, text).Objects[0]
	for _, tt := range []struct {
		field string
		want  int
	}{
		{"", 2}, {"metadata", 4}, {"metadata.name", 5}, {"metadata.labels", 4}, {"metadata.labels.app", 4}, {"status", 2},
		{"metadata.annotations[portcullis.dev/sandbox-id]", 7}, {"metadata.annotations[other]", 6},
		{"spec.template.spec.containers", 11}, {"spec.template.spec.containers[0]", 12}, {"spec.template.spec.containers[0].ports", 13},
		{"spec.template.spec.containers[0].ports[0].hostPort", 14}, {"spec.template.spec.containers[0].ports[1].hostPort", 17},
		{"spec.template.spec.containers[0].ports[2].hostPort", 13}, {"spec.template.spec.containers[1].ports[0].hostPort", 17},
		{"spec.template.spec.containers[1].ports[1].containerPort", 19}, {"spec.template.spec.containers[1].ports[1].hostPort", 17},
		{"spec.template.spec.containers[2].name", 21}, {"spec.template.spec.containers[3].name", 11}, {"spec.template.spec.containers[-1]", 11},
		{"spec.template.spec.containers[x", 11}, {"..", 2}, {"[", 2}, {"kind.a.b", 3}, {"[0]", 2},
	} {
		if got := o.LineOf(tt.field); got != tt.want {
			t.Errorf("LineOf(%q) = %d, want %d", tt.field, got, tt.want)
		}
	}
}

// TestLineOfMerged: as for the values, the last of fields and merge keys counts, and the first of several mappings.
func TestLineOfMerged(t *testing.T) {
	const text = `x: &x
  a: 1
  b: 1
y: &y
  b: 2
  c: 2
apiVersion: v1
kind: ConfigMap
one: {a: 0, <<: *x, b: 0}
two:
  <<: [*y, *x]
three: {<<: {<<: *y, d: 0}}
`
	o := parsed(t, text).Objects[0]
	for field, want := range map[string]int{
		"one.a": 2, "one.b": 9, "one.c": 9, "two.a": 2, "two.b": 5, "two.c": 6, "two.d": 10, "two[0]": 10, "three.b": 5, "three.d": 12,
	} {
		if got := o.LineOf(field); got != want {
			t.Errorf("LineOf(%q) = %d, want %d", field, got, want)
		}
	}
}

func TestLineOfJSON(t *testing.T) {
	const text = "\n{\n\"apiVersion\": \"v1\", \"kind\": \"ServiceList\",\n\"items\": [\n{\"spec\": {\n\"ports\": [{\n\"nodePort\": 1}]}}]}"
	o := parsed(t, text).Objects[0]
	if o.Line != 5 || o.LineOf("spec.ports") != 6 || o.LineOf("spec.ports[0].nodePort") != 7 || o.LineOf("kind") != 5 {
		t.Errorf("lines are %d, %d, %d, %d", o.Line, o.LineOf("spec.ports"), o.LineOf("spec.ports[0].nodePort"), o.LineOf("kind"))
	}
}

func TestSamples(t *testing.T) {
	samples := filepath.Join("..", "..", "config", "samples")
	files, err := filepath.Glob(filepath.Join(samples, "*.yaml")) // pools are of kinds that this package does not know
	if err != nil {
		t.Fatal(err)
	}
	in, err := Read(append(files, filepath.Join(samples, "conflicts")), Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	if got := wrong(in); got != "" {
		t.Errorf("not read:\n%s", got)
	}
	names, paths := map[string]string{}, map[string]bool{}
	for _, o := range in.Objects {
		object, err := meta.Accessor(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := o.Object.(*unstructured.Unstructured); ok {
			t.Errorf("%s: %s is read untyped", o.Path, object.GetName())
		}
		name := fmt.Sprintf("%T %s", o.Object, object.GetName())
		if other, ok := names[name]; ok {
			t.Errorf("%s and %s hold the same %s; applied together one is lost", other, o.Path, name)
		}
		names[name], paths[o.Path] = o.Path, true
	}
	for path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first, rest, _ := strings.Cut(string(text), "\n"); !strings.HasPrefix(first, "# ") || strings.HasPrefix(rest, "#") {
			t.Errorf("%s does not begin with one line of comment", path)
		}
	}
	if len(paths) != 23 || len(in.Objects) != 25 {
		t.Errorf("%d objects in %d files, want 25 in 23", len(in.Objects), len(paths))
	}
}
