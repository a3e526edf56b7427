package ports_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// worldNodes is what the model's nodes list about themselves, as the package asks for it.
type worldNodes struct{}

func (worldNodes) NodeOf(addr netip.Addr) (node string, primary, known bool) {
	if addr.IsLoopback() || addr.Is4In6() {
		panic("Nodes was asked for " + addr.String())
	}
	n := nodeOf(addr.String())
	return n, isPrimary(n, addr.String()), n != ""
}

// spellings is every address, wildcard and prefix that the random claims use.
func spellings() []string {
	all := []string{
		"*", "0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::0.0.0.0", "::ffff:0.0.0.0",
		"::ffff:10.0.0.1", "::FFFF:a00:1", "::ffff:192.168.0.2", "::ffff:127.0.0.1", "FD00::1", "fd00:0:0::2",
		"0:0::1", "2001:0DB8::9",
		"10.0.0.0/24", "10.0.0.1/24", "10.0.0.2/31", "10.0.0.1/32", "::ffff:10.0.0.0/120", "192.168.0.0/16",
		"126.0.0.0/7", "127.0.0.0/8", "127.0.0.53/32", "0.0.0.0/0", "::ffff:0:0/96",
		"fd00::/64", "fd00::/16", "fd00::2/127", "fd00::1/128", "::1/128", "::/0",
	}
	return append(all, modelAddresses()...)
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomClaim writes a line. Equal ports are likely, so that the addresses and scopes decide.
func randomClaim(r *rand.Rand) string {
	kind := pick(r, "nodePort", "healthCheckNodePort", "hostPort", "hostPort", "hostPort", "hostPort,init", "hostPort,idle", "hostNetwork",
		"hostNetwork", "externalIP", "loadBalancerIP")
	address := pick(r, "*", "0.0.0.0", "::", pick(r, spellings()...), pick(r, spellings()...)) + pick(r, "", "", "", ",noloopback", ",noloopback6", ",primary")
	scope := pick(r, "?", "a", "b", "c", "{}", "{a}", "{b,c}", "{a,b,c}", "every", "every")
	if kind == "externalIP" || kind == "loadBalancerIP" {
		// The API server refuses loopback, unspecified and prefix as an external IP.
		scope, address = "address", pick(r, slices.DeleteFunc(spellings(), func(s string) bool {
			return readModelClaim("x "+s+" 1/TCP @?").single() == "" || strings.Contains(s, "/") || mustAddress(s).IsLoopback()
		})...)
	}
	return fmt.Sprintf("%s %s %s @%s", kind, address, pick(r, "80/TCP", "80/TCP", "80/TCP", "80/TCP", "80/UDP", "81/TCP"), scope)
}

// Every spelling, with and without the flags, against every other.
func TestAddressOverlapsAsTheModel(t *testing.T) {
	var words []string
	for _, s := range spellings() {
		words = append(words, s, s+",noloopback", s+",noloopback6", s+",primary")
	}
	for _, x := range words {
		a, mx := mustAddress(x), readModelClaim("hostPort "+x+" 80/TCP @?")
		for _, y := range words {
			want := modelOverlaps(mx, readModelClaim("hostPort "+y+" 80/TCP @?"))
			if got := a.Overlaps(mustAddress(y)); got != want {
				t.Errorf("%s overlaps %s: %v, want %v", x, y, got, want)
			}
		}
		for _, addr := range modelAddresses() {
			if got, want := a.Contains(netip.MustParseAddr(addr)), slices.Contains(mx.addresses(), addr); got != want {
				t.Errorf("%s contains %s: %v, want %v", x, addr, got, want)
			}
		}
	}
}

func TestSocketOverlapsAsTheModel(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(8_000, 300_000)
	for range rounds {
		x, y := randomClaim(r), randomClaim(r)
		a, b := mustClaim(x).Socket, mustClaim(y).Socket
		want := modelOverlaps(readModelClaim(x), readModelClaim(y))
		if got, back := a.Overlaps(b), b.Overlaps(a); got != want || back != want {
			t.Fatalf("%s\n%s\noverlap: %v, and the other way %v, want %v", x, y, got, back, want)
		}
	}
}

func TestMeetAsTheModel(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(8_000, 300_000)
	met, apart := 0, 0
	for range rounds {
		x, y := randomClaim(r), randomClaim(r)
		mx, my := readModelClaim(x), readModelClaim(y)
		nodes, want := modelMeet(mx, my)
		checkMeet(t, x, y, nodes, want)
		nodesBack, wantBack := modelMeet(my, mx)
		checkMeet(t, y, x, nodesBack, wantBack)
		if !mx.idle && !my.idle && want != wantBack {
			t.Errorf("%s\n%s\nthe model is not symmetric", x, y)
		}
		if t.Failed() {
			return
		}
		if want {
			met++
		} else {
			apart++
		}
	}
	if t.Logf("%d met, %d did not", met, apart); met < rounds/50 || apart < rounds/50 {
		t.Error("the random claims are too much alike to prove anything")
	}
}

// checkMeet judges Meet by whether it found a conflict, whose, and on which nodes.
func checkMeet(t *testing.T, wanted, held string, nodes []string, want bool) {
	t.Helper()
	w, h := mustClaim(wanted), mustClaim(held)
	got, ok := ports.Meet(w, h, worldNodes{})
	expected := ports.Conflict{}
	if want {
		expected = ports.Conflict{Wanted: w, Held: h, Nodes: nodes}
	}
	if ok != want {
		t.Errorf("wanted %s\nheld   %s\nmeet: %v, want %v on %q", wanted, held, ok, want, nodes)
	} else if diff := cmp.Diff(expected, got, cmp.Comparer(func(a, b ports.Address) bool { return a == b })); diff != "" {
		t.Errorf("wanted %s\nheld   %s\nconflict (-want +got):\n%s", wanted, held, diff)
	}
}
