package binaries

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestParallelBuilds has several builders, each with its own file handle as separate processes have, ask at once.
func TestParallelBuilds(t *testing.T) {
	var compiled atomic.Int32
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			b := stub(dir, func(_ context.Context, dir string, names []Name, _ *progress) error {
				compiled.Add(1)
				for _, n := range names {
					if err := os.WriteFile(filepath.Join(dir, string(n)), nil, 0o755); err != nil {
						return err
					}
				}
				return nil
			}, Etcd, Kubectl)
			if err := b.ensure(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := compiled.Load(); got != 1 {
		t.Errorf("%d compilations, want 1 for both programs", got)
	}
	if got := files(t, dir); !cmp.Equal(got, []string{"etcd", "kubectl", "lock"}) {
		t.Errorf("the folder holds %v", got)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	wrong := errors.New("does not compile")
	b := stub(dir, func(_ context.Context, dir string, _ []Name, _ *progress) error {
		if err := os.WriteFile(filepath.Join(dir, string(Etcd)), []byte("half"), 0o755); err != nil {
			return err
		}
		return wrong
	}, Etcd)
	if err := b.ensure(t.Context()); !errors.Is(err, wrong) {
		t.Errorf("got %v, want %v", err, wrong)
	}
	if got := files(t, dir); !cmp.Equal(got, []string{"lock"}) {
		t.Errorf("the folder holds %v after a failure, want the lock alone", got)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	b := stub(t.TempDir(), nil, Etcd)
	unlock, err := b.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.ensure(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestBuildReportsErrors compiles what does not compile.
func TestBuildReportsErrors(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module wrong\n\ngo 1.26.0\n", "main.go": "package main\n\nfunc main() { wrong() }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	compiled := &packageCounter{}
	err := Build(t.Context(), compiled, dir, filepath.Join(dir, "wrong"), ".")
	if err == nil || !strings.Contains(err.Error(), "main.go:3:15: undefined: wrong") || strings.Contains(err.Error(), "\nwrong\n") {
		t.Errorf("got %v, want the compiler's error alone", err)
	}
}

func TestProgressRepeatsItself(t *testing.T) {
	lines := make(chan string, 100)
	p := progress{w: lineWriter(lines), quiet: time.Millisecond, every: time.Millisecond, end: "\n"}
	done := p.start("building a thing", func() string { return "7 packages compiled" })
	for _, end := range []string{" ...\n", " so far, 7 packages compiled\n"} {
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

func TestProgressIsQuietAboutMoments(t *testing.T) {
	var out strings.Builder
	p := progress{w: &out, quiet: time.Hour}
	p.start("a moment", nil)(nil)
	if out.Len() > 0 {
		t.Errorf("got %q, want nothing", out.String())
	}
	p.start("a moment", nil)(errors.New("failed"))
	if !strings.Contains(out.String(), "a moment: failed") {
		t.Errorf("got %q, want the failure", out.String())
	}
}

func TestPackageCounter(t *testing.T) {
	c := &packageCounter{total: 5}
	for _, part := range []string{"k8s.io/api", "/core/v1\nnet/http\n", "# k8s.io/broken\nmain.go:1:2: no\n", "go: downloading x v1\n", "fmt"} {
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := c.String(), "2 of at most 5 packages compiled"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type lineWriter chan<- string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func stub(dir string, compile func(context.Context, string, []Name, *progress) error, names ...Name) builder {
	return builder{dir: dir, programs: names, progress: &progress{w: io.Discard, quiet: time.Hour}, compile: compile}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
