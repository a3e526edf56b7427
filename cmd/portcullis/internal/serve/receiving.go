package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
)

const (
	// maxReview is the longest review that is read. The API server takes objects of up to 3 MiB, and sends two of them.
	maxReview = 7 << 20
	// maxBodies is how much of the requests that are read and worked on at one time is held.
	maxBodies = 96 << 20
	// readTime bounds how long a body is read: who asks for a review has given up after three seconds.
	readTime = 3 * time.Second
	readStep = 64 << 10

	// elementWeight is what one element of a list may grow to when it is decoded: the container of a pod takes half a kilobyte,
	// and is written in three bytes.
	elementWeight = 512
	// lightReview is the weight up to which a review is worked on at once: that of a pod with 150 ports.
	lightReview = 256 << 10
	// heavyReview is the weight of the heaviest review that is worked on, some 30,000 ports; maxHeavy that of all that are
	// beyond light, at one time.
	heavyReview = 48 << 20
	maxHeavy    = 96 << 20
)

// reception reads requests before they are worked on, so that who sends slowly, or much, takes nobody else's place: each body
// whole, in a bounded time, up to a bounded length, and all of them together within a bounded memory. Nobody waits for another
// one's body, and only who sends much waits for others who do.
type reception struct {
	slots    chan struct{} // of the requests that are worked on
	longest  int64         // body, in bytes
	bodies   *semaphore.Weighted
	heavy    *semaphore.Weighted // nil: whoever may ask may ask for as much as he likes
	patience time.Duration       // how long a body is read
	refused  *prometheus.CounterVec
}

func newReception(requests int, longest, bodies int64, refused *prometheus.CounterVec) *reception {
	return &reception{slots: make(chan struct{}, requests), longest: longest, bodies: semaphore.NewWeighted(bodies), patience: readTime, refused: refused}
}

// refusal is why a request is not worked on.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

// before returns a handler that passes on requests with a JSON object for a body, which it has read.
func (r *reception) before(handler http.Handler) http.Handler {
	work := limited(r.slots, handler)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, held, err := r.read(w, req)
		defer func() { r.bodies.Release(held) }()
		if err != nil {
			status := http.StatusBadRequest
			if why, ok := errors.AsType[*refusal](err); ok {
				status = why.status
			}
			r.refused.WithLabelValues(strconv.Itoa(status)).Inc()
			w.Header().Set("Connection", "close") // what is left of the body is not read
			http.Error(w, err.Error(), status)
			return
		}
		weight := elementWeight * int64(elements(body))
		switch {
		case r.heavy == nil || weight <= lightReview:
		case weight > heavyReview:
			r.refused.WithLabelValues(strconv.Itoa(http.StatusRequestEntityTooLarge)).Inc()
			tooHeavy(w, body)
			return
		case r.heavy.Acquire(req.Context(), weight) != nil:
			return // who asked has given up
		default:
			defer r.heavy.Release(weight)
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		work.ServeHTTP(w, req)
	})
}

// register serves a hook at its path and below a segment, whichever is accepted; the empty segment stands for the path
// alone. Other requests are answered as those to a path that is not served, and nothing of them is read.
func (r *reception) register(server crwebhook.Server, path string, accepts func(segment string) bool, hook http.Handler) {
	accepted := r.before(hook)
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !accepts(req.PathValue("segment")) {
			r.refused.WithLabelValues(strconv.Itoa(http.StatusNotFound)).Inc()
			w.Header().Set("Connection", "close")
			http.NotFound(w, req)
			return
		}
		accepted.ServeHTTP(w, req)
	})
	server.Register(path, handler)
	server.Register("/{segment}"+path, handler)
}

// tooHeavy refuses a review in its own form: an HTTP error would let the object pass wherever failurePolicy is Ignore.
func tooHeavy(w http.ResponseWriter, body []byte) {
	var asked struct {
		Request struct {
			UID types.UID `json:"uid"`
		} `json:"request"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		http.Error(w, "the body is no review: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: &admissionv1.AdmissionResponse{UID: asked.Request.UID, Result: &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusRequestEntityTooLarge, Reason: metav1.StatusReasonRequestEntityTooLarge,
			Message: fmt.Sprintf("the object has more than %d entries in its lists, which is more than can be judged; split it into several", heavyReview/elementWeight),
		}},
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // whoever asked may have gone
}

// elements counts what may be elements of lists, and is a field at times: the commas outside of strings.
func elements(body []byte) int {
	n, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case c == ',' && !inString:
			n++
		}
	}
	return n
}

// read returns a request's body, and how much of what all may hold it holds, which the caller gives back.
func (r *reception) read(w http.ResponseWriter, req *http.Request) (body []byte, held int64, err error) {
	if req.Method != http.MethodPost {
		return nil, 0, &refusal{http.StatusMethodNotAllowed, "the method is not POST"}
	}
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, 0, &refusal{http.StatusUnsupportedMediaType, "the Content-Type is not application/json"}
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(r.patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, 0, fmt.Errorf("reading the body: %w", err)
	}
	buffer := &bytes.Buffer{}
	for {
		if !r.bodies.TryAcquire(readStep) {
			return nil, held, &refusal{http.StatusServiceUnavailable, "too much is being read at the moment"}
		}
		held += readStep
		n, err := io.CopyN(buffer, req.Body, readStep)
		if int64(buffer.Len()) > r.longest {
			return nil, held, &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", r.longest)}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, held, &refusal{http.StatusRequestTimeout, "reading the body: " + err.Error()}
		}
		if n < readStep {
			break
		}
	}
	_ = control.SetReadDeadline(time.Time{}) // where it could be set it can be taken back
	body = buffer.Bytes()
	if start := bytes.TrimLeft(body, " \t\r\n"); len(start) == 0 || start[0] != '{' {
		return nil, held, &refusal{http.StatusBadRequest, "the body is not a JSON object"}
	}
	return body, held, nil
}
