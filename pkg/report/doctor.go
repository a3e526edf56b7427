package report

import (
	"encoding/json"
	"fmt"
	"io"
)

// The outcomes of a check, the best first.
const (
	DoctorOK         = "ok"
	DoctorNotChecked = "not checked"
	DoctorWarning    = "warning" // works, and will bite
	DoctorProblem    = "problem" // does not work, or breaks somebody
)

// DoctorReport is what `doctor` found: kind DoctorReport of portcullis.dev/v1alpha1.
type DoctorReport struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Checks     []DoctorCheck `json:"checks"`
	Summary    DoctorSummary `json:"summary"`
}

// DoctorCheck is one thing that was looked at. Message says what is so and why it matters, Fix what to do; Fix is empty where
// nothing is to be done.
type DoctorCheck struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// DoctorSummary counts the checks by their outcome.
type DoctorSummary struct {
	OK         int `json:"ok"`
	Warnings   int `json:"warnings"`
	Problems   int `json:"problems"`
	NotChecked int `json:"notChecked"`
}

// NewDoctorReport returns a report without checks.
func NewDoctorReport() *DoctorReport {
	return &DoctorReport{APIVersion: "portcullis.dev/v1alpha1", Kind: "DoctorReport", Checks: []DoctorCheck{}}
}

// Add adds checks and counts them.
func (r *DoctorReport) Add(checks ...DoctorCheck) {
	for _, c := range checks {
		r.Checks = append(r.Checks, c)
		switch c.Status {
		case DoctorOK:
			r.Summary.OK++
		case DoctorWarning:
			r.Summary.Warnings++
		case DoctorProblem:
			r.Summary.Problems++
		default:
			r.Summary.NotChecked++
		}
	}
}

// WriteJSON writes the report as JSON.
func (r *DoctorReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteTable writes one line for each check, and below those that are not well what to do.
func (r *DoctorReport) WriteTable(w io.Writer) error {
	status, name := len("STATUS"), len("CHECK")
	for _, c := range r.Checks {
		status, name = max(status, len(c.Status)), max(name, len(c.Name))
	}
	var b textLines
	row := func(first, second, third string) {
		b.add("%-*s  %-*s  %s", status, first, name, second, third)
	}
	row("STATUS", "CHECK", "WHAT")
	for _, c := range r.Checks {
		row(c.Status, c.Name, c.Message)
		if c.Fix != "" {
			row("", "", "-> "+c.Fix)
		}
	}
	s := r.Summary
	fmt.Fprintf(&b, "\n%d ok, %s, %s, %d not checked\n", s.OK, plural(s.Warnings, "warning"), plural(s.Problems, "problem"), s.NotChecked)
	_, err := io.WriteString(w, b.String())
	return err
}
