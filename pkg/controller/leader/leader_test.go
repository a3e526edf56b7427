package leader

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
)

// leases is an API server that keeps one Lease. It is a transport, so that what is tested has a client of its own.
type leases struct {
	mu      sync.Mutex
	stored  *coordinationv1.Lease
	version int
	lost    bool // by no fault of the replicas
}

// line is one replica's way to leases: it can be cut, and then requests hang as long as they may.
type line struct {
	to  *leases
	cut atomic.Bool
}

func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.cut.Load() {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	status, object := l.to.serve(r.Method, body)
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: r,
	}, nil
}

func (l *leases) serve(method string, body []byte) (int, any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case method != http.MethodPost && l.stored == nil:
		return http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound)
	case method == http.MethodGet:
		return http.StatusOK, l.stored
	}
	lease := &coordinationv1.Lease{}
	if err := json.Unmarshal(body, lease); err != nil {
		return http.StatusBadRequest, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest)
	}
	if method == http.MethodPost && l.stored != nil {
		return http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonAlreadyExists)
	}
	if method == http.MethodPut && lease.ResourceVersion != l.stored.ResourceVersion {
		return http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict)
	}
	l.version++
	lease.ResourceVersion = fmt.Sprint(l.version)
	l.stored = lease
	return http.StatusOK, lease
}

func failure(code int32, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: reason, Code: code,
	}
}

var asJSON = rest.ContentConfig{ContentType: "application/json"}

// replica stands for election.
type replica struct {
	*Runner
	line  line
	terms atomic.Int32
	leads atomic.Bool
	twice atomic.Bool // it began to lead beside another one
}

// newReplica is one that counts in total while it leads.
func newReplica(to *leases, name string, total *atomic.Int32) *replica {
	r := &replica{line: line{to: to}}
	r.Runner = &Runner{
		Election: &Election{
			Config: &rest.Config{Host: "http://api", Transport: &r.line, ContentConfig: asJSON}, Namespace: "portcullis-system", Name: "portcullis", Identity: name,
		},
		Tasks: []func(context.Context){func(ctx context.Context) {
			if total.Add(1) != 1 {
				r.twice.Store(true)
			}
			r.terms.Add(1)
			r.leads.Store(true)
			<-ctx.Done()
			r.leads.Store(false)
			total.Add(-1)
		}},
	}
	return r
}

// electing runs a test with two replicas, of which a is the first that leads.
func electing(t *testing.T, test func(t *testing.T, api *fake.Cluster, a, other *replica, endOfA func())) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		var total atomic.Int32
		to := &leases{}
		a, other := newReplica(to, "a", &total), newReplica(to, "b", &total)
		end := api.Start(a.Start)
		fake.Pass(time.Second)
		api.Start(other.Start)
		fake.Pass(time.Minute)
		if !a.leads.Load() || other.leads.Load() || a.NeedLeaderElection() {
			t.Fatalf("a leads: %v, the other one: %v", a.leads.Load(), other.leads.Load())
		}
		test(t, api, a, other, end)
		if lost := to.lost; !lost && (a.twice.Load() || other.twice.Load()) {
			t.Error("both lead at the same time")
		}
	})
}

// TestElection: one of two leads, as long as it can.
func TestElection(t *testing.T) {
	t.Run("nothing happens", func(t *testing.T) {
		electing(t, func(t *testing.T, _ *fake.Cluster, a, other *replica, _ func()) {
			fake.Pass(time.Hour)
			if a.terms.Load() != 1 || other.terms.Load() != 0 {
				t.Errorf("%d and %d terms", a.terms.Load(), other.terms.Load())
			}
		})
	})
	t.Run("it stops", func(t *testing.T) {
		electing(t, func(t *testing.T, _ *fake.Cluster, a, other *replica, end func()) {
			end()
			fake.Pass(6 * time.Second) // it gives the Lease back, and others look every few seconds
			if a.leads.Load() || !other.leads.Load() {
				t.Errorf("a leads: %v, the other one: %v", a.leads.Load(), other.leads.Load())
			}
		})
	})
	t.Run("it cannot reach the API server", func(t *testing.T) {
		electing(t, func(t *testing.T, _ *fake.Cluster, a, other *replica, _ func()) {
			a.line.cut.Store(true)
			fake.Pass(15 * time.Second)
			if a.leads.Load() {
				t.Error("it leads still")
			}
			fake.Pass(10 * time.Second)
			if !other.leads.Load() {
				t.Error("nobody leads")
			}
			a.line.cut.Store(false)
			fake.Pass(time.Minute)
			other.line.cut.Store(true)
			fake.Pass(time.Minute)
			if !a.leads.Load() || a.terms.Load() != 2 {
				t.Errorf("leads: %v, in its term %d: want it to have stood for election again", a.leads.Load(), a.terms.Load())
			}
		})
	})
	t.Run("the line is cut for a moment", func(t *testing.T) {
		electing(t, func(t *testing.T, _ *fake.Cluster, a, other *replica, _ func()) {
			a.line.cut.Store(true)
			fake.Pass(5 * time.Second)
			a.line.cut.Store(false)
			fake.Pass(time.Minute)
			if a.terms.Load() != 1 || other.terms.Load() != 0 {
				t.Errorf("%d and %d terms", a.terms.Load(), other.terms.Load())
			}
		})
	})
	t.Run("the API server is down for all", func(t *testing.T) {
		electing(t, func(t *testing.T, _ *fake.Cluster, a, other *replica, _ func()) {
			a.line.cut.Store(true)
			other.line.cut.Store(true)
			fake.Pass(time.Hour)
			if a.leads.Load() || other.leads.Load() {
				t.Error("somebody leads")
			}
			a.line.cut.Store(false)
			other.line.cut.Store(false)
			fake.Pass(time.Minute)
			if a.leads.Load() == other.leads.Load() {
				t.Error("nobody leads, or both")
			}
		})
	})
	t.Run("somebody deletes the Lease", func(t *testing.T) {
		electing(t, func(t *testing.T, _ *fake.Cluster, a, other *replica, _ func()) {
			a.line.to.mu.Lock()
			a.line.to.stored, a.line.to.lost = nil, true
			a.line.to.mu.Unlock()
			fake.Pass(time.Minute)
			if a.leads.Load() == other.leads.Load() {
				t.Error("nobody leads, or both")
			}
		})
	})
}

// TestElectionBegins: who has not seen everything does not stand for election.
func TestElectionBegins(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		var total atomic.Int32
		r, seen, seen2 := newReplica(&leases{}, "a", &total), make(chan struct{}), make(chan struct{})
		r.After = []<-chan struct{}{seen, seen2}
		api.Start(r.Start)
		fake.Pass(time.Hour)
		if r.leads.Load() || r.line.to.stored != nil {
			t.Error("it stands for election")
		}
		close(seen2)
		fake.Pass(time.Hour)
		if r.leads.Load() || r.line.to.stored != nil {
			t.Error("it stands for election")
		}
		close(seen)
		fake.Pass(time.Second)
		if !r.leads.Load() {
			t.Error("it does not lead")
		}
		if holder := r.line.to.stored.Spec.HolderIdentity; holder == nil || *holder != "a" || *r.line.to.stored.Spec.LeaseDurationSeconds != 15 {
			t.Errorf("%+v", r.line.to.stored.Spec)
		}
	})
}

// TestNoElection: the only replica leads at once, all tasks side by side, until it stops.
func TestNoElection(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		var begun, ended atomic.Int32
		task := func(ctx context.Context) {
			begun.Add(1)
			<-ctx.Done()
			ended.Add(1)
		}
		short := func(context.Context) { begun.Add(1) }
		end := api.Start((&Runner{Tasks: []func(context.Context){task, short, task}}).Start)
		fake.Pass(0)
		if begun.Load() != 3 || ended.Load() != 0 {
			t.Errorf("%d tasks have begun, %d have ended", begun.Load(), ended.Load())
		}
		end()
		if ended.Load() != 2 {
			t.Errorf("it has stopped before %d of its tasks", 2-ended.Load())
		}
	})
}

// TestStopsBeforeItBegins: a replica may stop before it has seen everything.
func TestStopsBeforeItBegins(t *testing.T) {
	fake.Run(t, func(t *testing.T, api *fake.Cluster) {
		end := api.Start((&Runner{After: []<-chan struct{}{make(chan struct{})}, Tasks: []func(context.Context){func(context.Context) { t.Error("it leads") }}}).Start)
		fake.Pass(time.Minute)
		end()
	})
}

// TestElectionConfig: what cannot be meant is an error, and not a replica that never leads.
func TestElectionConfig(t *testing.T) {
	for _, c := range []struct {
		name     string
		election Election
		want     string
	}{
		{"no identity", Election{Config: &rest.Config{Host: "http://api"}}, "leader election"},
		{"no address", Election{Config: &rest.Config{Host: "http://[::1"}, Identity: "a"}, "a client for leases"},
	} {
		err := (&Runner{Election: &c.election}).Start(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
