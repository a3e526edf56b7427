package v1alpha1

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PortClaim is a nodePort that a pool has given away, or that waits to be given away again. Portcullis writes it;
// nobody else needs to. Its name says the number, np-30100, and the API server lets a name be taken only once: whoever
// creates the claim has the number.
//
// A claim begins as Requested, when a Service that may yet be refused is given the number. It is Bound once the
// Service exists, and Released when the Service is gone or has given the number up: the number then waits until the
// pool's reuseDelay is over, and the claim is deleted. A Service of the same namespace and name can take its released
// number back before that.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pclaim,categories=ports
// +kubebuilder:metadata:labels={"app.kubernetes.io/name=portcullis","app.kubernetes.io/part-of=portcullis"}
// +kubebuilder:selectablefield:JSONPath=`.spec.pool`
// +kubebuilder:selectablefield:JSONPath=`.spec.service.namespace`
// +kubebuilder:printcolumn:name="Port",type=integer,JSONPath=`.spec.port`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.service.namespace`
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service.name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^np-[1-9][0-9]{0,4}$') && int(self.metadata.name.substring(3)) == self.spec.port",message="metadata.name must be np- and the number of spec.port, such as np-30100, so that a number is claimed only once; correct the one or the other"
type PortClaim struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's standard metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec is the number and whom it was given to. It cannot be changed, but for filling in service.name.
	// +required
	Spec PortClaimSpec `json:"spec"`
	// status is what became of the number since.
	// +kubebuilder:default={phase: Requested}
	// +optional
	Status PortClaimStatus `json:"status,omitempty,omitzero"`
}

// PortClaimSpec is a number and whom it was given to.
// +kubebuilder:validation:XValidation:rule=`self.port == oldSelf.port && self.pool == oldSelf.pool && self.requestedAt == oldSelf.requestedAt && (has(self.portName) ? self.portName : "") == (has(oldSelf.portName) ? oldSelf.portName : "") && self.service.__namespace__ == oldSelf.service.__namespace__ && (has(self.service.generateName) ? self.service.generateName : "") == (has(oldSelf.service.generateName) ? oldSelf.service.generateName : "")`,message="spec cannot be changed, but for filling in service.name while it is empty; delete the claim, which frees the number, and let a new one be made"
type PortClaimSpec struct {
	// port is the number.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port"`
	// pool is the name of the PortPool that gave the number.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Pool string `json:"pool"`
	// service is the Service that the number is for.
	// +required
	Service ClaimingService `json:"service"`
	// portName is the name of the Service's port that the number is for, absent for a port without a name. It is
	// healthCheckNodePort, as no port can be called, for the number of that field. Ports that share a number are named
	// by the first of them.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	PortName string `json:"portName,omitempty"`
	// requestedAt is when the number was first given to the Service. A claim whose Service does not come is deleted.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	// +required
	RequestedAt metav1.Time `json:"requestedAt"`
}

// ClaimingService is a Service as it is known while it is being created, when it has no UID yet and maybe no name.
// +kubebuilder:validation:XValidation:rule="has(self.name) || has(self.generateName)",message="service needs a name or a generateName; give the one that the Service has"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.name) || has(self.name) && self.name == oldSelf.name",fieldPath=".name",message="service.name cannot be changed once it is set; delete the claim, which frees the number, and let a new one be made"
type ClaimingService struct {
	// namespace is the Service's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Namespace string `json:"namespace"`
	// name is the Service's. It may be filled in later, if the name was not known when the number was asked for.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Name string `json:"name,omitempty"`
	// generateName is what the API server makes the Service's name from, if it was to choose it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	GenerateName string `json:"generateName,omitempty"`
}

// HealthCheckPortName stands in a claim's portName for the Service's healthCheckNodePort. No port can be called so, as
// the names of ports are lower-case.
const HealthCheckPortName = "healthCheckNodePort"

// PortClaimStatus is what became of a number since it was given away. The API server drops it when a claim is created:
// a new claim is Requested.
// +kubebuilder:validation:XValidation:rule="self.phase != 'Bound' || has(self.serviceUID)",fieldPath=".serviceUID",message="serviceUID must be given in the phase Bound; add that of the Service that holds the number"
// +kubebuilder:validation:XValidation:rule="(self.phase == 'Released') == has(self.releasedAt)",fieldPath=".releasedAt",message="releasedAt must be given in the phase Released, and in no other; add it, remove it, or change the phase"
type PortClaimStatus struct {
	// phase is how far it got. Requested: a Service that is being created was given the number. Bound: the Service exists
	// and holds it. Released: it holds it no longer, and the number waits for the pool's reuseDelay to pass.
	// +kubebuilder:default=Requested
	// +optional
	Phase ClaimPhase `json:"phase,omitempty"`
	// serviceUID is the UID of the Service that holds the number, or held it last.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +optional
	ServiceUID string `json:"serviceUID,omitempty"`
	// releasedAt is when the Service was found to hold the number no longer.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	// +optional
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`
	// requestedAgainAt is when a Service of the same namespace and name last asked for the number after it had been
	// released. It then counts instead of spec.requestedAt.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	// +optional
	RequestedAgainAt *metav1.Time `json:"requestedAgainAt,omitempty"`
	// conditions are Bound: the Service exists and holds the number.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ClaimPhase is how far a claim got.
// +kubebuilder:validation:Enum=Requested;Bound;Released
type ClaimPhase string

// The phases of claims.
const (
	ClaimRequested ClaimPhase = "Requested"
	ClaimBound     ClaimPhase = "Bound"
	ClaimReleased  ClaimPhase = "Released"
)

// ConditionBound is the type of the condition that a claim's Service exists and holds the number.
const ConditionBound = "Bound"

// The reasons that go with ConditionBound.
const (
	ReasonInService       = "InService"       // True: the Service holds the number
	ReasonAwaitingService = "AwaitingService" // False: the Service does not exist yet
	ReasonServiceGone     = "ServiceGone"     // False: the Service was deleted
	ReasonPortGivenUp     = "PortGivenUp"     // False: the Service exists and no longer holds the number
	ReasonHeldByAnother   = "HeldByAnother"   // False: another Service holds the number; the message names it
)

// ClaimName returns the name of the claim of a nodePort.
func ClaimName(nodePort int32) string { return "np-" + strconv.Itoa(int(nodePort)) }

// LastRequested returns when the number was last asked for.
func (c *PortClaim) LastRequested() metav1.Time {
	if c.Status.RequestedAgainAt != nil {
		return *c.Status.RequestedAgainAt
	}
	return c.Spec.RequestedAt
}

// PortClaimList is a list of PortClaims.
// +kubebuilder:object:root=true
type PortClaimList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the list's standard metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the PortClaims.
	Items []PortClaim `json:"items"`
}
