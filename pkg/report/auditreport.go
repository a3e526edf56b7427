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
		_, err := fmt.Fprintln(w, "no findings")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tCODE\tOBJECT\tNODES\n", painted("SEVERITY", colour))
	for _, f := range r.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", painted(f.Severity, colour), f.Code, f.Object, Escape(orDash(list(f.Nodes))))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, f := range r.Findings {
		fmt.Fprintln(w, Escape(fmt.Sprintf("%s: %s: %s", f.Object, f.Field, f.Message)))
	}
	_, err := fmt.Fprintf(w, "\n%s\nExplain a code: portcullis lint --explain %s\n", r.Summary, r.Findings[0].Code)
	return err
}
