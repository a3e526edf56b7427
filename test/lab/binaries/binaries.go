// Package binaries builds the programs that tests run, and keeps them in a cache folder. Nothing is downloaded but Go
// modules.
//
// There are two kinds. Programs of others (Kubernetes, etcd, CNI's portmap, Helm, promtool) are built once from the
// versions that a go.mod pins; Options.Kubernetes picks another minor version of Kubernetes. Programs of this repository
// are brought up to date by each call, which takes a second where nothing has changed.
//
// All of them are built with go's default flags, like the tests themselves: another flag, as -trimpath, would have the
// libraries of Kubernetes compiled a second time, which takes minutes.
//
//	Ensure -> sources (which module, which packages) -> builder (lock, one go build for all that is missing) -> Programs
package binaries

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// Name is the name of a program, as its file in the cache folder is called.
type Name string

// The programs of others.
const (
	Etcd                  Name = "etcd"
	KubeAPIServer         Name = "kube-apiserver"
	KubeControllerManager Name = "kube-controller-manager"
	KubeProxy             Name = "kube-proxy"
	KubeScheduler         Name = "kube-scheduler"
	Kubectl               Name = "kubectl"
	Portmap               Name = "portmap"
	Helm                  Name = "helm"
	Promtool              Name = "promtool"

	// What `make peers` measures Portcullis beside.
	KubeScore   Name = "kube-score"
	Kubeconform Name = "kubeconform"
)

// The programs of this repository.
const (
	Portcullis          Name = "portcullis"
	PortcullisScheduler Name = "portcullis-scheduler"
	Run                 Name = "run"   // what `make run` runs when everything is built
	Empty               Name = "empty" // a webhook that does nothing, as a lower bound
)

// Options says how to build. The zero value is the version of Kubernetes that the tests are compiled against.
type Options struct {
	Kubernetes string    // a minor version, such as "1.36": see Minors
	Progress   io.Writer // where builds are reported; os.Stderr if nil
}

// Programs holds the file of each program.
type Programs map[Name]string

// Path returns the file of a program. That the program was not asked for is a mistake of the caller's.
func (p Programs) Path(n Name) string {
	file, ok := p[n]
	if !ok {
		panic(fmt.Sprintf("the program %s was not asked of Ensure", n))
	}
	return file
}

// All returns every program, in the order in which they are built.
func All() []Name { return named(func(source) bool { return true }) }

// ForTests returns the programs that `make test` needs.
func ForTests() []Name { return named(func(s source) bool { return !s.onRequest }) }

func named(is func(source) bool) []Name {
	var all []Name
	for _, s := range sources(checkout{}, versions{}) {
		if is(s) {
			all = append(all, s.names()...)
		}
	}
	return all
}

// Ensure returns the files of the named programs and builds those that are not there yet. Processes that ask at the same
// time build once: the others wait. It reports on progress what it builds and that it is alive, and prints nothing if
// there is nothing to build.
//
// The programs are in $PORTCULLIS_CACHE, else in portcullis in the user's cache folder; in it, one folder for each
// combination of versions, and one for each checkout of this repository.
func Ensure(ctx context.Context, o Options, names ...Name) (Programs, error) {
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	c, err := findCheckout()
	if err != nil {
		return nil, err
	}
	v, err := c.versions(o.Kubernetes)
	if err != nil {
		return nil, err
	}
	cache, err := cacheFolder()
	if err != nil {
		return nil, err
	}
	built := Programs{}
	for _, s := range sources(c, v) {
		wanted := s.only(names)
		if len(wanted.programs) == 0 {
			continue
		}
		b := builder{
			dir: filepath.Join(cache, s.folder), isTree: s.isTree, programs: wanted.names(),
			progress: newProgress(o.Progress), compile: wanted.compile,
		}
		if err := b.ensure(ctx); err != nil {
			return nil, err
		}
		for _, n := range b.programs {
			built[n] = b.path(n)
		}
	}
	for _, n := range names {
		if built[n] == "" {
			return nil, fmt.Errorf("no program is called %q: there are %v", n, All())
		}
	}
	return built, nil
}

// found are the programs that One has returned.
var found sync.Map

// One returns the file of one program. A process asks Ensure for it once: a source does not change while its test runs, and
// to ask go each time would take a second each.
func One(ctx context.Context, n Name) (string, error) {
	if file, ok := found.Load(n); ok {
		return file.(string), nil
	}
	programs, err := Ensure(ctx, Options{}, n)
	if err != nil {
		return "", err
	}
	found.Store(n, programs.Path(n))
	return programs.Path(n), nil
}

// For returns the file of one program, for a test, which it ends if the program cannot be had.
func For(tb testing.TB, n Name) string {
	tb.Helper()
	file, err := One(tb.Context(), n)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

// Minors returns the minor versions of Kubernetes that Options.Kubernetes may name, in order.
func Minors() ([]string, error) {
	c, err := findCheckout()
	if err != nil {
		return nil, err
	}
	current, err := c.versions("")
	if err != nil {
		return nil, err
	}
	minors := []string{minorOf(current.kubernetes)}
	entries, err := os.ReadDir(c.minorsDir())
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range entries {
		minors = append(minors, e.Name())
	}
	slices.Sort(minors)
	return minors, nil
}

// cacheFolder returns the folder that outlives a test run. An environment without a home gets one that lasts until
// the machine cleans its temporary files.
func cacheFolder() (string, error) {
	if dir := os.Getenv("PORTCULLIS_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "portcullis"), nil
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("portcullis-cache-%d", os.Getuid())), nil
}
