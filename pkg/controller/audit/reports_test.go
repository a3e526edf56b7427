package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// offending is a subject for each pod, whose host port is held by Service s.
func offending(pods ...string) []subject {
	var all []subject
	for _, pod := range pods {
		f, object := clash(pod, 80, "s")
		all = append(all, withUID(subjectsOf([]check.Finding{f}, []runtime.Object{object})[0], "uid-of-"+pod))
	}
	return all
}

func withUID(o subject, uid string) subject {
	o.uid = types.UID(uid)
	return o
}

// reportsOf are the names of the Reports that are stored.
func reportsOf(api *fake.Cluster) []string {
	list := &unstructured.UnstructuredList{}
	gvk := reportKind()
	list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	if err := api.Stored.List(api.T.Context(), list); err != nil {
		api.T.Fatal(err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, strings.TrimPrefix(list.Items[i].GetName(), "portcullis-uid-of-"))
	}
	return names
}

// foreign is a Report of somebody else.
func foreign() *unstructured.Unstructured {
	r := &unstructured.Unstructured{}
	r.SetGroupVersionKind(reportKind())
	r.SetNamespace("default")
	r.SetName("portcullis-uid-of-foreign")
	r.SetLabels(map[string]string{managedBy: "kyverno"})
	return r
}

// TestReportOf: equal findings make equal reports, and others others.
func TestReportOf(t *testing.T) {
	f, pod := clash("p", 80, "s")
	g, _ := clash("p", 80, "r")
	of := func(findings ...check.Finding) *unstructured.Unstructured {
		return reportOf(subjectsOf(findings, []runtime.Object{pod})[0])
	}
	one := of(f)
	if diff := cmp.Diff(one, of(f)); diff != "" {
		t.Errorf("(-one +again):\n%s", diff)
	}
	if one.GetAnnotations()[contentHash] == of(g).GetAnnotations()[contentHash] || one.GetName() != of(f, g).GetName() {
		t.Error("another holder, or one more, must change what the report says and not its name")
	}
	results, _, _ := unstructured.NestedSlice(one.Object, "results")
	want := map[string]any{"code": "PC0201", "field": f.Field, "port": "80", "protocol": "TCP", "holder": "Service default/s", "nodes": "n1"}
	if diff := cmp.Diff(want, results[0].(map[string]any)["properties"]); diff != "" || len(results) != 1 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReports: there is one for each object about which there is something to say, it is written when that changes, and
// it goes when there is nothing any more. Those of others stay.
func TestReports(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		api.Add(foreign())
		w := &reportWriter{live: api, client: api}
		w.reset()
		clusterWide, noUID := offending("p")[0], withUID(offending("p")[0], "")
		clusterWide.Namespace = ""
		other := offending("p")
		other[0].findings[0].Holder.Name = "r"
		for _, c := range []struct {
			why      string
			subjects []subject
			writes   []string
			want     []string
		}{
			{"nothing", nil, nil, []string{"foreign"}},
			{"two", offending("p", "q"), []string{"apply Report portcullis-uid-of-p", "apply Report portcullis-uid-of-q"}, []string{"foreign", "p", "q"}},
			{"the same", offending("p", "q"), nil, []string{"foreign", "p", "q"}},
			{"another holder", append(other, offending("q")...), []string{"apply Report portcullis-uid-of-p"}, []string{"foreign", "p", "q"}},
			{"one is right now", offending("q"), []string{"delete Report portcullis-uid-of-p"}, []string{"foreign", "q"}},
			{"one that has no namespace", []subject{clusterWide, offending("q")[0]}, nil, []string{"foreign", "q"}},
			{"one that was not found again", []subject{noUID, offending("q")[0]}, nil, []string{"foreign", "q"}},
			{"all are right", nil, []string{"delete Report portcullis-uid-of-q"}, []string{"foreign"}},
		} {
			api.Reset()
			if err := w.write(t.Context(), c.subjects); err != nil {
				t.Errorf("%s: %v", c.why, err)
			}
			if diff := cmp.Diff(c.writes, api.Writes()); diff != "" {
				t.Errorf("%s: writes (-want +got):\n%s", c.why, diff)
			}
			if diff := cmp.Diff(c.want, reportsOf(api)); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", c.why, diff)
			}
		}
	})
}

// TestReportsOfBefore: another leader, or this one after a restart, goes on with what is stored.
func TestReportsOfBefore(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		w := &reportWriter{live: api, client: api}
		w.reset()
		if err := w.write(t.Context(), offending("p", "q")); err != nil {
			t.Fatal(err)
		}
		api.Reset()
		other := &reportWriter{live: api, client: api}
		for _, begins := range []*reportWriter{w, other} {
			begins.reset()
			if err := begins.write(t.Context(), offending("q", "p")); err != nil || len(api.Writes()) > 0 {
				t.Errorf("%v, %v", api.Writes(), err)
			}
		}
		if err := other.write(t.Context(), offending("q")); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"q"}, reportsOf(api)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestReportsAreReread: what somebody else changes is mended, after some rounds.
func TestReportsAreReread(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		w := &reportWriter{live: api, client: api}
		w.reset()
		write := func() {
			if err := w.write(t.Context(), offending("p")); err != nil {
				t.Error(err)
			}
		}
		write()
		api.Remove(reportOf(offending("p")[0]))
		for range reportsReread - 1 {
			write()
		}
		if n := api.Count("list Report"); n != 1 {
			t.Errorf("%d lists in %d rounds", n, reportsReread)
		}
		write()
		if diff := cmp.Diff([]string{"p"}, reportsOf(api)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestReportsBounded: a round writes and deletes no more than it may, and the next one goes on.
func TestReportsBounded(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		w := &reportWriter{live: api, client: api}
		w.reset()
		var pods []string
		for i := range maxReports + 10 {
			pods = append(pods, fmt.Sprint("p", i))
		}
		many := offending(pods...)
		for i, want := range []int{maxReports, maxReports + 10, maxReports + 10, 10, 0} {
			now := many
			if i > 2 {
				now = nil
			}
			if err := w.write(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			if got := len(reportsOf(api)); got != want {
				t.Errorf("round %d: %d reports, want %d", i, got, want)
			}
		}
	})
}

// terminating is how a namespace refuses what is created in it while it goes.
func terminating() error {
	err := apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "p", errors.New("the namespace is being terminated"))
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	return err
}

// TestReportsRefused: what cannot be written is tried again in the next round, after a look at what is stored.
func TestReportsRefused(t *testing.T) {
	for _, c := range []struct {
		name, call string
		err        error
		fails      bool
		want       []string // the reports afterwards, once nothing is rejected
	}{
		{"a list", "list Report", fake.ErrDown, true, []string{"p"}},
		{"the kind is not there", "list Report", fake.ErrNoKind("Report"), false, []string{"p"}},
		{"the kind is not served", "list Report", apierrors.NewNotFound(schema.GroupResource{Resource: "reports"}, ""), false, []string{"p"}},
		{"a write", "apply Report", fake.ErrDown, true, []string{"p"}},
		{"a deletion", "delete Report", fake.ErrDown, true, []string{"p"}},
		{"gone already", "delete Report", apierrors.NewNotFound(schema.GroupResource{Resource: "reports"}, "q"), false, []string{"p", "q"}}, // until it is read again
		{"the namespace goes", "apply Report", terminating(), false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake.Run(t, func(t *testing.T, api *fake.Cluster) {
				w := &reportWriter{live: api, client: api}
				w.reset()
				if c.call == "delete Report" {
					if err := w.write(t.Context(), offending("p", "q")); err != nil {
						t.Fatal(err)
					}
				}
				end := api.Reject(c.call, c.err)
				if err := w.write(t.Context(), offending("p")); (err != nil) != c.fails || err != nil && !errors.Is(err, c.err) {
					t.Errorf("%v, want an error: %v", err, c.fails)
				}
				end()
				if err := w.write(t.Context(), offending("p")); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(c.want, reportsOf(api)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestReportsConflict: others write reports, too; a write that conflicts is made again at once.
func TestReportsConflict(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		w := &reportWriter{live: api, client: api}
		w.reset()
		api.Once("apply Report", func(client.Object) error { return fake.ErrConflict })
		if err := w.write(t.Context(), offending("p")); err != nil || api.Count("apply Report") != 2 {
			t.Errorf("%v after %d tries", err, api.Count("apply Report"))
		}
	})
}

// TestReportsFailTogether: a round that fails says why, and not for every object.
func TestReportsFailTogether(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		w := &reportWriter{live: api, client: api}
		w.reset()
		api.Reject("apply", fake.ErrDown)
		err := w.write(t.Context(), offending("a", "b", "c", "d", "e"))
		if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
			t.Errorf("%v, want three of five", err)
		}
	})
}

// pages is an API server that answers lists of Reports in pages.
type pages struct {
	client.Reader
	names []string
}

func (p pages) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	o := new(client.ListOptions).ApplyOptions(options)
	from := 0
	if o.Continue != "" {
		if _, err := fmt.Sscan(o.Continue, &from); err != nil {
			return err
		}
	}
	u := list.(*unstructured.UnstructuredList)
	u.Items = nil
	to := min(from+2, len(p.names))
	for _, name := range p.names[from:to] {
		u.Items = append(u.Items, *reportOf(offending(name)[0]))
	}
	u.SetContinue("")
	if to < len(p.names) {
		u.SetContinue(fmt.Sprint(to))
	}
	return nil
}

func TestReportsInPages(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		names := []string{"a", "b", "c", "d", "e"}
		w := &reportWriter{live: pages{names: names}, client: api}
		w.reset()
		if err := w.write(t.Context(), offending(names...)); err != nil || len(api.Writes()) > 0 {
			t.Errorf("%v, %v, want to know all of them", api.Writes(), err)
		}
	})
}

// TestReportSeverities: errors fail, warnings warn, and the report counts them.
func TestReportSeverities(t *testing.T) {
	f, pod := clash("p", 80, "s")
	warning, host := f, f
	warning.Code, warning.Severity, warning.Holder, warning.Nodes = check.InDynamicBand, check.Warning, nil, nil
	host.Claim, host.Code = ports.Claim{}, check.HostIPInvalid
	r := reportOf(subjectsOf([]check.Finding{f, warning, host}, []runtime.Object{pod})[0])
	summary, _, _ := unstructured.NestedMap(r.Object, "summary")
	if diff := cmp.Diff(map[string]any{"pass": int64(0), "fail": int64(2), "warn": int64(1), "error": int64(0), "skip": int64(0)}, summary); diff != "" {
		t.Error(diff)
	}
	results, _, _ := unstructured.NestedSlice(r.Object, "results")
	var got []string
	for _, result := range results {
		m := result.(map[string]any)
		properties := m["properties"].(map[string]any)
		got = append(got, fmt.Sprint(m["result"], " ", m["severity"], " ", len(properties)))
	}
	if diff := cmp.Diff([]string{"fail high 6", "warn medium 4", "fail high 4"}, got); diff != "" {
		t.Error(diff)
	}
	if got := reportSeverity(check.Info); got != "info" {
		t.Error(got)
	}
	owners, _, _ := unstructured.NestedSlice(r.Object, "metadata", "ownerReferences")
	want := []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-x"}}
	if diff := cmp.Diff(want, owners); diff != "" {
		t.Error(diff)
	}
}
