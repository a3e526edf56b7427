package webhook

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// giveHostPorts gives a pod the host ports that its annotations ask for, in pod and as patches. What cannot be met is a
// finding.
func (h *Handlers) giveHostPorts(pod *corev1.Pod, w *check.Workload, state *ledger.Snapshot) (patches []jsonpatch.JsonPatchOperation, findings []check.Finding) {
	if pod.Spec.HostNetwork {
		return nil, nil // its ports are those that it listens on
	}
	who := extract.Requester(pool.HostPorts, pod, h.cluster.NamespaceLabels(pod.Namespace))
	if w.Eligible == nil { // not known, or the one node that the pod can only be on
		w.Eligible = h.cluster.Eligible(extract.PlacementOf(&pod.Spec, false))
	}
	for _, request := range w.Requests {
		places := extract.HostPortPlaces(&pod.Spec, request.Name)
		lacking := slices.DeleteFunc(slices.Clone(places), func(p extract.HostPortPlace) bool { return p.Of(pod).HostPort != 0 })
		if len(lacking) == 0 {
			continue
		}
		number, err := h.hostPortFor(pod, w, who, request, places, state)
		if err != nil {
			findings = append(findings, check.RequestFinding(w.Owner.Ref, request, err))
			continue
		}
		for _, p := range lacking {
			p.Of(pod).HostPort = int32(number)
			at := "/spec/" + p.List + "/" + strconv.Itoa(p.Container) + "/ports/" + strconv.Itoa(p.Port) + "/hostPort"
			patches = append(patches, jsonpatch.NewOperation("add", at, int32(number)))
		}
		assigned := annotationPath(extract.AssignedHostPortAnnotation + request.Name)
		patches = append(patches, jsonpatch.NewOperation("add", assigned, strconv.Itoa(int(number))))
	}
	return patches, findings
}

// removeFalseAssignments removes the annotations that report an assigned host port which no port of that name has: a client
// wrote them. Patches that assign host ports come after these.
func removeFalseAssignments(pod *corev1.Pod) (patches []jsonpatch.JsonPatchOperation) {
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		name, ok := strings.CutPrefix(key, extract.AssignedHostPortAnnotation)
		if !ok {
			continue
		}
		has := func(p extract.HostPortPlace) bool {
			port := p.Of(pod).HostPort
			return port != 0 && strconv.Itoa(int(port)) == pod.Annotations[key]
		}
		if !slices.ContainsFunc(extract.HostPortPlaces(&pod.Spec, name), has) {
			patches = append(patches, jsonpatch.NewOperation("remove", annotationPath(key), nil))
		}
	}
	return patches
}

// annotationPath is the JSON pointer to an annotation.
func annotationPath(key string) string {
	return "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// hostPortFor chooses one number for all ports of a name. One that another port of the name has already is taken over.
func (h *Handlers) hostPortFor(pod *corev1.Pod, w *check.Workload, who pool.Requester, request check.HostPortRequest, places []extract.HostPortPlace, state *ledger.Snapshot) (uint16, error) {
	var protocols []ports.Protocol
	for _, p := range places {
		port := p.Of(pod)
		if port.HostPort > 0 && port.HostPort <= 65535 {
			return uint16(port.HostPort), nil
		}
		protocol := ports.TCP
		if port.Protocol != "" {
			var err error
			if protocol, err = ports.ParseProtocol(string(port.Protocol)); err != nil {
				return 0, err
			}
		}
		protocols = append(protocols, protocol)
	}
	room := roomFor{state, w, protocols}
	r := pool.Request{Requester: who, Wants: []string{request.Name}, From: request.Pool, Random: h.random(), Has: hostPortsOf(pod),
		InNamespace: once(func(m *pool.Member) int { return check.HostPortsOf(state, &w.Owner, m) })}
	var err error
	for _, least := range room.levels() {
		r.Book = func(port uint16) pool.Use {
			if room.nodes(port) < least {
				return pool.Foreign
			}
			return pool.Free
		}
		var choice pool.Choice
		if choice, err = h.cluster.Pools().Choose(r); err == nil {
			h.metrics.allocations.WithLabelValues("assigned").Inc()
			return choice.Numbers[0], nil
		}
	}
	h.metrics.allocations.WithLabelValues("exhausted").Inc()
	return 0, err
}

// roomFor counts on how many of the nodes that a pod may run on a number is free.
type roomFor struct {
	state     *ledger.Snapshot
	pod       *check.Workload
	protocols []ports.Protocol
}

// levels are the numbers of nodes with which to be content, one after the other: all, then most, then any.
func (r roomFor) levels() []int {
	all := max(1, len(r.pod.Eligible))
	levels := []int{all, all/2 + 1, 1}
	return slices.Compact(levels)
}

// nodes returns on how many of the pod's nodes nobody holds a number; 1 or 0 where the nodes are not known. A pod that
// has no node yet may be on any of them.
func (r roomFor) nodes(port uint16) int {
	taken, undecided := map[string]bool{}, 0
	for _, protocol := range r.protocols {
		for _, c := range r.state.Holders(ports.Socket{Address: ports.AllAddresses(), Protocol: protocol, Port: port}) {
			if !c.Kind.OfPod() {
				return 0
			}
			nodes := c.Scope.Nodes()
			if node, ok := c.Scope.Node(); ok {
				nodes = []string{node}
			}
			switch {
			case c.Scope.Kind == ports.Everywhere:
				return 0
			case nodes == nil && c.Owner.Kind == "Pod":
				undecided++
			}
			for _, node := range nodes {
				taken[node] = true
			}
		}
	}
	if len(r.pod.Eligible) == 0 {
		return max(0, 1-len(taken)-undecided)
	}
	free := 0
	for _, node := range r.pod.Eligible {
		if !taken[node] {
			free++
		}
	}
	return max(0, free-undecided)
}

// hostPortsOf are the host ports that a pod has.
func hostPortsOf(pod *corev1.Pod) []uint16 {
	var numbers []uint16
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, p := range containers[i].Ports {
				if p.HostPort > 0 && p.HostPort <= 65535 {
					numbers = append(numbers, uint16(p.HostPort))
				}
			}
		}
	}
	return numbers
}

// once asks f about each pool once.
func once(f func(*pool.Member) int) func(*pool.Member) int {
	known := map[*pool.Member]int{}
	return func(m *pool.Member) int {
		if _, is := known[m]; !is {
			known[m] = f(m)
		}
		return known[m]
	}
}
