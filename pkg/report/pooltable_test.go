package report

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func mustRanges(text string) ports.Ranges {
	ranges, err := ports.ParseRanges(text)
	if err != nil {
		panic(err)
	}
	return ranges
}

// TestSuggestedPools: what does not fit is said, and what a client wrote ends no comment and no string.
func TestSuggestedPools(t *testing.T) {
	s := &SuggestedPools{
		Label: "team", Everybody: ports.MustParseRange("30000-32767"), HolderOf: func(n uint16) string { return fmt.Sprintf("ns\n/s%d", n/10) },
		Explanation: []string{"one line\nspec: {}"},
		Pools: []SuggestedPool{{
			Suggestion: pool.Suggestion{
				Group: pool.Group{Name: "mixed", Numbers: []uint16{30000, 30001, 30010, 30020, 30030, 31000, 40000}}, Ranges: mustRanges("30000-30030,31000,31500-31509"),
				Shared: true, Room: 7, Left: []uint16{40000},
			},
			Value: `a"b`, Namespaces: 2, Services: 5,
		}},
	}
	var text strings.Builder
	if err := s.WriteYAML(&text); err != nil {
		t.Fatal(err)
	}
	_, first, _ := strings.Cut(text.String(), "---\n")
	first, _, _ = strings.Cut(first, "---\n")
	want := `# 5 Services in 2 namespaces hold 6 numbers; 7 of this pool are free.
# Shared: its numbers and those of others lie so mixed that more than 32 ranges would be needed to part them.
# 40000 is not in it: it is held by others too, or lies outside the node port range (ns\n/s4000).
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata:
  name: mixed
spec:
  ranges:
  - {port: 30000, endPort: 30030} # 5 of 31 in use: ns\n/s3000, ns\n/s3001, ns\n/s3002, and 1 more
  - port: 31000 # ns\n/s3100
  - {port: 31500, endPort: 31509} # room
  namespaceSelector:
    matchLabels: {"team": "a\"b"}
  sharing: Shared
  enforcement: Audit
`
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.Contains(text.String(), "\nspec: {}") {
		t.Error("an explanation ends its comment")
	}
}

func TestPoolCheckSummary(t *testing.T) {
	for want, s := range map[string]PoolCheckSummary{
		"0 ports are held, and none is displaced":                                                {},
		"1 port is held, and none is displaced":                                                  {Held: 1},
		"9 ports are held: 1 will be out of pool or of none, 1 foreign; their holders keep them": {Held: 9, Displaced: 2, FallOut: 1, Foreign: 1},
		"9 ports are held: 2 will be out of pool or of none, 2 foreign; their holders keep them": {Held: 9, Displaced: 4, FallOut: 2, Foreign: 2},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestDisplacedFits: names of any length leave a sentence that is short enough and tells who becomes whose.
func TestDisplacedFits(t *testing.T) {
	member := func(name string) *pool.Member { return &pool.Member{Pool: pool.Pool{Name: name}} }
	long := strings.Repeat("n", 63)
	for _, d := range []pool.Displacement{
		{Before: pool.Place{Standing: pool.InPool, Pool: member(long)}, After: pool.Place{Standing: pool.InForeign, Pool: member(long)}},
		{Before: pool.Place{Standing: pool.InPool, Pool: member(long)}, After: pool.Place{Standing: pool.OutOfPool, Pool: member(long)}},
		{Before: pool.Place{Standing: pool.InPool, Pool: member(long)}, After: pool.Place{Standing: pool.Unpooled}},
	} {
		d.Holding = pool.Holding{
			Requester: pool.Requester{For: pool.NodePorts, Namespace: long, Name: long}, Port: 30100, Protocol: ports.TCP, Field: "spec.ports[0].nodePort",
		}
		r := NewPoolCheckReport(1)
		r.Displace(d)
		if text := r.Displaced[0].Message; utf8.RuneCountInString(text) > MaxSentence || !strings.HasPrefix(text, "spec.ports[0].nodePort: 30100/TCP of Service "+long+"/"+long) {
			t.Errorf("%d characters: %s", utf8.RuneCountInString(text), text)
		}
	}
}

// TestPoolTable: many ranges are counted, and a disabled pool tells nothing of what it does not have.
func TestPoolTable(t *testing.T) {
	set := pool.New([]pool.Pool{
		{Name: "many", For: pool.NodePorts, Exclusive: true, State: pool.Active, Ranges: mustRanges("29000,30000,30002,30004,30006,30008")},
		{Name: "off", For: pool.NodePorts, Exclusive: true, State: pool.Disabled, Ranges: mustRanges("30000")},
	}, ports.MustParseRange("30000-32767"))
	r := NewPoolReport()
	for _, m := range set.Members() {
		r.Add(m, m.Usage(nil))
	}
	var text strings.Builder
	if err := r.WriteTable(&text, time.Time{}); err != nil {
		t.Fatal(err)
	}
	want := `POOL  FOR        STATE     RANGES                        TOTAL  ALLOCATED  AVAILABLE  QUARANTINED  FOREIGN  USED%  OUT OF POOL
many  NodePorts  Active    30000,30002,30004 and 2 more  5      0          5          0            0        0      0
off   NodePorts  Disabled  -                             0      0          0          0            0        0      0
spec.ranges: PortPool many names 29000, which the cluster does not accept as nodePorts; choose numbers inside its node port range
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
