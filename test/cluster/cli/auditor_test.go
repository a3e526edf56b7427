package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/controller/audit"
	"github.com/portcullis-k8s/portcullis/pkg/controller/leader"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	words "github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// auditing says how an auditor is run.
type auditing struct {
	reports bool
	every   time.Duration // 0: an hour, so that only changes lead to an audit
}

// auditor is one in a manager of its own, as a replica has it, with the rights that ship.
type auditor struct {
	world   *world
	metrics *prometheus.Registry
	stop    func() // and wait until it has ended; stopping twice does no harm
}

func (w *world) audit(t *testing.T, o auditing) *auditor {
	t.Helper()
	config, err := w.RESTConfigFor(rig.Account)
	if err != nil {
		t.Fatal(err)
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: w.Types, Cache: observe.CacheOptions(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := configv1alpha1.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := extract.NewSettings(defaults)
	if err != nil {
		t.Fatal(err)
	}
	if o.every == 0 {
		o.every = time.Hour
	}
	a := &auditor{world: w, metrics: prometheus.NewPedanticRegistry()}
	made, err := audit.New(manager, audit.Options{
		Settings: settings, Pools: true, Interval: o.every, MinInterval: 100 * time.Millisecond, Reports: o.reports, Instance: "test",
		Metrics: audit.NewMetrics(a.metrics), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(manager.Add(made), manager.Add(&leader.Runner{Tasks: []func(context.Context){made.Lead}})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(logf.IntoContext(context.WithoutCancel(t.Context()), logr.Discard()))
	over := make(chan error, 1)
	go func() { over <- manager.Start(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

// found returns portcullis_audit_findings, and whether there has been an audit.
func (a *auditor) found(t *testing.T) (map[string]int, bool) {
	t.Helper()
	families, err := a.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found, audited := map[string]int{}, false
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "portcullis_audit_last_success_timestamp_seconds":
				audited = m.GetGauge().GetValue() > 0
			case "portcullis_audit_findings":
				found[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = int(m.GetGauge().GetValue())
			}
		}
	}
	return found, audited
}

// expected are the findings that `portcullis audit` has about a dump, of the codes that the program looks at too.
func (w *world) expected(t *testing.T) []words.Finding {
	t.Helper()
	findings := report[words.AuditReport](t, "audit", "-f", w.dump(t)).Findings
	return slices.DeleteFunc(findings, func(f words.Finding) bool {
		return slices.Contains([]check.Code{check.TargetPortName, check.EndpointsApart, check.HostPortRequested, check.UndeclaredSockets}, check.Code(f.Code))
	})
}

// holdToDump waits until the auditor has found what the command finds in a dump.
func (a *auditor) holdToDump(t *testing.T) {
	t.Helper()
	want := map[string]int{}
	for _, f := range a.world.expected(t) {
		want[f.Code+" "+f.Severity]++
	}
	poll.Until(t, func(context.Context) error {
		got, audited := a.found(t)
		if diff := cmp.Diff(want, got); diff != "" || !audited {
			return fmt.Errorf("audited: %v, findings (-command +program):\n%s", audited, diff)
		}
		return nil
	})
}

// events returns what was told, an entry for each event: "namespace/kind/name note".
func (w *world) events(t *testing.T) []string {
	t.Helper()
	var list eventsv1.EventList
	if err := w.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var told []string
	for i := range list.Items {
		e := &list.Items[i]
		if e.Reason != "PortConflict" {
			continue
		}
		if e.ReportingController != "portcullis" || e.Type != "Warning" || e.Regarding.UID == "" || e.EventTime.IsZero() {
			t.Errorf("the event %s: %+v", e.Name, e)
		}
		told = append(told, fmt.Sprintf("%s %s/%s %s", e.Regarding.Kind, e.Regarding.Namespace, e.Regarding.Name, e.Note))
	}
	slices.Sort(told)
	return told
}

// tellings are the events that findings are worth: errors and warnings, each code and holder of an object and a number once.
func tellings(findings []words.Finding) []string {
	var all []string
	for _, f := range findings {
		if f.Severity != "info" {
			all = append(all, fmt.Sprintf("%s %s/%s %s: %s", f.Object.Kind, f.Object.Namespace, f.Object.Name, f.Field, f.Message))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// reports returns what the reports say: by their object, its results, each with its code, result and holder.
func (w *world) reports(t *testing.T) map[string][]string {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(openreports.SchemeGroupVersion.WithKind("ReportList"))
	if err := w.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	said := map[string][]string{}
	for i := range list.Items {
		var r openreports.Report
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(list.Items[i].Object, &r, true); err != nil {
			t.Fatalf("%v in %v", err, list.Items[i].Object)
		}
		owner := metav1.OwnerReference{APIVersion: r.Scope.APIVersion, Kind: r.Scope.Kind, Name: r.Scope.Name, UID: r.Scope.UID}
		if diff := cmp.Diff([]metav1.OwnerReference{owner}, r.OwnerReferences); diff != "" || r.Source != "portcullis" || r.Namespace != r.Scope.Namespace || r.Summary.Fail+r.Summary.Warn != len(r.Results) {
			t.Errorf("%+v (-scope +owner):\n%s", r, diff)
		}
		name := fmt.Sprintf("%s %s/%s", r.Scope.Kind, r.Scope.Namespace, r.Scope.Name)
		for _, result := range r.Results {
			said[name] = append(said[name], strings.TrimSpace(fmt.Sprintf("%s %s %s", result.Policy, result.Result, result.Properties["holder"])))
		}
		slices.Sort(said[name])
	}
	return said
}

// expectedReports are those that findings are worth.
func expectedReports(findings []words.Finding) map[string][]string {
	said := map[string][]string{}
	for _, f := range findings {
		name, result := fmt.Sprintf("%s %s/%s", f.Object.Kind, f.Object.Namespace, f.Object.Name), map[string]string{"error": "fail", "warning": "warn"}[f.Severity]
		if result == "" {
			continue
		}
		holder := ""
		if h := f.Holder; h != nil {
			holder = strings.TrimSuffix(h.Kind+" "+h.Namespace+"/"+h.Name, "/")
			if h.Namespace == "" {
				holder = h.Kind + " " + h.Name
			}
		}
		said[name] = append(said[name], strings.TrimSpace(f.Code+" "+result+" "+holder))
		slices.Sort(said[name])
	}
	return said
}

func (w *world) reportsFollow(t *testing.T) {
	t.Helper()
	want := expectedReports(w.expected(t))
	poll.Until(t, func(context.Context) error {
		if diff := cmp.Diff(want, w.reports(t)); diff != "" {
			return fmt.Errorf("reports (-worth +stored):\n%s", diff)
		}
		return nil
	})
}

// testAuditor: what the program finds by itself is what the command finds; it tells each thing once, whoever leads, and
// keeps a report about each object while there is something to report, from when the cluster has that kind.
func testAuditor(t *testing.T, w *world) {
	a := w.audit(t, auditing{reports: true, every: 300 * time.Millisecond})
	a.holdToDump(t)
	first := tellings(w.expected(t))
	told := func(want []string) {
		t.Helper()
		poll.Until(t, func(context.Context) error {
			if diff := cmp.Diff(want, w.events(t)); diff != "" {
				return fmt.Errorf("events (-worth +told):\n%s", diff)
			}
			return nil
		})
	}
	told(first)

	t.Log("the kind of reports comes")
	crd, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}/config/crd/openreports.io_reports.yaml", "github.com/openreports/reports-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(strings.TrimSpace(string(crd)))
	if err != nil {
		t.Fatal(err)
	}
	w.create(t, string(text))
	poll.Until(t, func(ctx context.Context) error {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(openreports.SchemeGroupVersion.WithKind("ReportList"))
		return w.List(ctx, list)
	})
	w.reportsFollow(t)

	t.Log("a conflict comes, and goes")
	late := w.create(t, pod("late", "shop", "n1", "{containerPort: 80, hostPort: 8080}"))[0]
	a.holdToDump(t)
	w.reportsFollow(t)
	with := tellings(w.expected(t))
	if len(with) != len(first)+1 {
		t.Fatalf("%d to tell after %d, want one more: %q", len(with), len(first), with)
	}
	told(with)
	if err := w.Delete(t.Context(), late, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	a.holdToDump(t)
	w.reportsFollow(t)

	t.Log("another one leads")
	a.stop()
	if found, audited := a.found(t); audited || len(found) > 0 {
		t.Errorf("who leads no more still tells of %v", found)
	}
	before := w.versions(t)
	b := w.audit(t, auditing{reports: true, every: 200 * time.Millisecond})
	b.holdToDump(t)
	rounds := b.audits(t)
	poll.Until(t, func(context.Context) error {
		if b.audits(t) < rounds+3 {
			return errors.New("there have been no three more audits")
		}
		return nil
	})
	if diff := cmp.Diff(with, w.events(t)); diff != "" {
		t.Errorf("events, of which no new one is worth telling (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(before, w.versions(t)); diff != "" {
		t.Errorf("reports of which nothing changed were written again (-before +after):\n%s", diff)
	}
}

// versions returns the versions of all reports.
func (w *world) versions(t *testing.T) map[string]string {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(openreports.SchemeGroupVersion.WithKind("ReportList"))
	if err := w.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for i := range list.Items {
		versions[list.Items[i].GetName()] = list.Items[i].GetResourceVersion()
	}
	return versions
}

// audits counts how often everything was judged.
func (a *auditor) audits(t *testing.T) int {
	t.Helper()
	families, err := a.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "portcullis_audit_duration_seconds" {
			return int(f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	return 0
}
