package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// Metrics tells of pools and claims. Only the replica that leads has values for them, but for the transitions. A nil
// Metrics counts nothing.
type Metrics struct {
	ports       *prometheus.GaugeVec
	claims      *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	told        map[string]pool.Usage // what ports has
}

// NewMetrics makes the controller's metrics and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		ports: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portcullis_pool_ports", Help: "Ports of a pool by state (total, allocated, available, quarantined, foreign), from the leader.",
		}, []string{"pool", "state"}),
		claims: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portcullis_claims", Help: "PortClaims by phase (requested, bound, released), from the leader.",
		}, []string{"phase"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_claim_transitions_total",
			Help: "What became of PortClaims (imported, bound, released, deleted); one that is imported is bound next.",
		}, []string{"to"}),
	}
	for _, to := range []string{"imported", "bound", "released", "deleted"} {
		m.transitions.WithLabelValues(to)
	}
	registry.MustRegister(m.ports, m.claims, m.transitions)
	return m
}

func (m *Metrics) transition(to string) {
	if m != nil {
		m.transitions.WithLabelValues(to).Inc()
	}
}

// set replaces what is told of pools and claims.
func (m *Metrics) set(usage map[string]pool.Usage, phases map[v1alpha1.ClaimPhase]int) {
	if m == nil {
		return
	}
	for name := range m.told {
		if _, there := usage[name]; !there {
			m.ports.DeletePartialMatch(prometheus.Labels{"pool": name})
		}
	}
	m.told = usage
	for name, u := range usage {
		for state, n := range map[string]int{
			"total": u.Total, "allocated": u.Allocated, "available": u.Available, "quarantined": u.Quarantined, "foreign": u.Foreign,
		} {
			m.ports.WithLabelValues(name, state).Set(float64(n))
		}
	}
	for phase, label := range map[v1alpha1.ClaimPhase]string{
		v1alpha1.ClaimRequested: "requested", v1alpha1.ClaimBound: "bound", v1alpha1.ClaimReleased: "released",
	} {
		m.claims.WithLabelValues(label).Set(float64(phases[phase]))
	}
}

// forget removes what a leader has told: another one tells it now.
func (m *Metrics) forget() {
	if m != nil {
		m.ports.Reset()
		m.claims.Reset()
	}
}
