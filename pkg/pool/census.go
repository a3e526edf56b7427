package pool

import (
	"cmp"
	"slices"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Census is who holds which numbers, and which are claimed, at one moment: what pools are counted from. pkg/extract fills it from
// objects. The zero Census is empty. It may be read by many while nobody adds to it.
type Census struct {
	holdings []Holding
	holders  map[For]map[uint16][]Holding
	claims   map[uint16]Claim
	occupied map[uint16]bool
}

// Holding is a number that somebody holds.
type Holding struct {
	Requester
	Port     uint16
	Protocol ports.Protocol // of the first entry that has it
	Field    string         // where that is
	UID      string         // of the holder
	Since    time.Time
}

// Ref is the holder: a Service has nodePorts, a pod hostPorts.
func (h Holding) Ref() ports.Ref {
	kind := "Service"
	if h.For == HostPorts {
		kind = "Pod"
	}
	return ports.Ref{APIVersion: "v1", Kind: kind, Namespace: h.Namespace, Name: h.Name}
}

// Claim is what a PortClaim says of a nodePort.
type Claim struct {
	Pool       string // that gave it
	IsReleased bool
	ServiceUID string // who has it, or had it last
}

// Add adds holdings.
func (c *Census) Add(holdings ...Holding) {
	if c.holders == nil {
		c.holders = map[For]map[uint16][]Holding{NodePorts: {}, HostPorts: {}}
	}
	c.holdings = append(c.holdings, holdings...)
	for _, h := range holdings {
		of := c.holders[h.For]
		of[h.Port] = append(of[h.Port], h)
	}
}

// AddClaim adds the claim of a nodePort.
func (c *Census) AddClaim(port uint16, claim Claim) {
	if c.claims == nil {
		c.claims = map[uint16]Claim{}
	}
	c.claims[port] = claim
}

// Occupy says that a number is in the way of pools without being held: by a port of the host network, or a daemon of the nodes.
func (c *Census) Occupy(port uint16) {
	if c.occupied == nil {
		c.occupied = map[uint16]bool{}
	}
	c.occupied[port] = true
}

// Sort orders the holdings by number and holder; else they are in the order in which they were added.
func (c *Census) Sort() {
	slices.SortStableFunc(c.holdings, func(a, b Holding) int { return cmp.Or(cmp.Compare(a.Port, b.Port), a.Ref().Compare(b.Ref())) })
	for _, of := range c.holders {
		for _, holders := range of {
			slices.SortStableFunc(holders, func(a, b Holding) int { return a.Ref().Compare(b.Ref()) })
		}
	}
}

// Holdings returns what is held. It must not be written to.
func (c *Census) Holdings() []Holding { return c.holdings }

// Holders returns who holds a number.
func (c *Census) Holders(of For, port uint16) []Holding { return c.holders[of][port] }

// IsInTheWay reports whether a nodePort would meet a hostPort, or what is occupied.
func (c *Census) IsInTheWay(nodePort uint16) bool {
	return c.occupied[nodePort] || len(c.holders[HostPorts][nodePort]) > 0
}

// Book tells what the numbers of a pool are used for.
func (c *Census) Book(m *Member) Book {
	other := HostPorts
	if m.For == HostPorts {
		other = NodePorts
	}
	return func(port uint16) Use {
		if holders := c.holders[m.For][port]; len(holders) > 0 {
			if slices.ContainsFunc(holders, func(h Holding) bool { return m.Selects(h.Requester) }) {
				return Allocated
			}
			return Foreign
		}
		claim, isClaimed := c.claims[port]
		isClaimed = isClaimed && m.For == NodePorts
		switch {
		case isClaimed && claim.IsReleased:
			return Quarantined
		case isClaimed && claim.Pool == m.Name:
			return Allocated // its Service is being created
		case isClaimed, len(c.holders[other][port]) > 0, c.occupied[port]:
			return Foreign
		default:
			return Free
		}
	}
}

// Outside is a number that is none of the pool that serves its holder.
type Outside struct {
	Holding
	HasShrunk bool // the pool gave the number once; else it was never the pool's
}

// OutOfPool returns the numbers that those have whom a pool serves, and that are of no pool which they may use, by the
// pool's name: of the pool that gave a number once, else of the one that gives its holder numbers now.
func (c *Census) OutOfPool(s *Set) map[string][]Outside {
	byPool := map[string][]Outside{}
	for _, h := range c.holdings {
		place := s.Place(h.Requester, h.Port)
		if place.Standing == InPool {
			continue
		}
		if m := c.gaveOnce(s, h); m != nil {
			byPool[m.Name] = append(byPool[m.Name], Outside{h, true})
		} else if m := s.givesNow(h.Requester, place); m != nil {
			byPool[m.Name] = append(byPool[m.Name], Outside{h, false})
		}
	}
	return byPool
}

// gaveOnce returns the pool that once gave a Service a number, if it still serves the Service.
func (c *Census) gaveOnce(s *Set, h Holding) *Member {
	claim, isClaimed := c.claims[h.Port]
	if h.For != NodePorts || !isClaimed || claim.ServiceUID != h.UID {
		return nil
	}
	m, ok := s.Named(claim.Pool)
	if !ok || m.State == Disabled || !m.Selects(h.Requester) {
		return nil
	}
	return m
}

// givesNow returns the pool that gives somebody numbers, who holds one that stands at place.
func (s *Set) givesNow(who Requester, place Place) *Member {
	if place.Standing == OutOfPool {
		return place.Pool
	}
	for _, m := range s.Candidates(who) {
		if m.Mode == Auto {
			return m
		}
	}
	return nil
}
