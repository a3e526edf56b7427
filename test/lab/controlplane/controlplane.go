// Package controlplane runs a real Kubernetes control plane for tests: etcd, kube-apiserver and, if asked for,
// kube-controller-manager and kube-scheduler, each a process of its own on the loopback interface.
//
// What it is not: there is no kubelet (package kubelet stands in for it), no kube-proxy, no network between pods. etcd
// is not protected by certificates and does not wait for the disk. Everything else is what the components do by
// default, except where flags.go says why not.
package controlplane

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// Service ranges for Options.ServiceCIDRs, big enough for many thousand Services.
const (
	IPv4ServiceCIDR = "10.96.0.0/16"
	IPv6ServiceCIDR = "fd00:10:96::/112"
)

// Options says which control plane to start. The zero value is etcd and an IPv4 API server.
type Options struct {
	Kubernetes string // the minor version, as in binaries.Options

	ControllerManager bool
	Scheduler         bool

	NodePortRange string   // --service-node-port-range; 30000-32767 if empty
	ServiceCIDRs  []string // one, or one of each family, the primary one first; IPv4ServiceCIDR if empty

	// NodeMonitorGracePeriod is how long a node may be silent before it counts as lost; 0 is the controller manager's
	// own default, most of a minute. Nodes must report several times in that period.
	NodeMonitorGracePeriod time.Duration

	// SchedulerProgram is a program that takes kube-scheduler's flags, to run instead of it.
	SchedulerProgram string
	// SchedulerConfig is the path of a KubeSchedulerConfiguration. The scheduler is given a copy that says how to
	// reach the API server and elects no leader.
	SchedulerConfig string

	// Flags for the components, after those that this package sets: the last one wins.
	APIServerFlags         []string
	ControllerManagerFlags []string
	SchedulerFlags         []string

	LogDir   string    // where each component's log goes; if empty, a folder that is removed after a good end
	Progress io.Writer // where the building of the programs is reported, if they must be built; os.Stderr if nil
}

// ControlPlane is a control plane that runs.
type ControlPlane struct {
	options  Options
	programs binaries.Programs
	dir      string // certificates, kubeconfigs, etcd's data
	logs     string
	keepLogs bool
	url      string
	ca       *authority
	admin    *rest.Config
	http     *http.Client
	client   kubernetes.Interface
	ports    ports

	mu         sync.Mutex   // guards what runs
	components []*component // in the order of their start
}

// Run starts a control plane for a test and stops it when the test ends. The logs of a test that failed are kept.
func Run(tb testing.TB, o Options) *ControlPlane {
	tb.Helper()
	cp, err := Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			cp.keepLogs = true
			tb.Log("the logs of the control plane: " + cp.logs)
		}
		cp.Stop()
	})
	return cp
}

// Start starts a control plane and returns when it serves: the API server is ready and has its first namespaces, the
// controllers work, the scheduler has seen the cluster. The context bounds the start only; Stop ends what was started.
func Start(ctx context.Context, o Options) (_ *ControlPlane, err error) {
	if o.NodePortRange == "" {
		o.NodePortRange = "30000-32767"
	}
	if len(o.ServiceCIDRs) == 0 {
		o.ServiceCIDRs = []string{IPv4ServiceCIDR}
	}
	cp := &ControlPlane{options: o, keepLogs: o.LogDir != ""}
	defer func() {
		if err != nil {
			cp.keepLogs = true // the error names them
			cp.Stop()
		}
	}()
	if cp.programs, err = binaries.Ensure(ctx, binaries.Options{Kubernetes: o.Kubernetes, Progress: o.Progress}, o.programs()...); err != nil {
		return nil, err
	}
	if o.SchedulerProgram != "" {
		cp.programs[binaries.KubeScheduler] = o.SchedulerProgram
	}
	if err := cp.prepareFolders(); err != nil {
		return nil, err
	}
	if err := cp.prepareAccess(); err != nil {
		return nil, err
	}
	if err := cp.startComponents(ctx); err != nil {
		return nil, err
	}
	return cp, nil
}

// programs returns the programs that the options need.
func (o Options) programs() []binaries.Name {
	names := []binaries.Name{binaries.Etcd, binaries.KubeAPIServer}
	if o.ControllerManager {
		names = append(names, binaries.KubeControllerManager)
	}
	if o.Scheduler && o.SchedulerProgram == "" {
		names = append(names, binaries.KubeScheduler)
	}
	return names
}

func (cp *ControlPlane) prepareFolders() (err error) {
	if cp.dir, err = os.MkdirTemp("", "portcullis-controlplane-"); err != nil {
		return err
	}
	if cp.options.LogDir == "" {
		cp.logs, err = os.MkdirTemp("", "portcullis-logs-")
		return err
	}
	if cp.logs, err = filepath.Abs(cp.options.LogDir); err != nil {
		return err
	}
	return os.MkdirAll(cp.logs, 0o755)
}

// LogDir returns the folder of the logs, each called after its component.
func (cp *ControlPlane) LogDir() string { return cp.logs }

// Stop ends every component, in the reverse order of their start, and removes the temporary files. One that does not
// end when asked is killed. Stopping twice does no harm.
func (cp *ControlPlane) Stop() {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for _, c := range slices.Backward(cp.components) {
		c.stop()
	}
	cp.ports.release()
	// Nobody is hurt by a temporary file that cannot be removed.
	_ = os.RemoveAll(cp.dir)
	if !cp.keepLogs {
		_ = os.RemoveAll(cp.logs)
	}
}
