package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/audit"
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
	judged := report.Judged{Object: named(object), Source: report.Source{Path: object.Path, Line: object.Line}}
	for _, f := range findings {
		l.tell(&judged, located{f, report.Source{Path: object.Path, Line: object.LineOf(f.Field)}})
	}
	if claimsPorts(object.Object) || len(judged.Failures) > 0 {
		l.judged = append(l.judged, judged)
	}
}

// addUnread tells what could not be read.
func (l *linter) addUnread(all []located) {
	for _, f := range all {
		judged := report.Judged{Source: f.source}
		if f.Object != (ports.Ref{}) {
			judged.Object = report.Object{APIVersion: f.Object.APIVersion, Kind: f.Object.Kind, Namespace: f.Object.Namespace, Name: f.Object.Name}
		}
		l.tell(&judged, f)
		l.judged = append(l.judged, judged)
	}
}

func (l *linter) tell(judged *report.Judged, f located) {
	told := l.report.Add(f.Finding, f.source)
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
func (l *linter) outcome(in *input, failOnUnjudged bool) error {
	if err := in.nothingRead(); err != nil {
		return err
	}
	switch {
	case l.failing > 0:
		return &findingsError{n: l.failing, why: l.whyRaised()}
	case failOnUnjudged && len(l.report.Inputs.NotJudged) > 0:
		return &findingsError{why: l.report.Inputs.Unjudged() + ", and --fail-on-unjudged is given"}
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

// bare returns objects without the places where they stand.
func bare(objects []*manifest.Object) []runtime.Object {
	all := make([]runtime.Object, len(objects))
	for i, object := range objects {
		all[i] = object.Object
	}
	return all
}

// invalid returns what the API server would refuse among pools, policies and claims, which audit.New has left out, as
// findings. Another error is returned as it is.
func invalid(err error, objects []*manifest.Object) ([]located, error) {
	if many, joined := err.(interface{ Unwrap() []error }); joined {
		var all []located
		for _, one := range many.Unwrap() {
			found, err := invalid(one, objects)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	}
	wrong, ok := errors.AsType[*audit.InvalidError](err)
	if !ok {
		return nil, err
	}
	i := slices.IndexFunc(objects, func(o *manifest.Object) bool { return o.Object == wrong.Object })
	if i < 0 {
		return nil, err
	}
	what := strings.TrimPrefix(wrong.Err.Error(), wrong.Field+": ")
	f := finding(check.RestrictionInvalid, "", refOf(objects[i]), wrong.Field, check.Unreadable{Err: errors.New(what)})
	return []located{{f, report.Source{Path: objects[i].Path, Line: objects[i].LineOf(wrong.Field)}}}, nil
}
