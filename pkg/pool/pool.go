// Package pool decides which pool serves a Service or a pod, what is left of each pool beside the others, and whether a
// port may be held.
//
// New makes a Set of all Pools, once; from then on it is only read. Each Member of it knows which ports the pool has
// beside stronger pools. Set.Choose picks ports for a Request, Set.Judge says what is wrong with a port that a Requester
// names, and Set.Place in which pool the port of a holder is. Displaced compares two Sets, and Suggest proposes pools for
// ports that are in use. Errors are types of their own (errors.go), with the pool and what to do.
//
// Its functions are pure: they read no clock and draw no random numbers. Who holds which port is asked of the caller
// (Book), and so is what a namespace has already. A port is picked, not allocated: two callers that do not know of each
// other can pick the same one.
package pool

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Pool is a PortPool as a plain value. Whatever is empty has to be defaulted by who reads the object: the zero Pool selects
// nobody and gives nothing. Its name is its own among all pools, and used in messages.
type Pool struct {
	Name         string
	Created      time.Time // of two exclusive pools that overlap the older keeps the numbers
	For          For
	Ranges       ports.Ranges
	ExplicitOnly ports.Ranges // given only to those who ask by number
	Priority     int          // lower first, among the pools that select the same requester
	Namespaces   Selector     // of a namespace's labels; nil selects none
	Services     Selector     // of a Service's own labels, beside Namespaces; nil selects all
	Mode         Mode
	Strategy     Strategy
	ReuseDelay   time.Duration // how long a released number is Quarantined: the caller's Book knows
	Exclusive    bool          // nobody whom the pool does not select may hold its numbers
	PerNamespace int           // how many numbers one namespace may have of the pool; 0: any
	PerService   int           // the same for one Service
	State        State
	Enforcement  Enforcement
}

// Same reports whether a pool is as another one, but for when they were created.
func (p Pool) Same(o Pool) bool {
	selector := func(s Selector) string {
		if s == nil {
			return "none"
		}
		return "[" + s.String() + "]"
	}
	areEqual := selector(p.Namespaces) == selector(o.Namespaces) && selector(p.Services) == selector(o.Services)
	p.Namespaces, p.Services, p.Created = o.Namespaces, o.Services, o.Created
	return areEqual && reflect.DeepEqual(p, o)
}

// Selector matches labels. Its String is shown to users; the empty string is a selector that matches all.
type Selector interface {
	Matches(labels map[string]string) bool
	String() string
}

// For says which field's numbers a pool gives. The spelling of this and the following types is the API's.
type For string

// The fields. Pools for one never meet those for the other: a host port on a number of a node port pool is a finding of
// its own.
const (
	NodePorts For = "NodePorts" // nodePort and healthCheckNodePort of Services
	HostPorts For = "HostPorts" // hostPort of pods
)

// Mode says whether a pool gives numbers to those who name none.
type Mode string

// The modes.
const (
	Auto     Mode = "Auto"
	Explicit Mode = "Explicit" // only on request by number
)

// Strategy says where the search for a free number starts.
type Strategy string

// The strategies. Hashed promises: the same requester gets the same number as long as the same numbers are held; it gets the
// number that it would have alone wherever that is free; and the set of numbers that many requesters get does not depend
// on the order in which they come, nor, if no two of them would alone have the same number, does who gets which. A
// release, or a pool that grows or shrinks, changes what comes after, never what is held.
const (
	Hashed     Strategy = "Hashed" // at a place that the requester's name decides
	LowestFree Strategy = "LowestFree"
	Random     Strategy = "Random" // at a place that Request.Random decides
)

// State says what a pool still does.
type State string

// The states.
const (
	Active   State = "Active"
	Draining State = "Draining" // gives no new numbers, and keeps those it has
	Disabled State = "Disabled" // has no effect at all
)

// Enforcement says what comes of a request that somebody does not agree with: a pool, a policy, the configuration.
type Enforcement uint8

// The enforcements, the strictest last.
const (
	Audit Enforcement = iota + 1 // recorded
	Warn                         // the client is told, the request passes
	Deny                         // the request is refused
)

// ParseEnforcement reads Deny, Warn or Audit.
func ParseEnforcement(s string) (Enforcement, error) {
	for _, e := range []Enforcement{Audit, Warn, Deny} {
		if e.String() == s {
			return e, nil
		}
	}
	return 0, fmt.Errorf("enforcement %q is not one of Deny, Warn, Audit", s)
}

// String returns Deny, Warn or Audit.
func (e Enforcement) String() string {
	switch e {
	case Audit:
		return "Audit"
	case Warn:
		return "Warn"
	case Deny:
		return "Deny"
	default:
		return fmt.Sprintf("Enforcement(%d)", uint8(e))
	}
}

// Requester is a Service, or for HostPorts a pod, that holds numbers or wants them.
type Requester struct {
	For             For
	Namespace, Name string
	NamespaceLabels map[string]string
	Labels          map[string]string // its own
}

// Selects reports whether the pool is there for r.
func (p *Pool) Selects(r Requester) bool {
	return p.For == r.For && p.Namespaces != nil && p.Namespaces.Matches(r.NamespaceLabels) &&
		(p.Services == nil || p.Services.Matches(r.Labels))
}

// selected tells whom the pool selects: "every namespace", or "namespaces team=payments, Services expose=edge".
func (p *Pool) selected() string {
	var parts []string
	if p.Namespaces == nil {
		return "no namespace"
	}
	if s := p.Namespaces.String(); s != "" {
		parts = append(parts, "namespaces "+s)
	} else {
		parts = append(parts, "every namespace")
	}
	if p.Services != nil && p.Services.String() != "" {
		parts = append(parts, "Services "+p.Services.String())
	}
	return strings.Join(parts, ", ")
}
