package transparency

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"encoding/pem"
)

// others are webhooks of somebody else: one refuses what is annotated with example.com/refuse, and keeps what is annotated with
// example.com/wait until it may go on; one writes a label onto what is annotated with example.com/mutate. Both are called after
// ours, as their names come later in the alphabet.
type others struct {
	*httptest.Server
	goOn chan struct{}
}

func newOthers(t *testing.T) others {
	goOn := make(chan struct{})
	mux := http.NewServeMux()
	handle := func(path string, answer func(object) admissionv1.AdmissionResponse) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			var review admissionv1.AdmissionReview
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			response := answer(parse(review.Request.Object.Raw))
			response.UID = review.Request.UID
			review.Response, review.Request = &response, nil
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(review); err != nil {
				t.Log(err) // the API server has gone
			}
		})
	}
	annotated := func(o object, key string) bool {
		if o == nil || o["metadata"] == nil {
			return false
		}
		annotations, _ := o.metadata()["annotations"].(object)
		return annotations[key] != nil
	}
	handle("/refuse", func(o object) admissionv1.AdmissionResponse {
		if annotated(o, "example.com/wait") {
			select {
			case <-goOn:
			case <-t.Context().Done():
			}
		}
		if annotated(o, "example.com/refuse") {
			return admissionv1.AdmissionResponse{Result: &metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "no"}}
		}
		return admissionv1.AdmissionResponse{Allowed: true}
	})
	handle("/mutate", func(o object) admissionv1.AdmissionResponse {
		response := admissionv1.AdmissionResponse{Allowed: true}
		if annotated(o, "example.com/mutate") {
			patch := admissionv1.PatchTypeJSONPatch
			response.PatchType, response.Patch = &patch, []byte(`[{"op":"add","path":"/metadata/labels/mutated","value":"yes"}]`)
		}
		return response
	})
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	return others{s, goOn}
}

func (o others) register(t *testing.T, s *server) {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Certificate().Raw})
	webhook := func(path string) object {
		return object{
			"name": path + ".example.com", "clientConfig": object{"url": o.URL + "/" + path, "caBundle": ca},
			"rules":         []any{object{"apiGroups": []string{"", "apps", "batch"}, "apiVersions": []string{"v1"}, "operations": []string{"CREATE", "UPDATE"}, "resources": []string{"services", "pods", "deployments", "daemonsets", "statefulsets", "jobs"}}},
			"failurePolicy": "Fail", "timeoutSeconds": 30, "sideEffects": "None", "admissionReviewVersions": []string{"v1"},
		}
	}
	const path = "/apis/admissionregistration.k8s.io/v1/"
	for kind, hook := range map[string]string{"ValidatingWebhookConfiguration": "refuse", "MutatingWebhookConfiguration": "mutate"} {
		resource := map[string]string{"refuse": "validatingwebhookconfigurations", "mutate": "mutatingwebhookconfigurations"}[hook]
		s.must(t, s.do("POST", path+resource, "", object{
			"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": object{"name": "zz-" + hook}, "webhooks": []any{webhook(hook)},
		}))
	}
}
