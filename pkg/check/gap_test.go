package check_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// TestGapsOfUpdates: what an update leaves out and keeps is no gap; what it loses is one.
func TestGapsOfUpdates(t *testing.T) {
	for _, c := range []struct {
		why, old, now string
		want          []check.Gap
	}{
		{"kept by name, in another order", "Service a NodePort x=80:30000/TCP y=81:30001/TCP", "Service a LoadBalancer y=91/TCP x=90/TCP", nil},
		{"not kept by name where none were allocated", "Service a LoadBalancer x=80:30000/TCP unallocated", "Service a NodePort x=81/TCP", []check.Gap{{ports.NodePort, "spec.ports[0].nodePort", "81"}}},
		{"kept by port where none were allocated", "Service a LoadBalancer x=80:30000/TCP unallocated", "Service a NodePort x=80/TCP", nil},
		{"not kept where another port has it now", "Service a NodePort x=80:30000/TCP", "Service a NodePort x=81/TCP y=82:30000/TCP", []check.Gap{{ports.NodePort, "spec.ports[0].nodePort", "81"}}},
		{"a health check that a NodePort did not need", "Service a NodePort 80:30000/TCP policy:Local", "Service a LoadBalancer 80:30000/TCP policy:Local",
			[]check.Gap{{ports.HealthCheckNodePort, "spec.healthCheckNodePort", "healthCheckNodePort"}}},
		{"a health check that Cluster did not need", "Service a LoadBalancer 80:30000/TCP policy:Cluster", "Service a LoadBalancer 80:30000/TCP policy:Local",
			[]check.Gap{{ports.HealthCheckNodePort, "spec.healthCheckNodePort", "healthCheckNodePort"}}},
		{"a health check that nothing needs any more", "Service a LoadBalancer 80:30000/TCP policy:Local health:30001", "Service a NodePort 80:30000/TCP policy:Local", nil},
		{"a health check that it has, where none were allocated", "Service a LoadBalancer 80/TCP unallocated policy:Local health:30001", "Service a LoadBalancer 80:30000/TCP policy:Local", nil},
	} {
		now, _ := mustObject(c.now)
		old, _ := mustObject(c.old)
		if diff := cmp.Diff(c.want, check.Gaps(now, old)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.why, diff)
		}
	}
}
