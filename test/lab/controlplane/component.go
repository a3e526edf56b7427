package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/child"
)

const (
	readyWithin = 2 * time.Minute // a start takes seconds; this is for machines that do much else
	stopWithin  = 10 * time.Second
)

// lazyCollector has the components collect garbage more seldom: on a machine that runs tests the processors are short, and
// memory is not.
const lazyCollector = "GOGC=400"

// component is one program of the control plane.
type component struct {
	program child.Program
	name    binaries.Name
	ready   func(context.Context) error // nil when it does its work, else what is missing
	process *child.Process              // nil until it is started
}

// startComponents starts etcd, then the API server, then the others side by side, and waits for each to be ready.
func (cp *ControlPlane) startComponents(ctx context.Context) error {
	if err := cp.makeComponents(); err != nil {
		return err
	}
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for _, c := range cp.components[:2] {
		if err := c.start(ctx); err != nil {
			return err
		}
	}
	others, starting := errgroup.WithContext(ctx)
	for _, c := range cp.components[2:] {
		others.Go(func() error { return c.start(starting) })
	}
	return others.Wait()
}

func (cp *ControlPlane) makeComponents() error {
	cp.add(binaries.Etcd, cp.etcdFlags(), cp.answers(cp.etcdURL()+"/health"))
	flags, err := cp.apiServerFlags()
	if err != nil {
		return err
	}
	cp.add(binaries.KubeAPIServer, flags, cp.apiServerReady)
	if cp.options.ControllerManager {
		if flags, err = cp.controllerManagerFlags(); err != nil {
			return err
		}
		cp.add(binaries.KubeControllerManager, flags, cp.controllersReady)
	}
	if cp.options.Scheduler {
		if flags, err = cp.schedulerFlags(); err != nil {
			return err
		}
		cp.add(binaries.KubeScheduler, flags, cp.answers(fmt.Sprintf("https://127.0.0.1:%d/readyz", cp.ports.scheduler)))
	}
	return nil
}

func (cp *ControlPlane) add(name binaries.Name, flags []string, ready func(context.Context) error) {
	cp.components = append(cp.components, &component{
		name: name,
		program: child.Program{
			Name: string(name), Path: cp.programs.Path(name), Args: flags, Env: []string{lazyCollector}, Log: filepath.Join(cp.logs, string(name)+".log"),
		},
		ready: ready,
	})
}

// Kill ends a component at once, as a crash would.
func (cp *ControlPlane) Kill(name binaries.Name) error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	c, err := cp.component(name)
	if err != nil {
		return err
	}
	c.process.Kill()
	return nil
}

// Restart starts a component again, after stopping it if it still runs, and returns when it does its work.
func (cp *ControlPlane) Restart(ctx context.Context, name binaries.Name) error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	c, err := cp.component(name)
	if err != nil {
		return err
	}
	c.stop()
	return c.start(ctx)
}

func (cp *ControlPlane) component(name binaries.Name) (*component, error) {
	for _, c := range cp.components {
		if c.name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s is no part of this control plane", name)
}

// start starts the program and waits until it does its work.
func (c *component) start(ctx context.Context) (err error) {
	if c.process, err = child.Start(c.program); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return c.process.Await(ctx, c.ready)
}

func (c *component) stop() {
	if c.process != nil {
		c.process.Stop(stopWithin)
	}
}

// apiServerReady asks for the namespaces too: the API server makes them after it has called itself ready.
func (cp *ControlPlane) apiServerReady(ctx context.Context) error {
	if err := cp.answers(cp.url + "/readyz")(ctx); err != nil {
		return err
	}
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, "kube-node-lease"} {
		if _, err := cp.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// controllersReady waits for the first visible work of a controller, as the controller manager is healthy before its
// controllers have started.
func (cp *ControlPlane) controllersReady(ctx context.Context) error {
	if err := cp.answers(fmt.Sprintf("https://127.0.0.1:%d/healthz", cp.ports.controllerManager))(ctx); err != nil {
		return err
	}
	_, err := cp.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("the controllers have not made the default service account yet: %w", err)
	}
	return err
}

// answers returns a question whether a URL answers 200.
func (cp *ControlPlane) answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := cp.http.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
		}
		return nil
	}
}
