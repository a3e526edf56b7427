package check

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Gap is a number that a Service leaves out and will be given.
type Gap struct {
	Kind  ports.Kind
	Field string // the path of the first entry that lacks it
	Key   string // tells it from the Service's others: pool.Gap's
}

// Gaps returns the numbers that a Service will be given, in the order of its entries, the healthCheckNodePort last. What
// an update leaves out it keeps: by the name of the port, as the API server does, or by its number, as client-side apply
// does before that. previous is nil for a new Service.
func Gaps(service, previous *Service) []Gap {
	if previous == nil {
		previous = &Service{}
	}
	e := newEdit(service, previous)
	keeps := func(entries []int) bool {
		return slices.ContainsFunc(entries, func(i int) bool {
			p := service.Ports[i]
			return e.kept(p) != 0 || e.byPort[number{p.Port, p.Protocol}].NodePort != 0
		})
	}
	lacksHealthCheck := service.Type == "LoadBalancer" && service.ExternalTrafficPolicy == "Local" &&
		service.HealthCheckNodePort == 0 && previous.HealthCheckNodePort == 0
	var gaps []Gap
	for _, g := range pool.Gaps(service.Ports, lacksHealthCheck) {
		switch {
		case g.Port == 0:
			gaps = append(gaps, Gap{ports.HealthCheckNodePort, "spec.healthCheckNodePort", g.Key()})
		case service.getsNodePorts() && g.Number == 0 && !keeps(g.Entries):
			gaps = append(gaps, Gap{ports.NodePort, nodePortField(g.Entries[0]), g.Key()})
		}
	}
	return gaps
}
