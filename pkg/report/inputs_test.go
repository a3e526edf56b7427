package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// readingSentences are those of what is not read.
func readingSentences() []said {
	pool := ports.Ref{APIVersion: "portcullis.dev/v1alpha1", Kind: "PortPool", Name: "team"}
	web := ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: "web"}
	wrong := errors.New(`want text, not 5: put it in quotes`)
	return []said{
		{check.Finding{Code: check.Unread, Detail: check.Unreadable{Err: errors.New("no valid YAML: did not find expected key")}},
			"no valid YAML: did not find expected key; correct it, or exclude the file with --exclude (PC0701)"},
		{check.Finding{Code: check.FieldUnread, Object: web, Field: "metadata.labels.a", Detail: check.Unreadable{Err: wrong}},
			"metadata.labels.a: want text, not 5: put it in quotes; everything else in the object is judged (PC0702)"},
		{check.Finding{Code: check.FieldUnread, Case: check.NoMatterOfPorts, Field: "data.a", Detail: check.Unreadable{Err: wrong}},
			"data.a: want text, not 5: put it in quotes; no port depends on it (PC0702)"},
		{check.Finding{Code: check.FieldUnread, Case: check.WholeObject, Object: pool, Field: "spec.range", Detail: check.Unreadable{Err: errors.New("no such field; correct or remove it")}},
			"spec.range: no such field; correct or remove it; until it is corrected nothing is held to the PortPool (PC0702)"},
		{check.Finding{Code: check.FieldUnread, Case: check.TooManySockets, Field: "spec.externalIPs", Detail: check.SocketCount{Sockets: 10302, Most: 10000}},
			"spec.externalIPs: the 10302 sockets of these addresses are more than 10000, and not looked at; split the Service into several (PC0702)"},
		{check.Finding{Code: check.NameTwice, Object: web, Field: "metadata.name", Detail: check.Duplicate{Position: "a.yaml:1"}},
			"metadata.name: Service default/web at a.yaml:1 is another one of this name, and only one of them can exist; both are judged, but not against each other; leave one of the two out, or rename it (PC0703)"},
		{check.Finding{Code: check.NameTwice, Case: check.FormTaken, Object: web, Field: "metadata.name", Detail: check.Duplicate{Position: "a.yaml:1"}},
			"metadata.name: Service default/web at a.yaml:1 is another one of this name, and only one of them can exist; this one is taken, being the later; leave one of the two out (PC0703)"},
		{check.Finding{Code: check.RestrictionInvalid, Object: pool, Field: "spec.ranges", Detail: check.Unreadable{Err: errors.New("[0]: 2-1 is not a range of ports")}},
			"spec.ranges: [0]: 2-1 is not a range of ports; until it is corrected nothing is held to it (PC0704)"},
	}
}

func counts(judged, withoutPorts, skipped, unread int, kinds ...string) *report.Inputs {
	in := report.NewInputs()
	in.Judged, in.WithoutPorts, in.Skipped, in.Unread = judged, withoutPorts, skipped, unread
	for _, kind := range kinds {
		in.CountNotJudged("a/v1", kind)
	}
	return in
}

func TestInputs(t *testing.T) {
	many := strings.Split("a b c d e f g h i j k l", " ")
	for _, tt := range []struct {
		in   *report.Inputs
		want string
	}{
		{counts(0, 0, 0, 0), "judged 0 objects"},
		{counts(1, 0, 0, 0), "judged 1 object"},
		{counts(212, 40, 4, 2, "Web", "HelmRelease", "Web"), "judged 212 objects, and 40 of kinds that claim no ports; not judged: 1 HelmRelease (a/v1), 2 Web (a/v1); not read: 2; skipped, being no objects: 4"},
		{counts(1, 0, 0, 0, "b\x1b"), `judged 1 object; not judged: 1 b\x1b (a/v1)`},
		{counts(1, 0, 0, 0, many...), "judged 1 object; not judged: 1 a (a/v1), 1 b (a/v1), 1 c (a/v1), 1 d (a/v1), 1 e (a/v1), 1 f (a/v1), 1 g (a/v1), 1 h (a/v1), 1 i (a/v1), 1 j (a/v1), and 2 kinds more"},
	} {
		if got := tt.in.String(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// TestUnread: what cannot be read has a file, and no object, in every form of a report.
func TestUnread(t *testing.T) {
	r := report.NewLintReport()
	f := r.Add(check.Finding{Code: check.Unread, Severity: check.Error, Detail: check.Unreadable{Err: errors.New("torn")}}, report.Source{Path: "a.yaml", Line: 3})
	r.Inputs = counts(1, 2, 3, 4, "Web")
	const said = "torn; correct it, or exclude the file with --exclude (PC0701)"
	const table = "SEVERITY  CODE    OBJECT  SOURCE\nerror     PC0701  -       a.yaml:3\n\na.yaml:3: " + said + "\n\n1 error\n" +
		"judged 1 object, and 2 of kinds that claim no ports; not judged: 1 Web (a/v1); not read: 4; skipped, being no objects: 3\nExplain a code: portcullis lint --explain PC0701\n"
	if diff := cmp.Diff(table, written(t, plain(r))); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	audited := &report.AuditReport{LintReport: *r}
	if got := written(t, func(w io.Writer) error { return audited.WriteTable(w, false) }); !strings.Contains(got, "PC0701  a.yaml:3  -\n") || !strings.Contains(got, "\na.yaml:3: "+said) {
		t.Errorf("of an audit: %s", got)
	}
	const github = "::error file=a.yaml,line=3,title=PC0701::" + said + "\n" +
		"::notice title=portcullis::judged 1 object, and 2 of kinds that claim no ports; not judged: 1 Web (a/v1); not read: 4; skipped, being no objects: 3\n"
	if diff := cmp.Diff(github, written(t, r.WriteGitHub)); diff != "" {
		t.Errorf("github (-want +got):\n%s", diff)
	}
	junit := junit{}
	text := written(t, func(w io.Writer) error {
		return report.WriteJUnit(w, "lint", []report.Judged{{Source: f.Source, Failures: []report.Finding{f}}}, r.Inputs)
	})
	if err := xml.Unmarshal([]byte(text), &junit); err != nil {
		t.Fatal(err)
	}
	if c := junit.Suites[0].Cases[0]; junit.Tests != 2 || junit.Skipped != 1 || junit.Failures != 1 || c.Name != "what cannot be read in a.yaml:3" || c.Failure.Message != said {
		t.Errorf("%+v in %s", c, text)
	}
	if s := junit.Suites[1]; s.Skipped != 1 || len(s.Cases) != 1 || s.Cases[0].Name != "1 Web (a/v1)" {
		t.Errorf("%+v in %s", s, text)
	}
	var sarif struct {
		Runs []struct {
			Properties struct{ Inputs report.Inputs }
			Results    []struct{ Locations []map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(written(t, func(w io.Writer) error { return r.WriteSARIF(w, "v1", "/") })), &sarif); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*r.Inputs, sarif.Runs[0].Properties.Inputs); diff != "" || sarif.Runs[0].Results[0].Locations[0]["logicalLocations"] != nil {
		t.Errorf("%+v (-want +got):\n%s", sarif, diff)
	}
}
