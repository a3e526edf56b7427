// Command times reads what `go test -json` has written, and prints how long each package took, slowest first, and how
// many tests passed and failed. It ends with 1 if one failed or was skipped: what is skipped is not checked.
package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/portcullis-k8s/portcullis/test/lab/testjson"
)

func main() {
	var r report
	for _, file := range os.Args[1:] {
		f, err := os.Open(file)
		if err == nil {
			err = testjson.Read(f, r.add)
			f.Close()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "times: %s: %v\n", file, err)
			os.Exit(2)
		}
	}
	if err := r.write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "times:", err)
		os.Exit(2)
	}
	if !r.isGood() {
		os.Exit(1)
	}
}

// report is what the events say.
type report struct {
	packages    map[string]*tally
	first, last time.Time
}

// tally counts the tests of a package, subtests not among them.
type tally struct {
	took                    time.Duration
	passed, failed, skipped int
	broken                  bool // failed, and not by one of its tests
	skips                   []string
}

const module = "github.com/portcullis-k8s/portcullis"

func (r *report) add(e testjson.Event) {
	if r.first.IsZero() || e.Time.Before(r.first) {
		r.first = e.Time
	}
	if e.Time.After(r.last) {
		r.last = e.Time
	}
	if r.packages == nil {
		r.packages = map[string]*tally{}
	}
	name := strings.TrimPrefix(strings.TrimPrefix(e.Package, module), "/")
	t := r.packages[name]
	if t == nil {
		t = &tally{}
		r.packages[name] = t
	}
	if e.Test == "" {
		switch e.Action {
		case "pass", "fail", "skip":
			t.took = time.Duration(e.Elapsed * float64(time.Second))
			t.broken = e.Action == "fail" && t.failed == 0
		}
		return
	}
	isSubtest := strings.Contains(e.Test, "/")
	switch {
	case e.Action == "skip":
		t.skips = append(t.skips, e.Test)
		if !isSubtest {
			t.skipped++
		}
	case isSubtest:
	case e.Action == "pass":
		t.passed++
	case e.Action == "fail":
		t.failed++
	}
}

// isGood reports whether something was tested, and nothing failed or was skipped.
func (r *report) isGood() bool {
	for _, t := range r.packages {
		if t.failed > 0 || t.broken || len(t.skips) > 0 {
			return false
		}
	}
	return len(r.packages) > 0
}

func (r *report) write(w io.Writer) error {
	names := slices.Collect(maps.Keys(r.packages))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(r.packages[b].took, r.packages[a].took), cmp.Compare(a, b))
	})
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tTESTS\tPACKAGE")
	var total tally
	for _, name := range names {
		t := r.packages[name]
		if tests := t.passed + t.failed + t.skipped; tests > 0 || t.broken {
			fmt.Fprintf(table, "%.1fs\t%d\t%s%s\n", t.took.Seconds(), tests, name, t.remark())
		}
		total.passed += t.passed
		total.failed += t.failed
		total.skipped += t.skipped
		if t.broken {
			total.failed++
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "from first to last: %s\n%d passed, %d failed, %d skipped\n", r.last.Sub(r.first).Round(time.Second), total.passed, total.failed, total.skipped)
	return err
}

func (t *tally) remark() string {
	var parts []string
	if t.failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", t.failed))
	}
	if t.broken {
		parts = append(parts, "failed outside of its tests")
	}
	if len(t.skips) > 0 {
		parts = append(parts, "skipped: "+strings.Join(t.skips, ", "))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, "; ")
}
