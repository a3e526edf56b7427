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
)

// module is the module that this package belongs to, as it lies on disk: its go.mod decides the versions.
type module struct {
	dir              string
	kubernetes, etcd string // versions
}

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
	parsed, err := modfile.ParseLax(file, data, nil)
	if err != nil {
		return module{}, err
	}
	m := module{dir: dir}
	for _, r := range parsed.Require {
		switch r.Mod.Path {
		case kubernetesPath:
			m.kubernetes = r.Mod.Version
		case etcdPath:
			m.etcd = r.Mod.Version
		}
	}
	if m.kubernetes == "" || m.etcd == "" {
		return module{}, fmt.Errorf("%s does not require %s and %s", file, kubernetesPath, etcdPath)
	}
	return m, nil
}

// pkg returns the package and the version that a program is built from.
func (m module) pkg(n Name) (path, version string) {
	if n == Etcd {
		return etcdPath, m.etcd
	}
	return kubernetesPath + "/cmd/" + string(n), m.kubernetes
}

// compile builds a program into a file.
func (m module) compile(ctx context.Context, n Name, file string) error {
	pkg, version := m.pkg(n)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", m.ldflags(), "-o", file, pkg)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH, "PWD="+m.dir)
	// An interrupt lets go remove its temporary files and stop its compilers.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("go build %s (%s) in %s: %w\n%s", pkg, version, m.dir, err, strings.TrimSpace(output.String()))
	}
	return nil
}

// ldflags gives the programs the version that a release build has: without it they call themselves
// v0.0.0-master+$Format:%H$. etcd has its version in its source and ignores the settings.
func (m module) ldflags() string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(semver.MajorMinor(m.kubernetes), "v"), ".")
	const set = "-X k8s.io/component-base/version."
	return "-s -w " + set + "gitVersion=" + m.kubernetes + " " + set + "gitMajor=" + major + " " + set + "gitMinor=" + minor
}
