// Package judge has the commands lint and audit, which judge objects by pkg/audit and report findings: lint those in
// manifests, against each other and against what exists; audit everything that exists.
//
// The objects come from package source. pkg/audit returns findings about them, to which package source adds what could not
// be read. A linter makes a report.LintReport of all these, with the line of each field, and keeps count of those that make
// the run fail, by the configuration and --fail-on. writeFindings prints the report in one of the outputs.
//
// lint --explain prints the page of a code (docs/codes) and judges nothing.
package judge

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// linter makes a report of what is found about objects of files.
type linter struct {
	settings *check.Settings
	failOn   check.Enforcement // from where on a finding makes the run fail
	report   *report.LintReport
	judged   []report.Judged // the objects that a port can be the matter of
	failing  int             // findings that reach failOn
	raised   []check.Finding // those of them that do so by a pool, a policy or the configuration
}

// add tells the findings about an object, with the lines of their fields.
func (l *linter) add(object *manifest.Object, findings []check.Finding) {
	judged := report.Judged{Object: source.Named(object), Source: report.Source{Path: object.Path, Line: object.Line}}
	for _, f := range findings {
		l.tell(&judged, source.Located{Finding: f, Source: report.Source{Path: object.Path, Line: object.LineOf(f.Field)}})
	}
	if source.ClaimsPorts(object.Object) || len(judged.Failures) > 0 {
		l.judged = append(l.judged, judged)
	}
}

// addUnread tells what could not be read.
func (l *linter) addUnread(all []source.Located) {
	for _, f := range all {
		judged := report.Judged{Source: f.Source}
		if f.Object != (ports.Ref{}) {
			judged.Object = report.Object{APIVersion: f.Object.APIVersion, Kind: f.Object.Kind, Namespace: f.Object.Namespace, Name: f.Object.Name}
		}
		l.tell(&judged, f)
		l.judged = append(l.judged, judged)
	}
}

func (l *linter) tell(judged *report.Judged, f source.Located) {
	told := l.report.Add(f.Finding, f.Source)
	if l.settings.Enforce(f.Finding) >= l.failOn {
		judged.Failures = append(judged.Failures, told)
		if l.failing++; check.Enforcement(f.Severity) < l.failOn {
			l.raised = append(l.raised, f.Finding)
		}
	} else {
		judged.Notes = append(judged.Notes, told)
	}
}

// outcome is the error of a run about an input, nil where nothing fails.
func (l *linter) outcome(in *source.Input, failOnUnjudged bool) error {
	if err := in.NothingRead(); err != nil {
		return err
	}
	switch {
	case l.failing > 0:
		return &cli.FindingsError{N: l.failing, Why: l.whyRaised()}
	case failOnUnjudged && len(l.report.Inputs.NotJudged) > 0:
		return &cli.FindingsError{Why: l.report.Inputs.Unjudged() + ", and --fail-on-unjudged is given"}
	default:
		return nil
	}
}

// whyRaised says why findings fail that are not severe enough for it; "" if others fail as well.
func (l *linter) whyRaised() string {
	if len(l.raised) < l.failing {
		return ""
	}
	f := l.raised[0]
	by := "the configuration"
	if _, configured := l.settings.Enforcement[f.Code]; !configured && f.Holder != nil {
		by = f.Holder.String()
	}
	text := fmt.Sprintf("exit code 1, as %s sets enforcement %s for %s of %s", by, l.settings.Enforce(f), f.Code, f.Object)
	if more := len(l.raised) - 1; more > 0 {
		text += fmt.Sprintf(" and %d more findings", more)
	}
	return text
}

// outputs are the forms of a report.
func outputs() []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("table", "for a person"),
		cobra.CompletionWithDesc("json", "a versioned LintReport, for scripts"),
		cobra.CompletionWithDesc("sarif", "SARIF 2.1.0, for code scanning and editors"),
		cobra.CompletionWithDesc("junit", "JUnit XML, for CI systems"),
		cobra.CompletionWithDesc("github", "annotations of a pull request"),
	}
}

// levels are the values of --fail-on.
func levels() []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("error", "what cannot work, or breaks somebody"),
		cobra.CompletionWithDesc("warning", "errors, and what will bite later"),
		cobra.CompletionWithDesc("never", "only bad usage, and input without any object"),
	}
}

// enforcementFor returns from where on a finding makes a run fail, by --fail-on.
func enforcementFor(level string) (check.Enforcement, error) {
	switch level {
	case "error":
		return check.Deny, nil
	case "warning":
		return check.Warn, nil
	case "never":
		return check.Deny + 1, nil
	default:
		return 0, fmt.Errorf("--fail-on %q is not one of %s", level, cli.Words(levels()))
	}
}

// writeFindings writes a report in one of outputs.
func writeFindings(form, version string, s cli.Streams, r *report.LintReport, judged []report.Judged) error {
	switch form {
	case "json":
		return r.WriteJSON(s.Out)
	case "sarif":
		folder, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("finding the folder that paths of the report are relative to: %w", err)
		}
		return r.WriteSARIF(s.Out, version, folder)
	case "junit":
		return report.WriteJUnit(s.Out, strings.ToLower(strings.TrimSuffix(r.Kind, "Report")), judged, r.Inputs)
	case "github":
		return r.WriteGitHub(s.Out)
	default:
		return r.WriteTable(s.Out, s.Colour)
	}
}
