package ports_test

import (
	"strconv"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// fuzzParser holds a parser to one promise: what it accepts, it prints so that it reads the same again.
func fuzzParser[T comparable](f *testing.F, parse func(string) (T, error), print func(T) string, seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		x, err := parse(s)
		if err != nil {
			if zero := *new(T); x != zero {
				t.Errorf("%q: a value with the error %v: %v", s, err, x)
			}
			return
		}
		if again, err := parse(print(x)); err != nil || again != x {
			t.Errorf("%q: printed as %q, read back as %v, %v", s, print(x), again, err)
		}
	})
}

func FuzzParseProtocol(f *testing.F) {
	fuzzParser(f, ports.ParseProtocol, ports.Protocol.String, "TCP", "UDP", "SCTP", "tcp", "")
}

func FuzzParsePort(f *testing.F) {
	fuzzParser(f, ports.ParsePort, func(p uint16) string { return strconv.Itoa(int(p)) }, "1", "80", "65535", "0", "-1", "+1", "080", "65536")
}

func FuzzParseRange(f *testing.F) {
	fuzzParser(f, ports.ParseRange, ports.Range.String, "30000-32767", "30000", "30000+2767", "1+65535", "5-1", " 1 - 2 ", "--", "+-")
}

func FuzzParseRanges(f *testing.F) {
	for _, s := range []string{"", "80", "80,90-100", "1-65535", "90,80-95,96", ",", "1,,2", "30000+5,30006"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if rs, err := ports.ParseRanges(s); err == nil {
			checkNormal(t, rs)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	// Every address is written "*", and is read from the empty string.
	print := func(a ports.Address) string {
		if a == ports.AllAddresses() {
			return ""
		}
		return a.String()
	}
	fuzzParser(f, ports.ParseAddress, print, "", "0.0.0.0", "::", "::ffff:10.0.0.1", "fd00::1", "fe80::1%eth0", "10.0.0.1/8", "010.0.0.1")
}

func FuzzParseSocket(f *testing.F) {
	fuzzParser(f, ports.ParseSocket, ports.Socket.String, "*:80/TCP", "0.0.0.0:80/TCP", "[::]:53/UDP", "[::ffff:10.0.0.1]:1/SCTP", "[:80/TCP",
		"[10.0.0.1:80/TCP", "::1:80/TCP", ":80/TCP", "[fe80::1%a]:80/TCP", "10.0.0.0/8:80/TCP")
}

func FuzzParseTargetPort(f *testing.F) {
	parse := func(s string) (ports.TargetPort, error) { return ports.ParseTargetPort(s), nil }
	fuzzParser(f, parse, ports.TargetPort.String, "80", "http", "", "0", "00", "65536", "+80")
}
