package check

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// socketsTwice asks whether a pod claims one socket twice: in any spelling of the address, sidecars included, which
// the API server compares as text and container by container. Between plain init containers, which run one after the
// other, it is only worth knowing; between one of them and a container that starts later it is nothing.
func socketsTwice(s subject) []Finding {
	if s.workload == nil {
		return nil
	}
	var findings []Finding
	atOnce, inTurn := sockets{}, sockets{}
	for _, c := range s.workload.Claims {
		f := Finding{Code: SocketTwice, Object: s.workload.Owner.Ref, Field: c.Field, Claim: c}
		seen := atOnce
		if c.InitOnly {
			f.Code, seen = InitContainersMeet, inTurn
		}
		if first, ok := seen.add(c); ok {
			f.Other = first.Field
			findings = append(findings, f)
		}
	}
	return findings
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
	number := numberOf(c.Socket)
	at := seen[number]
	if at == nil {
		at = map[ports.Address]ports.Claim{}
		seen[number] = at
	}
	if first, ok := at[c.Address]; ok {
		return first, true
	}
	earlier, found := overlapping(at, c)
	at[c.Address] = c
	return earlier, found
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
