package report_test

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// sarif is what these tests look at of a report in SARIF.
type sarif struct {
	Runs []struct {
		Tool struct {
			Driver struct {
				Version string
				Rules   []struct{ ID, HelpURI string }
			}
		}
		Results []sarifResult
	}
}

type sarifResult struct {
	RuleID    string
	RuleIndex int
	Level     string
	Message   struct{ Text string }
	Locations []struct {
		PhysicalLocation struct {
			ArtifactLocation struct{ URI string }
			Region           struct{ StartLine int }
		}
		LogicalLocations []struct{ FullyQualifiedName string }
	}
	PartialFingerprints map[string]string
}

func (r sarifResult) fingerprint() string { return r.PartialFingerprints["portcullisFinding/v1"] }

func asSARIF(t *testing.T, r *report.LintReport) sarif {
	t.Helper()
	text := written(t, func(w io.Writer) error { return r.WriteSARIF(w, "v1.2.3", "/home/me/repo") })
	var log sarif
	if err := json.Unmarshal([]byte(text), &log); err != nil {
		t.Fatal(err)
	}
	if len(log.Runs) != 1 || log.Runs[0].Results == nil {
		t.Fatalf("want one run with results, be they none: %s", text)
	}
	return log
}

func TestSARIF(t *testing.T) {
	driver := asSARIF(t, report.NewLintReport()).Runs[0].Tool.Driver
	if driver.Version != "v1.2.3" || len(driver.Rules) != len(check.Catalogue()) {
		t.Errorf("%+v: want the version, and a rule for each code", driver)
	}
	log := asSARIF(t, webReport())
	for i, r := range log.Runs[0].Results {
		if rule := log.Runs[0].Tool.Driver.Rules[r.RuleIndex]; rule.ID != r.RuleID {
			t.Errorf("result %d is of %s, its rule is %s", i, r.RuleID, rule.ID)
		}
	}
	first := log.Runs[0].Results[0]
	place := first.Locations[0]
	got := fmt.Sprintf("%s:%d %s: %s", place.PhysicalLocation.ArtifactLocation.URI, place.PhysicalLocation.Region.StartLine,
		place.LogicalLocations[0].FullyQualifiedName, first.Message.Text)
	const want = "./a,b:c.yaml:7 Service ns/<web>: spec.ports[0].nodePort: 30080/TCP is held by Deployment default/a (spec.containers[0].ports[0].hostPort) on node n1; choose another nodePort, or leave it out to get a free one (PC0201)"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var levels []string
	for _, r := range log.Runs[0].Results {
		levels = append(levels, r.Level)
	}
	if diff := cmp.Diff([]string{"error", "warning", "note"}, levels); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
}

// TestSARIFPlaces: what readers match with the files of a checkout.
func TestSARIFPlaces(t *testing.T) {
	for _, c := range []struct {
		path, uri string
		line, at  int
	}{
		{"a.yaml", "a.yaml", 3, 3},
		{"./a//b.yaml", "a/b.yaml", 3, 3},
		{"../a.yaml", "../a.yaml", 3, 3},
		{"a b%.yaml", "a%20b%25.yaml", 3, 3},
		{"a:b.yaml", "./a:b.yaml", 3, 3}, // a: would be a scheme
		{"grün.yaml", "gr%C3%BCn.yaml", 3, 3},
		{"\xff?#.yaml", "%FF%3F%23.yaml", 3, 3},
		{"/home/me/repo/a.yaml", "a.yaml", 3, 3},
		{"/home/me/other/a b.yaml", "file:///home/me/other/a%20b.yaml", 3, 3},
		{"-", "stdin", 3, 3},
		{"a.yaml", "a.yaml", 0, 1},
	} {
		r := report.NewLintReport()
		r.Add(check.Finding{Code: check.HostIPInvalid}, report.Source{Path: c.path, Line: c.line})
		place := asSARIF(t, r).Runs[0].Results[0].Locations[0].PhysicalLocation
		if place.ArtifactLocation.URI != c.uri || place.Region.StartLine != c.at {
			t.Errorf("%q:%d stands at %q:%d, want %q:%d", c.path, c.line, place.ArtifactLocation.URI, place.Region.StartLine, c.uri, c.at)
		}
	}
}

// TestFingerprints: a finding keeps its own while it moves, and no two of a report share one.
func TestFingerprints(t *testing.T) {
	one := check.Finding{
		Code: check.Held, Severity: check.Error, Object: ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "ns", Name: "a"}, Field: podField,
		Claim: hostPort("80/TCP"), Holder: by("Pod", "b", podField, hostPort("80/TCP")),
	}
	otherCode, otherObject, otherField, otherHolder, noHolder := one, one, one, one, one
	otherCode.Code, otherObject.Object.Name, otherField.Field = check.WorkloadsMeet, "c", "spec.containers[1].ports[0].hostPort"
	otherHolder.Holder, noHolder.Holder = by("Pod", "c", podField, hostPort("80/TCP")), nil
	noHolder.Code = check.OutsideRange
	r := report.NewLintReport()
	for _, f := range []check.Finding{one, one, otherCode, otherObject, otherField, otherHolder, noHolder} {
		r.Add(f, report.Source{Path: "a.yaml", Line: 1})
	}
	seen := map[string]bool{}
	results := asSARIF(t, r).Runs[0].Results
	for i, result := range results {
		if seen[result.fingerprint()] || result.fingerprint() == "" {
			t.Errorf("result %d has no fingerprint of its own: %q", i, result.fingerprint())
		}
		seen[result.fingerprint()] = true
	}
	moved := report.NewLintReport()
	one.Nodes = []string{"n1"}
	moved.Add(one, report.Source{Path: "renamed.yaml", Line: 70})
	if got := asSARIF(t, moved).Runs[0].Results[0].fingerprint(); got != results[0].fingerprint() {
		t.Error("the fingerprint has changed with the file, the line or the nodes")
	}
}
