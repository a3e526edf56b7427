// Package binaries builds the Kubernetes, etcd and CNI programs that the tests run, from the very modules that go.mod
// and cni/go.mod pin, once, into a cache folder. Nothing is downloaded but Go modules.
package binaries

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Name is the name of a program, as its file in the cache folder is called.
type Name string

// The programs.
const (
	Etcd                  Name = "etcd"
	KubeAPIServer         Name = "kube-apiserver"
	KubeControllerManager Name = "kube-controller-manager"
	KubeProxy             Name = "kube-proxy"
	KubeScheduler         Name = "kube-scheduler"
	Kubectl               Name = "kubectl"
	Portmap               Name = "portmap"
)

// All returns every program, the one that takes longest to build first: the others then find most of their packages
// compiled.
func All() []Name {
	return []Name{KubeAPIServer, KubeControllerManager, KubeScheduler, KubeProxy, Kubectl, Etcd, Portmap}
}

// Dir is a folder that holds programs.
type Dir string

// Path returns the file of a program.
func (d Dir) Path(n Name) string { return filepath.Join(string(d), string(n)) }

// Ensure returns the folder that holds the named programs, all of them if none is named, and builds those that are
// not there yet. Processes that ask at the same time build once: the others wait. It reports on progress what it
// builds and that it is alive, and says nothing if there is nothing to build.
//
// The folder is $PORTCULLIS_CACHE, else portcullis in the user's cache folder; in it, one folder for each combination
// of versions, so that a change of go.mod or of the Go toolchain builds anew.
func Ensure(ctx context.Context, progress io.Writer, names ...Name) (Dir, error) {
	if len(names) == 0 {
		names = All()
	}
	module, err := findModule()
	if err != nil {
		return "", err
	}
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	b := builder{
		dir:      Dir(filepath.Join(cache, "binaries", module.key())),
		programs: All(),
		progress: newProgress(progress),
		compile:  module.compile,
	}
	if err := b.ensure(ctx, names); err != nil {
		return "", err
	}
	return b.dir, nil
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

// key names a combination of versions.
func (m module) key() string {
	return fmt.Sprintf("kubernetes-%s-etcd-%s-cni-%s-%s-%s-%s", m.kubernetes, m.etcd, m.cni, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
