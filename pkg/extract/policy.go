package extract

import (
	"errors"
	"fmt"
	"slices"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Policy returns a PortPolicy as a value, with the defaults that the API server gives it. The error begins with the path
// of a field that the API server would have refused.
func Policy(object *v1alpha1.PortPolicy) (check.Policy, error) {
	o := object.DeepCopy()
	o.Default()
	p := check.Policy{Name: o.Name, Message: o.Spec.Message}
	var err error
	if p.Enforcement, err = pool.ParseEnforcement(string(o.Spec.Enforcement)); err != nil {
		return check.Policy{}, fmt.Errorf("spec.enforcement: %w", err)
	}
	if p.Namespaces, err = required(o.Spec.NamespaceSelector); err != nil {
		return check.Policy{}, fmt.Errorf("spec.namespaceSelector: %w", err)
	}
	if p.NodePorts, err = nodePortRule(o.Spec.NodePorts); err != nil {
		return check.Policy{}, fmt.Errorf("spec.nodePorts.%w", err)
	}
	if p.HostPorts, err = hostPortRule(o.Spec.HostPorts); err != nil {
		return check.Policy{}, fmt.Errorf("spec.hostPorts.%w", err)
	}
	mode, err := oneOf("externalIPs", o.Spec.ExternalIPs, v1alpha1.ExternalIPsAllowed, v1alpha1.ExternalIPsNodeAddressesForbidden, v1alpha1.ExternalIPsForbidden)
	if err != nil {
		return check.Policy{}, fmt.Errorf("spec.%w", err)
	}
	p.ExternalIPs = check.RuleMode(mode)
	for i, r := range o.Spec.Reserved {
		sockets, err := reservedSockets(r)
		if err != nil {
			return check.Policy{}, fmt.Errorf("spec.reserved[%d].%w", i, err)
		}
		p.Reserved = append(p.Reserved, sockets)
	}
	for i, x := range o.Spec.Exceptions {
		exception, err := exceptionOf(x)
		if err != nil {
			return check.Policy{}, fmt.Errorf("spec.exceptions[%d].%w", i, err)
		}
		p.Exceptions = append(p.Exceptions, exception)
	}
	return p, nil
}

func nodePortRule(n *v1alpha1.NodePortPolicy) (*check.NodePortRule, error) {
	if n == nil {
		return nil, nil
	}
	mode, err := oneOf("mode", n.Mode, v1alpha1.NodePortsAllowed, v1alpha1.NodePortsRestricted, v1alpha1.NodePortsPoolOnly, v1alpha1.NodePortsForbidden)
	if err != nil {
		return nil, err
	}
	rule := &check.NodePortRule{Mode: check.RuleMode(mode)}
	if err := onlyRestricted(rule.Mode, len(n.Allowed)); err != nil {
		return nil, err
	}
	if rule.Allowed, err = portRanges(n.Allowed); err != nil {
		return nil, fmt.Errorf("allowed: %w", err)
	}
	if rule.NoWritten, err = isForbidden("explicitRequests", n.ExplicitRequests); err != nil {
		return nil, err
	}
	rule.NoLoadBalancers, err = isForbidden("loadBalancerNodePorts", n.LoadBalancerNodePorts)
	return rule, err
}

func hostPortRule(h *v1alpha1.HostPortPolicy) (*check.HostPortRule, error) {
	if h == nil {
		return nil, nil
	}
	mode, err := oneOf("mode", h.Mode, v1alpha1.HostPortsAllowed, v1alpha1.HostPortsRestricted, v1alpha1.HostPortsForbidden)
	if err != nil {
		return nil, err
	}
	rule := &check.HostPortRule{Mode: check.RuleMode(mode)}
	if err := onlyRestricted(rule.Mode, len(h.Allowed)); err != nil {
		return nil, err
	}
	if rule.Allowed, err = socketRanges("allowed", h.Allowed); err != nil {
		return nil, err
	}
	if rule.NoHostNetwork, err = isForbidden("hostNetwork", h.HostNetwork); err != nil {
		return nil, err
	}
	rule.NoNodePortRange, err = isForbidden("nodePortRange", h.NodePortRange)
	return rule, err
}

// onlyRestricted refuses a list of what is allowed that its mode does not look at, and a mode that lacks one.
func onlyRestricted(mode check.RuleMode, allowed int) error {
	if (mode == check.ModeRestricted) == (allowed > 0) {
		return nil
	}
	return errors.New("allowed: must be given for the mode Restricted, and for no other; add it, remove it, or change the mode")
}

func reservedSockets(r v1alpha1.ReservedPorts) (check.ReservedSockets, error) {
	sockets, err := socketRanges("ports", r.Ports)
	if err != nil {
		return check.ReservedSockets{}, err
	}
	nodes, err := required(r.NodeSelector)
	if err != nil {
		return check.ReservedSockets{}, fmt.Errorf("nodeSelector: %w", err)
	}
	return check.ReservedSockets{Name: r.Name, Sockets: sockets, Nodes: nodes, Reason: r.Reason}, nil
}

func exceptionOf(x v1alpha1.PolicyException) (check.Exception, error) {
	exception := check.Exception{Name: x.Name, Reason: x.Reason}
	if x.NamespaceSelector == nil && x.ObjectSelector == nil {
		return check.Exception{}, errors.New("namespaceSelector: an exception needs one, or an objectSelector; add one")
	}
	var err error
	if x.NamespaceSelector != nil {
		if exception.Namespaces, err = labelSelector(x.NamespaceSelector); err != nil {
			return check.Exception{}, fmt.Errorf("namespaceSelector: %w", err)
		}
	}
	if x.ObjectSelector != nil {
		if exception.Objects, err = labelSelector(x.ObjectSelector); err != nil {
			return check.Exception{}, fmt.Errorf("objectSelector: %w", err)
		}
	}
	if x.ExpiresAt != nil {
		exception.Ends = x.ExpiresAt.Time
	}
	return exception, nil
}

// required compiles a selector that must be given, so that nobody takes its absence for everything, or for nothing.
func required(s *v1alpha1.LabelSelector) (pool.Selector, error) {
	if s == nil {
		return nil, errors.New("is required; write {} to select all")
	}
	return labelSelector(s)
}

func socketRanges(field string, list []v1alpha1.SocketRange) ([]check.SocketRange, error) {
	var numbers []v1alpha1.PortRange
	for _, r := range list {
		numbers = append(numbers, r.PortRange)
	}
	if _, err := portRanges(numbers); err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	var ranges []check.SocketRange
	for i, r := range list {
		s := check.SocketRange{Range: ports.Range{First: uint16(r.Port), Last: uint16(r.Last())}}
		for j, text := range r.Protocols {
			protocol, err := ports.ParseProtocol(string(text))
			if err != nil {
				return nil, fmt.Errorf("%s[%d].protocols[%d]: %w", field, i, j, err)
			}
			s.Protocols = append(s.Protocols, protocol)
		}
		for j, text := range r.HostIPs {
			address, err := ports.ParseAddress(string(text))
			if err != nil || text == "" {
				return nil, fmt.Errorf("%s[%d].hostIPs[%d]: %q is not an IP address; correct it", field, i, j, text)
			}
			s.Addresses = append(s.Addresses, address)
		}
		ranges = append(ranges, s)
	}
	return ranges, nil
}

func isForbidden(field string, p v1alpha1.Permission) (bool, error) {
	_, err := oneOf(field, p, v1alpha1.Allowed, v1alpha1.Forbidden)
	return p == v1alpha1.Forbidden, err
}

// oneOf refuses what the API server would: files are not validated by it.
func oneOf[T ~string](field string, value T, known ...T) (T, error) {
	if slices.Contains(known, value) {
		return value, nil
	}
	return "", fmt.Errorf("%s: %q is not one of %v", field, value, known)
}
