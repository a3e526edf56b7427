package extract_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func TestPool(t *testing.T) {
	const whole = `{
  metadata: {name: p, creationTimestamp: "2026-01-01T00:00:00Z"},
  spec: {
    ranges: [{port: 30100, endPort: 30199}, {port: 30050}], namespaceSelector: {matchLabels: {team: a}}, serviceSelector: {matchLabels: {expose: edge}},
    priority: 0, allocation: {mode: Explicit, strategy: Random, reuseDelay: 0s, explicitOnly: [{port: 30100, endPort: 30103}]}, sharing: Shared,
    limits: {perNamespace: 20, perService: 4}, state: Draining, enforcement: Deny}}`
	p, err := extract.Pool(mustRead[v1alpha1.PortPool](whole))
	if err != nil {
		t.Fatal(err)
	}
	want := pool.Pool{
		Name: "p", Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), For: pool.NodePorts,
		Ranges: ports.Ranges{{First: 30050, Last: 30050}, {First: 30100, Last: 30199}}, ExplicitOnly: ports.Ranges{{First: 30100, Last: 30103}},
		Mode: pool.Explicit, Strategy: pool.Random, PerNamespace: 20, PerService: 4, State: pool.Draining, Enforcement: pool.Deny,
		Namespaces: p.Namespaces, Services: p.Services,
	}
	if diff := cmp.Diff(want, p, bySelector()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.Namespaces.String() != "team=a" || !p.Services.Matches(map[string]string{"expose": "edge"}) || p.Services.Matches(nil) {
		t.Errorf("selects %s and %s", p.Namespaces, p.Services)
	}
}

// TestPoolDefaults are those of the API server. Without a selector for Services all are served.
func TestPoolDefaults(t *testing.T) {
	object := mustRead[v1alpha1.PortPool]("{metadata: {name: p}, spec: {ranges: [{port: 30000}], namespaceSelector: {}}}")
	before := object.DeepCopy()
	p, err := extract.Pool(object)
	want := pool.Pool{
		Name: "p", For: pool.NodePorts, Ranges: ports.Ranges{{First: 30000, Last: 30000}}, Priority: 500, Mode: pool.Auto, Strategy: pool.Hashed,
		ReuseDelay: 10 * time.Minute, Exclusive: true, State: pool.Active, Enforcement: pool.Audit, Namespaces: p.Namespaces,
	}
	if diff := cmp.Diff(want, p, bySelector()); diff != "" || err != nil || p.Services != nil || p.Namespaces.String() != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(before, object); diff != "" {
		t.Errorf("the object is written to (-before +after):\n%s", diff)
	}
}

func TestPoolErrors(t *testing.T) {
	const bad = "{matchExpressions: [{key: a, operator: in, values: [b]}]}"
	for spec, want := range map[string]string{
		"ranges: [{port: 1}, {port: 2, endPort: 1}], namespaceSelector: {}":                   "spec.ranges: [1]: 2-1 is not a range of ports",
		"ranges: [{port: 70000}], namespaceSelector: {}":                                      "spec.ranges: [0]: 70000-70000 is not a range of ports",
		"ranges: [{port: 1}], namespaceSelector: {}, allocation: {explicitOnly: [{port: 0}]}": "spec.allocation.explicitOnly: [0]: ",
		"ranges: [{port: 1}], namespaceSelector: " + bad:                                      "spec.namespaceSelector: is no label selector",
		"ranges: [{port: 1}], namespaceSelector: {}, serviceSelector: " + bad:                 "spec.serviceSelector: is no label selector",
	} {
		object := mustRead[v1alpha1.PortPool]("{metadata: {name: p}, spec: {" + spec + "}}")
		if _, err := extract.Pool(object); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
	}
}

// TestLabels: what pools and policies select by is in the objects that are judged; of a template it is its pods'.
func TestLabels(t *testing.T) {
	service := extract.Service(mustRead[corev1.Service]("{metadata: {name: a, labels: {app: s}}}"), extract.NodePortAddresses{})
	pod := extract.Pod(mustRead[corev1.Pod]("{metadata: {name: a, labels: {app: p}}}"), nil, nil)
	deployment, _ := extract.Workload(mustRead[appsv1.Deployment]("{metadata: {name: a, labels: {app: d}}, spec: {template: {metadata: {labels: {app: t}}}}}"), nil, nil)
	cronJob, _ := extract.Workload(mustRead[batchv1.CronJob](
		"{metadata: {name: a, labels: {app: c}}, spec: {jobTemplate: {metadata: {labels: {app: j}}, spec: {template: {metadata: {labels: {app: t}}}}}}}"), nil, nil)
	got := []string{service.Labels["app"], pod.Labels["app"], deployment.Labels["app"], cronJob.Labels["app"]}
	if diff := cmp.Diff([]string{"s", "p", "t", "t"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestOfferFrom: numbers that are to be written are offered from the configured ranges, else from the static band first.
func TestOfferFrom(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "[30000-30085 30086-32767]",
		"allocateFrom: none":         "[30000-30085 30086-32767]",
		"allocateFrom: 31000-31009":  "[31000-31009]",
		"nodePortRange: 30000-30009": "[30000-30009]",
	} {
		s, err := extract.NewSettings(mustConfigure(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint([]ports.Range(s.Check.OfferFrom)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
