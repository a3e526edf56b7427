package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// LintReport is the outcome of `portcullis lint -o json`: a versioned kind that other people's scripts read.
type LintReport struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Findings   []Finding `json:"findings"`
	Summary    Summary   `json:"summary"`
}

// Finding is one finding of a report.
type Finding struct {
	Code     string   `json:"code"`
	Severity string   `json:"severity"`
	Object   Object   `json:"object"`
	Field    string   `json:"field"`
	Message  string   `json:"message"`
	Holder   *Holder  `json:"holder,omitempty"`
	Nodes    []string `json:"nodes"`
	Source   Source   `json:"source"`
}

// Object names the object that a finding is about.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
}

// Holder names who is in the way.
type Holder struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Field     string `json:"field"`
}

// Source is where the object stands in the input.
type Source struct {
	Path string `json:"path"`
	Line int    `json:"line"`
}

// Summary counts findings by severity.
type Summary struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Infos    int `json:"infos"`
}

// NewLintReport returns an empty report.
func NewLintReport() *LintReport {
	return &LintReport{APIVersion: "portcullis.dev/v1alpha1", Kind: "LintReport", Findings: []Finding{}}
}

// Add appends a finding with its source.
func (r *LintReport) Add(f check.Finding, source Source) {
	out := Finding{
		Code: string(f.Code), Severity: f.Severity.String(), Object: object(f.Object), Field: f.Field,
		Message: Message(f), Nodes: f.Nodes, Source: source,
	}
	if out.Nodes == nil {
		out.Nodes = []string{}
	}
	if h := f.Holder; h != nil {
		out.Holder = &Holder{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name, Field: h.Field}
	}
	r.Findings = append(r.Findings, out)
	switch f.Severity {
	case check.Error:
		r.Summary.Errors++
	case check.Warning:
		r.Summary.Warnings++
	case check.Info:
		r.Summary.Infos++
	}
}

func object(r ports.Ref) Object {
	return Object{APIVersion: r.APIVersion, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
}

// AtLeast counts the findings at or above a severity.
func (r *LintReport) AtLeast(s check.Severity) int {
	counts := map[check.Severity]int{check.Error: r.Summary.Errors, check.Warning: r.Summary.Warnings, check.Info: r.Summary.Infos}
	n := 0
	for severity, count := range counts {
		if severity >= s {
			n += count
		}
	}
	return n
}

// WriteJSON writes the report as indented JSON.
func (r *LintReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteTable writes the report for a person, the findings of one object together.
func (r *LintReport) WriteTable(w io.Writer) error {
	if len(r.Findings) == 0 {
		_, err := fmt.Fprintln(w, "no findings")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SEVERITY\tCODE\tOBJECT\tSOURCE")
	for _, f := range r.Findings {
		object := strings.Map(printable, f.Object.Kind+" "+qualified(f.Object))
		fmt.Fprintf(t, "%s\t%s\t%s\t%s:%d\n", f.Severity, f.Code, object, strings.Map(printable, f.Source.Path), f.Source.Line)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s:%d: %s: %s\n", strings.Map(printable, f.Source.Path), f.Source.Line, f.Field, f.Message)
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.Summary)
	return err
}

func qualified(o Object) string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// String counts in words: "1 error, 2 warnings".
func (s Summary) String() string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{{s.Errors, "error"}, {s.Warnings, "warning"}, {s.Infos, "info"}} {
		switch {
		case c.n == 1:
			parts = append(parts, "1 "+c.what)
		case c.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", c.n, c.what))
		}
	}
	if parts == nil {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}

// WriteGitHub writes the findings as workflow commands, which GitHub shows beside the lines of a pull request.
func (r *LintReport) WriteGitHub(w io.Writer) error {
	levels := map[string]string{"error": "error", "warning": "warning", "info": "notice"}
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, f := range r.Findings {
		_, err := fmt.Fprintf(w, "::%s file=%s,line=%d,title=%s::%s\n", levels[f.Severity], property.Replace(f.Source.Path),
			f.Source.Line, property.Replace(f.Code), escape.Replace(f.Field+": "+f.Message))
		if err != nil {
			return err
		}
	}
	return nil
}
