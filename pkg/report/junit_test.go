package report_test

import (
	"encoding/xml"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// junit is a report as a CI system reads it.
type junit struct {
	Tests    int     `xml:"tests,attr"`
	Failures int     `xml:"failures,attr"`
	Skipped  int     `xml:"skipped,attr"`
	Suites   []suite `xml:"testsuite"`
}

type suite struct {
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Cases    []testCase `xml:"testcase"`
}

type testCase struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	File    string   `xml:"file,attr"`
	Failure *failure `xml:"failure"`
	Out     string   `xml:"system-out"`
}

type failure struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func asJUnit(t *testing.T, judged []report.Judged) junit {
	t.Helper()
	text := written(t, func(w io.Writer) error { return report.WriteJUnit(w, "lint", judged, nil) })
	var read junit
	if err := xml.Unmarshal([]byte(text), &read); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return read
}

func TestJUnit(t *testing.T) {
	web := report.Object{Kind: "Service", Namespace: "ns", Name: "web"}
	at := func(path string, line int) report.Source { return report.Source{Path: path, Line: line} }
	bad := report.Finding{Code: "PC0201", Severity: "error", Field: "spec.a", Message: "<held> (PC0201)", Source: at("./a.yaml", 7)}
	worse := report.Finding{Code: "PC0301", Severity: "error", Field: "spec.b", Message: "out (PC0301)", Source: at("./a.yaml", 8)}
	note := report.Finding{Code: "PC0105", Severity: "info", Field: "spec.c", Message: "hm (PC0105)", Source: at("-", 9)}
	got := asJUnit(t, []report.Judged{
		{Object: web, Source: at("./a.yaml", 1), Failures: []report.Finding{bad, worse}},
		{Object: report.Object{Kind: "Pod", Name: "p"}, Source: at("-", 1), Notes: []report.Finding{note}},
		{Object: report.Object{Kind: "Pod", Name: "q"}, Source: at("./a.yaml", 5)},
	})
	want := junit{Tests: 3, Failures: 1, Suites: []suite{
		{Name: "a.yaml", Tests: 2, Failures: 1, Cases: []testCase{
			{Name: "Service ns/web", Class: "a.yaml", File: "a.yaml", Failure: &failure{"PC0201", "spec.a: <held> (PC0201)",
				"./a.yaml:7: error: spec.a: <held> (PC0201)\n./a.yaml:8: error: spec.b: out (PC0301)"}},
			{Name: "Pod q", Class: "a.yaml", File: "a.yaml"},
		}},
		{Name: "standard input", Tests: 1, Cases: []testCase{
			{Name: "Pod p", Class: "standard input", Out: "-:9: info: spec.c: hm (PC0105)"},
		}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestJUnitOfNothing: many readers take a report without cases for a broken one.
func TestJUnitOfNothing(t *testing.T) {
	if got := asJUnit(t, nil); got.Tests != 1 || got.Failures != 0 || len(got.Suites) != 1 || len(got.Suites[0].Cases) != 1 {
		t.Errorf("%+v, want one case that passes", got)
	}
}

// TestJUnitOfMonsters: XML has no way to write most control characters.
func TestJUnitOfMonsters(t *testing.T) {
	for _, monster := range []string{"\x00\x01\x1b[31m", "\xff\xfe", "a\nb\tc\r", "]]>", `"'<&>`, "\ufffe\uffff", "\u0085\u2028"} {
		f := report.Finding{Code: "PC0101", Severity: "error", Field: monster, Message: monster, Source: report.Source{Path: monster, Line: 1}}
		got := asJUnit(t, []report.Judged{{
			Object: report.Object{Kind: monster, Name: monster}, Source: f.Source, Failures: []report.Finding{f}, Notes: []report.Finding{f},
		}})
		if got.Failures != 1 || len(got.Suites[0].Cases) != 1 {
			t.Errorf("%q: %+v", monster, got)
		}
	}
}
