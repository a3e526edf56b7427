package check_test

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

func TestEnforce(t *testing.T) {
	var none check.Enforcement
	for _, c := range []struct {
		severity   check.Severity
		standing   bool
		configured check.Enforcement
		want       check.Enforcement
	}{
		{check.Error, false, none, check.Deny},
		{check.Warning, false, none, check.Warn},
		{check.Info, false, none, check.Audit},
		{check.Error, true, none, check.Warn},
		{check.Warning, true, none, check.Warn},
		{check.Info, true, none, check.Audit},
		{check.Error, false, check.Audit, check.Audit},
		{check.Error, false, check.Warn, check.Warn},
		{check.Warning, false, check.Deny, check.Deny},
		{check.Info, false, check.Deny, check.Deny},
		{check.Info, false, check.Warn, check.Warn},
		{check.Error, true, check.Deny, check.Warn},
		{check.Error, true, check.Audit, check.Audit},
		{check.Info, true, check.Deny, check.Warn},
	} {
		s := check.Settings{Enforcement: map[check.Code]check.Enforcement{check.OutsideRange: check.Deny}}
		if c.configured != none {
			s.Enforcement[check.Held] = c.configured
		}
		f := check.Finding{Code: check.Held, Severity: c.severity, Standing: c.standing}
		if got := s.Enforce(f); got != c.want {
			t.Errorf("%s, standing %v, configured %s: %s, want %s", c.severity, c.standing, c.configured, got, c.want)
		}
	}
}

// TestEnforceOfPools: what a pool or policy says counts instead of the severity; the configuration and what stood before
// go over it.
func TestEnforceOfPools(t *testing.T) {
	var none check.Enforcement
	for _, c := range []struct {
		says       check.Enforcement
		standing   bool
		configured check.Enforcement
		want       check.Enforcement
	}{
		{none, false, none, check.Warn},
		{check.Audit, false, none, check.Audit},
		{check.Warn, false, none, check.Warn},
		{check.Deny, false, none, check.Deny},
		{check.Deny, true, none, check.Warn},
		{check.Audit, true, none, check.Audit},
		{check.Deny, false, check.Audit, check.Audit},
		{check.Audit, false, check.Deny, check.Deny},
		{check.Audit, true, check.Deny, check.Warn},
	} {
		s := check.Settings{Enforcement: map[check.Code]check.Enforcement{}}
		if c.configured != none {
			s.Enforcement[check.ForeignPool] = c.configured
		}
		f := check.Finding{Code: check.ForeignPool, Severity: check.Warning, Enforcement: c.says, Standing: c.standing}
		if got := s.Enforce(f); got != c.want {
			t.Errorf("%s, standing %v, configured %s: %s, want %s", c.says, c.standing, c.configured, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	deny, warn, audit := check.Finding{Severity: check.Error}, check.Finding{Severity: check.Warning}, check.Finding{Severity: check.Info}
	for _, c := range []struct {
		findings []check.Finding
		want     check.Verdict
	}{
		{nil, check.Allowed},
		{[]check.Finding{audit}, check.Allowed},
		{[]check.Finding{warn, audit}, check.Warned},
		{[]check.Finding{audit, warn, deny}, check.Denied},
		{[]check.Finding{{Severity: check.Error, Standing: true}}, check.Warned},
	} {
		if got := settings().Judge(c.findings); got != c.want {
			t.Errorf("%v: %s, want %s", c.findings, got, c.want)
		}
	}
}

func TestEnforcementReadsItself(t *testing.T) {
	for _, e := range []check.Enforcement{check.Audit, check.Warn, check.Deny} {
		if got, err := pool.ParseEnforcement(e.String()); err != nil || got != e {
			t.Errorf("%s: %s, %v", e, got, err)
		}
	}
	for _, s := range []string{"", "deny", "Enforcement(0)"} {
		if e, err := pool.ParseEnforcement(s); err == nil {
			t.Errorf("%q: %s, want an error", s, e)
		}
	}
}

func TestCatalogue(t *testing.T) {
	seen := map[check.Code]bool{}
	for i, e := range check.Catalogue() {
		if i > 0 && check.Catalogue()[i-1].Code >= e.Code {
			t.Errorf("%s is not in order", e.Code)
		}
		if seen[e.Code] || len(e.Code) != 6 || e.Code[:2] != "PC" || e.Title == "" || e.Severity < check.Info || e.Severity > check.Error {
			t.Errorf("entry %+v is not whole, or there twice", e)
		}
		seen[e.Code] = true
		if got, ok := check.Lookup(e.Code); !ok || got.Title != e.Title {
			t.Errorf("looking up %s: %+v, %v", e.Code, got, ok)
		}
	}
	if e, ok := check.Lookup("PC9999"); ok {
		t.Errorf("a code that does not exist: %+v", e)
	}
}

// TestDaemonsOfSomeNodes: where no node is known, one that has the daemon may be among them.
func TestDaemonsOfSomeNodes(t *testing.T) {
	_, w := mustObject("Pod a: hostPort * 10259/TCP @?")
	in := check.Input{Workload: w, Held: (&ledger.Ledger{}).Snapshot(), Settings: settings()}
	findings := check.Check(in)
	if len(findings) != 1 || findings[0].Code != check.DaemonSocket || findings[0].Nodes != nil {
		t.Errorf("%+v", findings)
	}
	if every := settings().ReservedEverywhere(); len(every) != len(settings().Reserved)-1 {
		t.Errorf("of every node: %+v", every)
	}
}
