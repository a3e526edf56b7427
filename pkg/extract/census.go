package extract

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Number is a number that a Service has of the API server's book of node ports.
type Number struct {
	Port     uint16
	Protocol ports.Protocol
	Name     string // of the entry; v1alpha1.HealthCheckPortName for the healthCheckNodePort
	Entry    int    // in spec.ports; -1 for the healthCheckNodePort
}

// Field is where the number stands.
func (n Number) Field() string {
	if n.Entry < 0 {
		return healthCheckField
	}
	return nodePortField(n.Entry)
}

const healthCheckField = "spec.healthCheckNodePort"

func nodePortField(entry int) string { return fmt.Sprintf("spec.ports[%d].nodePort", entry) }

// Numbers returns the numbers that a Service has, each once, in the order of its entries, the healthCheckNodePort last.
func Numbers(svc *corev1.Service) []Number {
	var numbers []Number
	add := func(port int32, protocol corev1.Protocol, name string, entry int) {
		known := slices.ContainsFunc(numbers, func(n Number) bool { return int32(n.Port) == port })
		if port < 1 || port > 65535 || known {
			return
		}
		parsed, err := ports.ParseProtocol(string(protocol))
		if err != nil {
			parsed = ports.TCP // the API's default
		}
		numbers = append(numbers, Number{uint16(port), parsed, name, entry})
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		add(p.NodePort, p.Protocol, p.Name, i)
	}
	add(svc.Spec.HealthCheckNodePort, corev1.ProtocolTCP, v1alpha1.HealthCheckPortName, -1)
	return numbers
}

// Requester is a Service, or for host ports a pod, as pools see it.
func Requester(of pool.For, object metav1.Object, namespaceLabels map[string]string) pool.Requester {
	return pool.Requester{
		For: of, Namespace: object.GetNamespace(), Name: object.GetName(), NamespaceLabels: namespaceLabels, Labels: object.GetLabels(),
	}
}

// Count adds to a census what a Service, a pod or a PortClaim says of numbers; other objects say nothing. Each number of a holder
// counts once. A pod's ports on the host network are no hostPorts, and only in the way. The nodePort of an ExternalName is not held:
// the API server stores it, and allocates it to nobody. labelsOf returns those of a namespace.
func Count(c *pool.Census, object runtime.Object, labelsOf func(namespace string) map[string]string) {
	switch o := object.(type) {
	case *corev1.Service:
		if o.Spec.Type == corev1.ServiceTypeExternalName {
			return
		}
		who := holder(pool.NodePorts, o, labelsOf)
		for _, n := range Numbers(o) {
			c.Add(pool.Holding{Requester: who, Port: n.Port, Protocol: n.Protocol, Field: n.Field(), UID: string(o.UID), Since: o.CreationTimestamp.Time})
		}
	case *corev1.Pod:
		countPod(c, o, labelsOf)
	case *v1alpha1.PortClaim:
		c.AddClaim(uint16(o.Spec.Port), pool.Claim{
			Pool: o.Spec.Pool, IsReleased: o.Status.Phase == v1alpha1.ClaimReleased, ServiceUID: o.Status.ServiceUID,
		})
	}
}

// holder is a requester that is called as its owner in the ledger is: in "default" if it names no namespace.
func holder(of pool.For, object metav1.Object, labelsOf func(namespace string) map[string]string) pool.Requester {
	who := Requester(of, object, labelsOf(namespaceOf(object)))
	who.Namespace, who.Name = namespaceOf(object), nameOf(object)
	return who
}

func countPod(c *pool.Census, pod *corev1.Pod, labelsOf func(namespace string) map[string]string) {
	who := holder(pool.HostPorts, pod, labelsOf)
	known := map[uint16]bool{}
	for _, claim := range Pod(pod, nil, nil).Claims {
		switch {
		case claim.Kind != ports.HostPort:
			c.Occupy(claim.Port)
		case !known[claim.Port]:
			known[claim.Port] = true
			c.Add(pool.Holding{Requester: who, Port: claim.Port, Protocol: claim.Protocol, Field: claim.Field, UID: string(pod.UID), Since: Started(pod)})
		}
	}
}

// Started is since when a pod has run, as far as it is known.
func Started(pod *corev1.Pod) time.Time {
	if pod.Status.StartTime != nil {
		return pod.Status.StartTime.Time
	}
	return pod.CreationTimestamp.Time
}

// Phase is the phase of a claim: one that the leader has not looked at yet is Requested.
func Phase(claim *v1alpha1.PortClaim) v1alpha1.ClaimPhase {
	return cmp.Or(claim.Status.Phase, v1alpha1.ClaimRequested)
}
