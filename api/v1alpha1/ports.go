package v1alpha1

// PortRange is one port, or a range of them with both ends in it.
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || self.endPort >= self.port",fieldPath=".endPort",message="endPort must not be less than port; swap the two, or leave endPort out for a single port"
type PortRange struct {
	// port is the first port of the range, or the only one.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`
	// endPort is the last port of the range. Without it the range is the single port.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	EndPort *int32 `json:"endPort,omitempty"`
}

// Last returns the last port of the range.
func (r PortRange) Last() int32 {
	if r.EndPort != nil {
		return *r.EndPort
	}
	return r.Port
}

// SocketRange is a range of ports, of some protocols and on some addresses of a node.
type SocketRange struct {
	PortRange `json:",inline"`

	// protocols are those that are meant: TCP, UDP, SCTP. Without it all of them are.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=3
	// +listType=set
	// +optional
	Protocols []Protocol `json:"protocols,omitempty"`
	// hostIPs are the addresses of the node that are meant, as a pod's hostIP says them. Without it all of them are.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	// +optional
	HostIPs []IPAddress `json:"hostIPs,omitempty"`
}

// Protocol is a transport protocol.
// +kubebuilder:validation:Enum=TCP;UDP;SCTP
type Protocol string

// The protocols.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// IPAddress is an IPv4 or IPv6 address.
// +kubebuilder:validation:MaxLength=45
// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IP address, such as 127.0.0.1 or ::1; correct it"
type IPAddress string

// Enforcement says what becomes of a request that a pool or a policy objects to.
// +kubebuilder:validation:Enum=Deny;Warn;Audit
type Enforcement string

// The enforcements, the strictest first.
const (
	Deny  Enforcement = "Deny"  // the request is refused
	Warn  Enforcement = "Warn"  // the client is told, the request passes
	Audit Enforcement = "Audit" // recorded only
)

// Permission says whether something is allowed.
// +kubebuilder:validation:Enum=Allowed;Forbidden
type Permission string

// The permissions.
const (
	Allowed   Permission = "Allowed"
	Forbidden Permission = "Forbidden"
)
