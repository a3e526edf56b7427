// Package rig puts the webhook in front of a real control plane, as an installation would: the portcullis program runs as a
// process of its own with the rights that config/ gives it, and the API server asks it through the webhook
// configurations that ship. `make run` and the end-to-end tests use the same rig.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/util/cert"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/child"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
)

// Drain is how long a replica goes on serving when it is told to stop.
const Drain = 300 * time.Millisecond

// Replica is a portcullis that serves on loopback.
type Replica struct {
	CA          []byte // of its serving certificate, PEM
	dir         string
	args        []string
	program     string
	port        int
	healthPort  int
	metricsPort int
	process     *child.Process
	releases    []func() // of the ports
}

// NewReplica prepares a replica with a configuration file's text, a kubeconfig, and flags that win over those that the rig gives.
// It does not start it; Close ends it.
func NewReplica(ctx context.Context, dir, config, kubeconfig string, flags ...string) (*Replica, error) {
	program, err := binaries.One(ctx, binaries.Portcullis)
	if err != nil {
		return nil, err
	}
	g := &Replica{dir: dir, program: program}
	if err := g.NewCertificate(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	for _, p := range []*int{&g.port, &g.healthPort, &g.metricsPort} {
		var release func()
		if *p, release, err = controlplane.ReservePort(); err != nil {
			return nil, err
		}
		g.releases = append(g.releases, release)
	}
	g.args = []string{
		"serve", "--kubeconfig", kubeconfig, "--cert-dir", dir, "--config", filepath.Join(dir, "config.yaml"),
		"--host", "127.0.0.1", "--port", strconv.Itoa(g.port), "--drain-delay", Drain.String(),
		"--rebuild-every", "1s", // tests hold that it never finds anything
		"--audit-every", "0", // tests count events and requests; test/cluster/cli and test/cluster/operations have audits
		"--health-address", local(g.healthPort), "--metrics-address", local(g.metricsPort),
	}
	g.args = append(g.args, flags...)
	return g, nil
}

// NewCertificate gives the webhook a new serving certificate, of a new CA.
func (r *Replica) NewCertificate() error {
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return err
	}
	r.CA = certificate // the leaf and the CA that signed it
	for name, data := range map[string][]byte{"tls.key": key, "tls.crt": certificate} {
		if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// Program is the path of the command.
func (r *Replica) Program() string { return r.program }

// URL is where the hooks are served.
func (r *Replica) URL() string { return "https://" + local(r.port) }

// Start runs the program and returns when it is ready.
func (r *Replica) Start(ctx context.Context) error {
	if err := r.Launch(); err != nil {
		return err
	}
	return r.process.Await(ctx, r.Ready)
}

// Launch runs the program and does not wait.
func (r *Replica) Launch() (err error) {
	r.process, err = child.Start(child.Program{
		Name: "portcullis", Path: r.program, Args: r.args, Log: r.LogFile(), Env: []string{"POD_NAME=portcullis"},
	})
	return err
}

// LogFile is where the program's log goes.
func (r *Replica) LogFile() string { return filepath.Join(r.dir, "portcullis.log") }

// Stop ends the program as a kubelet would.
func (r *Replica) Stop() {
	if r.process != nil {
		r.process.Stop(10 * time.Second)
	}
}

// Close stops the program for good.
func (r *Replica) Close() {
	r.Stop()
	for _, release := range r.releases {
		release()
	}
	r.releases = nil
}

// Ended returns a channel that is closed when the program has ended.
func (r *Replica) Ended() <-chan struct{} { return r.process.Done() }

// Freeze holds the program up for a while.
func (r *Replica) Freeze(d time.Duration) {
	r.process.Freeze()
	defer r.process.Thaw()
	time.Sleep(d)
}

// Kill ends the program without a warning.
func (r *Replica) Kill() { r.process.Kill() }

// Ready returns nil if the program says that it is ready, else what it says.
func (r *Replica) Ready(ctx context.Context) error {
	body, status, err := get(ctx, "http://"+local(r.healthPort)+"/readyz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("readyz: %d %s", status, body)
	}
	return err
}

func get(ctx context.Context, url string) (string, int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return string(body), resp.StatusCode, err
}

// Count sums the samples of a counter of the program whose labels contain all of the given parts, `hook="mutate-pods"`
// for example.
func (r *Replica) Count(ctx context.Context, name string, labels ...string) (float64, error) {
	body, status, err := get(ctx, "http://"+local(r.metricsPort)+"/metrics")
	if err != nil || status != http.StatusOK {
		return 0, errors.Join(err, fmt.Errorf("metrics: status %d", status))
	}
	return sum(body, name, labels), nil
}
