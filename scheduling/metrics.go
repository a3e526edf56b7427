package scheduling

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what became of a scheduler's question.
type outcome string

const (
	skipped      outcome = "skipped" // the pod wants no host port
	offeredSome  outcome = "offered"
	refused      outcome = "refused"
	couldNotTell outcome = "could_not_tell"
	malformed    outcome = "malformed"
)

// ExtenderMetrics counts what an Extender answers. Labels are from closed sets.
type ExtenderMetrics struct {
	answers  *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewExtenderMetrics makes an extender's metrics and registers them.
func NewExtenderMetrics(registry prometheus.Registerer) *ExtenderMetrics {
	m := &ExtenderMetrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_extender_answers_total",
			Help: "Answers to schedulers by verb (filter, preempt) and outcome (skipped: no host port is wanted, offered, refused, could_not_tell, malformed).",
		}, []string{"verb", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "portcullis_extender_duration_seconds",
			Help:    "Time from a scheduler's question to its answer, by verb, decoding included.",
			Buckets: prometheus.ExponentialBuckets(0.000025, 2, 16),
		}, []string{"verb"}),
	}
	registry.MustRegister(m.answers, m.duration)
	return m
}

func (m *ExtenderMetrics) observe(verb string, o outcome, took time.Duration) {
	m.answers.WithLabelValues(verb, string(o)).Inc()
	m.duration.WithLabelValues(verb).Observe(took.Seconds())
}
