package extract

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// Annotations of a pod, or of a pod template, that ask for host ports by the names of container ports, and of a pod that
// say which it was given.
const (
	HostPortAnnotation         = "portcullis.dev/host-port."          // with the name of a port; the value is auto, or a pool's name
	AssignedHostPortAnnotation = "portcullis.dev/assigned-host-port." // with the name of a port; the value is the number
	AnyPool                    = "auto"
)

// HostPortPlace is where a port stands in a pod.
type HostPortPlace struct {
	List            string // containers or initContainers
	Container, Port int
}

// Of returns the port in pod.
func (p HostPortPlace) Of(pod *corev1.Pod) *corev1.ContainerPort {
	containers := pod.Spec.Containers
	if p.List == "initContainers" {
		containers = pod.Spec.InitContainers
	}
	return &containers[p.Container].Ports[p.Port]
}

// HostPortPlaces returns where ports of a name stand in the containers and sidecars of a pod.
func HostPortPlaces(spec *corev1.PodSpec, name string) []HostPortPlace {
	var places []HostPortPlace
	add := func(list string, containers []corev1.Container) {
		for i, c := range containers {
			if list == "initContainers" && !isSidecar(&c) {
				continue
			}
			for j, p := range c.Ports {
				if p.Name == name {
					places = append(places, HostPortPlace{list, i, j})
				}
			}
		}
	}
	add("initContainers", spec.InitContainers)
	add("containers", spec.Containers)
	return places
}

// hostPortRequests returns what annotations ask for, sorted by the names of the ports. root is the path of the metadata.
func hostPortRequests(annotations map[string]string, spec *corev1.PodSpec, root string) []check.HostPortRequest {
	var requests []check.HostPortRequest
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, HostPortAnnotation)
		if !ok {
			continue
		}
		r := check.HostPortRequest{Name: name, Field: fmt.Sprintf("%s.annotations[%s]", root, key), Ports: len(HostPortPlaces(spec, name))}
		if pool := annotations[key]; pool != AnyPool {
			r.Pool = pool
		}
		requests = append(requests, r)
	}
	return requests
}
