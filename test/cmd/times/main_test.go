package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/test/lab/testjson"
)

const events = `{"Time":"2026-01-01T00:00:00Z","Action":"start","Package":"github.com/portcullis-k8s/portcullis/pkg/a"}
{"Time":"2026-01-01T00:00:01Z","Action":"pass","Package":"github.com/portcullis-k8s/portcullis/pkg/a","Test":"TestX/sub","Elapsed":0.5}
{"Time":"2026-01-01T00:00:01Z","Action":"pass","Package":"github.com/portcullis-k8s/portcullis/pkg/a","Test":"TestX","Elapsed":1}
{"Time":"2026-01-01T00:00:02Z","Action":"pass","Package":"github.com/portcullis-k8s/portcullis/pkg/a","Elapsed":1.5}
not json
{"Time":"2026-01-01T00:00:02Z","Action":"skip","Package":"github.com/portcullis-k8s/portcullis/pkg/none","Elapsed":0}
`

const wrong = `{"Time":"2026-01-01T00:01:00Z","Action":"fail","Package":"github.com/portcullis-k8s/portcullis/test/b","Test":"TestY","Elapsed":1}
{"Time":"2026-01-01T00:01:30Z","Action":"fail","Package":"github.com/portcullis-k8s/portcullis/test/b","Elapsed":90}
{"Time":"2026-01-01T00:01:31Z","Action":"fail","Package":"github.com/portcullis-k8s/portcullis/test/broken","Elapsed":0}
`

const skip = `{"Time":"2026-01-01T00:00:01Z","Action":"skip","Package":"github.com/portcullis-k8s/portcullis/pkg/a","Test":"TestZ/sub","Elapsed":0}
`

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		good           bool
	}{
		{"good", events, "TIME  TESTS  PACKAGE\n1.5s  1      pkg/a\nfrom first to last: 2s\n1 passed, 0 failed, 0 skipped\n", true},
		{"failed", events + wrong, "TIME   TESTS  PACKAGE\n90.0s  1      test/b: 1 failed\n1.5s   1      pkg/a\n0.0s   0      test/broken: failed outside of its tests\n" +
			"from first to last: 1m31s\n1 passed, 2 failed, 0 skipped\n", false},
		{"skipped", events + skip, "TIME  TESTS  PACKAGE\n1.5s  1      pkg/a: skipped: TestZ/sub\nfrom first to last: 2s\n1 passed, 0 failed, 0 skipped\n", false},
		{"nothing ran", "", "TIME  TESTS  PACKAGE\nfrom first to last: 0s\n0 passed, 0 failed, 0 skipped\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r report
			if err := testjson.Read(strings.NewReader(c.in), r.add); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := r.write(&out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if r.isGood() != c.good {
				t.Errorf("good: %v, want %v", r.isGood(), c.good)
			}
		})
	}
}
