package v1alpha1

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Validate returns everything that is wrong with c, once Default has filled it in. The errors are sorted as the
// fields are.
func (c *PortcullisConfiguration) Validate() field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, oneOf(field.NewPath("apiVersion"), c.APIVersion, APIVersion)...)
	errs = append(errs, oneOf(field.NewPath("kind"), c.Kind, Kind)...)
	errs = append(errs, c.validateRanges()...)
	errs = append(errs, c.validateEnforcement(field.NewPath("enforcement"))...)
	errs = append(errs, oneOf(field.NewPath("defaultHostIP"), c.DefaultHostIP,
		HostIPAuto, HostIPAllIPv4, HostIPAllIPv6, HostIPNone)...)
	errs = append(errs, c.validateReserved(field.NewPath("nodeReserved"))...)
	errs = append(errs, c.validateTrusted(field.NewPath("trustedNamespaces"))...)
	errs = append(errs, c.DataPlane.validate(field.NewPath("dataplane"))...)
	errs = append(errs, oneOf(field.NewPath("onUncertain"), c.OnUncertain, Deny, Warn)...)
	return append(errs, oneOf(field.NewPath("disclosure"), c.Disclosure, DiscloseFull, DiscloseSameNamespace)...)
}

func (c *PortcullisConfiguration) validateRanges() field.ErrorList {
	var errs field.ErrorList
	invalid := func(name, value, todo string, err error) {
		errs = append(errs, field.Invalid(field.NewPath(name), value, fmt.Sprintf("%v; %s", err, todo)))
	}
	nodePorts, err := ports.ParseRange(c.NodePortRange)
	if err != nil {
		invalid("nodePortRange", c.NodePortRange, "write what the API server has as --service-node-port-range, like 30000-32767", err)
	}
	from, fromErr := c.allocateFrom()
	if fromErr != nil {
		invalid("allocateFrom", c.AllocateFrom, `write ranges like 30000-30099,30500, or "none", or leave it empty`, fromErr)
	}
	for _, r := range from {
		if err == nil && !nodePorts.Covers(r) {
			invalid("allocateFrom", c.AllocateFrom, "choose ranges inside it",
				fmt.Errorf("%s is not inside nodePortRange %s", r, nodePorts))
		}
	}
	if _, err := ports.ParseRange(c.EphemeralPortRange); err != nil {
		invalid("ephemeralPortRange", c.EphemeralPortRange, "write the nodes' net.ipv4.ip_local_port_range with a dash, like 32768-60999", err)
	}
	if _, err := ports.ParseRanges(c.ReservedLocalPorts); err != nil {
		invalid("reservedLocalPorts", c.ReservedLocalPorts, "write the nodes' net.ipv4.ip_local_reserved_ports, like 30000-32767,8080, or leave it empty", err)
	}
	return errs
}

func (c *PortcullisConfiguration) allocateFrom() (ports.Ranges, error) {
	if c.AllocateFrom == AllocateFromNone {
		return nil, nil
	}
	return ports.ParseRanges(c.AllocateFrom)
}

func (c *PortcullisConfiguration) validateEnforcement(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	code := regexp.MustCompile(`^PC\d{4}$`)
	for _, name := range slices.Sorted(maps.Keys(c.Enforcement)) {
		if !code.MatchString(name) {
			errs = append(errs, field.Invalid(path.Key(name), name, "a code is PC and four digits, like PC0302"))
		}
		errs = append(errs, oneOf(path.Key(name), c.Enforcement[name], Deny, Warn, Audit)...)
	}
	return errs
}

func (c *PortcullisConfiguration) validateTrusted(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, namespace := range c.TrustedNamespaces {
		if len(content.IsDNS1123Label(namespace)) > 0 {
			errs = append(errs, field.Invalid(path.Index(i), namespace, "is not the name of a namespace; write one like kube-system"))
		}
	}
	return errs
}

func (c *PortcullisConfiguration) validateReserved(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[ports.Socket]int{}
	for i, r := range c.NodeReserved {
		item := path.Index(i)
		socket, bad := r.socket(item)
		errs = append(errs, bad...)
		if len(bad) > 0 {
			continue
		}
		if first, ok := seen[socket]; ok {
			errs = append(errs, field.Invalid(item, socket.String(),
				fmt.Sprintf("is listed already as %s (%s); keep one of the two", path.Index(first), c.NodeReserved[first].Name)))
			continue
		}
		seen[socket] = i
	}
	return errs
}

func (r ReservedSocket) socket(path *field.Path) (ports.Socket, field.ErrorList) {
	var errs field.ErrorList
	if r.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "name the daemon that holds the port, like kubelet"))
	} else if !regexp.MustCompile(`^[0-9A-Za-z]([-_.0-9A-Za-z]{0,61}[0-9A-Za-z])?$`).MatchString(r.Name) {
		errs = append(errs, field.Invalid(path.Child("name"), r.Name, "write at most 63 letters, digits, dots, dashes and underscores, like kube-proxy"))
	}
	address, err := ports.ParseAddress(r.HostIP)
	if err != nil {
		errs = append(errs, field.Invalid(path.Child("hostIP"), r.HostIP, "is not an IP address; write the one that the daemon listens on, or leave it out for all"))
	}
	if r.Port < 1 || r.Port > 65535 {
		errs = append(errs, field.Invalid(path.Child("port"), r.Port, "write a number from 1 to 65535"))
	}
	errs = append(errs, oneOf(path.Child("protocol"), r.Protocol, "TCP", "UDP", "SCTP")...)
	if len(errs) > 0 {
		return ports.Socket{}, errs
	}
	protocol, _ := ports.ParseProtocol(r.Protocol)
	return ports.Socket{Address: address, Protocol: protocol, Port: uint16(r.Port)}, nil
}

func (d *DataPlane) validate(path *field.Path) field.ErrorList {
	errs := oneOf(path.Child("serviceProxy"), d.ServiceProxy, ServiceProxyIPTables, ServiceProxyNFTables,
		ServiceProxyIPVS, ServiceProxyUserspace, ServiceProxyNone, ServiceProxyUnknown)
	errs = append(errs, oneOf(path.Child("hostPort"), d.HostPort, HostPortPortmapIPTables, HostPortPortmapNFTables,
		HostPortNone, HostPortUnknown)...)
	errs = append(errs, cidrs(path.Child("clusterCIDRs"), d.ClusterCIDRs, "like 10.244.0.0/16")...)
	addresses := path.Child("nodePortAddresses")
	switch at := slices.Index(d.NodePortAddresses, PrimaryAddresses); {
	case at < 0:
		errs = append(errs, cidrs(addresses, d.NodePortAddresses, "like 192.0.2.0/24, or the single word primary")...)
	case len(d.NodePortAddresses) > 1:
		errs = append(errs, field.Invalid(addresses.Index(at), PrimaryAddresses, "stands alone; remove it or the others"))
	}
	// The pattern is that of the CNI library (containernetworking/cni, pkg/utils ValidateNetworkName).
	if d.CNINetwork != "" && !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`).MatchString(d.CNINetwork) {
		errs = append(errs, field.Invalid(path.Child("cniNetwork"), d.CNINetwork, `is not the name of a CNI network; write the "name" of the file in /etc/cni/net.d`))
	}
	return errs
}

func cidrs(path *field.Path, values []string, example string) field.ErrorList {
	var errs field.ErrorList
	for i, value := range values {
		prefix, err := netip.ParsePrefix(value)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(path.Index(i), value, "is no CIDR; write one "+example))
		case slices.ContainsFunc(values[:i], func(before string) bool {
			p, err := netip.ParsePrefix(before)
			return err == nil && p.Masked() == prefix.Masked()
		}):
			errs = append(errs, field.Invalid(path.Index(i), value, "is given twice; remove one"))
		}
	}
	return errs
}

func oneOf[T ~string](path *field.Path, value T, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = string(a)
	}
	if len(quoted) == 1 {
		return field.ErrorList{field.Invalid(path, string(value), "write "+quoted[0])}
	}
	return field.ErrorList{field.Invalid(path, string(value), "write one of "+strings.Join(quoted, ", "))}
}
