package rig

import (
	"context"
	"fmt"
	"net/http"
	"testing"
)

// Replace runs a gate with flags of its own in the place of the rig's, which it ends.
func (r *Rig) Replace(tb testing.TB, config string, flags ...string) {
	tb.Helper()
	r.Gate.Close()
	r.Gate = r.ReplicaAt(tb, config, "", flags...)
}

// Metrics returns what the program serves at /metrics.
func (g *Gate) Metrics(ctx context.Context) (string, error) {
	body, status, err := get(ctx, "http://"+local(g.metricsPort)+"/metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("metrics: %d %s", status, body)
	}
	return body, err
}

// MetricsAddress is where the program serves its metrics.
func (g *Gate) MetricsAddress() string { return local(g.metricsPort) }

// HealthAddress is where the program says whether it is ready.
func (g *Gate) HealthAddress() string { return local(g.healthPort) }

// Pid is the program's process id.
func (g *Gate) Pid() int { return g.process.Pid() }
