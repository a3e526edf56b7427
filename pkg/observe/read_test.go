package observe

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// slowReader is an API server that answers each read after a while, with a Service without ports.
type slowReader struct {
	client.Reader
	takes         time.Duration
	now, most, of atomic.Int32
}

func (r *slowReader) Get(ctx context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	r.of.Add(1)
	n := r.now.Add(1)
	defer r.now.Add(-1)
	for m := r.most.Load(); n > m && !r.most.CompareAndSwap(m, n); m = r.most.Load() {
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.takes):
	}
	object.SetName(key.Name)
	object.SetNamespace(key.Namespace)
	return nil
}

// TestReadsAreBounded: few at once, a second each, and one for all who ask for the same object.
func TestReadsAreBounded(t *testing.T) {
	for _, c := range []struct {
		why                     string
		takes                   time.Duration
		objects, asked          int // how many objects, and how often each
		reads, atOnce, answered int
		within                  time.Duration
	}{
		{"one object, many who ask", 100 * time.Millisecond, 1, 50, 1, 1, 50, 100 * time.Millisecond},
		{"many objects", 100 * time.Millisecond, 40, 1, 40, 16, 40, 300 * time.Millisecond},
		{"an API server that does not answer", time.Hour, 3, 2, 3, 3, 0, time.Second},
		{"more than there is time for", 700 * time.Millisecond, 32, 1, 32, 16, 16, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			live := &slowReader{takes: c.takes}
			o := New(nil, Options{Live: live, Scheme: manifest.Scheme()})
			begin := time.Now()
			var all sync.WaitGroup
			var answered atomic.Int32
			for i := range c.objects * c.asked {
				ref := ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "ns", Name: fmt.Sprint("s", i%c.objects)}
				all.Go(func() {
					if seen, err := o.Read(t.Context(), ref); err == nil && seen.Owner.Ref == ref {
						answered.Add(1)
					}
				})
			}
			all.Wait()
			if took := time.Since(begin); took > c.within {
				t.Errorf("%s: it took %v", c.why, took)
			}
			if int(live.of.Load()) != c.reads || int(live.most.Load()) != c.atOnce || int(answered.Load()) != c.answered {
				t.Errorf("%s: %d reads, %d at once, %d answers", c.why, live.of.Load(), live.most.Load(), answered.Load())
			}
		})
	}
}
