package claims

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what this replica has done as the leader. A nil Metrics does nothing.
type Metrics struct{ transitions *prometheus.CounterVec }

// NewMetrics makes the metrics of a Controller and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "portcullis_claim_transitions_total",
		Help: "What became of PortClaims (imported, bound, released, deleted); one that is imported is bound next.",
	}, []string{"to"})}
	for _, to := range []string{"imported", "bound", "released", "deleted"} {
		m.transitions.WithLabelValues(to)
	}
	registry.MustRegister(m.transitions)
	return m
}

func (m *Metrics) transition(to string) {
	if m != nil {
		m.transitions.WithLabelValues(to).Inc()
	}
}
