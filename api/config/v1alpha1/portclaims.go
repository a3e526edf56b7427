package v1alpha1

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// PortClaimsKind is what the arguments of the scheduler plugin may say of themselves.
const PortClaimsKind = "PortClaimsArgs"

// PortClaimsArgs are the arguments of the scheduler plugin PortClaims, under pluginConfig in a
// KubeSchedulerConfiguration. The blocks are those of the configuration file that placing a pod depends on, so that a
// cluster's can be copied from there.
type PortClaimsArgs struct {
	// APIVersion and Kind may be left out: the plugin's name tells what its arguments are.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// PreferUncontended makes the scheduler prefer, of the nodes that fit a pod, those that the fewest other workloads with
	// one of its host ports may run on, so that what others need is taken last.
	PreferUncontended bool `json:"preferUncontended"`
	// Policies makes the scheduler keep to what PortPolicies with enforcement Deny reserve on nodes. It needs the right to
	// list and watch portpolicies, which kube-scheduler does not have of itself.
	Policies bool `json:"policies"`
	// NodeReserved are the sockets that the nodes' own daemons hold. Absent: the built-in list. Empty: none.
	NodeReserved []ReservedSocket `json:"nodeReserved"`
	// TrustedNamespaces are those whose pods are taken for what they say they are. Absent: kube-system. Empty: none.
	TrustedNamespaces []string `json:"trustedNamespaces"`
	// DataPlane says on which addresses a nodePort is held.
	DataPlane DataPlane `json:"dataplane"`
}

// LoadPortClaimsArgs reads the plugin's arguments as kube-scheduler hands them over, in JSON, fills in the defaults and
// validates them. No data is the default arguments. The error joins everything that is wrong, with its path.
func LoadPortClaimsArgs(data []byte) (*PortClaimsArgs, error) {
	a := &PortClaimsArgs{}
	if len(data) > 0 {
		if err := decodeArgs(data, a); err != nil {
			return nil, err
		}
	}
	a.Default()
	if err := a.Validate().ToAggregate(); err != nil {
		return nil, err
	}
	return a, nil
}

func decodeArgs(data []byte, a *PortClaimsArgs) error {
	strict, err := kjson.UnmarshalStrict(data, a, kjson.DisallowUnknownFields, kjson.DisallowDuplicateFields)
	if err != nil {
		return wrongType(nil, err)
	}
	var errs []error
	for _, err := range strict {
		wrong, ok := errors.AsType[kjson.FieldError](err)
		switch {
		case ok && strings.HasPrefix(err.Error(), "duplicate"): // the library has no other way to tell
			err = fmt.Errorf("%s: is given twice; keep one", wrong.FieldPath())
		case ok:
			err = fmt.Errorf("%s: unknown field of %s; correct or remove it", wrong.FieldPath(), PortClaimsKind)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Default fills in what a leaves open, as the configuration file does.
func (a *PortClaimsArgs) Default() {
	orElse(&a.APIVersion, APIVersion)
	orElse(&a.Kind, PortClaimsKind)
	c := a.Configuration()
	a.NodeReserved, a.TrustedNamespaces, a.DataPlane = c.NodeReserved, c.TrustedNamespaces, c.DataPlane
}

// Validate returns everything that is wrong with a, once Default has filled it in.
func (a *PortClaimsArgs) Validate() field.ErrorList {
	errs := oneOf(field.NewPath("apiVersion"), a.APIVersion, APIVersion)
	errs = append(errs, oneOf(field.NewPath("kind"), a.Kind, PortClaimsKind)...)
	return append(errs, a.Configuration().Validate()...)
}

// Configuration returns the configuration that says the same, with the defaults for everything else.
func (a *PortClaimsArgs) Configuration() *PortcullisConfiguration {
	c := &PortcullisConfiguration{NodeReserved: a.NodeReserved, TrustedNamespaces: a.TrustedNamespaces, DataPlane: a.DataPlane}
	c.Default()
	return c
}
