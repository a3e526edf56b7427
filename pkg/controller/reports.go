package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

const (
	reportSource  = "portcullis"
	managedBy     = "app.kubernetes.io/managed-by"
	maxReports    = 200 // written in one round; the rest has its turn in the next
	reportsReread = 20  // rounds after which what is stored is read again: somebody else may have written it
	contentHash   = "portcullis.dev/content"
)

func reportKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "Report"}
}

// reportWriter keeps one Report of openreports.io for each object about which something is found, where the cluster has
// that kind. A report belongs to its object and goes with it.
type reportWriter struct {
	live   client.Reader
	client client.Client
	stored map[client.ObjectKey]string // the hash of what each says; nil: not read
	rounds int                         // since it was read
}

func (w *reportWriter) begin() { w.stored = nil }

// tell brings the reports in step with what was found.
func (w *reportWriter) tell(ctx context.Context, offenders []offender) error {
	if w.rounds++; w.stored == nil || w.rounds >= reportsReread {
		if there, err := w.read(ctx); err != nil || !there {
			return err
		}
	}
	written := 0
	var failed []error
	wanted := map[client.ObjectKey]bool{}
	for _, o := range offenders {
		if o.Namespace == "" || o.uid == "" {
			continue
		}
		r := reportOf(o)
		key := client.ObjectKeyFromObject(r)
		wanted[key] = true
		hash := r.GetAnnotations()[contentHash]
		if w.stored[key] == hash || written >= maxReports {
			continue
		}
		written++
		if err := w.write(ctx, r); err != nil {
			failed = append(failed, fmt.Errorf("the report about %s: %w", o.Ref, err))
			continue
		}
		w.stored[key] = hash
	}
	for _, key := range slices.SortedFunc(maps.Keys(w.stored), func(a, b client.ObjectKey) int { return strings.Compare(a.String(), b.String()) }) {
		if wanted[key] || written >= maxReports {
			continue
		}
		written++
		gone := &unstructured.Unstructured{}
		gone.SetGroupVersionKind(reportKind())
		gone.SetNamespace(key.Namespace)
		gone.SetName(key.Name)
		if err := client.IgnoreNotFound(w.client.Delete(ctx, gone)); err != nil {
			failed = append(failed, fmt.Errorf("deleting the Report %s: %w", key, err))
			continue
		}
		delete(w.stored, key)
	}
	if failed != nil {
		w.stored = nil // what is stored is not known
	}
	return errors.Join(failed[:min(len(failed), 3)]...) // the others would say the same
}

// read reads what is stored, and reports whether the cluster has the kind.
func (w *reportWriter) read(ctx context.Context) (bool, error) {
	list := &unstructured.UnstructuredList{}
	gvk := reportKind()
	gvk.Kind += "List"
	list.SetGroupVersionKind(gvk)
	stored := map[client.ObjectKey]string{}
	for {
		err := w.live.List(ctx, list, client.MatchingLabels{managedBy: reportSource}, client.Limit(500), client.Continue(list.GetContinue()))
		switch {
		case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("listing Reports: %w", err)
		}
		for i := range list.Items {
			stored[client.ObjectKeyFromObject(&list.Items[i])] = list.Items[i].GetAnnotations()[contentHash]
		}
		if list.GetContinue() == "" {
			w.stored, w.rounds = stored, 0
			return true, nil
		}
	}
}

// write stores a report.
func (w *reportWriter) write(ctx context.Context, r *unstructured.Unstructured) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		err := w.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(r), fieldOwner, client.ForceOwnership)
		if apierrors.HasStatusCause(err, "NamespaceTerminating") {
			return nil // it goes with its object
		}
		return err
	})
}

// reportOf is the report about an object. It says nothing of the time, so that equal ones are equal.
func reportOf(o offender) *unstructured.Unstructured {
	summary := map[string]any{"pass": int64(0), "fail": int64(0), "warn": int64(0), "error": int64(0), "skip": int64(0)}
	var results []any
	for _, f := range o.findings {
		result := "warn"
		if f.Severity == check.Error {
			result = "fail"
		}
		summary[result] = summary[result].(int64) + 1
		properties := map[string]any{"code": string(f.Code), "field": f.Field}
		if f.Claim.Port != 0 {
			properties["port"], properties["protocol"] = fmt.Sprint(f.Claim.Port), f.Claim.Protocol.String()
		}
		if f.Holder != nil {
			properties["holder"] = f.Holder.Ref.String()
		}
		if len(f.Nodes) > 0 {
			properties["nodes"] = fitted(strings.Join(f.Nodes, ","), maxNote)
		}
		entry, _ := check.Lookup(f.Code)
		results = append(results, map[string]any{
			"source": reportSource, "policy": string(f.Code), "rule": entry.Title, "category": "Ports", "severity": reportSeverity(f.Severity),
			"result": result, "message": report.Sentence(f), "properties": properties,
		})
	}
	about := reference(o.Ref, o.uid)
	r := &unstructured.Unstructured{Object: map[string]any{"scope": about, "source": reportSource, "summary": summary, "results": results}}
	r.SetGroupVersionKind(reportKind())
	text, _ := json.Marshal(r.Object) // strings and numbers
	sum := sha256.Sum256(text)
	r.SetNamespace(o.Namespace)
	r.SetName(reportName(o))
	r.SetLabels(map[string]string{managedBy: reportSource})
	r.SetAnnotations(map[string]string{contentHash: hex.EncodeToString(sum[:8])})
	r.Object["metadata"].(map[string]any)["ownerReferences"] = []any{map[string]any{
		"apiVersion": o.APIVersion, "kind": o.Kind, "name": o.Name, "uid": string(o.uid),
	}}
	return r
}

// reportName is one for each object, that of another one of its name included.
func reportName(o offender) string { return fmt.Sprintf("portcullis-%s", o.uid) }

func reportSeverity(s check.Severity) string {
	switch s {
	case check.Error:
		return "high"
	case check.Warning:
		return "medium"
	case check.Info:
	}
	return "info"
}
