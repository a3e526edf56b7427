package controller

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

// offender is an object about which an audit has found something, an error or a warning.
type offender struct {
	ports.Ref
	uid      types.UID
	findings []check.Finding
}

// offendersOf sorts findings to the objects that they are about; infos are left out, and Nodes, as events and reports lie in
// the namespace of their object.
func offendersOf(findings []check.Finding, objects []runtime.Object) []offender {
	of := map[ports.Ref]*offender{}
	for _, f := range findings {
		if f.Severity == check.Info || f.Object.Kind == check.NodeKind {
			continue
		}
		if of[f.Object] == nil {
			of[f.Object] = &offender{Ref: f.Object}
		}
		of[f.Object].findings = append(of[f.Object].findings, f)
	}
	if len(of) == 0 {
		return nil
	}
	for _, object := range objects {
		m, err := meta.Accessor(object)
		ref, ok := extract.RefOf(object)
		if o := of[ref]; err == nil && ok && o != nil {
			o.uid = m.GetUID()
		}
	}
	var all []offender
	for _, o := range of {
		all = append(all, *o)
	}
	slices.SortFunc(all, func(a, b offender) int {
		return cmp.Or(cmp.Compare(b.findings[0].Severity, a.findings[0].Severity), a.Compare(b.Ref))
	})
	return all
}

const (
	maxEvents      = 50             // in one round; the rest has its turn in the next
	eventsRemember = 2 * time.Hour  // after something is gone; API servers keep events for one
	eventReason    = "PortConflict" // of all of them
	eventAction    = "Audit"        // what led to it
	eventBy        = "portcullis"   // who reports it
	maxNote        = 1024           // characters that the API allows
)

// eventWriter tells each finding once, by an event of the object that it is about, until it is gone. The name of an event
// says what it tells, so that another leader, or this one after a restart, finds it there and does not tell it again as long
// as API servers keep events. It is no events.EventRecorder, which counts what is told twice in the memory of a process.
type eventWriter struct {
	client   creator
	instance string
	now      func() time.Time
	told     map[string]*telling
}

// creator creates objects.
type creator interface {
	Create(ctx context.Context, object client.Object, options ...client.CreateOption) error
}

// telling is what has become of what an event told.
type telling struct {
	again int       // how often it was gone and came back
	gone  time.Time // since when it is gone; zero: it is there
}

func (w *eventWriter) begin() { w.told = map[string]*telling{} }

// tell makes an event of each finding that was not told before.
func (w *eventWriter) tell(ctx context.Context, offenders []offender) error {
	there := map[string]bool{}
	written := 0
	var failed []error
	for _, o := range offenders {
		for _, f := range o.findings {
			key := eventKey(o, f)
			if there[key] {
				continue // of two fields
			}
			there[key] = true
			t := w.told[key]
			if t != nil && t.gone.IsZero() || written >= maxEvents {
				continue
			}
			written++
			again := 0
			if t != nil {
				again = t.again + 1
			}
			if err := w.write(ctx, o, f, fmt.Sprintf("%s.%d", key, again)); err != nil {
				failed = append(failed, err)
				continue
			}
			w.told[key] = &telling{again: again}
		}
	}
	for key, t := range w.told {
		switch {
		case there[key]:
		case t.gone.IsZero():
			t.gone = w.now()
		case w.now().Sub(t.gone) > eventsRemember:
			delete(w.told, key)
		}
	}
	return errors.Join(failed[:min(len(failed), 3)]...) // the others would say the same
}

// eventKey is a name for what is told: the same for the same finding about the same object.
func eventKey(o offender, f check.Finding) string {
	holder := ""
	if f.Holder != nil {
		holder = f.Holder.String()
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{string(o.uid), string(f.Code), f.Claim.Number(), f.Key(), holder}, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// write creates the event, unless it is there.
func (w *eventWriter) write(ctx context.Context, o offender, f check.Finding, key string) error {
	namespace := cmp.Or(o.Namespace, metav1.NamespaceDefault)
	e := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "events.k8s.io/v1", "kind": "Event",
		"metadata":            map[string]any{"namespace": namespace, "name": strings.ToLower(fitted(o.Name, 200)) + "." + key},
		"eventTime":           w.now().UTC().Format("2006-01-02T15:04:05.000000Z"),
		"reportingController": eventBy, "reportingInstance": cmp.Or(w.instance, "portcullis"),
		"type": "Warning", "reason": eventReason, "action": eventAction,
		"regarding": reference(o.Ref, o.uid), "note": fitted(report.Sentence(f), maxNote),
	}}
	if f.Holder != nil && f.Holder.Kind != check.DaemonKind {
		e.Object["related"] = reference(f.Holder.Ref, "")
	}
	err := w.client.Create(ctx, e)
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
		return nil // it was told, or the namespace goes
	}
	if err != nil {
		return fmt.Errorf("an event about %s: %w", o.Ref, err)
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

// fitted cuts a text at a number of bytes, and no character in two.
func fitted(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}
