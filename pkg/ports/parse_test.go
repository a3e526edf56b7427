package ports_test

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// parseCase is a text and what it is when printed again; want "" if it is bad.
type parseCase struct{ in, want string }

// checkParse runs a parser over cases and sees to it that the error quotes what the user wrote.
func checkParse[T any](t *testing.T, parse func(string) (T, error), print func(T) string, cases []parseCase) {
	t.Helper()
	for _, c := range cases {
		got, err := parse(c.in)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%q: got %q, want an error", c.in, print(got))
		case c.want == "" && !strings.Contains(err.Error(), strconv.Quote(c.in)):
			t.Errorf("%q: the error does not quote it: %v", c.in, err)
		case c.want != "" && err != nil:
			t.Errorf("%q: %v", c.in, err)
		case c.want != "" && print(got) != c.want:
			t.Errorf("%q: got %q, want %q", c.in, print(got), c.want)
		}
	}
}

func TestParseProtocol(t *testing.T) {
	checkParse(t, ports.ParseProtocol, ports.Protocol.String, []parseCase{
		{"TCP", "TCP"}, {"UDP", "UDP"}, {"SCTP", "SCTP"},
		{"", ""}, {"tcp", ""}, {"Tcp", ""}, {" TCP", ""}, {"TCP ", ""}, {"ICMP", ""}, {"Protocol(0)", ""}, {"TCP\n", ""},
	})
}

func TestProtocolText(t *testing.T) {
	for _, p := range ports.Protocols() {
		text, err := p.MarshalText()
		var back ports.Protocol
		if err := back.UnmarshalText(text); err != nil || back != p {
			t.Errorf("%v: read back from %q as %v, %v", p, text, back, err)
		}
		if err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	for _, p := range []ports.Protocol{0, 4} {
		if text, err := p.MarshalText(); err == nil {
			t.Errorf("%v: written as %q", p, text)
		}
	}
	kept := ports.UDP
	if err := kept.UnmarshalText([]byte("udp")); err == nil || kept != ports.UDP {
		t.Errorf("read from %q: %v, %v", "udp", kept, err)
	}
}

func TestParsePort(t *testing.T) {
	checkParse(t, ports.ParsePort, func(p uint16) string { return strconv.Itoa(int(p)) }, []parseCase{
		{"1", "1"}, {"80", "80"}, {"65535", "65535"},
		{"", ""}, {"0", ""}, {"00", ""}, {"080", ""}, {"65536", ""}, {"-1", ""}, {"+80", ""}, {" 80", ""}, {"80 ", ""},
		{"0x50", ""}, {"8_0", ""}, {"1e3", ""}, {"80.0", ""}, {"http", ""}, {"８０", ""}, {"99999999999999999999", ""},
	})
}

func TestParseRange(t *testing.T) {
	checkParse(t, ports.ParseRange, ports.Range.String, []parseCase{
		{"30000-32767", "30000-32767"}, {"30000", "30000"}, {"30000-30000", "30000"}, {"1-65535", "1-65535"},
		{"30000+2767", "30000-32767"}, {"30000+0", "30000"}, {"1+65534", "1-65535"}, {"65535+0", "65535"},
		{" 30000 - 32767 ", "30000-32767"},
		{"", ""}, {"-", ""}, {"+", ""}, {"0-10", ""}, {"10-", ""}, {"-10", ""}, {"10-5", ""}, {"1-2-3", ""}, {"1-65536", ""},
		{"1+65535", ""}, {"0+5", ""}, {"1+", ""}, {"1+-1", ""}, {"1-+1", ""}, {"1,2", ""}, {"1:2", ""}, {"a-b", ""},
	})
}

func TestParseRanges(t *testing.T) {
	checkParse(t, ports.ParseRanges, ports.Ranges.String, []parseCase{
		{"80", "80"}, {"80,81", "80-81"}, {"90,80", "80,90"}, {"80-90,85-95", "80-95"}, {"80-90, 100", "80-90,100"},
		{"1-65535,80", "1-65535"}, {"65535,65534", "65534-65535"}, {"80-82,80", "80-82"}, {"30000+5,30006", "30000-30006"},
	})
	for _, bad := range []parseCase{{"80,", ""}, {",80", ""}, {"80,90-85", "90-85"}, {"80;90", "80;90"}, {"none", "none"}} {
		if got, err := ports.ParseRanges(bad.in); err == nil || !strings.Contains(err.Error(), strconv.Quote(bad.want)) {
			t.Errorf("%q: got %v and the error %v, which should quote %q", bad.in, got, err, bad.want)
		}
	}
	for _, empty := range []string{"", " ", "\t\n"} {
		if got, err := ports.ParseRanges(empty); got != nil || err != nil {
			t.Errorf("%q: got %v, %v", empty, got, err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	checkParse(t, ports.ParseAddress, ports.Address.String, []parseCase{
		{"", "*"}, {"0.0.0.0", "0.0.0.0"}, {"::", "::"}, {"0:0::0", "::"}, {"::ffff:0.0.0.0", "0.0.0.0"},
		{"10.0.0.1", "10.0.0.1"}, {"::ffff:10.0.0.1", "10.0.0.1"}, {"::FFFF:a00:1", "10.0.0.1"},
		{"FD00:0:0::1", "fd00::1"}, {"fd00::0.0.0.1", "fd00::1"}, {"::1", "::1"}, {"127.0.0.1", "127.0.0.1"},
		{"*", ""}, {" ", ""}, {"10.0.0", ""}, {"10.0.0.256", ""}, {"010.0.0.1", ""}, {"10.0.0.1/32", ""}, {"10.0.0.1:80", ""},
		{"[::1]", ""}, {"fe80::1%eth0", ""}, {"localhost", ""}, {" 10.0.0.1", ""}, {"1::2::3", ""}, {":", ""},
	})
}

func TestParseSocket(t *testing.T) {
	checkParse(t, ports.ParseSocket, ports.Socket.String, []parseCase{
		{"0.0.0.0:80/TCP", "0.0.0.0:80/TCP"}, {"[::]:53/UDP", "[::]:53/UDP"}, {"*:9100/TCP", "*:9100/TCP"},
		{"10.0.0.1:1/SCTP", "10.0.0.1:1/SCTP"}, {"[fd00:0::1]:65535/TCP", "[fd00::1]:65535/TCP"}, {"[::ffff:10.0.0.1]:80/TCP", "10.0.0.1:80/TCP"},
		{"", ""}, {"80", ""}, {"80/TCP", ""}, {":80/TCP", ""}, {"*:80", ""}, {"*:80/", ""}, {"*:80/tcp", ""}, {"*:80/TCP/UDP", ""},
		{"*:0/TCP", ""}, {"*:/TCP", ""}, {"*:65536/TCP", ""}, {"::1:80/TCP", ""}, {"[]:80/TCP", ""}, {"[:80/TCP", ""}, {"]:80/TCP", ""},
		{"[10.0.0.1:80/TCP", ""}, {"10.0.0.1]:80/TCP", ""}, {"[10.0.0.1]:80/TCP", ""}, {"[*]:80/TCP", ""}, {"[[::1]]:80/TCP", ""},
		{"[fe80::1%eth0]:80/TCP", ""}, {"10.0.0.0/8:80/TCP", "10.0.0.0/8:80/TCP"}, {"localhost:80/TCP", ""},
	})
}

func TestMustParse(t *testing.T) {
	for name, parse := range map[string]func(){
		"MustParseRange":  func() { ports.MustParseRange("5-1") },
		"MustParseSocket": func() { ports.MustParseSocket("*:0/TCP") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			parse()
		}()
	}
}

func TestParseTargetPort(t *testing.T) {
	for in, want := range map[string]ports.TargetPort{
		"8080": {Number: 8080}, "http": {Name: "http"}, "": {}, "0": {}, "080": {Name: "080"}, "65536": {Name: "65536"}, "8080a": {Name: "8080a"},
	} {
		got := ports.ParseTargetPort(in)
		if got != want {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
		if again := ports.ParseTargetPort(got.String()); again != got {
			t.Errorf("%q: printed as %q, read back as %+v", in, got, again)
		}
	}
}

func TestServicePortString(t *testing.T) {
	for want, p := range map[string]ports.ServicePort{
		"8000:30007/TCP": {Name: "web", Protocol: ports.TCP, Port: 8000, TargetPort: ports.TargetPort{Number: 8080}, NodePort: 30007},
		"53/UDP":         {Protocol: ports.UDP, Port: 53},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v: got %q, want %q", p, got, want)
		}
	}
}

// What only Go callers can make.
func TestAddressConstructors(t *testing.T) {
	prefix := func(s string) ports.Address { return ports.AddressesIn(netip.MustParsePrefix(s)) }
	zoned, _ := netip.ParseAddr("fe80::1%eth0")
	for want, a := range map[string]ports.Address{
		"*":                        ports.AllAddresses(),
		"0.0.0.0":                  ports.AllIPv4(),
		"::":                       ports.AllIPv6(),
		"fe80::1":                  ports.OneAddress(zoned),
		"10.0.0.0/8":               prefix("10.1.2.3/8"),
		"10.0.0.1":                 prefix("10.0.0.1/32"),
		"* (primary)":              ports.AllAddresses().WithoutLoopback().PrimaryOnly(),
		"0.0.0.0 (not loopback)":   ports.AllIPv4().WithoutIPv6Loopback().WithoutLoopback(),
		"* (not ::1)":              ports.AllAddresses().WithoutIPv6Loopback(),
		"fd00::/64 (not loopback)": prefix("fd00::/64").WithoutLoopback(),
	} {
		if got := a.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, equal := range [][2]ports.Address{
		{prefix("0.0.0.0/0"), ports.AllIPv4()}, {prefix("::/0"), ports.AllIPv6()}, {prefix("::ffff:10.0.0.0/104"), prefix("10.0.0.0/8")},
		{prefix("::ffff:0:0/96"), ports.AllIPv4()}, {prefix("::ffff:0:0/95"), prefix("::fffe:0:0/95")},
		{ports.OneAddress(netip.Addr{}), ports.AllAddresses()}, {ports.AddressesIn(netip.Prefix{}), ports.AllAddresses()},
		{ports.OneAddress(netip.IPv4Unspecified()), ports.AllIPv4()}, {ports.OneAddress(netip.MustParseAddr("::ffff:10.0.0.1")), prefix("10.0.0.1/32")},
	} {
		if equal[0] != equal[1] {
			t.Errorf("%v is not %v", equal[0], equal[1])
		}
	}
}

// addressFacts are the predicates of an address.
type addressFacts struct {
	Single             string
	Loopback, IP4, IP6 bool
	Primary            bool
}

func TestAddressPredicates(t *testing.T) {
	for word, want := range map[string]addressFacts{
		"*":            {"", false, true, true, false},
		"0.0.0.0":      {"", false, true, false, false},
		"::":           {"", false, false, true, false},
		"10.0.0.1":     {"10.0.0.1", false, true, false, false},
		"10.0.0.1/32":  {"10.0.0.1", false, true, false, false},
		"10.0.0.0/31":  {"", false, true, false, false},
		"127.0.0.53":   {"127.0.0.53", true, true, false, false},
		"127.0.0.0/8":  {"", true, true, false, false},
		"126.0.0.0/7":  {"", false, true, false, false},
		"::1":          {"::1", true, false, true, false},
		"::/127":       {"", false, false, true, false},
		"*,primary":    {"", false, true, true, true},
		"*,noloopback": {"", false, true, true, false},
	} {
		a := mustAddress(word)
		got := addressFacts{"", a.IsLoopback(), a.HasIPv4(), a.HasIPv6(), a.IsPrimaryOnly()}
		if addr, ok := a.Single(); ok {
			got.Single = addr.String()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", word, diff)
		}
	}
	for _, nobodys := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if ports.AllAddresses().Contains(nobodys) {
			t.Errorf("every address contains %v", nobodys)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"*", "*", true}, {"*", "0.0.0.0", true}, {"*", "::1", true}, {"*", "10.0.0.0/8", true}, {"0.0.0.0", "*", false}, {"::", "*", false},
		{"0.0.0.0", "10.0.0.1", true}, {"0.0.0.0", "::1", false}, {"10.0.0.0/8", "10.0.0.1", true}, {"10.0.0.1", "10.0.0.0/8", false},
		{"10.0.0.1", "::ffff:10.0.0.1", true}, {"10.0.0.1", "10.0.0.2", false}, {"10.0.0.0/8", "0.0.0.0", false},
		{"*,noloopback", "*", true}, {"*,noloopback", "127.0.0.1", true}, // exceptions are left aside
		{"*", "*,primary", true}, {"*,primary", "*,primary", true}, {"*,primary", "*", false}, {"*,primary", "10.0.0.1", false},
	} {
		a, b := mustAddress(c.a), mustAddress(c.b)
		if got := a.Covers(b); got != c.want {
			t.Errorf("%s covers %s: %v", c.a, c.b, got)
		}
		socket := func(a ports.Address, port uint16, p ports.Protocol) ports.Socket {
			return ports.Socket{Address: a, Protocol: p, Port: port}
		}
		x := socket(a, 80, ports.TCP)
		if x.Covers(socket(b, 80, ports.TCP)) != c.want || x.Covers(socket(b, 81, ports.TCP)) || x.Covers(socket(b, 80, ports.UDP)) {
			t.Errorf("sockets on %s and %s: covered wrongly", c.a, c.b)
		}
	}
}

// TestSocketRoundTrip: what String writes of any socket, ParseSocket reads back as the same.
func TestSocketRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(seed.Of(t), 0))
	addresses := []ports.Address{
		ports.AllAddresses(), ports.AllIPv4(), ports.AllIPv6(), ports.OneAddress(netip.MustParseAddr("10.0.0.1")), ports.OneAddress(netip.IPv6Loopback()),
		ports.AddressesIn(netip.MustParsePrefix("127.0.0.0/8")), ports.AddressesIn(netip.MustParsePrefix("fd00::/64")), ports.AddressesIn(netip.MustParsePrefix("128.0.0.0/1")),
	}
	narrower := []func(ports.Address) ports.Address{ports.Address.WithoutLoopback, ports.Address.WithoutIPv6Loopback, ports.Address.PrimaryOnly}
	for range seed.Rounds(1000, 100_000) {
		a := addresses[random.IntN(len(addresses))]
		for range random.IntN(3) {
			a = narrower[random.IntN(len(narrower))](a)
		}
		s := ports.Socket{Address: a, Protocol: ports.Protocols()[random.IntN(3)], Port: uint16(1 + random.IntN(65535))}
		if back, err := ports.ParseSocket(s.String()); err != nil || back != s {
			t.Fatalf("%s is read back as %s, %v", s, back, err)
		}
	}
}
