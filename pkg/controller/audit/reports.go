package audit

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
	maxReports    = 200 // written or deleted in one round; the next one continues
	reportsReread = 20  // rounds after which reports are read again: others may have changed them
	contentHash   = "portcullis.dev/content"
)

func reportKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "Report"}
}

// reportWriter keeps a Report of openreports.io for each subject, where the cluster has that kind. A report is owned by its
// object, and is deleted with it.
type reportWriter struct {
	live   client.Reader
	client client.Client
	stored map[client.ObjectKey]string // the contentHash of each; nil: not known
	rounds int                         // since they were read
}

func (w *reportWriter) reset() { w.stored = nil }

// write creates, changes and deletes reports so that they are about the subjects.
func (w *reportWriter) write(ctx context.Context, subjects []subject) error {
	if w.rounds++; w.stored == nil || w.rounds >= reportsReread {
		if served, err := w.read(ctx); err != nil || !served {
			return err
		}
	}
	written := 0
	var failed []error
	wanted := map[client.ObjectKey]bool{}
	for _, s := range subjects {
		if s.Namespace == "" || s.uid == "" {
			continue
		}
		r := reportOf(s)
		key := client.ObjectKeyFromObject(r)
		wanted[key] = true
		hash := r.GetAnnotations()[contentHash]
		if w.stored[key] == hash || written >= maxReports {
			continue
		}
		written++
		if err := w.apply(ctx, r); err != nil {
			failed = append(failed, fmt.Errorf("the report about %s: %w", s.Ref, err))
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
		w.stored = nil
	}
	return errors.Join(failed[:min(len(failed), 3)]...) // the others are alike
}

// read reads the reports that are stored, and reports whether the cluster has the kind.
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

// apply stores a report.
func (w *reportWriter) apply(ctx context.Context, r *unstructured.Unstructured) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		err := w.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(r), fieldOwner, client.ForceOwnership)
		if apierrors.HasStatusCause(err, "NamespaceTerminating") {
			return nil // its object is being deleted, too
		}
		return err
	})
}

// reportOf returns the report about a subject. It has no time, so that equal findings make equal reports.
func reportOf(s subject) *unstructured.Unstructured {
	summary := map[string]any{"pass": int64(0), "fail": int64(0), "warn": int64(0), "error": int64(0), "skip": int64(0)}
	var results []any
	for _, f := range s.findings {
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
			properties["nodes"] = truncated(strings.Join(f.Nodes, ","), maxNote)
		}
		entry, _ := check.Lookup(f.Code)
		results = append(results, map[string]any{
			"source": reportSource, "policy": string(f.Code), "rule": entry.Title, "category": "Ports", "severity": reportSeverity(f.Severity),
			"result": result, "message": report.Sentence(f), "properties": properties,
		})
	}
	scope := reference(s.Ref, s.uid)
	r := &unstructured.Unstructured{Object: map[string]any{"scope": scope, "source": reportSource, "summary": summary, "results": results}}
	r.SetGroupVersionKind(reportKind())
	text, _ := json.Marshal(r.Object) // strings and numbers
	sum := sha256.Sum256(text)
	r.SetNamespace(s.Namespace)
	r.SetName(fmt.Sprintf("portcullis-%s", s.uid))
	r.SetLabels(map[string]string{managedBy: reportSource})
	r.SetAnnotations(map[string]string{contentHash: hex.EncodeToString(sum[:8])})
	r.Object["metadata"].(map[string]any)["ownerReferences"] = []any{map[string]any{
		"apiVersion": s.APIVersion, "kind": s.Kind, "name": s.Name, "uid": string(s.uid),
	}}
	return r
}

func reportSeverity(severity check.Severity) string {
	switch severity {
	case check.Error:
		return "high"
	case check.Warning:
		return "medium"
	case check.Info:
	}
	return "info"
}
