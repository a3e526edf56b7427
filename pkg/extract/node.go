package extract

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// NodeAddresses returns the IP addresses of a node, the primary one of each family first: InternalIPs, then ExternalIPs,
// in the order in which the node lists them.
func NodeAddresses(node *corev1.Node) []netip.Addr {
	var addresses []netip.Addr
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range node.Status.Addresses {
			addr, err := netip.ParseAddr(a.Address)
			if a.Type == kind && err == nil && !slices.Contains(addresses, addr.Unmap()) {
				addresses = append(addresses, addr.Unmap())
			}
		}
	}
	return addresses
}

// IsWindows reports whether a node runs Windows, by its label or by what its kubelet says.
func IsWindows(node *corev1.Node) bool {
	return node.Labels[corev1.LabelOSStable] == "windows" || node.Status.NodeInfo.OperatingSystem == "windows"
}

// ReservedPortsAnnotation names ports of a node that no pod may have, because something on the node itself uses them:
// "9100/TCP,80/TCP".
const ReservedPortsAnnotation = "portcullis.dev/reserved-ports"

// ReservedPorts returns the sockets that a node's annotation reserves, on all of its addresses. The error joins what is
// wrong with single entries; the others count all the same, as leaving a port open is the worse mistake.
func ReservedPorts(node *corev1.Node) ([]ports.Socket, error) {
	var reserved []ports.Socket
	var errs []error
	for entry := range strings.SplitSeq(node.Annotations[ReservedPortsAnnotation], ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		socket, err := ports.ParseSocket("*:" + entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is not PORT/PROTOCOL, like 9100/TCP", entry))
			continue
		}
		reserved = append(reserved, socket)
	}
	return reserved, errors.Join(errs...)
}

// Reservation returns a node as the holder of the ports that its annotation reserves on it, so that every check meets them as
// it meets a process of the host network there.
func Reservation(node *corev1.Node) (ports.Owner, []ports.Claim) {
	owner := ports.Owner{Ref: NodeRef(node.Name)}
	reserved, _ := ReservedPorts(node) // BadReservations reports what is wrong
	var claims []ports.Claim
	for _, socket := range reserved {
		claims = append(claims, ports.Claim{
			Socket: socket, Kind: ports.HostNetwork, Scope: ports.NodeScope(node.Name), Field: reservedPortsField, Owner: &owner,
		})
	}
	return owner, claims
}

// BadReservations returns a finding for each entry of a node's annotation that reserves nothing.
func BadReservations(node *corev1.Node) []check.Finding {
	_, err := ReservedPorts(node)
	if err == nil {
		return nil
	}
	var findings []check.Finding
	for _, bad := range err.(interface{ Unwrap() []error }).Unwrap() {
		findings = append(findings, check.ReservationFinding(NodeRef(node.Name), reservedPortsField, bad))
	}
	return findings
}

// NodeRef names a node, which has no namespace.
func NodeRef(name string) ports.Ref {
	return ports.Ref{APIVersion: "v1", Kind: check.NodeKind, Name: name}
}

const reservedPortsField = "metadata.annotations[" + ReservedPortsAnnotation + "]"

// PodNetworks returns the networks of a node's pods, each once.
func PodNetworks(node *corev1.Node) []netip.Prefix {
	var found []netip.Prefix
	for _, text := range append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...) {
		if p, err := netip.ParsePrefix(text); err == nil && !slices.Contains(found, p.Masked()) {
			found = append(found, p.Masked())
		}
	}
	return found
}

// NodeFamilies returns the families of a node's pod CIDRs, and those of its internal addresses.
func NodeFamilies(node *corev1.Node) (podCIDRs, internal check.Families) {
	for _, p := range PodNetworks(node) {
		podCIDRs = podCIDRs.Or(familyOfAddr(p.Addr()))
	}
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			internal = internal.Or(familyOfAddr(addr))
		}
	}
	return podCIDRs, internal
}

// ClusterFamilies returns the families of the cluster's pods: those of the nodes' pod CIDRs, else of their internal
// addresses, else of the ServiceCIDRs. None means that nothing is known yet.
func ClusterFamilies(nodes []*corev1.Node, cidrs []*networkingv1.ServiceCIDR) check.Families {
	var pods, internal, services check.Families
	for _, n := range nodes {
		p, i := NodeFamilies(n)
		pods, internal = pods.Or(p), internal.Or(i)
	}
	for _, p := range ServiceRanges(cidrs) {
		services = services.Or(familyOfAddr(p.Addr()))
	}
	for _, f := range []check.Families{pods, internal, services} {
		if f != (check.Families{}) {
			return f
		}
	}
	return check.Families{}
}

// ServiceRanges returns the ranges from which cluster IPs are given.
func ServiceRanges(cidrs []*networkingv1.ServiceCIDR) []netip.Prefix {
	var ranges []netip.Prefix
	for _, c := range cidrs {
		for _, s := range c.Spec.CIDRs {
			if p, err := netip.ParsePrefix(s); err == nil {
				ranges = append(ranges, p.Masked())
			}
		}
	}
	return ranges
}

func familyOfAddr(addr netip.Addr) check.Families {
	return check.Families{IPv4: addr.Unmap().Is4(), IPv6: addr.Unmap().Is6()}
}
