package transparency

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// lateWatch is a proxy between a replica and the API server that can hold back what the API server sends on watches. Reads and
// writes pass at once.
type lateWatch struct {
	*httptest.Server
	until atomic.Int64 // nanoseconds since 1970
	held  atomic.Int64 // times that something was held back
}

func newLateWatch(t *testing.T, r *rig.Rig) *lateWatch {
	t.Helper()
	config, err := r.RESTConfigFor(rig.Account, "system:serviceaccounts", "system:serviceaccounts:portcullis-system", "system:authenticated")
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	w := &lateWatch{}
	w.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Query().Has("watch") {
				r.Body = lateBody{r.Body, r.Request.Context(), w}
			}
			return nil
		},
		// As a client sees it whose API server is away.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(func() {
		w.CloseClientConnections()
		w.Close()
	})
	return w
}

// replica runs a replica whose watches can be held back.
func (w *lateWatch) replica(t *testing.T, r *rig.Rig, config string) *rig.Replica {
	t.Helper()
	return r.ReplicaAt(t, config, w.URL)
}

// hold holds back what comes on watches for a while. It does not wait.
func (w *lateWatch) hold(d time.Duration) { w.until.Store(time.Now().Add(d).UnixNano()) }

type lateBody struct {
	io.ReadCloser
	ctx   context.Context
	watch *lateWatch
}

func (b lateBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	for isFirst := true; ; isFirst = false {
		d := time.Until(time.Unix(0, b.watch.until.Load()))
		if d <= 0 {
			return n, err
		}
		if isFirst {
			b.watch.held.Add(1)
		}
		select {
		case <-b.ctx.Done():
			return n, err
		case <-time.After(d):
		}
	}
}
