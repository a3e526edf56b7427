package report_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func webReport() *report.LintReport {
	r := report.NewLintReport()
	web := ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "ns", Name: "<web>"}
	r.Add(check.Finding{Code: check.Held, Severity: check.Error, Object: web, Field: "spec.ports[0].nodePort", Claim: nodePort("30080/TCP"),
		Holder: by("Deployment", "a", podField, hostPort("30080/TCP")), Nodes: []string{"n1"}}, report.Source{Path: "a,b:c.yaml", Line: 7})
	r.Add(check.Finding{Code: check.NodePortWithoutUse, Case: check.NodePortIsLeftOver, Severity: check.Warning, Object: web, Field: "spec.ports[1].nodePort", Detail: check.UnusedPort{Port: 30081}},
		report.Source{Path: "-", Line: 1})
	r.Add(check.Finding{Code: check.HostIPInvalid, Severity: check.Info, Object: ports.Ref{APIVersion: "v1", Kind: "Node", Name: "n1"}, Field: "f", Detail: check.HostIPText{Text: "100%\n", Port: "80/TCP"}}, report.Source{Path: "./a 100%.yaml"})
	return r
}

// TestPackets: only who gets packets by endpoints does so on a condition; a health check of another Service is listened for in any case.
func TestPackets(t *testing.T) {
	web, other := ref("Service", "ns", "web"), ref("Service", "ns", "other")
	r := report.NewLintReport()
	r.Add(check.Finding{Code: check.Held, Object: web, Field: "f", Claim: nodePort("30080/TCP"), Holder: by("Service", "other", "g", nodePort("30080/TCP")), Packets: &check.Packets{
		Winners: won("from outside", web, "over loopback", other), Service: web, Assumed: true, At: netip.MustParseAddr("192.0.2.1"),
	}}, report.Source{})
	got := r.Findings[0]
	if got.At != "192.0.2.1" || len(got.Winners) != 2 || !got.Winners[0].Assumed || got.Winners[1].Assumed {
		t.Errorf("at %s: %+v", got.At, got.Winners)
	}
}

// TestJSON holds the report to the form that design.md promises to other people's scripts, byte by byte.
func TestJSON(t *testing.T) {
	const empty = `{
  "apiVersion": "portcullis.dev/v1alpha1",
  "kind": "LintReport",
  "findings": [],
  "summary": {
    "errors": 0,
    "warnings": 0,
    "infos": 0
  }
}
`
	if diff := cmp.Diff(empty, written(t, report.NewLintReport().WriteJSON)); diff != "" {
		t.Errorf("without findings (-want +got):\n%s", diff)
	}
	const full = `{
  "apiVersion": "portcullis.dev/v1alpha1",
  "kind": "LintReport",
  "findings": [
    {
      "code": "PC0201",
      "severity": "error",
      "object": {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "ns",
        "name": "<web>"
      },
      "field": "spec.ports[0].nodePort",
      "message": "30080/TCP is held by Deployment default/a (spec.containers[0].ports[0].hostPort) on node n1; choose another nodePort, or leave it out to get a free one (PC0201)",
      "holder": {
        "kind": "Deployment",
        "namespace": "default",
        "name": "a",
        "field": "spec.containers[0].ports[0].hostPort"
      },
      "nodes": [
        "n1"
      ],
      "source": {
        "path": "a,b:c.yaml",
        "line": 7
      }
    },
    {
      "code": "PC0104",
      "severity": "warning",
      "object": {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "ns",
        "name": "<web>"
      },
      "field": "spec.ports[1].nodePort",
      "message": "30081 is left over from a type with node ports; the API server drops it now and refuses it next time; remove nodePort from the manifest (PC0104)",
      "nodes": [],
      "source": {
        "path": "-",
        "line": 1
      }
    },
    {
      "code": "PC0101",
      "severity": "info",
      "object": {
        "apiVersion": "v1",
        "kind": "Node",
        "namespace": "",
        "name": "n1"
      },
      "field": "f",
      "message": "\"100%\\n\" is not an IP address: port 80/TCP would never be reachable; write an address of the node, or leave hostIP out for all of its addresses (PC0101)",
      "nodes": [],
      "source": {
        "path": "./a 100%.yaml",
        "line": 0
      }
    }
  ],
  "summary": {
    "errors": 1,
    "warnings": 1,
    "infos": 1
  }
}
`
	got := written(t, webReport().WriteJSON)
	if diff := cmp.Diff(full, got); diff != "" {
		t.Errorf("with findings (-want +got):\n%s", diff)
	}
	var back report.LintReport
	if err := json.Unmarshal([]byte(got), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(webReport(), &back); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
}

// plain writes a table without colours.
func plain(r *report.LintReport) func(io.Writer) error {
	return func(w io.Writer) error { return r.WriteTable(w, false) }
}

func TestTable(t *testing.T) {
	if got := written(t, plain(report.NewLintReport())); got != "no findings\n" {
		t.Errorf("without findings: %q", got)
	}
	const want = `SEVERITY  CODE    OBJECT            SOURCE
error     PC0201  Service ns/<web>  a,b:c.yaml:7
warning   PC0104  Service ns/<web>  -:1
info      PC0101  Node n1           ./a 100%.yaml

a,b:c.yaml:7: spec.ports[0].nodePort: 30080/TCP is held by Deployment default/a (spec.containers[0].ports[0].hostPort) on node n1; choose another nodePort, or leave it out to get a free one (PC0201)
-:1: spec.ports[1].nodePort: 30081 is left over from a type with node ports; the API server drops it now and refuses it next time; remove nodePort from the manifest (PC0104)
./a 100%.yaml: f: "100%\n" is not an IP address: port 80/TCP would never be reachable; write an address of the node, or leave hostIP out for all of its addresses (PC0101)

1 error, 1 warning, 1 info
Explain a code: portcullis lint --explain PC0201
`
	if diff := cmp.Diff(want, written(t, plain(webReport()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTableInColour: the colours are nothing but colours, so that the columns stay where they are.
func TestTableInColour(t *testing.T) {
	got := written(t, func(w io.Writer) error { return webReport().WriteTable(w, true) })
	for _, want := range []string{"\x1b[01mSEVERITY\x1b[0m", "\x1b[31merror\x1b[0m", "\x1b[33mwarning\x1b[0m", "\x1b[36minfo\x1b[0m"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	bare := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(got, "")
	if diff := cmp.Diff(written(t, plain(webReport())), bare); diff != "" {
		t.Errorf("without colours (-want +got):\n%s", diff)
	}
}

// TestTableOfMonsters: what files and objects are called must not reach the terminal as commands.
func TestTableOfMonsters(t *testing.T) {
	r := report.NewLintReport()
	r.Add(check.Finding{Code: check.OutsideRange, Object: ports.Ref{Kind: "Serv\x1bice", Name: "a\nb\tc"}, Claim: nodePort("80/TCP")}, report.Source{Path: "x\x1b[2J\r"})
	if got := written(t, plain(r)); strings.ContainsAny(got, "\x1b\t\r") || strings.Count(got, "\n") != 7 {
		t.Errorf("%q", got)
	}
}

// TestGitHub: a value must not end the command that it stands in, and there is no file where there is none.
func TestGitHub(t *testing.T) {
	want := []string{
		"::error file=a%2Cb%3Ac.yaml,line=7,title=PC0201::spec.ports[0].nodePort: 30080/TCP is held by Deployment default/a (spec.containers[0].ports[0].hostPort) on node n1; choose another nodePort, or leave it out to get a free one (PC0201)",
		"::warning title=PC0104::Service ns/<web>: spec.ports[1].nodePort: 30081 is left over from a type with node ports; the API server drops it now and refuses it next time; remove nodePort from the manifest (PC0104)",
		`::notice file=a 100%25.yaml,line=1,title=PC0101::f: "100%25\n" is not an IP address: port 80/TCP would never be reachable; write an address of the node, or leave hostIP out for all of its addresses (PC0101)`,
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(written(t, webReport().WriteGitHub)), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func written(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		summary report.Summary
		want    string
	}{
		{report.Summary{}, "no findings"},
		{report.Summary{Errors: 1}, "1 error"},
		{report.Summary{Errors: 2, Infos: 1}, "2 errors, 1 info"},
		{report.Summary{Warnings: 12, Infos: 2}, "12 warnings, 2 infos"},
	} {
		if got := c.summary.String(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.summary, got, c.want)
		}
	}
}
