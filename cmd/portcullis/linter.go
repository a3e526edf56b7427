package main

import (
	"errors"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// linter makes a report of what is found about objects of files.
type linter struct {
	settings *check.Settings
	failOn   check.Enforcement // from where on a finding makes the run fail
	report   *report.LintReport
	judged   []report.Judged // the objects that a port can be the matter of
	failing  int             // findings that reach failOn
}

// add tells the findings about an object, with the lines of their fields.
func (l *linter) add(object *manifest.Object, findings []check.Finding) {
	judged := report.Judged{Object: named(object), Source: report.Source{Path: object.Path, Line: object.Line}}
	for _, f := range findings {
		told := l.report.Add(f, report.Source{Path: object.Path, Line: object.LineOf(f.Field)})
		if l.settings.Enforce(f) >= l.failOn {
			judged.Failures = append(judged.Failures, told)
		} else {
			judged.Notes = append(judged.Notes, told)
		}
	}
	l.failing += len(judged.Failures)
	if claimsPorts(object.Object) {
		l.judged = append(l.judged, judged)
	}
}

// bare returns objects without the places where they stand.
func bare(objects []*manifest.Object) []runtime.Object {
	all := make([]runtime.Object, len(objects))
	for i, object := range objects {
		all[i] = object.Object
	}
	return all
}

// located adds to each *audit.InvalidError of an error where its object stands.
func located(err error, objects []*manifest.Object) error {
	if many, joined := err.(interface{ Unwrap() []error }); joined {
		var all []error
		for _, one := range many.Unwrap() {
			all = append(all, located(one, objects))
		}
		return errors.Join(all...)
	}
	invalid, ok := errors.AsType[*audit.InvalidError](err)
	if !ok {
		return err
	}
	for _, object := range objects {
		if object.Object == invalid.Object {
			return &manifest.Error{Path: object.Path, Line: object.LineOf(invalid.Field), Err: invalid.Err}
		}
	}
	return err
}
