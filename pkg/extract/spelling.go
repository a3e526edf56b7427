package extract

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

func protocols() []corev1.Protocol {
	return []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
}

func serviceTypes() []corev1.ServiceType {
	return []corev1.ServiceType{
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName,
	}
}

// misspelled adds a value to a list if the API knows it in another case only.
func misspelled[T ~string](list []check.Misspelled, field string, value T, known ...T) []check.Misspelled {
	for _, k := range known {
		if value != k && strings.EqualFold(string(value), string(k)) {
			return append(list, check.Misspelled{Field: field, Value: string(value), Known: string(k)})
		}
	}
	return list
}

// asKnown returns a value as the API spells it.
func asKnown[T ~string](value T, known ...T) T {
	for _, k := range known {
		if strings.EqualFold(string(value), string(k)) {
			return k
		}
	}
	return value
}

// misspelledIn finds the values of a Service that the API server refuses for their case.
func misspelledIn(svc *corev1.Service) []check.Misspelled {
	spec := &svc.Spec
	list := misspelled(nil, "spec.type", spec.Type, serviceTypes()...)
	list = misspelled(list, "spec.externalTrafficPolicy", spec.ExternalTrafficPolicy,
		corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceExternalTrafficPolicyCluster)
	if p := spec.InternalTrafficPolicy; p != nil {
		list = misspelled(list, "spec.internalTrafficPolicy", *p, corev1.ServiceInternalTrafficPolicyLocal, corev1.ServiceInternalTrafficPolicyCluster)
	}
	list = misspelled(list, "spec.sessionAffinity", spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	if p := spec.IPFamilyPolicy; p != nil {
		list = misspelled(list, "spec.ipFamilyPolicy", *p,
			corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)
	}
	for i, f := range spec.IPFamilies {
		list = misspelled(list, fmt.Sprintf("spec.ipFamilies[%d]", i), f, corev1.IPv4Protocol, corev1.IPv6Protocol)
	}
	for i := range spec.Ports {
		list = misspelled(list, fmt.Sprintf("spec.ports[%d].protocol", i), spec.Ports[i].Protocol, protocols()...)
	}
	return list
}
