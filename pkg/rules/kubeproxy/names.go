package kubeproxy

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// The names that are hashed into others come of kube-proxy's own spelling: comparing ours with a node's is comparing text.

// lower is the protocol as rules spell it.
func lower(p ports.Protocol) string {
	switch p {
	case ports.TCP:
		return "tcp"
	case ports.UDP:
		return "udp"
	case ports.SCTP:
		return "sctp"
	}
	return strings.ToLower(p.String())
}

// hash returns the first 8 or 16 letters, n, of the sum of its parts together, in base 32, behind a prefix.
func hash(prefix string, n int, parts ...string) string {
	var space [192]byte
	in := space[:0]
	for _, p := range parts {
		in = append(in, p...)
	}
	sum := sha256.Sum256(in)
	return string(base32.StdEncoding.AppendEncode(append(space[:0], prefix...), sum[:n*5/8]))
}

// serviceHash is what the iptables chains of a Service port end in (pkg/proxy/iptables portProtoHash).
func serviceHash(name string, p ports.Protocol) string { return hash("", 16, name, lower(p)) }

// endpointChainName is the name of an endpoint's iptables chain (pkg/proxy/iptables servicePortEndpointChainName).
func endpointChainName(name string, p ports.Protocol, endpoint string) string {
	return hash("KUBE-SEP-", 16, name, lower(p), endpoint)
}
