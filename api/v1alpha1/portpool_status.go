package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PortPoolStatus is what became of a pool.
type PortPoolStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Accepted (the spec is understood), Programmed (the leader has loaded it; other replicas load it within moments), Overlapping
	// (another pool has some of the numbers), Exhausted (no number is left) and Drained (nobody holds a number).
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// effectiveRanges are the numbers that the pool really has: without those that the cluster does not accept as
	// nodePorts, and without those that a stronger pool owns. The first 256 ranges, if they are more.
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	// +optional
	EffectiveRanges []PortRange `json:"effectiveRanges,omitempty"`
	// usage counts the numbers of effectiveRanges.
	// +optional
	Usage *PoolUsage `json:"usage,omitempty"`
	// utilizationPercent is the share of the numbers that cannot be given away.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	UtilizationPercent *int32 `json:"utilizationPercent,omitempty"`
	// matchedNamespaces is how many namespaces the pool's namespaceSelector selects.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MatchedNamespaces *int32 `json:"matchedNamespaces,omitempty"`
	// outOfPoolCount is how many numbers are held by those whom the pool serves, and are none of the pool.
	// +kubebuilder:validation:Minimum=0
	// +optional
	OutOfPoolCount *int32 `json:"outOfPoolCount,omitempty"`
	// outOfPool are the first of them.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	OutOfPool []OutOfPoolPort `json:"outOfPool,omitempty"`
}

// PoolUsage counts a pool's numbers by what became of them.
type PoolUsage struct {
	// total is how many numbers the pool has.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +required
	Total int32 `json:"total"`
	// allocated is how many are held by those whom the pool serves.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +required
	Allocated int32 `json:"allocated"`
	// available is how many can be given away.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +required
	Available int32 `json:"available"`
	// quarantined is how many were given back and wait for their reuseDelay to pass.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +required
	Quarantined int32 `json:"quarantined"`
	// foreign is how many are held by others.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +required
	Foreign int32 `json:"foreign"`
}

// OutOfPoolPort is a number that somebody holds whom the pool serves, and that is none of the pool.
type OutOfPoolPort struct {
	// kind is the holder's: Service or Pod.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Kind string `json:"kind"`
	// namespace is the holder's.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`
	// name is the holder's.
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
	// port is the number.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`
	// protocol is that of the port that has the number.
	// +required
	Protocol Protocol `json:"protocol"`
	// reason says how it came. RangeShrunk: it was the pool's once. NotAllocated: the pool did not give it away.
	// +required
	Reason OutOfPoolReason `json:"reason"`
}

// OutOfPoolReason says how a number outside the pool came to be held.
// +kubebuilder:validation:Enum=RangeShrunk;NotAllocated
type OutOfPoolReason string

// How a number outside the pool came to be held.
const (
	RangeShrunk  OutOfPoolReason = "RangeShrunk"
	NotAllocated OutOfPoolReason = "NotAllocated"
)

// The types of the conditions of pools and, the first two, of policies.
const (
	ConditionAccepted    = "Accepted"    // the spec is understood and in effect
	ConditionProgrammed  = "Programmed"  // the leader has loaded this generation; other replicas do within moments
	ConditionOverlapping = "Overlapping" // another pool has some of the numbers; the message names it and who keeps them
	ConditionExhausted   = "Exhausted"   // no number is left to give away
	ConditionDrained     = "Drained"     // nobody holds a number: the pool can be deleted
)

// The reasons that go with the conditions.
const (
	ReasonValid                       = "Valid"                       // Accepted: True
	ReasonInvalidSelector             = "InvalidSelector"             // Accepted: False, of an object older than the rule that refuses it
	ReasonOutsideServiceNodePortRange = "OutsideServiceNodePortRange" // Accepted: False, no number is one that the cluster accepts
	ReasonSuperseded                  = "Superseded"                  // Accepted: False, stronger pools own every number
	ReasonServing                     = "Serving"                     // Programmed: True
	ReasonPending                     = "Pending"                     // Programmed: False: the object is not accepted, so that nothing is loaded
	ReasonNoOverlap                   = "None"                        // Overlapping: False
	ReasonPortsTaken                  = "PortsTaken"                  // Overlapping: True, a stronger pool keeps the ports
	ReasonPortsKept                   = "PortsKept"                   // Overlapping: True, this pool keeps the ports
	ReasonPortsShared                 = "PortsShared"                 // Overlapping: True, of two shared pools
	ReasonPortsAvailable              = "PortsAvailable"              // Exhausted: False
	ReasonNoPortLeft                  = "NoPortLeft"                  // Exhausted: True
	ReasonInUse                       = "InUse"                       // Drained: False
	ReasonEmpty                       = "Empty"                       // Drained: True
)
