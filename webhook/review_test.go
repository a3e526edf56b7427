package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// FuzzReview sends any bytes to every hook, as they come over HTTP: there is an answer, and what it costs is in proportion to
// what was sent.
func FuzzReview(f *testing.F) {
	b := newBench(f, "")
	b.holds(hostPortPod("holder", 8080))
	for kind, object := range map[string]any{
		"Pod": hostPortPod("p", 8080), "Service": nodePortService("s", 0, 30001), "Deployment": workload("Deployment", "d", 8080),
	} {
		req := creates(kind, object)
		review, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &req})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(review)
		f.Add(review[:len(review)/2])
		f.Add(bytes.ReplaceAll(review, []byte("8080"), []byte("1e400")))
		f.Add(bytes.Replace(review, []byte(`"containers":[`), []byte(`"containers":[`+strings.Repeat("{},", 2000)), 1))
		f.Add(bytes.Replace(review, []byte(`"spec":{`), []byte(`"spec":{"x":`+strings.Repeat("[", 20000)), 1))
	}
	f.Add([]byte(`{"request":null}`))
	const each, fixed = 2048, 1 << 20 // bytes: for each that was sent, and for whatever was sent
	f.Fuzz(func(t *testing.T, body []byte) {
		for path, hook := range b.Hooks() {
			var before, after runtime.MemStats
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			runtime.ReadMemStats(&before)
			(&admission.Webhook{Handler: hook, RecoverPanic: new(false)}).ServeHTTP(w, r) // what panics fails the test
			runtime.ReadMemStats(&after)
			var answer admissionv1.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Response == nil {
				t.Errorf("%s: %d %q, %v", path, w.Code, w.Body, err)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > each*uint64(len(body))+fixed {
				t.Errorf("%s: %d bytes were allocated for %d", path, grown, len(body))
			}
		}
	})
}
