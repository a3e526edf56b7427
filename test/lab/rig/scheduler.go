package rig

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/test/lab/child"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
)

// SchedulerOptions says which scheduler to run. It acts with the rights that RBAC gives its user, for everything: the
// tokens and the rights of those who ask for its metrics are checked as they are.
type SchedulerOptions struct {
	Program string   // kube-scheduler, or one made of it
	Config  []byte   // a KubeSchedulerConfiguration
	User    string   // system:kube-scheduler if empty
	Groups  []string // of the user
}

// Scheduler is a kube-scheduler that runs beside a control plane.
type Scheduler struct {
	process *child.Process
	log     string
	url     string
	client  *http.Client
	release func() // of the port
}

// RunScheduler starts a scheduler for a test and stops it when the test ends. It returns when the scheduler has seen the
// cluster, which is before it leads, if it has to be elected.
func RunScheduler(tb testing.TB, cp *controlplane.ControlPlane, o SchedulerOptions) *Scheduler {
	tb.Helper()
	s, err := startScheduler(tb.Context(), tb.TempDir(), cp, o)
	if s != nil {
		tb.Cleanup(func() {
			if tb.Failed() {
				tb.Log(s.process.Explain(errors.New("the test has failed")))
			}
			s.Stop()
		})
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func startScheduler(ctx context.Context, dir string, cp *controlplane.ControlPlane, o SchedulerOptions) (*Scheduler, error) {
	if o.User == "" {
		o.User = "system:kube-scheduler"
	}
	as, err := cp.RESTConfigFor(o.User, o.Groups...)
	if err != nil {
		return nil, err
	}
	kubeconfig, config := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "scheduler.yaml")
	if err := controlplane.WriteKubeconfig(kubeconfig, as, ""); err != nil {
		return nil, err
	}
	if err := writeSchedulerConfig(config, o.Config, kubeconfig); err != nil {
		return nil, err
	}
	port, release, err := controlplane.ReservePort()
	if err != nil {
		return nil, err
	}
	s := &Scheduler{url: "https://" + local(port), log: filepath.Join(dir, "scheduler.log"), release: release}
	if s.client, err = schedulerClient(cp.RESTConfig()); err != nil {
		release()
		return nil, err
	}
	s.process, err = child.Start(child.Program{
		Name: filepath.Base(o.Program), Path: o.Program, Log: s.log,
		Args: []string{"--config=" + config, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port), "--v=1"},
	})
	if err != nil {
		release()
		return nil, err
	}
	return s, s.awaitReady(ctx)
}

// writeSchedulerConfig says in a configuration how to reach the API server, and changes nothing else.
func writeSchedulerConfig(path string, text []byte, kubeconfig string) error {
	config := map[string]any{}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("configuration of the scheduler: %w", err)
	}
	connection, ok := config["clientConnection"].(map[string]any)
	if !ok {
		connection = map[string]any{}
		config["clientConnection"] = connection
	}
	connection["kubeconfig"] = kubeconfig
	text, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// schedulerClient asks as the one who may do everything. The scheduler's certificate is one that it has made itself.
func schedulerClient(admin *rest.Config) (*http.Client, error) {
	certificate, err := tls.X509KeyPair(admin.CertData, admin.KeyData)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}}},
	}, nil
}

func (s *Scheduler) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.process.Await(ctx, func(ctx context.Context) error {
		if _, err := s.ask(ctx, "/readyz"); err != nil {
			return err
		}
		_, err := s.ask(ctx, "/metrics") // it learns a little later whom the API server trusts
		return err
	})
}

func (s *Scheduler) ask(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", path, resp.StatusCode, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

// Stop ends the scheduler as a kubelet would.
func (s *Scheduler) Stop() {
	s.process.Stop(10 * time.Second)
	s.release()
}

// Log returns what the scheduler has written.
func (s *Scheduler) Log() (string, error) {
	text, err := os.ReadFile(s.log)
	return string(text), err
}

// Count sums the samples of a metric of the scheduler, as Handlers.Count does.
func (s *Scheduler) Count(ctx context.Context, name string, labels ...string) (float64, error) {
	body, err := s.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	return sum(body, name, labels), nil
}

// sum adds up the samples of a metric whose labels contain all of the given parts.
func sum(metrics, name string, labels []string) float64 {
	total := 0.0
	for line := range strings.Lines(metrics) {
		sample, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || sample != name && !strings.HasPrefix(sample, name+"{") {
			continue
		}
		matches := true
		for _, l := range labels {
			matches = matches && strings.Contains(sample, l)
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && matches {
			total += v
		}
	}
	return total
}
