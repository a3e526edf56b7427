package main

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

func TestTracingOptions(t *testing.T) {
	for _, c := range []struct {
		sampling float64
		valid    bool
	}{{0, true}, {0.01, true}, {1, true}, {-0.1, false}, {1.1, false}, {math.NaN(), false}} {
		if err := (&tracingOptions{sampling: c.sampling}).validate(); (err == nil) != c.valid {
			t.Errorf("%v: %v, want valid %v", c.sampling, err, c.valid)
		}
	}
	if off, err := (&tracingOptions{}).start(t.Context(), logr.Discard()); off != nil || err != nil {
		t.Errorf("without an endpoint: %v, %v", off, err)
	}
}

// TestTraced sends a review through the HTTP handler and looks at the span.
func TestTraced(t *testing.T) {
	const (
		traceID = "0af7651916cd43dd8448eb211c80319c"
		parent  = "b7ad6b7169203331"
	)
	response := func(status int32, codes string, warnings ...string) admission.Response {
		r := admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{
			Allowed: status == http.StatusOK, Result: &metav1.Status{Code: status}, Warnings: warnings,
		}}
		if codes != "" {
			r.AuditAnnotations = map[string]string{"codes": codes}
		}
		return r
	}
	for _, c := range []struct {
		name     string
		response admission.Response
		verdict  string
	}{
		{"passes", response(200, ""), "allow"},
		{"is audited", response(200, "PC0304"), "allow"},
		{"is warned of", response(200, "PC0304", "mind"), "warn"},
		{"is refused", response(422, "PC0201"), "deny"},
		{"is refused and warned of", response(422, "PC0201", "mind"), "deny"},
		{"cannot be told, and passes", response(200, "", "cannot tell"), "could_not_tell"},
		{"cannot be told", response(503, ""), "could_not_tell"},
		{"is to come again", response(429, ""), "could_not_tell"},
		{"is malformed", response(400, ""), "could_not_tell"},
	} {
		t.Run(c.name, func(t *testing.T) {
			recorder := tracetest.NewSpanRecorder()
			// Nothing is sampled but what the caller wants sampled.
			tracing := newTracing(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))))
			webhook := tracing.traced("validate-pods", admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return c.response }))
			ask := func(traceparent string) {
				body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","namespace":"n","name":"p","dryRun":true,"resource":{"resource":"pods"}}}`
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/validate-pods", strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Traceparent", traceparent)
				webhook.ServeHTTP(httptest.NewRecorder(), r)
			}
			ask("00-" + traceID + "-" + parent + "-00")
			ask("nonsense")
			if spans := recorder.Ended(); len(spans) > 0 {
				t.Fatalf("%d spans of reviews that are not sampled", len(spans))
			}
			ask("00-" + traceID + "-" + parent + "-01")
			spans := recorder.Ended()
			if len(spans) != 1 || spans[0].Name() != "validate-pods" || spans[0].Parent().SpanID().String() != parent || spans[0].SpanContext().TraceID().String() != traceID {
				t.Fatalf("spans %v, want one of the trace of the caller", spans)
			}
			got := map[string]string{}
			for _, a := range spans[0].Attributes() {
				got[string(a.Key)] = a.Value.String()
			}
			want := map[string]string{
				"portcullis.hook": "validate-pods", "portcullis.verdict": c.verdict, "portcullis.codes": c.response.AuditAnnotations["codes"],
				"portcullis.request_id": "u", "portcullis.operation": "CREATE", "portcullis.dry_run": "true",
				"k8s.resource": "pods", "k8s.namespace": "n", "k8s.name": "p",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUntraced: without tracing a hook is served as it is.
func TestUntraced(t *testing.T) {
	var off *tracing
	if w := off.traced("validate-pods", admission.HandlerFunc(nil)); w.WithContextFunc != nil {
		t.Error("a hook without traces looks at the headers")
	}
}
