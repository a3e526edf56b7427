package webhook

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
)

// TestVerdictMetric: every answer is counted once, by webhook, operation, verdict and dry run.
func TestVerdictMetric(t *testing.T) {
	free, held := nodePortService("a", 30002), nodePortService("a", 30001)
	for _, c := range []struct {
		name   string
		config string
		path   string
		req    admissionv1.AdmissionRequest
		labels []string // hook, operation, verdict, dry_run
	}{
		{"allowed", "", hooks.PathMutateServices, creates("Service", free), []string{"mutate-services", "create", "allow", "false"}},
		{"allowed on update", "", hooks.PathMutateServices, updates("Service", free, free), []string{"mutate-services", "update", "allow", "false"}},
		{"dry run", "", hooks.PathMutateServices, dryRun(creates("Service", free)), []string{"mutate-services", "create", "allow", "true"}},
		{"denied", "", hooks.PathMutateServices, creates("Service", held), []string{"mutate-services", "create", "deny", "false"}},
		{"denied by the validating webhook", "", hooks.PathValidateServices, creates("Service", held), []string{"validate-services", "create", "deny", "false"}},
		{"warned", "", hooks.PathValidatePods, creates("Pod", hostPortPod("p", 30009)), []string{"validate-pods", "create", "warn", "false"}},
		{"mutating", "", hooks.PathMutatePods, creates("Pod", hostPortPod("p", 8080)), []string{"mutate-pods", "create", "allow", "false"}},
		{"template", "", hooks.PathValidateWorkload, creates("Job", workload("Job", "j", 10250)), []string{"validate-workloads", "create", "deny", "false"}},
		{"malformed", "", hooks.PathValidateWorkload, creates("Job", "{"), []string{"validate-workloads", "create", "could_not_tell", "false"}},
		{"binding", "", hooks.PathValidateBindings, creates("Binding", `{"target":{"name":"n1"}}`), []string{"validate-bindings", "create", "allow", "false"}},
		{"an operation that nobody knows", "", hooks.PathValidateWorkload, request("Job", "EXPLODE", workload("Job", "j", 10250), nil), []string{"validate-workloads", "other", "allow", "false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config).holds(nodePortService("b", 30001))
			b.ask(t, c.path, c.req)
			if n := testutil.ToFloat64(b.metrics.verdicts.WithLabelValues(c.labels...)); n != 1 {
				t.Errorf("%v is %v", c.labels, n)
			}
			if n := testutil.CollectAndCount(b.metrics.verdicts); n != 1 {
				t.Errorf("%d series, want one", n)
			}
			if n := testutil.CollectAndCount(b.metrics.duration); n != 1 {
				t.Errorf("%d durations, want one", n)
			}
		})
	}
}

// TestVerdictMetricWhileIncomplete: an answer without a look at the object is counted, too.
func TestVerdictMetricWhileIncomplete(t *testing.T) {
	b := newBench(t, "")
	b.cluster.incomplete = true
	b.ask(t, hooks.PathMutatePods, creates("Pod", hostPortPod("p", 8080)))
	if n := testutil.ToFloat64(b.metrics.verdicts.WithLabelValues("mutate-pods", "create", "could_not_tell", "false")); n != 1 {
		t.Errorf("%v", n)
	}
}

// TestFindingMetric: findings are counted by webhook, code and what is done about them.
func TestFindingMetric(t *testing.T) {
	for _, c := range []struct {
		name, config string
		req          admissionv1.AdmissionRequest
		want         string
	}{
		{"denied", "", creates("Service", nodePortService("a", 30001)), `code="PC0201",enforcement="deny"`},
		{"warned", "enforcement: {PC0201: Warn}\n", creates("Service", nodePortService("a", 30001)), `code="PC0201",enforcement="warn"`},
		{"audited", "enforcement: {PC0201: Audit}\n", creates("Service", nodePortService("a", 30001)), `code="PC0201",enforcement="audit"`},
		{"from before", "", updates("Service", nodePortService("a", 30001), nodePortService("a", 30001)), `code="PC0201",enforcement="warn"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config).holds(nodePortService("b", 30001))
			b.ask(t, hooks.PathMutateServices, c.req)
			const name = "portcullis_admission_findings_total"
			want := "# HELP " + name + " Findings in admission reviews by hook, code and enforcement.\n# TYPE " + name + " counter\n" +
				name + "{" + c.want + `,hook="mutate-services"} 1` + "\n"
			if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), name); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAllocationMetric: each nodePort that is to be chosen is counted by whether there was one.
func TestAllocationMetric(t *testing.T) {
	full := []pool.Pool{portPool("pool", "30001", warns)}
	for _, c := range []struct {
		name                string
		config              string
		pools               []pool.Pool
		req                 admissionv1.AdmissionRequest
		assigned, exhausted float64
	}{
		{"assigned", oneFree, nil, creates("Service", nodePortService("a", 0)), 1, 0},
		{"one of two", oneFree, nil, creates("Service", nodePortService("a", 0, 0)), 1, 1},
		{"explicit", oneFree, nil, creates("Service", nodePortService("a", 30002)), 0, 0},
		{"dry run", oneFree, nil, dryRun(creates("Service", nodePortService("a", 0))), 0, 0},
		{"left to the API server", "allocateFrom: none\n", nil, creates("Service", nodePortService("a", 0)), 0, 0},
		{"the pool is full", "allocateFrom: none\n", full, creates("Service", nodePortService("a", 0)), 0, 1},
		{"denied", oneFree, nil, creates("Service", nodePortService("a", 30001, 0)), 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config).holds(nodePortService("b", 30001))
			b.cluster.pools = c.pools
			b.ask(t, hooks.PathMutateServices, c.req)
			assigned := testutil.ToFloat64(b.metrics.allocations.WithLabelValues("assigned"))
			exhausted := testutil.ToFloat64(b.metrics.allocations.WithLabelValues("exhausted"))
			if assigned != c.assigned || exhausted != c.exhausted {
				t.Errorf("%v assigned, %v exhausted", assigned, exhausted)
			}
		})
	}
}

// TestProbeIsCounted: a self-test is counted as what it was answered.
func TestProbeIsCounted(t *testing.T) {
	b := newBench(t, "enforcement: {PC0302: Audit}\n")
	object := workload("Deployment", "d", 10250)
	with(object.(*appsv1.Deployment), func(d *appsv1.Deployment) { d.Annotations = map[string]string{v1alpha1.ProbeAnnotation: "true"} })
	b.ask(t, hooks.PathValidateWorkload, dryRun(creates("Deployment", object)))
	if n := testutil.ToFloat64(b.metrics.findings.WithLabelValues("validate-workloads", "PC0302", "deny")); n != 1 {
		t.Errorf("%v", n)
	}
}

// TestRefusedMetric: what is rejected before it is read is counted by status.
func TestRefusedMetric(t *testing.T) {
	registry := prometheus.NewRegistry()
	NewRefusedMetric(registry).WithLabelValues("404").Add(2)
	if n, err := testutil.GatherAndCount(registry, "portcullis_http_refused_total"); err != nil || n != 1 {
		t.Errorf("%d series, %v", n, err)
	}
}

// TestBuildMetric: the version is a label of a series that is always 1.
func TestBuildMetric(t *testing.T) {
	registry := prometheus.NewRegistry()
	NewBuildMetric(registry, "v1.2.3")
	want := "# HELP portcullis_build_info Always 1, with the version of the program.\n# TYPE portcullis_build_info gauge\nportcullis_build_info{version=\"v1.2.3\"} 1\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
