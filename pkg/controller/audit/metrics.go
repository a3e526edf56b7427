package audit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// Metrics are about the last round. Only the leader has values, except for the duration. A nil Metrics does nothing.
type Metrics struct {
	findings *prometheus.GaugeVec
	last     prometheus.Gauge
	duration prometheus.Histogram
}

// NewMetrics makes the metrics of a Controller and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portcullis_audit_findings", Help: "Findings of the last audit, by code and severity (error, warning, info), from the leader.",
		}, []string{"code", "severity"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_audit_last_success_timestamp_seconds", Help: "When the last audit ended, from the leader; 0 on the others.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "portcullis_audit_duration_seconds", Help: "How long the last audit took.",
			Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100},
		}),
	}
	registry.MustRegister(m.findings, m.last, m.duration)
	return m
}

func (m *Metrics) set(findings []check.Finding, began, ended time.Time) {
	if m == nil {
		return
	}
	m.findings.Reset()
	for _, f := range findings {
		m.findings.WithLabelValues(string(f.Code), f.Severity.String()).Inc()
	}
	m.last.Set(float64(ended.Unix()))
	m.duration.Observe(ended.Sub(began).Seconds())
}

// reset removes the values of a leader whose term is over.
func (m *Metrics) reset() {
	if m != nil {
		m.findings.Reset()
		m.last.Set(0)
	}
}
