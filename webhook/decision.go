package webhook

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// maxSpoken bounds how many findings one answer tells: a pod may have thousands of ports.
const maxSpoken = 20

// maxWarnings is how many characters of warnings an answer may have: the API server drops all it has beyond 4,096
// (k8s.io/apiserver pkg/endpoints/filters warning.go). It leaves room for how many there are.
const maxWarnings = 4096 - len("and 65535 more")

// decision is what becomes of a request: allowed, warned, denied, or could not tell.
type decision struct {
	settings  *extract.Settings
	verdict   check.Verdict
	findings  []check.Finding
	patches   []jsonpatch.JsonPatchOperation
	uncertain string         // why it could not be told
	remedy    string         // what to do about that; "": try again
	note      string         // what could not be told of what passes; "": all could
	busy      bool           // it could be told in a moment
	probe     bool           // it was only asked whether the webhook answers
	refused   *metav1.Status // the API server's own refusal, in its own words
	number    uint64         // of the write that is in flight by it; 0: none is
	malformed error          // the request is no request that this hook can read
}

// later makes the client ask again: the port cannot be had now, and may be had in a moment. Clients of client-go
// do so by themselves, ten times, when they are told after how many seconds.
func later(settings *extract.Settings, why string) decision {
	return decision{settings: settings, verdict: check.CouldNotTell, uncertain: why, busy: true}
}

// leave leaves a create of a name that exists to the API server, which refuses it. What d would have refused is refused at
// once, in the API server's words: if it passed, and the object were deleted in the same moment, it would be stored.
func (h *Handlers) leave(req admission.Request, name string, d decision) decision {
	if d.verdict != check.Denied && !d.busy {
		return h.allowed()
	}
	err := apierrors.NewAlreadyExists(schema.GroupResource{Group: req.Resource.Group, Resource: req.Resource.Resource}, name)
	return decision{verdict: check.Allowed, refused: &err.ErrStatus}
}

func couldNotTell(settings *extract.Settings, why string) decision {
	return decision{settings: settings, verdict: check.CouldNotTell, uncertain: why}
}

// malformed is an answer to what no API server sends. It is a refusal whatever the configuration says: nothing is known
// of the object, and nothing can be done to know it.
func malformed(err error) decision { return decision{verdict: check.CouldNotTell, malformed: err} }

// response is the decision in the words of the admission API. A refusal is a 422 Invalid with a cause for each finding;
// what could not be told is a 503 that clients retry, or a warning, as the configuration says.
func (d decision) response(req admission.Request) admission.Response {
	switch {
	case d.malformed != nil:
		return admission.Errored(http.StatusBadRequest, d.malformed)
	case d.refused != nil:
		return refusal(d.refused)
	case d.busy:
		return refusal(&metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests,
			Message: d.message(), Details: &metav1.StatusDetails{RetryAfterSeconds: 1},
		})
	case d.verdict == check.CouldNotTell && d.settings.DenyUncertain:
		status := &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable, Message: d.message(),
		}
		if d.remedy == "" { // else trying again changes nothing
			status.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
		}
		return refusal(status)
	case d.verdict == check.CouldNotTell:
		return admission.Allowed("").WithWarnings(d.message())
	case d.verdict == check.Denied:
		told := d.disclosed(req)
		response := refusal(told.invalid(req))
		response.Warnings = told.warnings()
		response.AuditAnnotations = d.annotations()
		return response
	}
	response := admission.Allowed("").WithWarnings(d.disclosed(req).warnings()...)
	if d.note != "" {
		response.Warnings = append(response.Warnings, d.note)
	}
	response.AuditAnnotations = d.annotations()
	if len(d.patches) > 0 {
		response.Patches = d.patches // controller-runtime encodes them and sets the type
	}
	return response
}

// disclosed is the decision as the client is told it: with the configuration's disclosure, holders in other namespaces have no
// name, and the request's id, which the log has as well, leads to it.
func (d decision) disclosed(req admission.Request) decision {
	if d.settings == nil || !d.settings.HideHolders {
		return d
	}
	hide := func(h check.Holder) check.Holder {
		if h.Ref.Namespace == "" || h.Ref.Namespace == req.Namespace {
			return h
		}
		h.Ref = ports.Ref{Kind: "an object in", Name: "another namespace (request " + string(req.UID) + ")"}
		h.Field = ""
		return h
	}
	findings := slices.Clone(d.findings)
	for i := range findings {
		f := &findings[i]
		if f.Holder == nil {
			continue
		}
		shown := f.Holder.Ref
		f.Holder, f.Others = new(hide(*f.Holder)), slices.Clone(f.Others)
		if f.Holder.Ref != shown {
			f.Packets = nil // which name the holder
		}
		for j := range f.Others {
			f.Others[j] = hide(f.Others[j])
		}
	}
	d.findings = findings
	return d
}

func refusal(status *metav1.Status) admission.Response {
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: false, Result: status}}
}

// message is the one line that a client sees first.
func (d decision) message() string {
	if d.malformed != nil {
		return d.malformed.Error()
	}
	if d.busy && d.uncertain != "" {
		return "Portcullis cannot admit this at the moment: " + d.uncertain + "; try again in a second"
	}
	if d.verdict == check.CouldNotTell && !d.busy {
		return "Portcullis cannot tell whether the ports are free: " + d.uncertain + "; " + cmp.Or(d.remedy, "try again in a moment")
	}
	spoken := d.enforced(check.Deny)
	if len(spoken) == 0 {
		spoken = d.findings
	}
	if len(spoken) == 0 {
		return ""
	}
	text := report.Sentence(spoken[0])
	if more := len(spoken) - 1; more > 0 {
		text += fmt.Sprintf("\nand %d more", more)
	}
	return text
}

func (d decision) enforced(as check.Enforcement) []check.Finding {
	var findings []check.Finding
	for _, f := range d.findings {
		if d.settings.Check.Enforce(f) == as {
			findings = append(findings, f)
		}
	}
	return findings
}

func (d decision) invalid(req admission.Request) *metav1.Status {
	status := &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: d.message(),
		Details: &metav1.StatusDetails{Name: req.Name, Group: req.Kind.Group, Kind: req.Kind.Kind},
	}
	for _, f := range first(d.enforced(check.Deny), maxSpoken) {
		status.Details.Causes = append(status.Details.Causes, metav1.StatusCause{
			Type: metav1.CauseTypeFieldValueInvalid, Field: report.Field(f), Message: report.Message(f),
		})
	}
	return status
}

// warnings tells as many findings as the API server passes on, and how many more there are.
func (d decision) warnings() []string {
	var warnings []string
	findings := d.enforced(check.Warn)
	room := maxWarnings
	for i, f := range findings {
		sentence := report.Sentence(f)
		if room -= utf8.RuneCountInString(sentence); i == maxSpoken || room < 0 {
			return append(warnings, fmt.Sprintf("and %d more", len(findings)-i))
		}
		warnings = append(warnings, sentence)
	}
	return warnings
}

// annotations go into the API server's audit log, whatever the verdict.
func (d decision) annotations() map[string]string {
	if len(d.findings) == 0 {
		return nil
	}
	return map[string]string{"codes": codes(d.findings), "message": d.message()}
}

// codes joins the distinct codes of findings, sorted.
func codes(findings []check.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, string(f.Code))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ",")
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }
