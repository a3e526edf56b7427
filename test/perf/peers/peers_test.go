package peers

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// A flag, so that the figures of two runs are about the same files unless somebody wants others.
var seed = flag.Uint64("seed", 1, "what the manifests are made from")

// TestManifests holds the files to what the comparison rests on: as many objects as were asked for, nothing malformed.
func TestManifests(t *testing.T) {
	const n = 1234
	in, err := manifest.Read([]string{manifests(t, n)}, manifest.Options{Scheme: manifest.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Objects) != n || len(in.Skipped) > 0 {
		t.Errorf("read %d objects, skipped %v; want %d objects", len(in.Objects), in.Skipped, n)
	}
}

// BenchmarkPeers runs the three programs in turn over the same 10,000 manifests.
func BenchmarkPeers(b *testing.B) {
	dir := manifests(b, 10_000)
	portcullis := lint(b, dir)
	score := program{"kube-score", binaries.For(b, binaries.KubeScore), append([]string{"score"}, files(b, dir)...)}
	// Schemas come from the network, and none are found here: kubeconform parses every document and validates none,
	// which is the least that reading them can cost.
	parse := program{"kubeconform", binaries.For(b, binaries.Kubeconform),
		[]string{"-ignore-missing-schemas", "-schema-location", b.TempDir(), dir}}
	var ours, scores, parses usage
	for b.Loop() {
		ours.add(portcullis.run(b))
		scores.add(score.run(b))
		parses.add(parse.run(b))
	}
	n := float64(b.N)
	ours.report(b, portcullis.name, n)
	scores.report(b, score.name, n)
	parses.report(b, parse.name, n)
	b.ReportMetric(ours.wall.Seconds()/scores.wall.Seconds(), "time/kube-score")
	b.ReportMetric(ours.wall.Seconds()/parses.wall.Seconds(), "time/kubeconform")
	b.ReportMetric(float64(ours.peak)/float64(scores.peak), "peak/kube-score")
	b.ReportMetric(float64(ours.peak)/float64(parses.peak), "peak/kubeconform")
}

// BenchmarkGrowth runs portcullis over twice as many manifests each time.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{2_500, 5_000, 10_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			portcullis := lint(b, manifests(b, n))
			var total usage
			for b.Loop() {
				total.add(portcullis.run(b))
			}
			total.report(b, portcullis.name, float64(b.N))
			b.ReportMetric(float64(total.wall.Microseconds())/float64(b.N)/float64(n), "us/manifest")
		})
	}
}

// manifests returns a folder with n manifests.
func manifests(tb testing.TB, n int) string {
	tb.Helper()
	tb.Logf("%d manifests from -seed %d", n, *seed)
	g, err := newGenerator(*seed)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	if err := g.write(dir, n); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// files lists the files below dir, for a program that takes no folder.
func files(tb testing.TB, dir string) []string {
	tb.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

// program is one that is measured, as a user would call it.
type program struct {
	name string
	file string
	args []string
}

func lint(tb testing.TB, dir string) program {
	tb.Helper()
	return program{"portcullis", binaries.For(tb, binaries.Portcullis), []string{"lint", "-f", dir}}
}

// run runs the program once. What it says is thrown away; that it has found something, exit code 1, is no failure.
func (p program) run(tb testing.TB) usage {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), p.file, p.args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
		tb.Fatalf("%s: %v\n%s", p.name, err, stderr.String())
	}
	state := cmd.ProcessState
	u := usage{wall: wall, cpu: state.UserTime() + state.SystemTime()}
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		// KiB on Linux. Never less than what this process had when it started the program; it is small.
		u.peak = r.Maxrss << 10
	}
	return u
}

// usage is what runs of a program took: the sum of the times, the highest of the peaks.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // bytes
}

func (u *usage) add(v usage) {
	u.wall += v.wall
	u.cpu += v.cpu
	u.peak = max(u.peak, v.peak)
}

func (u usage) report(b *testing.B, name string, runs float64) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // of all programs together: left out
	b.ReportMetric(u.wall.Seconds()/runs, name+"-s")
	b.ReportMetric(u.cpu.Seconds()/runs, name+"-cpu-s")
	b.ReportMetric(float64(u.peak)/(1<<20), name+"-MiB")
}
