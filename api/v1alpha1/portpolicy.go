package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PortPolicy says who may have ports on nodes at all. Every policy that selects a namespace must be satisfied; none
// overrides another.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=portpolicies,shortName=ppol,categories=ports
// +kubebuilder:metadata:labels={"app.kubernetes.io/name=portcullis","app.kubernetes.io/part-of=portcullis"}
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.spec.enforcement`
// +kubebuilder:printcolumn:name="Namespaces",type=integer,JSONPath=`.status.matchedNamespaces`
// +kubebuilder:printcolumn:name="Violations",type=integer,JSONPath=`.status.violations`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must have at most 63 characters; choose a shorter name"
type PortPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's standard metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec is what the policy's owner asks for.
	// +required
	Spec PortPolicySpec `json:"spec"`
	// status is what became of it; Portcullis writes it.
	// +optional
	Status PortPolicyStatus `json:"status,omitempty,omitzero"`
}

// PortPolicySpec says what is restricted, for whom, and how strictly.
// +kubebuilder:validation:XValidation:rule="has(self.nodePorts) || has(self.hostPorts) || self.externalIPs != 'Allowed' || has(self.reserved)",message="spec restricts nothing; give at least one of nodePorts, hostPorts, externalIPs and reserved"
type PortPolicySpec struct {
	// namespaceSelector selects the namespaces that the policy is about. {} is every namespace.
	// +required
	NamespaceSelector *LabelSelector `json:"namespaceSelector"`
	// enforcement says what becomes of a request that breaks the policy. Deny refuses it, Warn lets it pass with a
	// warning, Audit records it.
	// +kubebuilder:default=Audit
	// +optional
	Enforcement Enforcement `json:"enforcement,omitempty"`
	// nodePorts restricts the nodePorts of Services. Without it they are not restricted.
	// +optional
	NodePorts *NodePortPolicy `json:"nodePorts,omitempty"`
	// hostPorts restricts the hostPorts of pods. Without it they are not restricted.
	// +optional
	HostPorts *HostPortPolicy `json:"hostPorts,omitempty"`
	// externalIPs says which of spec.externalIPs Services may have. Allowed: any. NodeAddressesForbidden: none that is an
	// address of a node, which takes a port of it as a hostPort does. Forbidden: none.
	// +kubebuilder:default=Allowed
	// +optional
	ExternalIPs ExternalIPMode `json:"externalIPs,omitempty"`
	// reserved are sockets of nodes that belong to something which Kubernetes cannot see. No hostPort may take them, and no
	// Service at an address of such a node.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +optional
	Reserved []ReservedPorts `json:"reserved,omitempty"`
	// exceptions are whom the policy leaves alone.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +optional
	Exceptions []PolicyException `json:"exceptions,omitempty"`
	// message is added to what a client is told, such as where to ask for an exception.
	// +kubebuilder:validation:MaxLength=200
	// +optional
	Message string `json:"message,omitempty"`
}

// NodePortPolicy restricts the nodePorts of Services.
// +kubebuilder:validation:XValidation:rule="(self.mode == 'Restricted') == has(self.allowed)",fieldPath=".allowed",message="allowed must be given for the mode Restricted, and for no other; add it, remove it, or change the mode"
type NodePortPolicy struct {
	// mode says which numbers may be held. Allowed: any. Restricted: those of allowed. PoolOnly: those of a pool that
	// serves the Service. Forbidden: none.
	// +kubebuilder:default=Allowed
	// +optional
	Mode NodePortMode `json:"mode,omitempty"`
	// allowed are the numbers that may be held. Only for the mode Restricted.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Allowed []PortRange `json:"allowed,omitempty"`
	// explicitRequests says whether a Service may name its number. Forbidden: it must take what it is given.
	// +kubebuilder:default=Allowed
	// +optional
	ExplicitRequests Permission `json:"explicitRequests,omitempty"`
	// loadBalancerNodePorts says whether Services of type LoadBalancer may have nodePorts. Forbidden: they must set
	// allocateLoadBalancerNodePorts to false.
	// +kubebuilder:default=Allowed
	// +optional
	LoadBalancerNodePorts Permission `json:"loadBalancerNodePorts,omitempty"`
}

// NodePortMode says which nodePorts may be held.
// +kubebuilder:validation:Enum=Allowed;Restricted;PoolOnly;Forbidden
type NodePortMode string

// The modes for nodePorts.
const (
	NodePortsAllowed    NodePortMode = "Allowed"
	NodePortsRestricted NodePortMode = "Restricted"
	NodePortsPoolOnly   NodePortMode = "PoolOnly"
	NodePortsForbidden  NodePortMode = "Forbidden"
)

// HostPortPolicy restricts the hostPorts of pods.
// +kubebuilder:validation:XValidation:rule="(self.mode == 'Restricted') == has(self.allowed)",fieldPath=".allowed",message="allowed must be given for the mode Restricted, and for no other; add it, remove it, or change the mode"
type HostPortPolicy struct {
	// mode says which hostPorts may be held. Allowed: any. Restricted: those of allowed. Forbidden: none.
	// +kubebuilder:default=Allowed
	// +optional
	Mode HostPortMode `json:"mode,omitempty"`
	// allowed are the sockets that may be held. Only for the mode Restricted.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Allowed []SocketRange `json:"allowed,omitempty"`
	// hostNetwork says whether pods may use the node's own network.
	// +kubebuilder:default=Allowed
	// +optional
	HostNetwork Permission `json:"hostNetwork,omitempty"`
	// nodePortRange says whether a hostPort may lie in the cluster's nodePort range, where it and the nodePort of a
	// Service take each other's packets.
	// +kubebuilder:default=Forbidden
	// +optional
	NodePortRange Permission `json:"nodePortRange,omitempty"`
}

// HostPortMode says which hostPorts may be held.
// +kubebuilder:validation:Enum=Allowed;Restricted;Forbidden
type HostPortMode string

// The modes for hostPorts.
const (
	HostPortsAllowed    HostPortMode = "Allowed"
	HostPortsRestricted HostPortMode = "Restricted"
	HostPortsForbidden  HostPortMode = "Forbidden"
)

// ExternalIPMode says which external IPs Services may have.
// +kubebuilder:validation:Enum=Allowed;NodeAddressesForbidden;Forbidden
type ExternalIPMode string

// The modes for external IPs.
const (
	ExternalIPsAllowed                ExternalIPMode = "Allowed"
	ExternalIPsNodeAddressesForbidden ExternalIPMode = "NodeAddressesForbidden"
	ExternalIPsForbidden              ExternalIPMode = "Forbidden"
)

// ReservedPorts are sockets of nodes that belong to something which Kubernetes cannot see.
type ReservedPorts struct {
	// name is that of the holder, and is what messages call it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`
	// ports are the sockets.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +required
	Ports []SocketRange `json:"ports"`
	// nodeSelector selects the nodes on which they are reserved. {} is every node.
	// +required
	NodeSelector *LabelSelector `json:"nodeSelector"`
	// reason says why, for whom a message sends here.
	// +kubebuilder:validation:MaxLength=200
	// +optional
	Reason string `json:"reason,omitempty"`
}

// PolicyException is somebody whom a policy leaves alone. Where both selectors are given, both must match.
// +kubebuilder:validation:XValidation:rule="has(self.namespaceSelector) || has(self.objectSelector)",message="exceptions need a namespaceSelector or an objectSelector, or both; add one"
type PolicyException struct {
	// name tells exceptions of one policy apart.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`
	// namespaceSelector selects the namespaces that the exception is for.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
	// objectSelector selects the Services and pods that the exception is for, by their labels.
	// +optional
	ObjectSelector *LabelSelector `json:"objectSelector,omitempty"`
	// reason says why there is an exception, and who agreed.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	// +required
	Reason string `json:"reason"`
	// expiresAt is when the exception ends, such as 2027-01-31T00:00:00Z. From 14 days before then clients are warned.
	// Without it the exception does not end.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`
}

// PortPolicyStatus is what became of a policy.
type PortPolicyStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Accepted (the spec is understood) and Programmed (the leader has loaded it; other replicas load it within moments).
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// matchedNamespaces is how many namespaces the policy's namespaceSelector selects.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MatchedNamespaces *int32 `json:"matchedNamespaces,omitempty"`
	// violations is how much of what exists breaks the policy. Before enforcement becomes Deny it should be 0.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Violations *int32 `json:"violations,omitempty"`
	// samples are the first violations.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Samples []PolicyViolation `json:"samples,omitempty"`
	// lastAuditTime is when violations were last counted.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	// +optional
	LastAuditTime *metav1.Time `json:"lastAuditTime,omitempty"`
}

// PolicyViolation is something that exists and breaks a policy.
type PolicyViolation struct {
	// kind is the violator's, such as Service or DaemonSet.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Kind string `json:"kind"`
	// namespace is the violator's.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`
	// name is the violator's.
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
	// field is the one that breaks the policy, such as spec.ports[0].nodePort.
	// +kubebuilder:validation:MaxLength=253
	// +required
	Field string `json:"field"`
	// message says what is wrong with it and what to do.
	// +kubebuilder:validation:MaxLength=1024
	// +required
	Message string `json:"message"`
}

// PortPolicyList is a list of PortPolicies.
// +kubebuilder:object:root=true
type PortPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the list's standard metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the PortPolicies.
	Items []PortPolicy `json:"items"`
}
