package ports_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Claims are written in one line in these tests:
//
//	KIND ADDRESS PORT/PROTOCOL @SCOPE
//
// where ADDRESS is "*", an address, a wildcard or a prefix, in any spelling, perhaps with ",noloopback", ",noloopback6"
// or ",primary"; and SCOPE is "?" (undecided), "a" (one node), "{a,b}" (each of), "every" or "address".
// "hostPort,init" is a port of a plain init container, "hostPort,idle" one of an idle owner. A failure of the random tests prints such lines, fit for the table in meet_test.go.

// kindWords are the first words of a claim.
func kindWords() map[string]ports.Kind {
	return map[string]ports.Kind{
		"nodePort": ports.NodePort, "healthCheckNodePort": ports.HealthCheckNodePort,
		"hostPort": ports.HostPort, "hostNetwork": ports.HostNetwork,
		"externalIP": ports.ExternalIP, "loadBalancerIP": ports.LoadBalancerIP, "serviceLB": ports.ServiceLBPort,
	}
}

// mustClaim reads a claim; it panics where the test's author mistyped.
func mustClaim(line string) ports.Claim {
	words := strings.Fields(line)
	if len(words) != 4 {
		panic(fmt.Sprintf("claim %q: want KIND ADDRESS PORT/PROTOCOL @SCOPE", line))
	}
	kind, option, _ := strings.Cut(words[0], ",")
	socket := ports.MustParseSocket("*:" + words[2])
	socket.Address = mustAddress(words[1])
	return ports.Claim{
		Socket:   socket,
		Kind:     kindWords()[kind],
		InitOnly: option == "init",
		Idle:     option == "idle",
		Scope:    mustScope(strings.TrimPrefix(words[3], "@")),
		Owner:    &ports.Owner{Ref: ports.Ref{Kind: "Pod", Namespace: "ns", Name: "web"}},
		Field:    "spec",
	}
}

func mustAddress(word string) ports.Address {
	text, flag, _ := strings.Cut(word, ",")
	var a ports.Address
	switch {
	case text == "*":
		a = ports.AllAddresses()
	case strings.Contains(text, "/"):
		a = ports.AddressesIn(netip.MustParsePrefix(text))
	default:
		var err error
		if a, err = ports.ParseAddress(text); err != nil {
			panic(err)
		}
	}
	switch flag {
	case "":
		return a
	case "noloopback":
		return a.WithoutLoopback()
	case "noloopback6":
		return a.WithoutIPv6Loopback()
	case "primary":
		return a.PrimaryOnly()
	default:
		panic("unknown flag " + flag)
	}
}

func mustScope(word string) ports.Scope {
	inner, isSet := strings.CutPrefix(word, "{")
	switch {
	case isSet:
		return ports.EachScope(splitNodes(strings.TrimSuffix(inner, "}")))
	case word == "?":
		return ports.Scope{}
	case word == "every":
		return ports.EverywhereScope()
	case word == "address":
		return ports.AddressScope()
	default:
		return ports.NodeScope(word)
	}
}

func splitNodes(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}
