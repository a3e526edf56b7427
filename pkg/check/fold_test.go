package check_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// TestFold: findings in which an object meets several holders by one field in one way are one, and nobody is lost.
func TestFold(t *testing.T) {
	met := func(object, field, holder string, nodes ...string) check.Finding {
		claim := ports.Claim{Socket: ports.MustParseSocket("*:9000/TCP"), Kind: ports.HostPort}
		return check.Finding{
			Code: check.Held, Severity: check.Error, Object: mustOwner("Pod " + object).Ref, Field: field, Claim: claim, Nodes: nodes,
			Holder: &check.Holder{Ref: mustOwner("Pod " + holder).Ref, Claim: claim, Nodes: nodes},
		}
	}
	with := func(f check.Finding, change func(*check.Finding)) check.Finding {
		change(&f)
		return f
	}
	packets := func(winners ...check.Winner) func(*check.Finding) {
		return func(f *check.Finding) { f.Packets = &check.Packets{Winners: winners} }
	}
	self := check.Winner{Who: mustOwner("Pod a").Ref}
	for _, c := range []struct {
		why      string
		findings []check.Finding
		want     string // objects with their holders and nodes
	}{
		{"none", nil, ""},
		{"two holders", []check.Finding{met("a", "f", "x", "n1"), met("a", "f", "y", "n2")}, "a: x y on n1,n2"},
		{"three, others between", []check.Finding{met("a", "f", "x", "n1"), met("b", "f", "x", "n1"), met("a", "f", "y", "n2"), met("a", "f", "z", "n3")},
			"a: x y z on n1,n2,n3; b: x on n1"},
		{"the one with the most nodes first", []check.Finding{met("a", "f", "x", "n1"), met("a", "f", "y", "n2", "n3")}, "a: y x on n1,n2,n3"},
		{"another field", []check.Finding{met("a", "f", "x", "n1"), met("a", "g", "y", "n1")}, "a: x on n1; a: y on n1"},
		{"one everywhere", []check.Finding{met("a", "f", "x", "n1"), met("a", "f", "y")}, "a: x on n1; a: y on "},
		{"both everywhere", []check.Finding{met("a", "f", "x"), met("a", "f", "y")}, "a: x y on "},
		{"a warning", []check.Finding{met("a", "f", "x", "n1"), with(met("a", "f", "y", "n1"), func(f *check.Finding) { f.Severity = check.Warning })}, "a: x on n1; a: y on n1"},
		{"a violation that is not new", []check.Finding{met("a", "f", "x", "n1"), with(met("a", "f", "y", "n1"), func(f *check.Finding) { f.Standing = true })}, "a: x on n1; a: y on n1"},
		{"another code", []check.Finding{met("a", "f", "x", "n1"), with(met("a", "f", "y", "n1"), func(f *check.Finding) { f.Code = check.WorkloadsMeet })}, "a: x on n1; a: y on n1"},
		{"a node's annotation", []check.Finding{met("a", "f", "x", "n1"), with(met("a", "f", "y", "n1"), func(f *check.Finding) { f.Holder.Kind = check.NodeKind })}, "a: x on n1; a: y on n1"},
		{"the object gets the packets of both", []check.Finding{with(met("a", "f", "x", "n1"), packets(self)), with(met("a", "f", "y", "n1"), packets(self))}, "a: x y on n1"},
		{"the packets of one", []check.Finding{with(met("a", "f", "x", "n1"), packets(self)), met("a", "f", "y", "n1")}, "a: x on n1; a: y on n1"},
		{"each holder gets them", []check.Finding{with(met("a", "f", "x", "n1"), packets(check.Winner{Who: mustOwner("Pod x").Ref})),
			with(met("a", "f", "y", "n1"), packets(check.Winner{Who: mustOwner("Pod y").Ref}))}, "a: x on n1; a: y on n1"},
	} {
		var got []string
		for _, f := range check.Fold(slices.Clone(c.findings)) {
			var names []string
			for _, h := range f.Holders() {
				names = append(names, h.Name)
			}
			got = append(got, fmt.Sprintf("%s: %s on %s", f.Object.Name, strings.Join(names, " "), strings.Join(f.Nodes, ",")))
		}
		if diff := cmp.Diff(c.want, strings.Join(got, "; ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}

// TestMadeElsewhere: the findings that a caller raises have the severity of their code, and differ by what they are about.
func TestMadeElsewhere(t *testing.T) {
	pod, bad := mustOwner("Pod a").Ref, errors.New("bad")
	for code, made := range map[check.Code][]check.Finding{
		check.BadReservation:    {check.ReservationFinding(pod, "f", bad), check.ReservationFinding(pod, "f", errors.New("worse"))},
		check.HostPortRequested: {check.RequestFinding(pod, check.HostPortRequest{Name: "x", Field: "f"}, bad), check.RequestFinding(pod, check.HostPortRequest{Name: "y", Field: "f"}, bad)},
	} {
		for _, f := range made {
			if f.Code != code || f.Severity != check.SeverityOf(code, f.Case) || f.Severity == 0 || f.Object != pod || f.Field != "f" {
				t.Errorf("%s: %+v", code, f)
			}
		}
		if made[0].Compare(made[1]) == 0 {
			t.Errorf("%s: two findings are the same", code)
		}
	}
}
