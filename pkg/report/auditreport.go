package report

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// AuditReport is the outcome of `portcullis audit -o json`: what is wrong with what exists, as findings of a LintReport.
type AuditReport struct{ LintReport }

// NewAuditReport returns an empty report.
func NewAuditReport() *AuditReport {
	r := &AuditReport{*NewLintReport()}
	r.Kind = "AuditReport"
	return r
}

// WriteTable writes the report for a person: a line for each finding, with the nodes that it is about, then each in words.
func (r *AuditReport) WriteTable(w io.Writer, colour bool) error {
	if len(r.Findings) == 0 {
		return r.writeSummary(w, "")
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tCODE\tOBJECT\tNODES\n", painted("SEVERITY", colour))
	for _, f := range r.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", painted(f.Severity, colour), f.Code, f.about(), Escape(orDash(list(f.Nodes))))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, f := range r.Findings {
		fmt.Fprintln(w, Escape(fmt.Sprintf("%s: %s", f.about(), of(f.Field, f.Message))))
	}
	return r.writeSummary(w, r.Findings[0].Code)
}

// about is what a finding of an audit is about: the object, or the file that cannot be read.
func (f Finding) about() string {
	if f.Object == (Object{}) {
		return f.Source.String()
	}
	return f.Object.String()
}
