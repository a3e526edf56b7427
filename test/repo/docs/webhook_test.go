package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/portcullis-k8s/portcullis/pkg/controller/arming"
	"github.com/portcullis-k8s/portcullis/pkg/controller/audit"
	"github.com/portcullis-k8s/portcullis/pkg/controller/certificates"
	"github.com/portcullis-k8s/portcullis/pkg/controller/claims"
	"github.com/portcullis-k8s/portcullis/pkg/controller/status"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/webhook"
)

const webhookPage = "docs/webhook.md"

// TestGoldenHooks holds the table of the hooks, that of their conditions, and the namespaces that they leave out, to the
// registration that ships.
func TestGoldenHooks(t *testing.T) {
	p := read(t, webhookPage)
	table := [][]string{{"Hook", "Asked about", "On", "If", "Unreachable", "Timeout"}}
	conditions := map[string]bool{}
	add := func(name string, rules []admissionregistrationv1.RuleWithOperations, matches []admissionregistrationv1.MatchCondition, policy admissionregistrationv1.FailurePolicyType, timeout int32) {
		table = append(table, []string{
			code(strings.TrimSuffix(name, hooks.Suffix)), resources(rules), operations(rules), names(matches, conditions), string(policy), fmt.Sprintf("%d s", timeout),
		})
	}
	registration := hooks.Shipped()
	for _, h := range hooks.Mutating(registration).Webhooks {
		add(h.Name, h.Rules, h.MatchConditions, *h.FailurePolicy, *h.TimeoutSeconds)
	}
	for _, h := range hooks.Validating(registration).Webhooks {
		add(h.Name, h.Rules, h.MatchConditions, *h.FailurePolicy, *h.TimeoutSeconds)
	}
	p.holdTable(t, table)
	for _, name := range p.column(t, "Condition", "Asks whether") {
		if !conditions[name] {
			t.Errorf("%s: no hook has the condition %s", p.path, name)
		}
		delete(conditions, name)
	}
	for name := range conditions {
		t.Errorf("%s does not say what the condition %s asks", p.path, name)
	}
	namespaces := p.column(t, "Namespace", "Why it is left out")
	slices.Sort(namespaces)
	if !slices.Equal(namespaces, registration.ExcludedNamespaces) {
		t.Errorf("%s: left out are %v, the hooks leave out %v", p.path, namespaces, registration.ExcludedNamespaces)
	}
}

func resources(rules []admissionregistrationv1.RuleWithOperations) string {
	var all []string
	for _, r := range rules {
		all = append(all, r.Resources...)
	}
	return strings.Join(all, ", ")
}

func operations(rules []admissionregistrationv1.RuleWithOperations) string {
	var all []string
	for _, r := range rules {
		for _, o := range r.Operations {
			if !slices.Contains(all, string(o)) {
				all = append(all, string(o))
			}
		}
	}
	return strings.Join(all, ", ")
}

func names(conditions []admissionregistrationv1.MatchCondition, seen map[string]bool) string {
	var all []string
	for _, c := range conditions {
		all = append(all, code(c.Name))
		seen[c.Name] = true
	}
	return strings.Join(all, ", ")
}

// TestGoldenMetrics holds the table of the metrics to those that are registered.
func TestGoldenMetrics(t *testing.T) {
	r := &registered{}
	webhook.NewBuildMetric(r, "v0")
	webhook.NewMetrics(r)
	observe.NewMetrics(r)
	status.NewMetrics(r)
	claims.NewMetrics(r)
	audit.NewMetrics(r)
	arming.NewMetrics(r)
	certificates.NewExpiryMetric(r)
	webhook.NewRefusedMetric(r)
	scheduling.NewExtenderMetrics(r)
	p := read(t, webhookPage)
	p.holdTable(t, append([][]string{{"Metric", "Type", "Labels", "What it tells"}}, r.rows...))
}

// TestHookLabels holds the names of hooks in metrics to the paths at which the hooks are served.
func TestHookLabels(t *testing.T) {
	registration := hooks.Shipped()
	registration.GuardBindings = true
	served := map[string]bool{}
	for _, h := range hooks.Mutating(registration).Webhooks {
		served[strings.TrimPrefix(*h.ClientConfig.Service.Path, "/")] = true
	}
	for _, h := range hooks.Validating(registration).Webhooks {
		served[strings.TrimPrefix(*h.ClientConfig.Service.Path, "/")] = true
	}
	_, list, found := strings.Cut(read(t, webhookPage).text(), "`hook` is one of ")
	list, _, _ = strings.Cut(list, ".")
	if !found {
		t.Fatalf("%s does not name the hooks of metrics", webhookPage)
	}
	for name := range strings.SplitSeq(list, ", ") {
		if !served[name] {
			t.Errorf("%s: no hook is served at /%s", webhookPage, name)
		}
		delete(served, name)
	}
	for name := range served {
		t.Errorf("%s does not name the hook %s of metrics", webhookPage, name)
	}
}

// TestSectionsHaveTests: each section of the page has tests that hold what it says, and each row of their table has a test.
func TestSectionsHaveTests(t *testing.T) {
	text := read(t, webhookPage).text()
	body, table, _ := strings.Cut(text, "\n## Tests\n")
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(body, -1) {
		sections = append(sections, m[1])
	}
	var proved []string
	for _, m := range regexp.MustCompile(`(?m)^\| (.*?) \| (.+) \| (.+) \|$`).FindAllStringSubmatch(strings.ReplaceAll(table, "\n| |", "\n|  |"), -1) {
		if m[1] != "" && m[1] != "Section" {
			proved = append(proved, m[1])
		}
		if m[1] != "Section" && !testNames.MatchString(m[3]) {
			t.Errorf("%s: no test for: %s", webhookPage, m[2])
		}
	}
	if !slices.Equal(sections, proved) {
		t.Errorf("%s has the sections\n%q\nand tests for\n%q", webhookPage, sections, proved)
	}
}

// registered is a registry that writes down what it is given.
type registered struct {
	prometheus.Registerer
	rows [][]string
}

func (r *registered) MustRegister(collectors ...prometheus.Collector) {
	// A description tells its parts by its String method only.
	parts := regexp.MustCompile(`^Desc\{fqName: "(.*?)", help: "(.*?)", .*variableLabels: \{(.*)\}\}$`)
	for _, c := range collectors {
		descriptions := make(chan *prometheus.Desc, 1)
		c.Describe(descriptions)
		m := parts.FindStringSubmatch((<-descriptions).String())
		labels := ""
		if m[3] != "" {
			labels = code(strings.ReplaceAll(m[3], ",", "`, `"))
		}
		r.rows = append(r.rows, []string{code(m[1]), kind(c), labels, m[2]})
	}
}

func kind(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case *prometheus.GaugeVec, prometheus.Gauge: // before Counter, which every Gauge is too
		return "gauge"
	case prometheus.Counter:
		return "counter"
	default:
		return fmt.Sprintf("%T", c)
	}
}
