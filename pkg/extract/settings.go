package extract

import (
	"fmt"
	"maps"
	"slices"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Settings is the configuration file as the values that the core, the webhook and the observer use.
type Settings struct {
	Check         check.Settings
	NodePorts     NodePortAddresses
	ServiceProxy  string        // kube-proxy's mode, as the configuration calls it
	HostPorts     string        // what maps host ports
	AllocateFrom  []ports.Range // in the order in which they are tried; none: the API server chooses
	DefaultHostIP DefaultHostIP
	DenyUncertain bool // what cannot be judged is refused; else it passes with a warning
	HideHolders   bool // a client is not told the names of holders in other namespaces

	dataPlane configv1alpha1.DataPlane
}

// NewSettings reads a configuration; nil: its defaults. One that passes its own Validate gives no error but for a code that does not exist,
// which the file's own package cannot know.
func NewSettings(c *configv1alpha1.PortcullisConfiguration) (*Settings, error) {
	if c == nil {
		c = &configv1alpha1.PortcullisConfiguration{}
		c.Default()
	}
	s := &Settings{
		DefaultHostIP: DefaultHostIP(c.DefaultHostIP),
		DenyUncertain: c.OnUncertain == configv1alpha1.Deny,
		HideHolders:   c.Disclosure == configv1alpha1.DiscloseSameNamespace,
	}
	s.Check.Trusted = c.TrustedNamespaces
	for _, read := range []func(*configv1alpha1.PortcullisConfiguration) error{s.readRanges, s.readEnforcement, s.readReserved} {
		if err := read(c); err != nil {
			return nil, err
		}
	}
	return s, s.readDataPlane(c.DataPlane)
}

func (s *Settings) readRanges(c *configv1alpha1.PortcullisConfiguration) error {
	r, err := ports.ParseRange(c.NodePortRange)
	if err != nil {
		return fmt.Errorf("nodePortRange: %w", err)
	}
	s.Check.NodePortRange = r
	if static := pool.StaticBand(r); !static.IsEmpty() {
		s.Check.DynamicBand = pool.DynamicBand(r)
	}
	if s.Check.Ephemeral, err = ports.ParseRange(c.EphemeralPortRange); err != nil {
		return fmt.Errorf("ephemeralPortRange: %w", err)
	}
	if s.Check.ReservedLocal, err = ports.ParseRanges(c.ReservedLocalPorts); err != nil {
		return fmt.Errorf("reservedLocalPorts: %w", err)
	}
	for _, band := range []ports.Range{pool.StaticBand(r), pool.DynamicBand(r)} {
		if !band.IsEmpty() {
			s.Check.OfferFrom = append(s.Check.OfferFrom, band) // who writes a number had better not write a dynamic one
		}
	}
	if c.AllocateFrom == configv1alpha1.AllocateFromNone {
		return nil
	}
	from, err := ports.ParseRanges(c.AllocateFrom)
	if err != nil {
		return fmt.Errorf("allocateFrom: %w", err)
	}
	s.AllocateFrom = pool.Order(r, from)
	if len(from) > 0 {
		s.Check.OfferFrom = from
	}
	return nil
}

func (s *Settings) readEnforcement(c *configv1alpha1.PortcullisConfiguration) error {
	s.Check.Enforcement = map[check.Code]check.Enforcement{}
	for _, code := range slices.Sorted(maps.Keys(c.Enforcement)) {
		e, err := pool.ParseEnforcement(string(c.Enforcement[code]))
		if err != nil {
			return fmt.Errorf("enforcement.%s: %w", code, err)
		}
		if _, known := check.Lookup(check.Code(code)); !known {
			return fmt.Errorf("enforcement.%s: there is no such code", code)
		}
		s.Check.Enforcement[check.Code(code)] = e
	}
	return nil
}

func (s *Settings) readReserved(c *configv1alpha1.PortcullisConfiguration) error {
	for i, r := range c.NodeReserved {
		address, err := ports.ParseAddress(r.HostIP)
		if err != nil {
			return fmt.Errorf("nodeReserved[%d].hostIP: %w", i, err)
		}
		protocol, err := ports.ParseProtocol(r.Protocol)
		if err != nil {
			return fmt.Errorf("nodeReserved[%d].protocol: %w", i, err)
		}
		if r.Port < 1 || r.Port > 65535 {
			return fmt.Errorf("nodeReserved[%d].port: %d is not a number from 1 to 65535", i, r.Port)
		}
		s.Check.Reserved = append(s.Check.Reserved, check.Reserved{
			Name: r.Name, Socket: ports.Socket{Address: address, Protocol: protocol, Port: uint16(r.Port)}, NodeLabel: r.NodeLabel,
		})
	}
	return nil
}

// DefaultHostIP is what is written into an empty hostIP.
type DefaultHostIP configv1alpha1.HostIP

// For returns the hostIP to write on a cluster whose pods have the given families; "" for none. On a dual-stack cluster
// an empty hostIP is not 0.0.0.0: portmap maps the latter for IPv4 only, so that Auto leaves it empty there.
func (d DefaultHostIP) For(f check.Families) string {
	switch configv1alpha1.HostIP(d) {
	case configv1alpha1.HostIPAllIPv4, configv1alpha1.HostIPAllIPv6:
		return string(d)
	case configv1alpha1.HostIPAuto:
		switch f {
		case check.Families{IPv4: true}:
			return "0.0.0.0"
		case check.Families{IPv6: true}:
			return "::"
		}
	case configv1alpha1.HostIPNone:
	}
	return ""
}
