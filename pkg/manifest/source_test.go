package manifest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// tree writes files below a new folder and changes into it, so that paths are short. A name that ends in a slash is a
// folder, a text that begins with "->" makes a symbolic link.
func tree(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		folder := filepath.Dir(name)
		if strings.HasSuffix(name, "/") {
			folder = name
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(target, name)
		} else if folder != name {
			err = os.WriteFile(name, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRead(t *testing.T) {
	tree(t, map[string]string{
		"app/b.yaml": svc("b"), "app/a.YML": svc("a"), "app/c.Json": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}`,
		"app/README.md": "no", "app/.hidden.yaml": "[", "app/.git/x.yaml": "[", "app/sub/d.yaml": svc("d"), "app/sub.yaml/e.yaml": svc("e"),
		"app/linked.yaml": "->b.yaml", "app/loop": "->.", "app/gone": "->nowhere",
		"mixed/values.yaml": "# values\nreplicas: 1\n---\n" + svc("v"), "mixed/Chart.yaml": "apiVersion: v2\nname: x\n", "mixed/list.yaml": "- 1\n",
		"mixed/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n", "mixed/comment.yaml": "# nothing\n",
		"k/base/kustomization.yml": "kind: Kustomization\npatchesStrategicMerge: [p.yaml, 'a: b\n']\nresources: [s.yaml]\n", "k/base/p.yaml": svc("p"), "k/base/s.yaml": svc("s"),
		"k/over/kustomization.yaml": "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\npatches: [path: q/p.yaml, patch: 'a: b', {path: 1}, {path: ../base/s.yaml}]\n", "k/over/q/p.yaml": svc("q"),
		"manifest.txt": svc("t"), "empty/": "", "link": "->app/sub", ".dot/x.yaml": svc("x"),
	})
	for _, tt := range []struct{ name, paths, want string }{
		{"file", "app/b.yaml", "app/b.yaml:1 #0 v1 Service b"},
		{"file with any name", "manifest.txt", "manifest.txt:1 #0 v1 Service t"},
		{"folder", "app", "app/a.YML:1 #0 v1 Service a\napp/b.yaml:1 #0 v1 Service b\napp/c.Json:1 #0 v1 Pod c\napp/linked.yaml:1 #0 v1 Service b\n" +
			"app/sub/d.yaml:1 #0 v1 Service d\napp/sub.yaml/e.yaml:1 #0 v1 Service e\nskipped app/loop: a symbolic link to a folder is not followed; name it itself to read it"},
		{"order of the paths", "app/sub manifest.txt ./app/b.yaml", "app/sub/d.yaml:1 #0 v1 Service d\nmanifest.txt:1 #0 v1 Service t\n./app/b.yaml:1 #0 v1 Service b"},
		{"the same twice", "app/sub ./app/sub/d.yaml app/sub/", "app/sub/d.yaml:1 #0 v1 Service d"},
		{"mixed folder", "mixed", "mixed/kustomization.yaml:1 #0 kustomize.config.k8s.io/v1beta1 Kustomization  untyped\nmixed/values.yaml:4 #1 v1 Service v\n" +
			"skipped mixed/Chart.yaml:1: no Kubernetes object: it has no kind\nskipped mixed/list.yaml:1: no Kubernetes object: it does not hold fields\n" +
			"skipped mixed/values.yaml:2: no Kubernetes object: it has no apiVersion and no kind"},
		{"patches", "k", "k/base/s.yaml:1 #0 v1 Service s\nk/over/kustomization.yaml:1 #0 kustomize.config.k8s.io/v1alpha1 Component  untyped\n" +
			"skipped k/base/kustomization.yml:1: no Kubernetes object: it has no apiVersion\n" +
			"skipped k/base/p.yaml:1: a patch of k/base/kustomization.yml; `kustomize build` shows what it makes\n" +
			"skipped k/over/q/p.yaml:1: a patch of k/over/kustomization.yaml; `kustomize build` shows what it makes"},
		{"a patch by itself", "k/base/p.yaml", "k/base/p.yaml:1 #0 v1 Service p"},
		{"empty folder", "empty", "skipped empty: the folder holds no *.yaml, *.yml or *.json file that is read"},
		{"named link to a folder", "link", "link/d.yaml:1 #0 v1 Service d"},
		{"named hidden folder", ".dot", ".dot/x.yaml:1 #0 v1 Service x"},
		{"standard input", "- app/sub", "-:1 #0 v1 Service stdin\napp/sub/d.yaml:1 #0 v1 Service d"},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, err := Read(strings.Fields(tt.paths), Options{Stdin: strings.NewReader(svc("stdin")), Scheme: Scheme()})
			if err != nil {
				t.Fatalf("Read(%s): %v", tt.paths, err)
			}
			if diff := cmp.Diff(tt.want, summary(t, in)); diff != "" {
				t.Errorf("Read(%s) (-want +got):\n%s", tt.paths, diff)
			}
		})
	}
}

// TestReadTells of each file, those that cannot be read included, before what is in it is understood.
func TestReadTells(t *testing.T) {
	tree(t, map[string]string{"a.yaml": svc("a"), "b.yaml": svc("bb"), "broken.yaml": "["})
	var told []Progress
	in, err := Read([]string{"a.yaml", "-", "broken.yaml", "b.yaml"}, Options{
		Stdin: iotest.ErrReader(errors.New("torn")), Scheme: Scheme(), Tell: func(now Progress) { told = append(told, now) },
	})
	a, b := int64(len(svc("a"))), int64(len(svc("bb")))
	want := []Progress{{1, 4, a}, {2, 4, a}, {3, 4, a + 1}, {4, 4, a + 1 + b}}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if err != nil || len(in.Unread) != 1 || len(in.Skipped) != 1 || len(in.Objects) != 2 || in.Objects[1].Position() != "b.yaml:1" {
		t.Errorf("%v, %d objects, %q; want what could be read, and why the rest could not", err, len(in.Objects), wrong(in))
	}
	if got := (&Object{Path: "-", Line: 3}).Position(); got != "standard input:3" {
		t.Errorf("position %q", got)
	}
}

func TestReadErrors(t *testing.T) {
	tree(t, map[string]string{
		"z.yaml": "apiVersion: v1\nkind: 1", "a.yaml": "apiVersion: v1\nkind: Pod\nspec: [", "values.yaml": "replicas: 1", "folder/bad.yaml": "apiVersion: v1\nkind: [", "folder/gone.yaml": "->nowhere",
		"folder/half.yaml": "apiVersion: v1\nkind: List\nitems: [{a: 1}]",
	})
	big, err := os.Create("big.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(big.Truncate(maxBytes+1), big.Close()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, paths string
		stdin       io.Reader
		want        string
	}{
		{"none", "nowhere.yaml values.yaml none.yaml", nil, "nowhere.yaml: no such file or directory\nnone.yaml: no such file or directory"},
		{"no object", "values.yaml", nil, "skipped values.yaml:1: no Kubernetes object: it has no apiVersion and no kind"},
		{"sorted", "z.yaml a.yaml", nil, "a.yaml:3: no valid YAML: did not find expected node content\nz.yaml:1: no Kubernetes object: its kind is no text"},
		{"folder", "folder", nil, "folder/bad.yaml:2: no valid YAML: did not find expected node content\nfolder/gone.yaml: no such file or directory\nfolder/half.yaml:3: items[0]: no Kubernetes object: it has no apiVersion and no kind"},
		{"large", "big.yaml", nil, "big.yaml: is larger than 64 MiB; split it into several files"},
		{"large stdin", "-", io.LimitReader(endless{}, maxBytes*4), "standard input: is larger than 64 MiB; split it into several files"},
		{"no stdin", "-", nil, "standard input: there is nothing to read from"},
		{"broken stdin", "-", iotest.ErrReader(errors.New("torn")), "standard input: torn"},
		{"wrong stdin", "-", bytes.NewReader([]byte("\na: 1")), "skipped standard input:2: no Kubernetes object: it has no apiVersion and no kind"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, err := Read(strings.Fields(tt.paths), Options{Stdin: tt.stdin, Scheme: Scheme()})
			got := wrong(in)
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Read(%s) (-want +got):\n%s", tt.paths, diff)
			}
		})
	}
}

// endless is a stream of spaces.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
