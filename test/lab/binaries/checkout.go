package binaries

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

const modulePath = "github.com/portcullis-k8s/portcullis/test"

// checkout is this repository as it is on disk.
type checkout struct {
	test string // the folder of the module of the tests
}

func (c checkout) root() string      { return filepath.Dir(c.test) }
func (c checkout) cniDir() string    { return filepath.Join(c.test, "lab", "binaries", "cni") }
func (c checkout) helmDir() string   { return filepath.Join(c.test, "lab", "binaries", "helm") }
func (c checkout) minorsDir() string { return filepath.Join(c.test, "lab", "binaries", "kubernetes") }
func (c checkout) schedulerDir() string {
	return filepath.Join(c.root(), "cmd", "portcullis-scheduler")
}
func (c checkout) promtoolMod() string { return filepath.Join(c.root(), "tools", "promtool.mod") }
func (c checkout) peersMod() string    { return filepath.Join(c.root(), "tools", "peers.mod") }

// Root returns the folder of this repository.
func Root() (string, error) {
	c, err := findCheckout()
	return c.root(), err
}

// versions are what the go.mod files pin.
type versions struct {
	dir                                     string // of the module in whose graph Kubernetes is built
	kubernetes, etcd, cni, helm, prometheus string
	kubeScore, kubeconform                  string
}

// versions reads them, for a minor version of Kubernetes or, if that is "", the one that the tests are compiled against.
func (c checkout) versions(minor string) (versions, error) {
	v := versions{dir: c.test}
	read := func(file string, pins map[string]*string) error { return readVersions(file, pins) }
	if err := read(filepath.Join(v.dir, "go.mod"), map[string]*string{kubernetesPath: &v.kubernetes, etcdPath: &v.etcd}); err != nil {
		return versions{}, err
	}
	if minor != "" && minor != minorOf(v.kubernetes) {
		v.dir = filepath.Join(c.minorsDir(), minor)
		file := filepath.Join(v.dir, "go.mod")
		if _, err := os.Stat(file); err != nil {
			return versions{}, fmt.Errorf("no Kubernetes %s can be built: %w", minor, err)
		}
		if err := read(file, map[string]*string{kubernetesPath: &v.kubernetes, etcdPath: &v.etcd}); err != nil {
			return versions{}, err
		}
	}
	return v, errors.Join(
		read(filepath.Join(c.cniDir(), "go.mod"), map[string]*string{cniPath: &v.cni}),
		read(filepath.Join(c.helmDir(), "go.mod"), map[string]*string{helmPath: &v.helm}),
		read(c.promtoolMod(), map[string]*string{prometheusPath: &v.prometheus}),
		read(c.peersMod(), map[string]*string{kubeScorePath: &v.kubeScore, kubeconformPath: &v.kubeconform}),
	)
}

// findCheckout looks for the module's folder above the working directory, where go test and go -C test run start
// programs, in the checkout around it, and at last where this file was compiled.
func findCheckout() (checkout, error) {
	wd, err := os.Getwd()
	if err != nil {
		return checkout{}, err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "test")} {
			if isOurs(candidate) {
				return checkout{candidate}, nil
			}
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if dir := filepath.Dir(filepath.Dir(filepath.Dir(file))); isOurs(dir) {
			return checkout{dir}, nil
		}
	}
	return checkout{}, fmt.Errorf("cannot find the folder of module %s from %s: run this inside a checkout", modulePath, wd)
}

func isOurs(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(data) == modulePath
}

// readVersions reads the versions of modules that a go.mod must require.
func readVersions(file string, pins map[string]*string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	parsed, err := modfile.ParseLax(file, data, nil)
	if err != nil {
		return err
	}
	var missing []string
	for path, v := range pins {
		*v = ""
		for _, r := range parsed.Require {
			if r.Mod.Path == path {
				*v = r.Mod.Version
			}
		}
		if *v == "" {
			missing = append(missing, path)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%s does not require %s", file, strings.Join(missing, ", "))
	}
	return nil
}
