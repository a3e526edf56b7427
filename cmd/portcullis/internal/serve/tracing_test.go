package serve

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
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
	if err := (&tracingOptions{ca: "ca.crt"}).validate(); err == nil || !strings.Contains(err.Error(), "--tracing-endpoint") {
		t.Errorf("authorities of no collector: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{empty: "no certificate", empty + "x": "no such file"} {
		_, err := (&tracingOptions{endpoint: "127.0.0.1:1", ca: file}).start(t.Context(), "development", logr.Discard())
		if err == nil || !strings.Contains(err.Error(), "--tracing-ca-file") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if off, err := (&tracingOptions{}).start(t.Context(), "development", logr.Discard()); off != nil || err != nil {
		t.Errorf("without an endpoint: %v, %v", off, err)
	}
}

// TestTracesOverTLS: with --tracing-ca-file spans go to a collector whose certificate is of these authorities, and to no other.
func TestTracesOverTLS(t *testing.T) {
	store, err := certificate.NewStore(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other, err := certificate.NewStore(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := store.Current.Issue(time.Now(), time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		bundle  []byte
		arrives bool
	}{{"its authority", store.Bundle(), true}, {"another one", other.Bundle(), false}} {
		t.Run(c.name, func(t *testing.T) {
			exported := make(chan string, 16)
			collector := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { exported <- r.URL.Path }))
			collector.EnableHTTP2, collector.TLS = true, &tls.Config{Certificates: []tls.Certificate{*serving}}
			collector.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes, which fail
			collector.StartTLS()
			defer collector.Close()
			file := filepath.Join(t.TempDir(), "ca.crt")
			if err := os.WriteFile(file, c.bundle, 0o600); err != nil {
				t.Fatal(err)
			}
			o := tracingOptions{endpoint: collector.Listener.Addr().String(), ca: file, sampling: 1}
			traces, err := o.start(t.Context(), "development", logr.Discard())
			if err != nil {
				t.Fatal(err)
			}
			_, span := traces.tracer.Start(t.Context(), "validate-pods")
			span.End()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_ = traces.provider.Shutdown(ctx) // it sends what is left, and fails as the collector says nothing of spans
			select {
			case path := <-exported:
				if !c.arrives || !strings.HasSuffix(path, "TraceService/Export") {
					t.Errorf("a request to %s", path)
				}
			default:
				if c.arrives {
					t.Error("no span arrived")
				}
			}
		})
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
