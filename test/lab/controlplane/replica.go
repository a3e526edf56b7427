package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/child"
)

// AddAPIServer starts another API server on the same etcd, as a highly available control plane has them, and returns the
// configuration of a client of it that may do everything. Stop ends it with the rest.
func (cp *ControlPlane) AddAPIServer(ctx context.Context) (*rest.Config, error) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	port, err := cp.ports.reserve()
	if err != nil {
		return nil, err
	}
	flags, err := cp.apiServerFlags()
	if err != nil {
		return nil, err
	}
	config := cp.RESTConfig()
	config.Host = fmt.Sprintf("https://127.0.0.1:%d", port)
	name := binaries.Name(fmt.Sprintf("%s-%d", binaries.KubeAPIServer, len(cp.components)))
	c := &component{
		name: name,
		program: child.Program{
			Name: string(name), Path: cp.programs.Path(binaries.KubeAPIServer), Log: filepath.Join(cp.logs, string(name)+".log"), Env: []string{lazyCollector},
			Args: append(flags, fmt.Sprintf("--secure-port=%d", port)), // the last one wins
		},
		ready: cp.answers(config.Host + "/readyz"),
	}
	cp.components = append(cp.components, c)
	return config, c.start(ctx)
}

// Pause stops a component for a while, as a disk that hangs does, and lets it go on.
func (cp *ControlPlane) Pause(ctx context.Context, name binaries.Name, how time.Duration) error {
	cp.mu.Lock()
	c, err := cp.component(name)
	cp.mu.Unlock()
	if err != nil {
		return err
	}
	c.process.Freeze()
	defer c.process.Thaw()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(how):
		return nil
	}
}
