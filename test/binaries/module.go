package binaries

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

const (
	modulePath     = "github.com/portcullis-k8s/portcullis/test"
	kubernetesPath = "k8s.io/kubernetes"
	etcdPath       = "go.etcd.io/etcd/server/v3"
	cniPath        = "github.com/containernetworking/plugins"
)

// module is the module that this package belongs to, as it lies on disk: its go.mod decides the versions.
type module struct {
	dir                   string
	kubernetes, etcd, cni string // versions
}

// cniDir is the module that pins the CNI plugins.
func (m module) cniDir() string { return filepath.Join(m.dir, "binaries", "cni") }

// findModule looks for the module's folder above the working directory, where go test and go -C test run start
// programs, in the checkout around it, and at last where this file was compiled.
func findModule() (module, error) {
	wd, err := os.Getwd()
	if err != nil {
		return module{}, err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "test")} {
			if m, err := readModule(candidate); !errors.Is(err, errNotOurs) {
				return m, err
			}
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if m, err := readModule(filepath.Dir(filepath.Dir(file))); !errors.Is(err, errNotOurs) {
			return m, err
		}
	}
	return module{}, fmt.Errorf("cannot find the folder of module %s from %s: run this inside a checkout", modulePath, wd)
}

var errNotOurs = errors.New("not the module " + modulePath)

// readModule reads the versions from dir/go.mod, if that is our go.mod.
func readModule(dir string) (module, error) {
	file := filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(file)
	if err != nil || modfile.ModulePath(data) != modulePath {
		return module{}, errNotOurs
	}
	m := module{dir: dir}
	if err := readVersions(file, map[string]*string{kubernetesPath: &m.kubernetes, etcdPath: &m.etcd}); err != nil {
		return module{}, err
	}
	if err := readVersions(filepath.Join(m.cniDir(), "go.mod"), map[string]*string{cniPath: &m.cni}); err != nil {
		return module{}, err
	}
	return m, nil
}

// readVersions reads the versions of modules that a go.mod must require.
func readVersions(file string, versions map[string]*string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	parsed, err := modfile.ParseLax(file, data, nil)
	if err != nil {
		return err
	}
	for _, r := range parsed.Require {
		if v, ok := versions[r.Mod.Path]; ok {
			*v = r.Mod.Version
		}
	}
	for path, v := range versions {
		if *v == "" {
			return fmt.Errorf("%s does not require %s", file, path)
		}
	}
	return nil
}

// pkg returns the package and the version that a program is built from.
func (m module) pkg(n Name) (path, version string) {
	switch n {
	case Etcd:
		return etcdPath, m.etcd
	case Portmap:
		return cniPath + "/plugins/meta/portmap", m.cni
	default:
		return kubernetesPath + "/cmd/" + string(n), m.kubernetes
	}
}

// buildDir returns the folder of the module in whose graph a program is built.
func (m module) buildDir(n Name) string {
	if n == Portmap {
		return m.cniDir()
	}
	return m.dir
}

// compile builds a program into a file.
func (m module) compile(ctx context.Context, n Name, file string) error {
	pkg, version := m.pkg(n)
	if err := goBuild(ctx, m.buildDir(n), file, pkg, m.ldflags()); err != nil {
		return fmt.Errorf("version %s: %w", version, err)
	}
	return nil
}

// goBuild builds a package in the graph of the module in dir.
func goBuild(ctx context.Context, dir, file, pkg, ldflags string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", ldflags, "-o", file, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "PWD="+cmd.Dir)
	// An interrupt lets go remove its temporary files and stop its compilers.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("go build %s in %s: %w\n%s", pkg, cmd.Dir, err, strings.TrimSpace(output.String()))
	}
	return nil
}

// ldflags gives the programs the version that a release build has: without it they call themselves
// v0.0.0-master+$Format:%H$, or unknown. etcd has its version in its source and ignores the settings.
func (m module) ldflags() string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(semver.MajorMinor(m.kubernetes), "v"), ".")
	const set = "-X k8s.io/component-base/version."
	cni := "-X " + cniPath + "/pkg/utils/buildversion.BuildVersion=" + m.cni + " "
	return "-s -w " + cni + set + "gitVersion=" + m.kubernetes + " " + set + "gitMajor=" + major + " " + set + "gitMinor=" + minor
}
