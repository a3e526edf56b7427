package pool_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

func mustEntry(text string) ports.ServicePort {
	if text == "-" {
		return ports.ServicePort{}
	}
	var e ports.ServicePort
	var protocol string
	if n, err := fmt.Sscanf(text, "%d:%d/%s", &e.Port, &e.NodePort, &protocol); n != 3 {
		panic(err)
	}
	var err error
	if e.Protocol, err = ports.ParseProtocol(protocol); err != nil {
		panic(err)
	}
	return e
}

func TestGaps(t *testing.T) {
	for _, c := range []struct{ why, entries, want string }{
		{"none", "80:30080/TCP", ""},
		{"one", "80:0/TCP", "80 of [0]"},
		{"each its own", "80:0/TCP 443:0/TCP", "80 of [0], 443 of [1]"},
		{"one port shares", "53:0/UDP 80:0/TCP 53:0/TCP", "53 of [0 2], 80 of [1]"},
		{"all three protocols share", "53:0/UDP 53:0/TCP 53:0/SCTP", "53 of [0 1 2]"},
		{"with a number that stands before", "53:30053/UDP 53:0/TCP", "53 of [1] is 30053"},
		{"and after", "53:0/TCP 53:30053/UDP", "53 of [0] is 30053"},
		{"with the first of two numbers", "53:0/TCP 53:30053/UDP 53:30054/SCTP", "53 of [0] is 30053"},
		{"other ports never share", "53:30053/UDP 54:0/TCP", "54 of [1]"},
		{"the same entry twice is refused elsewhere", "53:0/TCP 53:0/TCP", "53 of [0]"},
		{"and beside one with a number", "53:0/TCP 53:30053/TCP", ""},
		{"what could not be read", "- 80:0/TCP", "80 of [1]"},
		{"and the health check", "80:0/TCP health", "80 of [0], healthCheckNodePort of []"},
		{"alone", "health", "healthCheckNodePort of []"},
	} {
		var entries []ports.ServicePort
		health := false
		for w := range strings.FieldsSeq(c.entries) {
			if w == "health" {
				health = true
			} else {
				entries = append(entries, mustEntry(w))
			}
		}
		var got []string
		for _, g := range pool.Gaps(entries, health) {
			text := fmt.Sprintf("%s of %d", g.Key(), g.Entries)
			if g.Number != 0 {
				text += fmt.Sprintf(" is %d", g.Number)
			}
			got = append(got, text)
		}
		if said := strings.Join(got, ", "); said != c.want {
			t.Errorf("%s: got %s, want %s", c.why, said, c.want)
		}
	}
}

// Whatever a Service lacks, filled in: entries with one port share a number, entries with different ports never do, the
// health check shares none, and what is given is told once.
func TestGapsFilled(t *testing.T) {
	r, rounds := seed.Rand(t), seed.Rounds(2000, 200_000)
	s := mustSet("a 30000-30063")
	for range rounds {
		entries := make([]ports.ServicePort, 1+r.IntN(6))
		twice := map[string]bool{}
		number := map[uint16]uint16{}
		for i := range entries {
			e := ports.ServicePort{Port: uint16(53 + r.IntN(3)), Protocol: ports.Protocols()[r.IntN(3)]}
			if r.IntN(3) == 0 { // written by hand: one for each port
				e.NodePort = 30000 + e.Port
			}
			if twice[e.String()[strings.Index(e.String(), "/"):]+fmt.Sprint(e.Port)] {
				e = ports.ServicePort{} // the API server refuses one port twice with one protocol
			} else {
				twice[e.String()[strings.Index(e.String(), "/"):]+fmt.Sprint(e.Port)] = true
			}
			entries[i] = e
		}
		q := pool.Request{Requester: service("x/dns")}
		health := r.IntN(2) == 0
		gaps := pool.Gaps(entries, health)
		for _, e := range entries {
			if e.NodePort != 0 {
				q.Has = append(q.Has, e.NodePort)
				number[e.Port] = e.NodePort
			}
		}
		for _, g := range gaps {
			if g.Number == 0 {
				q.Wants = append(q.Wants, g.Key())
			}
		}
		choice, err := s.Choose(q)
		if err != nil {
			t.Fatal(err)
		}
		given, healthCheck := choice.Numbers, uint16(0)
		for _, g := range gaps {
			n := g.Number
			if n == 0 {
				n, given = given[0], given[1:]
			}
			if g.Port == 0 {
				healthCheck = n
			}
			for _, i := range g.Entries {
				entries[i].NodePort = n
			}
		}
		byNumber := map[uint16]uint16{healthCheck: 65535}
		for _, e := range entries {
			if e.Port == 0 {
				continue
			}
			if had := number[e.Port]; e.NodePort == 0 || had != 0 && had != e.NodePort || byNumber[e.NodePort] != 0 && byNumber[e.NodePort] != e.Port {
				t.Fatalf("%v, health check %d of %+v", entries, healthCheck, q)
			}
			number[e.Port], byNumber[e.NodePort] = e.NodePort, e.Port
		}
		if health != (healthCheck != 0) || len(given) != 0 {
			t.Fatalf("%v, health check %d, left over %d", entries, healthCheck, given)
		}
	}
}
