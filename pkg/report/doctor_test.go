package report

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDoctorReport(t *testing.T) {
	r := NewDoctorReport()
	r.Add(DoctorCheck{"leader", DoctorOK, "portcullis-1", ""})
	r.Add(DoctorCheck{"CA bundle", DoctorProblem, "none\nat all", "look at the log"}, DoctorCheck{"rights", DoctorNotChecked, "you may not ask", ""})
	var table, text strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	want := `STATUS       CHECK      WHAT
ok           leader     portcullis-1
problem      CA bundle  none\nat all
                        -> look at the log
not checked  rights     you may not ask

1 ok, 0 warnings, 1 problem, 1 not checked
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if err := r.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"kind": "DoctorReport"`, `"fix": "look at the log"`, `"notChecked": 1`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in %s", want, text.String())
		}
	}
}
