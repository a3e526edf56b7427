package rig

import (
	"context"
	"fmt"
	"net/http"
	"testing"
)

// ReplicaWith is Replica with flags of its own, after those that the rig gives: the last one wins.
func (r *Rig) ReplicaWith(tb testing.TB, config string, flags ...string) *Gate {
	tb.Helper()
	g, err := r.newGate(tb.Context(), tb.TempDir(), config, "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(g.Close)
	g.args = append(g.args, flags...)
	if err := g.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return g
}

// Replace runs a gate with flags of its own in the place of the rig's, which it ends.
func (r *Rig) Replace(tb testing.TB, config string, flags ...string) {
	tb.Helper()
	r.Gate.Close()
	r.Gate = r.ReplicaWith(tb, config, flags...)
}

// NewGate prepares a gate for a cluster that is reached by a kubeconfig, and does not start it. Close ends it.
func NewGate(ctx context.Context, dir, config, kubeconfig string, flags ...string) (*Gate, error) {
	g, err := newGate(ctx, dir, config, kubeconfig)
	if err != nil {
		return nil, err
	}
	g.args = append(g.args, flags...)
	return g, nil
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

// Pid is the program's process id.
func (g *Gate) Pid() int { return g.process.Pid() }
