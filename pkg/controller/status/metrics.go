package status

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// Metrics are about pools and claims. Only the leader has values. A nil Metrics does nothing.
type Metrics struct {
	ports    *prometheus.GaugeVec
	claims   *prometheus.GaugeVec
	reported map[string]pool.Usage // the pools that ports has
}

// NewMetrics makes the metrics of a Controller and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		ports: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portcullis_pool_ports", Help: "Ports of a pool by state (total, allocated, available, quarantined, foreign), from the leader.",
		}, []string{"pool", "state"}),
		claims: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portcullis_claims", Help: "PortClaims by phase (requested, bound, released), from the leader.",
		}, []string{"phase"}),
	}
	registry.MustRegister(m.ports, m.claims)
	return m
}

// set replaces all values.
func (m *Metrics) set(usage map[string]pool.Usage, phases map[v1alpha1.ClaimPhase]int) {
	if m == nil {
		return
	}
	for name := range m.reported {
		if _, exists := usage[name]; !exists {
			m.ports.DeletePartialMatch(prometheus.Labels{"pool": name})
		}
	}
	m.reported = usage
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

// reset removes the values of a leader whose term is over.
func (m *Metrics) reset() {
	if m != nil {
		m.ports.Reset()
		m.claims.Reset()
	}
}
