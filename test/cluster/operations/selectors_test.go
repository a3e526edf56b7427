package operations

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// selector is what an expression asks for: a metric and what its labels must be.
type selector struct {
	metric   string
	matchers []matcher
}

type matcher struct{ label, operator, value string }

func (s selector) String() string {
	var parts []string
	for _, m := range s.matchers {
		parts = append(parts, fmt.Sprintf("%s%s%q", m.label, m.operator, m.value))
	}
	return s.metric + "{" + strings.Join(parts, ", ") + "}"
}

// selects reports whether a sample is what is asked for.
func (s selector) selects(labels map[string]string) bool {
	for _, m := range s.matchers {
		value, there := labels[m.label]
		var same bool
		switch m.operator {
		case "=", "!=":
			same = value == m.value
		default:
			same = regexp.MustCompile("^(?:" + m.value + ")$").MatchString(value)
		}
		if !there || same == strings.HasPrefix(m.operator, "!") {
			return false
		}
	}
	return true
}

// parseQuery finds the selectors of an expression and the labels that it groups or joins by. It is no parser, which
// promtool has: whatever is not known to be a word of the language counts as a metric.
func parseQuery(expr string) (selectors []selector, labels []string) {
	grouping := regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}
	expr = grouping.ReplaceAllString(expr, " ")
	expr = regexp.MustCompile(`\[\w+\]|\boffset\s+\w+`).ReplaceAllString(expr, " ")
	words := []string{"and", "or", "unless", "sum", "min", "max", "count", "absent", "increase", "rate", "histogram_quantile", "time"}
	pair := regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	for _, m := range regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?`).FindAllStringSubmatch(expr, -1) {
		if slices.Contains(words, m[1]) {
			continue
		}
		s := selector{metric: m[1]}
		for _, p := range pair.FindAllStringSubmatch(m[2], -1) {
			s.matchers = append(s.matchers, matcher{p[1], p[2], p[3]})
		}
		selectors = append(selectors, s)
	}
	return selectors, labels
}

// samples are the labels of what is served, by the name of the metric.
type samples map[string][]map[string]string

// add reads what a program serves at /metrics.
func (s samples) add(text string) {
	line := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	pair := regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	for l := range strings.Lines(text) {
		m := line.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			continue
		}
		labels := map[string]string{}
		for _, p := range pair.FindAllStringSubmatch(m[2], -1) {
			labels[p[1]] = p[2]
		}
		s[m[1]] = append(s[m[1]], labels)
	}
}

// answers returns an error if a query asks for what is not served: a selector that selects nothing, a label that nothing
// that it selects has. A scrape gives every sample the label instance.
func (s samples) answers(expr string) error {
	selectors, labels := parseQuery(expr)
	known := map[string]bool{"instance": true}
	for _, asked := range selectors {
		found := 0
		for _, sample := range s[asked.metric] {
			if !asked.selects(sample) {
				continue
			}
			found++
			for label := range sample {
				known[label] = true
			}
		}
		if found == 0 {
			return fmt.Errorf("%s selects nothing of %d series of that name", asked, len(s[asked.metric]))
		}
	}
	for _, label := range labels {
		if !known[label] {
			return fmt.Errorf("nothing that is selected has the label %s", label)
		}
	}
	return nil
}

func TestSamplesAnswer(t *testing.T) {
	served := samples{}
	served.add("# HELP a b\na{x=\"1\",y=\"p.q\"} 3\nb 1\nc_bucket{le=\"+Inf\"} 1e+06\n")
	for _, c := range []struct {
		expr string
		want string // in the error; "" for none
	}{
		{`sum by (x) (increase(a{y=~"p[.]q"}[5m])) > 0 or b unless b offset 5m`, ""},
		{`histogram_quantile(0.99, sum by (le) (rate(c_bucket[1h])))`, ""},
		{`a{x!="2"} and on (instance) b`, ""},
		{`absent(d == 1)`, "d{} selects nothing of 0 series"},
		{`a{x="2"}`, `a{x="2"} selects nothing of 1 series`},
		{`a{z=""}`, "selects nothing"},
		{`a{y!~"p.*"}`, "selects nothing"},
		{`sum by (w) (a)`, "the label w"},
		{`quantile_over_time(0.5, b[5m])`, "quantile_over_time{}"},
	} {
		err := served.answers(c.expr)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.expr, err, c.want)
		}
	}
}
