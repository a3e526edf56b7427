package extract

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Pod returns a pod with its claims. They lie on its node, if that is certain: by spec.nodeName, by the hostname that it
// selects, or by the node affinity with which the DaemonSet controller makes each of its pods. A pod that is finished claims
// nothing; one that is terminating holds until it is gone. nodes and trusted are as for Workload.
func Pod(pod *corev1.Pod, nodes EligibleNodes, trusted []string) *check.Workload {
	w := &check.Workload{Owner: Owner(coreKind("Pod"), pod, trusted), Labels: pod.Labels, IsPod: true}
	w.IsTrusted = slices.Contains(trusted, w.Owner.Namespace)
	w.Requests = hostPortRequests(pod.Annotations, &pod.Spec, "metadata")
	placement := PlacementOf(&pod.Spec, false)
	w.Selection = placement
	scope := ports.Scope{}
	if node, ok := nodeOf(pod); ok {
		scope = ports.NodeScope(node)
	} else if nodes != nil {
		placement := PlacementOf(&pod.Spec, false)
		w.Eligible = nodes.Eligible(placement)
		if node, ok := placement.node(w.Eligible); ok {
			scope = ports.NodeScope(node)
		}
	} else if host := hostOf(&pod.Spec); host != "" {
		scope = ports.NodeScope(host)
	}
	if !IsFinished(pod) {
		podSpec{w, "spec", scope, false}.add(&pod.Spec)
	}
	return w
}

// IsFinished reports whether a pod has ended: its ports are free although it still exists.
func IsFinished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// MayClaim reports whether a pod names a port of its node at all. It allocates nothing, for whoever looks at many pods
// of which few do: of the others Pod finds no claims.
func MayClaim(pod *corev1.Pod) bool {
	for _, list := range [...][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for j := range list[i].Ports {
				if list[i].Ports[j].HostPort != 0 || pod.Spec.HostNetwork {
					return true
				}
			}
		}
	}
	return false
}

// IsMirror reports whether a pod is the API server's image of a static pod, which refusing does not stop.
func IsMirror(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror
}

// nodeOf returns the node that a pod is on or can only be on.
func nodeOf(pod *corev1.Pod) (string, bool) {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName, true
	}
	return requiredNode(pod.Spec.Affinity)
}

// requiredNode returns the one node that an affinity names by its field metadata.name, as that of a DaemonSet's pods does.
func requiredNode(affinity *corev1.Affinity) (string, bool) {
	terms := requiredTerms(affinity)
	if len(terms) == 0 {
		return "", false
	}
	node := ""
	for _, term := range terms { // the terms are alternatives: all of them must name the same node
		name, ok := namedNode(term)
		if !ok || (node != "" && name != node) {
			return "", false
		}
		node = name
	}
	return node, true
}

// requiredTerms are the alternatives of which a node must meet one; none where any node will do.
func requiredTerms(affinity *corev1.Affinity) []corev1.NodeSelectorTerm {
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

func namedNode(term corev1.NodeSelectorTerm) (string, bool) {
	for _, f := range term.MatchFields {
		if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
			return f.Values[0], true
		}
	}
	return "", false
}

// podSpec adds the claims of a pod's spec, found at path, to a workload.
type podSpec struct {
	to    *check.Workload
	path  string
	scope ports.Scope
	idle  bool
}

func (s podSpec) add(spec *corev1.PodSpec) {
	s.to.HostNetwork, s.to.HostNetworkField = spec.HostNetwork, s.path+".hostNetwork"
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		sidecar := isSidecar(c)
		s.addContainer(c, fmt.Sprintf("%s.initContainers[%d]", s.path, i), ports.Claim{InitOnly: !sidecar, Sidecar: sidecar})
	}
	for i := range spec.Containers {
		s.addContainer(&spec.Containers[i], fmt.Sprintf("%s.containers[%d]", s.path, i), ports.Claim{})
	}
	if spec.HostNetwork {
		s.addProbed(spec)
	}
}

func (s podSpec) addContainer(c *corev1.Container, path string, like ports.Claim) {
	s.to.Containers = append(s.to.Containers, c.Name)
	s.to.OneKey = append(s.to.OneKey, oneKeys(c.Ports, path)...)
	for i := range c.Ports {
		p := &c.Ports[i]
		if _, err := ports.ParseProtocol(string(orTCP(p.Protocol))); err != nil { // else the path need not be made
			s.to.Misspelled = misspelled(s.to.Misspelled, fmt.Sprintf("%s.ports[%d].protocol", path, i), p.Protocol, protocols()...)
		}
		claim := like
		claim.Owner, claim.Scope, claim.Idle = &s.to.Owner, s.scope, s.idle
		if !s.fill(&claim, p, fmt.Sprintf("%s.ports[%d]", path, i)) {
			continue
		}
		address, err := ports.ParseAddress(p.HostIP)
		if err != nil {
			s.to.Unparsed = append(s.to.Unparsed, check.Unparsed{
				Field: fmt.Sprintf("%s.ports[%d].hostIP", path, i), Value: p.HostIP, Port: claim.PortProtocol(),
			})
			continue
		}
		if claim.Kind == ports.HostNetwork && address == ports.AllIPv6() {
			address = ports.AllAddresses() // a process that binds :: holds both families unless it says otherwise
		}
		claim.Address = address
		s.to.Claims = append(s.to.Claims, claim)
	}
}

// oneKeys finds the entries that client-side apply merges, because their containerPort is equal, where a host port is at
// stake.
func oneKeys(list []corev1.ContainerPort, path string) []check.OneKey {
	if len(list) < 2 {
		return nil
	}
	var found []check.OneKey
	first, firstMapped := map[int32]int{}, map[int32]int{} // places, counted from 1; the latter of those with a hostPort
	for i, p := range list {
		other := first[p.ContainerPort]
		if p.HostPort == 0 {
			other = firstMapped[p.ContainerPort]
		}
		if other != 0 {
			found = append(found, check.OneKey{
				Field: fmt.Sprintf("%s.ports[%d]", path, i), Other: fmt.Sprintf("%s.ports[%d]", path, other-1), Value: fmt.Sprint(p.ContainerPort),
			})
		}
		if first[p.ContainerPort] == 0 {
			first[p.ContainerPort] = i + 1
		}
		if p.HostPort > 0 && firstMapped[p.ContainerPort] == 0 {
			firstMapped[p.ContainerPort] = i + 1
		}
	}
	return found
}

// fill sets what a container port claims on the node, and reports whether it claims anything. A pod of the host
// network holds each port that it declares: its hostPort is the containerPort, which the API server writes into Pods
// but not into templates.
func (s podSpec) fill(claim *ports.Claim, p *corev1.ContainerPort, path string) bool {
	claim.Kind, claim.Field = ports.HostPort, path+".hostPort"
	number := p.HostPort
	if s.to.HostNetwork {
		claim.Kind = ports.HostNetwork
		if number == 0 {
			number, claim.Field = p.ContainerPort, path+".containerPort"
		}
	}
	protocol, err := ports.ParseProtocol(string(orTCP(p.Protocol)))
	if number < 1 || number > 65535 || err != nil {
		return false // the API server refuses it and says so well
	}
	claim.Port, claim.Protocol = uint16(number), protocol
	return true
}

func orTCP(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}
