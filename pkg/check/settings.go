package check

import (
	"fmt"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Settings is what the checks need to know of the cluster's configuration. Where the values come from is decided
// in pkg/extract.
type Settings struct {
	NodePortRange ports.Range   // the API server's --service-node-port-range
	DynamicBand   ports.Range   // the part of it that the API server prefers to give out; empty: there are no bands
	Ephemeral     ports.Range   // net.ipv4.ip_local_port_range of the nodes: outgoing connections use it
	ReservedLocal []ports.Range // net.ipv4.ip_local_reserved_ports: outgoing connections do not
	Reserved      []Reserved    // sockets that the nodes' own daemons hold
	// Trusted are the namespaces whose pods are what their names and labels say: a daemon's, by its container's name, or of
	// k3s' load balancer. Whoever may write there may call anything anything.
	Trusted     []string
	OfferFrom   []ports.Range        // where free numbers are looked for, in this order, to be offered instead of held ones
	Enforcement map[Code]Enforcement // per code; what is not named follows the severity
}

// Reserved is a socket that a daemon of the nodes holds.
type Reserved struct {
	Name      string // of the daemon: kubelet, sshd
	Socket    ports.Socket
	NodeLabel string // it runs on the nodes that have this label, with any value; "": on every node
}

// IsOn reports whether the daemon runs on a node with labels.
func (r Reserved) IsOn(labels map[string]string) bool {
	_, has := labels[r.NodeLabel]
	return has || r.NodeLabel == ""
}

// ReservedEverywhere returns the sockets that daemons of every node hold.
func (s *Settings) ReservedEverywhere() []Reserved {
	return slices.DeleteFunc(slices.Clone(s.Reserved), func(r Reserved) bool { return r.NodeLabel != "" })
}

// Enforcement says what a finding does to a request. Codes, pools and policies have one each.
type Enforcement = pool.Enforcement

// The enforcements, the strictest last.
const (
	Audit = pool.Audit // recorded
	Warn  = pool.Warn  // the client is told, the request passes
	Deny  = pool.Deny  // the request is refused
)

// Enforce returns what f does to a request: what the configuration says of its code, else what the pool or policy says
// that objects, else Deny for an error, Warn for a warning and Audit for the rest; and never Deny for what stood before.
func (s *Settings) Enforce(f Finding) Enforcement {
	e, configured := s.Enforcement[f.Code]
	switch {
	case configured:
	case f.Enforcement != 0:
		e = f.Enforcement
	default:
		e = Enforcement(f.Severity) // Info, Warning and Error in the same order
	}
	if f.Standing {
		e = min(e, Warn)
	}
	return e
}

// Verdict is what becomes of a request.
type Verdict uint8

// The verdicts. Could not tell is an outcome of its own, which neither allows nor denies.
const (
	Allowed Verdict = iota + 1
	Warned
	Denied
	CouldNotTell
)

// String returns the value that metrics and logs carry.
func (v Verdict) String() string {
	switch v {
	case Allowed:
		return "allow"
	case Warned:
		return "warn"
	case Denied:
		return "deny"
	case CouldNotTell:
		return "could_not_tell"
	default:
		return fmt.Sprintf("Verdict(%d)", uint8(v))
	}
}

// Judge returns the verdict over findings: the strictest enforcement decides.
func (s *Settings) Judge(findings []Finding) Verdict {
	verdict := Allowed
	for _, f := range findings {
		switch s.Enforce(f) {
		case Deny:
			return Denied
		case Warn:
			verdict = Warned
		case Audit:
		}
	}
	return verdict
}
