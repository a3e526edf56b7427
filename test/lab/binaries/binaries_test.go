package binaries

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEnsure builds the programs of others, or finds them built, and asks each for its version.
func TestEnsure(t *testing.T) {
	names := []Name{Etcd, KubeAPIServer, KubeControllerManager, KubeProxy, KubeScheduler, Kubectl, Portmap, Helm}
	programs, err := Ensure(t.Context(), Options{}, names...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := findCheckout()
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.versions("")
	if err != nil {
		t.Fatal(err)
	}
	version := map[Name]string{Etcd: v.etcd, Portmap: v.cni, Helm: v.helm}
	args := map[Name][]string{Kubectl: {"version", "--client"}, Helm: {"version"}}
	for _, n := range names {
		want := version[n]
		if want == "" {
			want = v.kubernetes
		}
		ask := args[n]
		if ask == nil {
			ask = []string{"--version"}
		}
		out, err := exec.CommandContext(t.Context(), programs.Path(n), ask...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", n, err, out)
		}
		if !strings.Contains(string(out), strings.TrimPrefix(want, "v")) {
			t.Errorf("%s says it is %q, its go.mod wants %s", n, out, want)
		}
	}
	var progress bytes.Buffer
	again, err := Ensure(t.Context(), Options{Progress: &progress}, names...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(programs, again); diff != "" || progress.Len() > 0 {
		t.Errorf("with everything built: progress %q, want none; (-first +again):\n%s", &progress, diff)
	}
}

// TestEnsureTree: a program of this repository follows its source, and is left alone while that is the same.
func TestEnsureTree(t *testing.T) {
	t.Setenv("PORTCULLIS_CACHE", t.TempDir())
	stat := func() os.FileInfo {
		t.Helper()
		programs, err := Ensure(t.Context(), Options{}, Empty)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(programs.Path(Empty))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first, again := stat(), stat()
	if !os.SameFile(first, again) { // its time is a new one: go has looked at it
		t.Error("the program was built twice from the same source")
	}
}

// TestMinors: each minor version of Kubernetes that is offered pins a version of that minor, and etcd.
func TestMinors(t *testing.T) {
	minors, err := Minors()
	if err != nil {
		t.Fatal(err)
	}
	c, err := findCheckout()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range minors {
		v, err := c.versions(m)
		if err != nil || minorOf(v.kubernetes) != m || v.etcd == "" {
			t.Errorf("Kubernetes %s: %+v, %v", m, v, err)
		}
		folder := sources(c, v)[0].folder
		if !strings.Contains(folder, v.kubernetes) {
			t.Errorf("the programs of Kubernetes %s are in %s, which could be another version's", m, folder)
		}
	}
	for _, m := range []string{"1.2", "x", "../.."} {
		if _, err := Ensure(t.Context(), Options{Kubernetes: m}, KubeAPIServer); err == nil || !strings.Contains(err.Error(), m) {
			t.Errorf("Kubernetes %s: %v, want an error that names it", m, err)
		}
	}
}

func TestFolderFollowsEnvironment(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("PORTCULLIS_CACHE", cache)
	if got, err := cacheFolder(); got != cache || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, cache)
	}
	t.Setenv("PORTCULLIS_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if got, err := cacheFolder(); !strings.HasPrefix(got, os.TempDir()) || err != nil {
		t.Errorf("without a home: got %s, %v; want a folder in %s", got, err, os.TempDir())
	}
}

func TestFindCheckout(t *testing.T) {
	want, err := findCheckout()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{want.test, want.root(), filepath.Join(want.test, "cmd", "binaries"), t.TempDir()} {
		t.Chdir(dir)
		if got, err := findCheckout(); err != nil || got != want {
			t.Errorf("from %s: %v, %v; want %v", dir, got, err, want)
		}
	}
}

func TestUnknownName(t *testing.T) {
	if _, err := Ensure(t.Context(), Options{}, "kubelet"); err == nil || !strings.Contains(err.Error(), "kubelet") {
		t.Errorf("got %v, want an error that names kubelet", err)
	}
}

func TestProgramFile(t *testing.T) {
	for pkg, want := range map[string]string{etcdPath: "server", "k8s.io/kubernetes/cmd/kubectl": "kubectl", "a/vet": "vet", "./cmd/run": "run"} {
		if got := (program{pkg: pkg}).file(); got != want {
			t.Errorf("go install calls %s %s, want %s", pkg, got, want)
		}
	}
	for _, s := range sources(checkout{}, versions{}) {
		for _, p := range s.programs {
			if got := p.file(); got != string(p.name) && p.name != Etcd {
				t.Errorf("go install calls %s %s", p.name, got)
			}
		}
	}
}
