package webhook

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Metrics counts what the webhook decides. Labels are from closed sets: no names, no ports.
type Metrics struct {
	verdicts    *prometheus.CounterVec
	findings    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	allocations *prometheus.CounterVec
}

// NewMetrics makes the webhook's metrics and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_admission_verdicts_total",
			Help: "Admission reviews by hook, operation, verdict (allow, warn, deny, could_not_tell) and dry run.",
		}, []string{"hook", "operation", "verdict", "dry_run"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_admission_findings_total",
			Help: "Findings in admission reviews by hook, code and enforcement.",
		}, []string{"hook", "code", "enforcement"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "portcullis_admission_duration_seconds",
			Help:    "Time from the decoded review to its answer, by hook.",
			Buckets: prometheus.ExponentialBuckets(0.000025, 2, 16),
		}, []string{"hook"}),
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_allocations_total",
			Help: "Node ports and host ports that the mutating hooks were to allocate, by result (assigned, exhausted).",
		}, []string{"result"}),
	}
	registry.MustRegister(m.verdicts, m.findings, m.duration, m.allocations)
	return m
}

func (m *Metrics) observe(hook string, req admission.Request, d decision, took time.Duration) {
	m.verdicts.WithLabelValues(hook, operation(req), d.verdict.String(), strconv.FormatBool(isDryRun(req))).Inc()
	m.duration.WithLabelValues(hook).Observe(took.Seconds())
	for _, f := range d.findings {
		m.findings.WithLabelValues(hook, string(f.Code), strings.ToLower(d.settings.Check.Enforce(f).String())).Inc()
	}
}

// operation is a request's operation as a label: a review may come from anybody who can reach us, and say anything.
func operation(req admission.Request) string {
	switch req.Operation {
	case admissionv1.Create, admissionv1.Update:
		return strings.ToLower(string(req.Operation))
	default:
		return "other"
	}
}

// NewBuildMetric makes the metric that tells the version of the program, and registers it.
func NewBuildMetric(registry prometheus.Registerer, version string) {
	m := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "portcullis_build_info", Help: "Always 1, with the version of the program.",
	}, []string{"version"})
	registry.MustRegister(m)
	m.WithLabelValues(version).Set(1)
}

// NewRefusedMetric makes the metric of requests that are refused before any hook sees them, and registers it.
func NewRefusedMetric(registry prometheus.Registerer) *prometheus.CounterVec {
	m := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "portcullis_http_refused_total", Help: "Requests that were rejected before they were read as a review, by HTTP status.",
	}, []string{"status"})
	registry.MustRegister(m)
	return m
}
