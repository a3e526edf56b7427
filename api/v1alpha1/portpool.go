package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PortPool is a set of port numbers and who gets them. A Service that wants a nodePort and names none gets one from
// the pool that selects it; of several such pools, the one with the lowest priority serves it.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ppool,categories=ports
// +kubebuilder:metadata:labels={"app.kubernetes.io/name=portcullis","app.kubernetes.io/part-of=portcullis"}
// +kubebuilder:printcolumn:name="For",type=string,JSONPath=`.spec.for`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.spec.state`
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.spec.enforcement`
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Used%",type=integer,JSONPath=`.status.utilizationPercent`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Overlap",type=string,JSONPath=`.status.conditions[?(@.type=="Overlapping")].status`,priority=1
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must have at most 63 characters; choose a shorter name"
// +kubebuilder:validation:XValidation:rule="self.metadata.name != 'auto'",message="metadata.name must not be auto, which in a pod's annotation stands for any pool; choose another name"
type PortPool struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's standard metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec is what the pool's owner asks for.
	// +required
	Spec PortPoolSpec `json:"spec"`
	// status is what became of it; Portcullis writes it.
	// +optional
	Status PortPoolStatus `json:"status,omitempty,omitzero"`
}

// PortPoolSpec says which numbers a pool has, who gets them, and how.
// +kubebuilder:validation:XValidation:rule="self.__for__ == 'NodePorts' || !has(self.serviceSelector)",fieldPath=".serviceSelector",message="serviceSelector chooses Services, and a pool for HostPorts serves pods; remove it, or make a pool for NodePorts"
// +kubebuilder:validation:XValidation:rule="self.__for__ == 'NodePorts' || !has(self.limits) || !has(self.limits.perService)",fieldPath=".limits.perService",message="limits.perService counts the ports of Services, and a pool for HostPorts serves pods; remove it, or use limits.perNamespace"
// +kubebuilder:validation:XValidation:rule="self.__for__ == 'NodePorts' || !self.allocation.reuseDelay.matches('^([0-9]{1,5}[hms]){1,3}$') || duration(self.allocation.reuseDelay) == duration('10m')",fieldPath=".allocation.reuseDelay",message="allocation.reuseDelay has no effect on a pool for HostPorts, whose numbers are free as soon as their pod is gone; remove it"
// +kubebuilder:validation:XValidation:rule="!has(self.allocation.explicitOnly) || self.allocation.explicitOnly.all(e, self.ranges.exists(r, r.port <= e.port && (has(e.endPort) ? e.endPort : e.port) <= (has(r.endPort) ? r.endPort : r.port)))",fieldPath=".allocation.explicitOnly",message="allocation.explicitOnly must lie inside the pool: each of its ranges within one of spec.ranges; correct it, or add the numbers to spec.ranges"
type PortPoolSpec struct {
	// for says what the numbers are for. NodePorts: the nodePorts of Services. HostPorts: the hostPorts of pods whose
	// annotation portcullis.dev/host-port.<port name> asks for a number, from any pool (auto) or from the one it names.
	// Cannot be changed.
	// +kubebuilder:default=NodePorts
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="for cannot be changed, because the numbers of the pool are in use as what they are; make another pool"
	// +optional
	For PoolUse `json:"for,omitempty"`
	// ranges are the numbers of the pool. Ranges of one pool must not overlap. For NodePorts, what lies outside the
	// cluster's nodePort range is not used, and status says so.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.filter(b, a.port <= (has(b.endPort) ? b.endPort : b.port) && b.port <= (has(a.endPort) ? a.endPort : a.port)).size() <= 1)",message="ranges must not overlap; join those that do into one"
	// +listType=atomic
	// +required
	Ranges []PortRange `json:"ranges"`
	// namespaceSelector selects the namespaces that the pool serves. {} is every namespace.
	// +required
	NamespaceSelector *LabelSelector `json:"namespaceSelector"`
	// serviceSelector narrows it down to some Services of those namespaces. Without it the pool serves all of them.
	// Only for NodePorts.
	// +optional
	ServiceSelector *LabelSelector `json:"serviceSelector,omitempty"`
	// priority orders the pools that select the same Service or pod: the lowest serves it. Of equal ones it is a pool
	// with a serviceSelector before one without, then the older one, then by name.
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Priority *int32 `json:"priority,omitempty"`
	// allocation says how numbers are picked.
	// +kubebuilder:default={}
	// +optional
	Allocation PortAllocation `json:"allocation,omitempty,omitzero"`
	// sharing says whether others may hold the pool's numbers. Exclusive: only those whom the pool serves. Shared:
	// everybody may, and the pool gives away what nobody holds.
	// +kubebuilder:default=Exclusive
	// +optional
	Sharing PoolSharing `json:"sharing,omitempty"`
	// limits bound how many numbers one holder may have. Without it only the pool's size does.
	// +optional
	Limits *PortLimits `json:"limits,omitempty"`
	// state takes the pool out of use. Draining: it gives away no more numbers, and keeps those that it has. Disabled: it
	// has no effect at all.
	// +kubebuilder:default=Active
	// +optional
	State PoolState `json:"state,omitempty"`
	// enforcement says what becomes of a request that breaks a limit of the pool, takes a number of it without being
	// served by it, or finds it exhausted. Deny refuses it, Warn lets it pass with a warning, Audit records it.
	// +kubebuilder:default=Audit
	// +optional
	Enforcement Enforcement `json:"enforcement,omitempty"`
}

// PoolUse says what the numbers of a pool are for.
// +kubebuilder:validation:Enum=NodePorts;HostPorts
type PoolUse string

// The uses of pools.
const (
	NodePorts PoolUse = "NodePorts"
	HostPorts PoolUse = "HostPorts"
)

// PortAllocation says how a pool's numbers are picked.
type PortAllocation struct {
	// mode says who picks. Auto: the pool gives a number to everybody whom it serves and who names none. Explicit: it
	// never does, and its numbers are there for those who name one.
	// +kubebuilder:default=Auto
	// +optional
	Mode AllocationMode `json:"mode,omitempty"`
	// strategy says how a number is picked among the free ones. Hashed: by the holder's name, so that it gets the same one
	// again where that is still free. LowestFree: the lowest. Random: any.
	// +kubebuilder:default=Hashed
	// +optional
	Strategy AllocationStrategy `json:"strategy,omitempty"`
	// reuseDelay is how long a number that was given back waits until somebody else may get it, as firewalls, DNS and
	// clients remember it for a while. Hours, minutes and seconds from 0s to 24h, such as 90s, 10m or 1h30m. Only for
	// NodePorts.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=18
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}[hms]){1,3}$') && duration(self) <= duration('24h')",message="reuseDelay must be hours, minutes and seconds from 0s to 24h, such as 90s, 10m or 1h30m; correct it"
	// +optional
	ReuseDelay *metav1.Duration `json:"reuseDelay,omitempty"`
	// explicitOnly are numbers of the pool that are never picked, only given to those who name one of them. Each range
	// must lie inside one of the pool's.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	ExplicitOnly []PortRange `json:"explicitOnly,omitempty"`
}

// AllocationMode says who picks a number.
// +kubebuilder:validation:Enum=Auto;Explicit
type AllocationMode string

// The modes of allocation.
const (
	AllocateAuto     AllocationMode = "Auto"
	AllocateExplicit AllocationMode = "Explicit"
)

// AllocationStrategy says how a number is picked among the free ones.
// +kubebuilder:validation:Enum=Hashed;LowestFree;Random
type AllocationStrategy string

// The strategies of allocation.
const (
	Hashed     AllocationStrategy = "Hashed"
	LowestFree AllocationStrategy = "LowestFree"
	Random     AllocationStrategy = "Random"
)

// PoolSharing says whether others may hold a pool's numbers.
// +kubebuilder:validation:Enum=Exclusive;Shared
type PoolSharing string

// The ways to share a pool's numbers.
const (
	Exclusive PoolSharing = "Exclusive"
	Shared    PoolSharing = "Shared"
)

// PoolState says whether a pool is in use.
// +kubebuilder:validation:Enum=Active;Draining;Disabled
type PoolState string

// The states of pools.
const (
	PoolActive   PoolState = "Active"
	PoolDraining PoolState = "Draining"
	PoolDisabled PoolState = "Disabled"
)

// PortLimits bound how many numbers of a pool one holder may have. Numbers are counted, not Services.
// +kubebuilder:validation:MinProperties=1
type PortLimits struct {
	// perNamespace is how many numbers of the pool one namespace may hold. Requests that meet may exceed it by a few.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	PerNamespace *int32 `json:"perNamespace,omitempty"`
	// perService is how many numbers of the pool one Service may hold. Only for NodePorts.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	PerService *int32 `json:"perService,omitempty"`
}

// PortPoolList is a list of PortPools.
// +kubebuilder:object:root=true
type PortPoolList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the list's standard metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the PortPools.
	Items []PortPool `json:"items"`
}
