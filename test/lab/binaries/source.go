package binaries

import (
	"crypto/sha256"
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

const (
	kubernetesPath = "k8s.io/kubernetes"
	etcdPath       = "go.etcd.io/etcd/server/v3"
	cniPath        = "github.com/containernetworking/plugins"
	helmPath       = "helm.sh/helm/v4"
	prometheusPath = "github.com/prometheus/prometheus"

	kubeScorePath   = "github.com/zegl/kube-score"
	kubeconformPath = "github.com/yannh/kubeconform"
)

// source is a module on disk and the programs that are built in its graph.
type source struct {
	dir       string   // the folder of its go.mod
	folder    string   // of its programs, below the cache folder
	flags     []string // of go install
	programs  []program
	isTree    bool // the programs are of this repository, so that they change with it
	onRequest bool // `make test` does not need them
}

type program struct {
	name Name
	pkg  string // its package, as go install takes it
}

// sources lists all programs. Programs of Kubernetes are built together: they share most of their packages, and one is
// linked while others are still compiled.
func sources(c checkout, v versions) []source {
	goVersion := strings.Join([]string{runtime.Version(), runtime.GOOS, runtime.GOARCH}, "-")
	pinned := func(name, version string) string { return filepath.Join("binaries", name+"-"+version+"-"+goVersion) }
	tree := filepath.Join("tree", fmt.Sprintf("%x", sha256.Sum256([]byte(c.test)))[:16])
	k8s := func(n Name) program { return program{n, kubernetesPath + "/cmd/" + string(n)} }
	kubernetesFlags := append([]string{"-s", "-w"}, versionFlags(v.kubernetes)...)
	return []source{
		{
			dir: v.dir, folder: pinned("kubernetes", v.kubernetes+"-etcd-"+v.etcd), flags: ldflags(kubernetesFlags...),
			programs: []program{k8s(KubeAPIServer), k8s(KubeControllerManager), k8s(KubeScheduler), k8s(Kubectl), k8s(KubeProxy), {Etcd, etcdPath}},
		},
		{
			dir: c.cniDir(), folder: pinned("cni", v.cni), flags: ldflags("-s", "-w", "-X", cniPath+"/pkg/utils/buildversion.BuildVersion="+v.cni),
			programs: []program{{Portmap, cniPath + "/plugins/meta/portmap"}},
		},
		{
			dir: c.helmDir(), folder: pinned("helm", v.helm), flags: ldflags("-s", "-w", "-X", helmPath+"/internal/version.version="+v.helm),
			programs: []program{{Helm, helmPath + "/cmd/helm"}},
		},
		{
			dir: c.root(), folder: pinned("prometheus", v.prometheus), flags: append(ldflags("-s", "-w"), "-modfile="+c.promtoolMod(), "-tags=remove_all_sd"), onRequest: true, // Debian has it
			programs: []program{{Promtool, prometheusPath + "/cmd/promtool"}},
		},
		{
			dir: c.root(), folder: pinned("peers", v.kubeScore+"-"+v.kubeconform), flags: append(ldflags("-s", "-w"), "-modfile="+c.peersMod()), onRequest: true,
			programs: []program{{KubeScore, kubeScorePath + "/cmd/kube-score"}, {Kubeconform, kubeconformPath + "/cmd/kubeconform"}},
		},
		{dir: c.root(), folder: tree, isTree: true, programs: []program{{Portcullis, "./cmd/portcullis"}}},
		{
			dir: c.schedulerDir(), folder: tree, isTree: true, flags: ldflags(versionFlags(v.kubernetes)...),
			programs: []program{{PortcullisScheduler, "github.com/portcullis-k8s/portcullis/cmd/portcullis-scheduler"}},
		},
		{dir: c.test, folder: tree, isTree: true, programs: []program{{Run, "./cmd/run"}, {Empty, "./perf/load/empty"}}},
	}
}

func ldflags(flags ...string) []string { return []string{"-ldflags=" + strings.Join(flags, " ")} }

// versionFlags gives the programs the version that a release build has: without it they call themselves
// v0.0.0-master+$Format:%H$. etcd has its version in its source and ignores the settings.
func versionFlags(version string) []string {
	const set = "k8s.io/component-base/version."
	major, minor, _ := strings.Cut(minorOf(version), ".")
	return []string{"-X", set + "gitVersion=" + version, "-X", set + "gitMajor=" + major, "-X", set + "gitMinor=" + minor}
}

// minorOf returns 1.37 for v1.37.2.
func minorOf(version string) string { return strings.TrimPrefix(semver.MajorMinor(version), "v") }

// only returns the source with those of its programs that are named.
func (s source) only(names []Name) source {
	s.programs = slices.DeleteFunc(slices.Clone(s.programs), func(p program) bool { return !slices.Contains(names, p.name) })
	return s
}

func (s source) names() []Name {
	var names []Name
	for _, p := range s.programs {
		names = append(names, p.name)
	}
	return names
}

// file is what go install calls the program: like the last element of its import path that is no version.
func (p program) file() string {
	base := path.Base(p.pkg)
	if strings.HasPrefix(base, "v") && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(p.pkg))
	}
	return base
}
