package binaries

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEnsure builds the real programs, or finds them built, and asks each for its version.
func TestEnsure(t *testing.T) {
	dir, err := Ensure(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	m, err := findModule()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range All() {
		args := []string{"--version"}
		if n == Kubectl {
			args = []string{"version", "--client"}
		}
		out, err := exec.CommandContext(t.Context(), dir.Path(n), args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", n, err, out)
		}
		_, version := m.pkg(n)
		if !strings.Contains(string(out), strings.TrimPrefix(version, "v")) {
			t.Errorf("%s says it is %q, go.mod wants %s", n, out, version)
		}
	}
	var progress bytes.Buffer
	again, err := Ensure(t.Context(), &progress)
	if err != nil {
		t.Fatal(err)
	}
	if again != dir || progress.Len() > 0 {
		t.Errorf("with everything built: folder %s, progress %q; want folder %s and silence", again, &progress, dir)
	}
}

// TestEnsureHelm does the same with Helm.
func TestEnsureHelm(t *testing.T) {
	helm, err := EnsureHelm(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), helm, "version", "--template", "{{.Version}}").CombinedOutput()
	if folder := filepath.Base(filepath.Dir(helm)); err != nil || !strings.HasPrefix(folder, "helm-"+string(out)+"-") {
		t.Errorf("helm says it is %q, %v; it lies in %s", out, err, folder)
	}
	var progress bytes.Buffer
	if again, err := EnsureHelm(t.Context(), &progress); again != helm || err != nil || progress.Len() > 0 {
		t.Errorf("with Helm built: %s, %v, progress %q; want %s and silence", again, err, &progress, helm)
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

func TestFindModule(t *testing.T) {
	want, err := findModule()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{want.dir, filepath.Dir(want.dir), filepath.Join(want.dir, "cmd", "binaries")} {
		t.Chdir(dir)
		got, err := findModule()
		if err != nil {
			t.Errorf("from %s: %v", dir, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(module{})); diff != "" {
			t.Errorf("from %s (-want +got):\n%s", dir, diff)
		}
	}
}

// TestParallelBuilds has several builders, each with its own file handle as separate processes have, ask at once.
func TestParallelBuilds(t *testing.T) {
	var compiled atomic.Int32
	dir := Dir(t.TempDir())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			b := stub(dir, func(_ context.Context, n Name, file string) error {
				compiled.Add(1)
				return os.WriteFile(file, []byte(n), 0o755)
			})
			if err := b.ensure(t.Context(), []Name{Etcd, Kubectl}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := compiled.Load(); got != 2 {
		t.Errorf("%d compilations for two programs, want 2", got)
	}
	if got := files(t, dir); !cmp.Equal(got, []string{"etcd", "kubectl", "lock"}) {
		t.Errorf("the folder holds %v", got)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	dir := Dir(t.TempDir())
	wrong := errors.New("does not compile")
	b := stub(dir, func(_ context.Context, _ Name, file string) error {
		if err := os.WriteFile(file, []byte("half"), 0o755); err != nil {
			return err
		}
		return wrong
	})
	if err := b.ensure(t.Context(), []Name{Etcd}); !errors.Is(err, wrong) {
		t.Errorf("got %v, want %v", err, wrong)
	}
	if got := files(t, dir); !cmp.Equal(got, []string{"lock"}) {
		t.Errorf("the folder holds %v after a failure, want the lock alone", got)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	dir := Dir(t.TempDir())
	unlock, err := stub(dir, nil).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stub(dir, nil).ensure(ctx, []Name{Etcd}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestUnknownName(t *testing.T) {
	if err := stub(Dir(t.TempDir()), nil).ensure(t.Context(), []Name{"kubelet"}); err == nil || !strings.Contains(err.Error(), "kubelet") {
		t.Errorf("got %v, want an error that names kubelet", err)
	}
}

func TestProgressRepeatsItself(t *testing.T) {
	lines := make(chan string, 100)
	p := progress{w: lineWriter(lines), every: time.Millisecond, end: "\n"}
	done := p.start("building a thing", "slowly")
	for _, end := range []string{": slowly\n", " so far\n"} {
		if got := <-lines; !strings.HasPrefix(got, "building a thing") || !strings.HasSuffix(got, end) {
			t.Errorf("got %q, want a line about the thing that ends in %q", got, end)
		}
	}
	go func() { // the beat must not block while done waits for it
		for range lines {
		}
	}()
	done(nil)
	close(lines)
}

type lineWriter chan<- string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func stub(dir Dir, compile func(context.Context, Name, string) error) builder {
	return builder{dir: dir, programs: All(), progress: newProgress(nil), compile: compile}
}

func files(t *testing.T, dir Dir) []string {
	t.Helper()
	entries, err := os.ReadDir(string(dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
