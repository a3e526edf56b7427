// Package v1alpha1 is Portcullis' configuration file, version config.portcullis.dev/v1alpha1, and the arguments of the
// scheduler plugin.
//
// PortcullisConfiguration is the file: Load parses it, fills in what it leaves out (Default) and validates it (Validate).
// PortClaimsArgs are the arguments of the plugin, which LoadPortClaimsArgs reads in the same way. Marshal writes either.
// Reading is strict: a field that is unknown, given twice or of the wrong type is an error with its path, and in a file
// with its line.
//
// All values are text and numbers, as the user writes them. extract.NewSettings turns them into ports, ranges and
// settings.
package v1alpha1

// What a configuration file says of itself.
const (
	APIVersion = "config.portcullis.dev/v1alpha1"
	Kind       = "PortcullisConfiguration"
)

// PortcullisConfiguration is the configuration file of `serve --config` and `lint --config`.
type PortcullisConfiguration struct {
	// APIVersion and Kind are the constants of this package.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// NodePortRange is the API server's --service-node-port-range.
	NodePortRange string `json:"nodePortRange"`
	// AllocateFrom are the ranges, inside NodePortRange, that the mutating webhook picks nodePorts from. Empty: all of
	// NodePortRange. AllocateFromNone: none, the API server picks.
	AllocateFrom string `json:"allocateFrom"`
	// Enforcement says per code, as PC0302, what a finding does. A code that is not named follows its severity.
	Enforcement map[string]Enforcement `json:"enforcement"`
	// EphemeralPortRange is net.ipv4.ip_local_port_range on the nodes.
	EphemeralPortRange string `json:"ephemeralPortRange"`
	// ReservedLocalPorts is net.ipv4.ip_local_reserved_ports on the nodes.
	ReservedLocalPorts string `json:"reservedLocalPorts"`
	// DefaultHostIP is what the mutating webhook writes into a hostIP that a pod leaves empty.
	DefaultHostIP HostIP `json:"defaultHostIP"`
	// NodeReserved are the sockets that the nodes' own daemons hold. Absent: the built-in list. Empty: none.
	NodeReserved []ReservedSocket `json:"nodeReserved"`
	// TrustedNamespaces are those whose pods are taken for what they say they are: a daemon of NodeReserved, by the name of a
	// container, or a pod of k3s' load balancer, by its labels. Absent: kube-system. Empty: none.
	TrustedNamespaces []string `json:"trustedNamespaces"`
	// DataPlane says who installs the rules on the nodes, and how they were told to.
	DataPlane DataPlane `json:"dataplane"`
	// OnUncertain is what becomes of a request that cannot be judged: Deny, or Warn to let it pass with a warning.
	OnUncertain Enforcement `json:"onUncertain"`
	// Disclosure says what a refusal tells its client of holders in other namespaces: Full, or SameNamespace to keep their
	// names for the log and the audit log.
	Disclosure Disclosure `json:"disclosure"`
}

// Disclosure says whose names a client is told.
type Disclosure string

// The disclosures.
const (
	DiscloseFull          Disclosure = "Full"          // those of every holder
	DiscloseSameNamespace Disclosure = "SameNamespace" // those of holders in the client's namespace, and of what has no namespace
)

// AllocateFromNone as AllocateFrom leaves the choice of nodePorts to the API server.
const AllocateFromNone = "none"

// Enforcement says what a finding does to a request.
type Enforcement string

// The enforcements, the strictest first.
const (
	Deny  Enforcement = "Deny"  // the request is refused
	Warn  Enforcement = "Warn"  // the client is told, the request passes
	Audit Enforcement = "Audit" // recorded only
)

// HostIP says what is written into an empty hostIP.
type HostIP string

// The choices for an empty hostIP.
const (
	HostIPAuto    HostIP = "Auto"    // 0.0.0.0 on an IPv4-only cluster, :: on an IPv6-only one, nothing on a dual-stack one
	HostIPAllIPv4 HostIP = "0.0.0.0" // always
	HostIPAllIPv6 HostIP = "::"      // always
	HostIPNone    HostIP = "None"    // never write one
)

// ReservedSocket is a socket that a daemon holds on every node.
type ReservedSocket struct {
	// Name is the daemon's. In a trusted namespace a pod of the host network with a container of that name is taken for the
	// daemon itself.
	Name string `json:"name"`
	// HostIP is the address that the daemon listens on. Empty: every address.
	HostIP string `json:"hostIP,omitempty"`
	Port   int32  `json:"port"`
	// Protocol is TCP, UDP or SCTP. Empty: TCP.
	Protocol string `json:"protocol"`
	// NodeLabel is a label, with any value, of the nodes that the daemon runs on. Empty: it runs on every node.
	NodeLabel string `json:"nodeLabel,omitempty"`
}

// DataPlane says who installs the rules on the nodes.
type DataPlane struct {
	// ServiceProxy is kube-proxy's --proxy-mode. Absent: unknown, and nothing is said of who gets packets.
	ServiceProxy ServiceProxy `json:"serviceProxy"`
	// HostPort is what maps hostPorts: the CNI plugin portmap with one of its back ends. Absent: unknown.
	HostPort HostPortMapper `json:"hostPort"`
	// ClusterCIDRs is kube-proxy's --cluster-cidr. Absent: 10.244.0.0/16. Empty: not known.
	ClusterCIDRs []string `json:"clusterCIDRs"`
	// NodePortAddresses is kube-proxy's --nodeport-addresses: CIDRs, or the single word PrimaryAddresses. Empty: what
	// kube-proxy takes for empty, which is primary in nftables mode and every address in the others.
	NodePortAddresses []string `json:"nodePortAddresses"`
	// LocalhostNodePorts is kube-proxy's --iptables-localhost-nodeports.
	LocalhostNodePorts *bool `json:"localhostNodePorts"`
	// ServiceLB says that k3s' load balancer serves Services of type LoadBalancer, which takes their ports on the nodes. Files
	// that hold one of its DaemonSets show it by themselves.
	ServiceLB bool `json:"serviceLB"`
	// CNINetwork is the name of the CNI network, which portmap writes into its comments. Empty: not known.
	CNINetwork string `json:"cniNetwork"`
}

// PrimaryAddresses as the only one of NodePortAddresses stands for each node's primary addresses.
const PrimaryAddresses = "primary"

// ServiceProxy is a mode of kube-proxy.
type ServiceProxy string

// The modes of kube-proxy.
const (
	ServiceProxyIPTables  ServiceProxy = "iptables"
	ServiceProxyNFTables  ServiceProxy = "nftables"
	ServiceProxyIPVS      ServiceProxy = "ipvs"
	ServiceProxyUserspace ServiceProxy = "userspace" // of old clusters; gone since Kubernetes 1.26
	ServiceProxyNone      ServiceProxy = "none"      // nothing serves node ports
	ServiceProxyUnknown   ServiceProxy = "unknown"
)

// HostPortMapper is what maps hostPorts on the nodes.
type HostPortMapper string

// The mappers of hostPorts.
const (
	HostPortPortmapIPTables HostPortMapper = "portmap-iptables"
	HostPortPortmapNFTables HostPortMapper = "portmap-nftables"
	HostPortNone            HostPortMapper = "none" // nothing maps them
	HostPortUnknown         HostPortMapper = "unknown"
)
