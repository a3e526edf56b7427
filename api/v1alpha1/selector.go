package v1alpha1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// LabelSelector selects objects by their labels. matchLabels and matchExpressions must all match; an empty selector,
// {}, selects everything.
//
// It is written as the selectors of Kubernetes' own kinds are. Unlike those in most custom resources it is validated
// in full when it is written, so that a mistyped operator is refused and does not select nothing in silence. matchLabels
// without a label are refused for the same reason: the API server drops labels whose value is null, as templates write
// them where a value is missing, and {} would select everything.
// +structType=atomic
type LabelSelector struct {
	// matchLabels are labels that an object must have, with these values.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="matchLabels has a key that no label can have; write a name of at most 63 letters, digits, '-', '_' and '.', if need be after a domain and '/'"
	// +optional
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`
	// matchExpressions are further conditions on an object's labels.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelSelectorRequirement is a condition on one label.
// +kubebuilder:validation:XValidation:rule="(has(self.values) && self.values.size() > 0) == (self.operator in ['In', 'NotIn'])",fieldPath=".values",message="values must be given for the operators In and NotIn, and for no other; add values, or change the operator"
type LabelSelectorRequirement struct {
	// key is the label's.
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="!format.qualifiedName().validate(self).hasValue()",message="key is one that no label can have; write a name of at most 63 letters, digits, '-', '_' and '.', if need be after a domain and '/'"
	// +required
	Key string `json:"key"`
	// operator says how the label must relate to values: In, NotIn, Exists or DoesNotExist.
	// +required
	Operator LabelSelectorOperator `json:"operator"`
	// values are those that In and NotIn compare with. The other operators have none.
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Values []LabelValue `json:"values,omitempty"`
}

// LabelSelectorOperator says how a label must relate to a requirement's values.
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type LabelSelectorOperator string

// The operators, with the meaning that they have everywhere in Kubernetes.
const (
	OperatorIn           LabelSelectorOperator = "In"
	OperatorNotIn        LabelSelectorOperator = "NotIn"
	OperatorExists       LabelSelectorOperator = "Exists"
	OperatorDoesNotExist LabelSelectorOperator = "DoesNotExist"
)

// LabelValue is a value that a label can have.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="!format.labelValue().validate(self).hasValue()",message="is a value that no label can have; write at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
type LabelValue string

// AsSelector returns the selector that s describes. No selector, nil, selects nothing. The error says what is wrong
// with a selector that the API server has not seen.
func (s *LabelSelector) AsSelector() (labels.Selector, error) {
	if s == nil {
		return labels.Nothing(), nil
	}
	m := &metav1.LabelSelector{MatchLabels: make(map[string]string, len(s.MatchLabels))}
	for key, value := range s.MatchLabels {
		m.MatchLabels[key] = string(value)
	}
	for _, e := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		m.MatchExpressions = append(m.MatchExpressions, r)
	}
	selector, err := metav1.LabelSelectorAsSelector(m)
	if err != nil {
		return nil, fmt.Errorf("is no label selector: %w", err)
	}
	return selector, nil
}
