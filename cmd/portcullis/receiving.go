package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

const (
	// maxReview is the longest review that is read. The API server takes objects of up to 3 MiB, and sends two of them.
	maxReview = 7 << 20
	// maxBodies is how much the requests that are read and worked on at one time may weigh together.
	maxBodies = 96 << 20
	// objectWeight is what one JSON object may grow to when it is decoded: the container of a pod takes half a kilobyte,
	// and is written in two bytes.
	objectWeight = 512
	// readTime bounds how long a body is read, and waited for: who asks for a review has given up after three seconds.
	readTime = 3 * time.Second
	readStep = 64 << 10
)

// reception reads requests before they are worked on, so that who sends slowly, or much, takes nobody else's place: each body
// whole, in a bounded time, up to a bounded length, and all of them together within a bounded weight.
type reception struct {
	slots    chan struct{} // of the requests that are worked on
	longest  int64         // body, in bytes
	weight   int64         // of all bodies
	bodies   *semaphore.Weighted
	patience time.Duration // how long a body is read, and waited for
	refused  *prometheus.CounterVec
}

func newReception(requests int, longest, weight int64, refused *prometheus.CounterVec) *reception {
	return &reception{slots: make(chan struct{}, requests), longest: longest, weight: weight, bodies: semaphore.NewWeighted(weight), patience: readTime, refused: refused}
}

// newRefusedMetric makes the metric of requests that were not worked on, and registers it.
func newRefusedMetric(registry prometheus.Registerer) *prometheus.CounterVec {
	m := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "portcullis_http_refused_total", Help: "Requests that were refused before they were worked on, by HTTP status.",
	}, []string{"status"})
	registry.MustRegister(m)
	return m
}

// refusal is why a request is not worked on.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

// before returns a handler that passes on requests with a JSON object for a body, which it has read.
func (r *reception) before(handler http.Handler) http.Handler {
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
		req.Body = io.NopCloser(bytes.NewReader(body))
		limited(r.slots, handler).ServeHTTP(w, req)
	})
}

// read returns a request's body, and how much of the weight it holds, which the caller gives back.
func (r *reception) read(w http.ResponseWriter, req *http.Request) (body []byte, held int64, err error) {
	if req.Method != http.MethodPost {
		return nil, 0, &refusal{http.StatusMethodNotAllowed, "the method is not POST"}
	}
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, 0, &refusal{http.StatusUnsupportedMediaType, "the Content-Type is not application/json"}
	}
	ctx, cancel := context.WithTimeout(req.Context(), r.patience)
	defer cancel()
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(r.patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, 0, fmt.Errorf("reading the body: %w", err)
	}
	take := func(weight int64) error {
		if weight > r.weight {
			return &refusal{http.StatusRequestEntityTooLarge, "the body has too many objects in it"}
		}
		if err := r.bodies.Acquire(ctx, weight); err != nil {
			return &refusal{http.StatusServiceUnavailable, "too much is being read at the moment"}
		}
		held += weight
		return nil
	}
	buffer := &bytes.Buffer{}
	for {
		if err := take(readStep); err != nil {
			return nil, held, err
		}
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
		return nil, held, &refusal{http.StatusBadRequest, "the body is no JSON object"}
	}
	return body, held, take(objectWeight * int64(bytes.Count(body, []byte{'{'})))
}
