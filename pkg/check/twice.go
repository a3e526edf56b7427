package check

import (
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// socketsTwice asks whether a pod claims one socket twice: in any spelling of the address, sidecars included, which
// the API server compares as text and container by container.
func socketsTwice(s subject) []Finding {
	if s.workload == nil {
		return nil
	}
	var findings []Finding
	atOnce, inits := sockets{}, initSockets{all: sockets{}}
	for _, c := range s.workload.Claims {
		f := Finding{Code: SocketTwice, Object: s.workload.Owner.Ref, Field: c.Field, Claim: c}
		var first ports.Claim
		var again bool
		if c.InitOnly {
			first, f.Code, again = inits.add(c, atOnce)
		} else {
			first, again = atOnce.add(c)
		}
		if again {
			f.Detail = Sibling{Field: first.Field}
			findings = append(findings, f)
		}
	}
	return findings
}

// initSockets are those of plain init containers, which run one after the other: that two have the same one is only
// worth knowing, and between one of them and a container that starts later it is nothing. But one container cannot have
// one twice, nor one that a sidecar which runs already listens on.
type initSockets struct {
	all       sockets
	one       sockets // of one container
	container string
}

func (s *initSockets) add(c ports.Claim, running sockets) (ports.Claim, Code, bool) {
	if container, _, _ := strings.Cut(c.Field, ".ports["); s.one == nil || container != s.container {
		s.container, s.one = container, sockets{}
	}
	first, again := s.one.add(c)
	if !again && c.Kind == ports.HostNetwork {
		first, again = running.find(c)
	}
	if again {
		s.all.add(c)
		return first, SocketTwice, true
	}
	first, again = s.all.add(c)
	return first, InitContainersMeet, again
}

// sockets are claims by number and then by address, so that a pod of many ports is not compared pair by pair. The number
// is a socket on all addresses.
type sockets map[ports.Socket]map[ports.Address]ports.Claim

func numberOf(s ports.Socket) ports.Socket { return ports.Socket{Protocol: s.Protocol, Port: s.Port} }

func socketsOf(claims []ports.Claim) sockets {
	all := sockets{}
	for _, c := range claims {
		all.add(c)
	}
	return all
}

// covering returns a claim that takes everything that socket takes, by the same address or by a wildcard.
func (seen sockets) covering(socket ports.Socket) (ports.Claim, bool) {
	at := seen[numberOf(socket)]
	for _, address := range []ports.Address{socket.Address, ports.AllAddresses(), ports.AllIPv4(), ports.AllIPv6()} {
		if c, ok := at[address]; ok && c.Covers(socket) {
			return c, true
		}
	}
	return ports.Claim{}, false
}

// add records c, and returns a claim recorded before that shares an address with it.
func (seen sockets) add(c ports.Claim) (ports.Claim, bool) {
	earlier, found := seen.find(c)
	number := numberOf(c.Socket)
	at := seen[number]
	if at == nil {
		at = map[ports.Address]ports.Claim{}
		seen[number] = at
	}
	if _, ok := at[c.Address]; !ok {
		at[c.Address] = c
	}
	return earlier, found
}

func (seen sockets) find(c ports.Claim) (ports.Claim, bool) {
	at := seen[numberOf(c.Socket)]
	if first, ok := at[c.Address]; ok {
		return first, true
	}
	return overlapping(at, c)
}

// overlapping finds the first claim, in order of the paths, whose address overlaps c's. Only c itself being a
// wildcard, of which there are three, makes it look at every address.
func overlapping(at map[ports.Address]ports.Claim, c ports.Claim) (ports.Claim, bool) {
	if _, single := c.Address.Single(); single {
		for _, wildcard := range []ports.Address{ports.AllAddresses(), ports.AllIPv4(), ports.AllIPv6()} {
			if first, ok := at[wildcard]; ok && wildcard.Overlaps(c.Address) {
				return first, true
			}
		}
		return ports.Claim{}, false
	}
	var earliest ports.Claim
	found := false
	for address, first := range at {
		if address.Overlaps(c.Address) && (!found || compareFields(first.Field, earliest.Field) < 0) {
			earliest, found = first, true
		}
	}
	return earliest, found
}
