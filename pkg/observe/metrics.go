package observe

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
)

// Metrics tells how large the ledger is, whether it is complete, and how often it drifted. A nil *Metrics is ready and
// counts nothing.
type Metrics struct {
	owners, claims, isComplete prometheus.Gauge
	drift                      prometheus.Counter
}

// NewMetrics makes the observer's metrics and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		owners: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_ledger_owners", Help: "Objects that claim ports, and Services with cluster IPs.",
		}),
		claims: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_ledger_claims", Help: "Claims on ports.",
		}),
		isComplete: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_ledger_complete", Help: "1 once everything in the cluster has been seen, before that 0.",
		}),
		drift: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portcullis_ledger_rebuild_drift_total", Help: "Owners whose claims differed from the cluster and were corrected.",
		}),
	}
	registry.MustRegister(m.owners, m.claims, m.isComplete, m.drift)
	return m
}

func (m *Metrics) size(s *ledger.Snapshot) {
	if m == nil {
		return
	}
	owners, claims, _ := s.Size()
	m.owners.Set(float64(owners))
	m.claims.Set(float64(claims))
}

func (m *Metrics) complete() {
	if m != nil {
		m.isComplete.Set(1)
	}
}

func (m *Metrics) drifted(n int) {
	if m != nil {
		m.drift.Add(float64(n))
	}
}
