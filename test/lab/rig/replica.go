package rig

import (
	"context"
	"fmt"
	"net/http"
	"testing"
)

// Replace runs a replica with flags of its own in the place of the rig's, which it ends.
func (r *Rig) Replace(tb testing.TB, config string, flags ...string) {
	tb.Helper()
	r.Webhook.Close()
	r.Webhook = r.ReplicaAt(tb, config, "", flags...)
}

// Metrics returns what the program serves at /metrics.
func (r *Replica) Metrics(ctx context.Context) (string, error) {
	body, status, err := get(ctx, "http://"+local(r.metricsPort)+"/metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("metrics: %d %s", status, body)
	}
	return body, err
}

// MetricsAddress is where the program serves its metrics.
func (r *Replica) MetricsAddress() string { return local(r.metricsPort) }

// HealthAddress is where the program says whether it is ready.
func (r *Replica) HealthAddress() string { return local(r.healthPort) }

// Pid is the program's process id.
func (r *Replica) Pid() int { return r.process.Pid() }
