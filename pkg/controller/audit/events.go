package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// subject is an object with errors or warnings.
type subject struct {
	ports.Ref
	uid      types.UID
	findings []check.Finding
}

// subjectsOf groups findings by object, the worst first. It leaves out infos, and Nodes: events and reports are in the
// namespace of their object.
func subjectsOf(findings []check.Finding, objects []runtime.Object) []subject {
	byRef := map[ports.Ref]*subject{}
	for _, f := range findings {
		if f.Severity == check.Info || f.Object.Kind == check.NodeKind {
			continue
		}
		if byRef[f.Object] == nil {
			byRef[f.Object] = &subject{Ref: f.Object}
		}
		byRef[f.Object].findings = append(byRef[f.Object].findings, f)
	}
	if len(byRef) == 0 {
		return nil
	}
	for _, object := range objects {
		m, err := meta.Accessor(object)
		ref, ok := extract.RefOf(object)
		if s := byRef[ref]; err == nil && ok && s != nil {
			s.uid = m.GetUID()
		}
	}
	var all []subject
	for _, s := range byRef {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b subject) int {
		return cmp.Or(cmp.Compare(b.findings[0].Severity, a.findings[0].Severity), a.Compare(b.Ref))
	})
	return all
}

const (
	maxEvents      = 50            // in one round; the next one continues
	eventsRemember = 2 * time.Hour // after a finding is gone; API servers keep events for one hour
	eventReason    = "PortConflict"
	eventAction    = "Audit"
	eventBy        = "portcullis" // the reportingController
	maxNote        = 1024         // bytes that the API allows
)

// eventWriter writes one event for each finding, and another one if the finding is gone and comes back. The name of an event
// is derived from its finding, so that another leader, or this one after a restart, finds it and does not repeat it as long
// as API servers keep events. An events.EventRecorder counts repetitions in the memory of its process instead.
type eventWriter struct {
	client   creator
	instance string
	now      func() time.Time
	written  map[string]*writtenEvent // by eventKey
}

// creator creates objects.
type creator interface {
	Create(ctx context.Context, object client.Object, options ...client.CreateOption) error
}

// writtenEvent is a finding that has an event.
type writtenEvent struct {
	returns int       // how often the finding was gone and came back
	gone    time.Time // since when it is gone; zero: it is not
}

func (w *eventWriter) reset() { w.written = map[string]*writtenEvent{} }

// write creates an event for each finding that has none.
func (w *eventWriter) write(ctx context.Context, subjects []subject) error {
	found := map[string]bool{}
	created := 0
	var failed []error
	for _, s := range subjects {
		for _, f := range s.findings {
			key := eventKey(s, f)
			if found[key] {
				continue // the same finding about another field
			}
			found[key] = true
			before := w.written[key]
			if before != nil && before.gone.IsZero() || created >= maxEvents {
				continue
			}
			created++
			returns := 0
			if before != nil {
				returns = before.returns + 1
			}
			if err := w.create(ctx, s, f, fmt.Sprintf("%s.%d", key, returns)); err != nil {
				failed = append(failed, err)
				continue
			}
			w.written[key] = &writtenEvent{returns: returns}
		}
	}
	for key, e := range w.written {
		switch {
		case found[key]:
		case e.gone.IsZero():
			e.gone = w.now()
		case w.now().Sub(e.gone) > eventsRemember:
			delete(w.written, key)
		}
	}
	return errors.Join(failed[:min(len(failed), 3)]...) // the others are alike
}

// eventKey identifies a finding about an object.
func eventKey(s subject, f check.Finding) string {
	holder := ""
	if f.Holder != nil {
		holder = f.Holder.String()
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{string(s.uid), string(f.Code), f.Claim.PortProtocol(), f.Key(), holder}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// create creates an event, unless it exists.
func (w *eventWriter) create(ctx context.Context, s subject, f check.Finding, key string) error {
	namespace := cmp.Or(s.Namespace, metav1.NamespaceDefault)
	e := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "events.k8s.io/v1", "kind": "Event",
		"metadata":            map[string]any{"namespace": namespace, "name": strings.ToLower(truncated(s.Name, 200)) + "." + key},
		"eventTime":           w.now().UTC().Format("2006-01-02T15:04:05.000000Z"),
		"reportingController": eventBy, "reportingInstance": cmp.Or(w.instance, "portcullis"),
		"type": "Warning", "reason": eventReason, "action": eventAction,
		"regarding": reference(s.Ref, s.uid), "note": truncated(report.Sentence(f), maxNote),
	}}
	if f.Holder != nil && f.Holder.Kind != check.DaemonKind {
		e.Object["related"] = reference(f.Holder.Ref, "")
	}
	err := w.client.Create(ctx, e)
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
		return nil // it exists, or its namespace is being deleted
	}
	if err != nil {
		return fmt.Errorf("an event about %s: %w", s.Ref, err)
	}
	return nil
}

func reference(ref ports.Ref, uid types.UID) map[string]any {
	r := map[string]any{"apiVersion": ref.APIVersion, "kind": ref.Kind, "namespace": ref.Namespace, "name": ref.Name}
	if uid != "" {
		r["uid"] = string(uid)
	}
	return r
}

// truncated cuts a text at a number of bytes, between two characters.
func truncated(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}
