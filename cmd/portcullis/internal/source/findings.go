package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// Located is a finding and where it is shown.
type Located struct {
	check.Finding
	Source report.Source
}

// Line is a finding in one line, on the terminal of who runs a command.
func (l Located) Line() string {
	if l.Source.Path == "" { // of a cluster
		return fmt.Sprintf("%s: %s", l.Object, report.Sentence(l.Finding))
	}
	return report.NewLintReport().Add(l.Finding, l.Source).String()
}

// UnreadFindings returns what was not read, as findings: files and documents, and fields of objects by which ports are judged.
func (in *Input) UnreadFindings() []Located {
	all := in.UnreadFileFindings()
	for _, o := range in.Objects {
		for _, f := range unreadOf(o) {
			if f.Severity == check.Error {
				all = append(all, Located{f, report.Source{Path: o.Path, Line: o.LineOf(f.Field)}})
			}
		}
	}
	return all
}

// UnreadFileFindings returns the files and documents that were not read, as findings.
func (in *Input) UnreadFileFindings() []Located {
	var all []Located
	for _, err := range in.Unread {
		all = append(all, Located{finding(check.Unread, "", ports.Ref{}, "", check.Unreadable{Err: err.Err}), report.Source{Path: err.Path, Line: err.Line}})
	}
	return all
}

// unreadOf returns what was not read of an object as findings.
func unreadOf(o *manifest.Object) []check.Finding {
	var all []check.Finding
	for _, m := range o.Misfits {
		code, named := check.FieldUnread, check.Case("")
		switch {
		case m.Known != "" && matters(o.Object):
			code = check.FieldWrongCase
		case m.Known != "":
			continue
		case !matters(o.Object):
			named = check.NoMatterOfPorts
		case isUntyped(o.Object):
			named = check.WholeObject
		case ClaimsPorts(o.Object) && isPortNumber(m.Field):
			code, named = check.PortInvalid, check.NotANumber
		}
		var detail check.Detail = check.Unreadable{Err: m.Err}
		if code == check.FieldWrongCase {
			detail = check.Text{Known: m.Known}
		}
		all = append(all, finding(code, named, refOf(o), m.Field, detail))
	}
	return all
}

// isPortNumber reports whether a field is one that a port's number stands in.
func isPortNumber(field string) bool {
	switch field[strings.LastIndex(field, ".")+1:] {
	case "port", "nodePort", "targetPort", "containerPort", "hostPort", "healthCheckNodePort":
		return true
	default:
		return false
	}
}

// IsMissed reports whether a finding is only about what was not read of an object, which is a finding of its own.
func IsMissed(o *manifest.Object, f check.Finding) bool {
	return f.Code == check.PortInvalid && slices.ContainsFunc(o.Misfits, func(m manifest.Misfit) bool {
		field := m.Field
		if m.Known != "" {
			field = field[:strings.LastIndex(field, ".")+1] + m.Known
		}
		return f.Field == field
	})
}

func finding(code check.Code, named check.Case, object ports.Ref, field string, detail check.Detail) check.Finding {
	return check.Finding{Code: code, Case: named, Severity: check.SeverityOf(code, named), Object: object, Field: field, Detail: detail}
}

// WithUnread adds to what is found about an object what was not read of it, and leaves out what is only about that.
func WithUnread(o *manifest.Object, found []check.Finding) []check.Finding {
	found = slices.DeleteFunc(found, func(f check.Finding) bool { return IsMissed(o, f) })
	return slices.Concat(tooWide(o), unreadOf(o), found)
}

// tooWide returns a finding if nobody looks at a Service's external IPs, because they would make the ledger as large as its
// writer likes. What else it claims is known.
func tooWide(object *manifest.Object) []check.Finding {
	svc, ok := object.Object.(*corev1.Service)
	if !ok {
		return nil
	}
	sockets, are := extract.TooManySockets(svc)
	if !are {
		return nil
	}
	detail := check.SocketCount{Sockets: sockets, Most: extract.MaxExternalSockets}
	return []check.Finding{finding(check.FieldUnread, check.TooManySockets, refOf(object), "spec.externalIPs", detail)}
}

// TellTooWide prints what is not looked at.
func TellTooWide(p *cli.Progress, objects []*manifest.Object) {
	for _, object := range objects {
		for _, f := range tooWide(object) {
			p.Println(Located{f, report.Source{Path: object.Path, Line: object.LineOf(f.Field)}}.Line())
		}
	}
}

// Invalid returns what the API server would refuse among pools, policies and claims, which audit.New has left out, as
// findings. Another error is returned as it is.
func Invalid(err error, objects []*manifest.Object) ([]Located, error) {
	if many, joined := err.(interface{ Unwrap() []error }); joined {
		var all []Located
		for _, one := range many.Unwrap() {
			found, err := Invalid(one, objects)
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
	return []Located{{f, report.Source{Path: objects[i].Path, Line: objects[i].LineOf(wrong.Field)}}}, nil
}
