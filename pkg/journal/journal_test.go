package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// newAPI is an API server in memory, which refuses stale resourceVersions as the real one does.
func newAPI(t testing.TB, f interceptor.Funcs) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(f).Build()
}

// replica is a journal with what it has merged.
type replica struct {
	*Journal
	mu     sync.Mutex
	merged []string
}

func newReplica(api client.Client, name string, now func() time.Time) *replica {
	r := &replica{}
	r.Journal = New(api, api, "portcullis-system", name, func(entries []Entry) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range entries {
			r.merged = append(r.merged, e.Owner.Name)
		}
	}, now)
	return r
}

func (r *replica) has(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.merged, name)
}

func entry(name string, claims ...ports.Claim) Entry {
	return Entry{Owner: ports.Owner{Ref: ports.Ref{APIVersion: "v1", Kind: "Service", Namespace: "default", Name: name}}, UID: "u-1", Claims: claims}
}

func due() bool { return true }

// TestTheLaterHasSeenTheEarlier: of two entries, whichever replicas append them and however they race, the later one's
// replica has merged the earlier one when Append returns.
func TestTheLaterHasSeenTheEarlier(t *testing.T) {
	from := seed.Of(t)
	for round := range seed.Rounds(10, 200) {
		api := newAPI(t, interceptor.Funcs{})
		var all sync.WaitGroup
		const writers, each = 3, 10
		replicas := make([]*replica, 3)
		for i := range replicas {
			replicas[i] = newReplica(api, fmt.Sprint("r", i), time.Now)
		}
		var mu sync.Mutex
		seenAtReturn := map[string]map[string]bool{}
		for i, r := range replicas {
			for w := range writers {
				random := rand.New(rand.NewPCG(from+uint64(round), uint64(i*writers+w)))
				all.Go(func() {
					for n := range each {
						name := fmt.Sprintf("r%d-%d-%d", i, w, n)
						if random.IntN(2) == 0 {
							time.Sleep(time.Duration(random.IntN(200)) * time.Microsecond)
						}
						if err := r.Append(t.Context(), entry(name), due); err != nil {
							t.Errorf("%s: %v", name, err)
							return
						}
						seen := map[string]bool{}
						r.mu.Lock()
						for _, m := range r.merged {
							seen[m] = true
						}
						r.mu.Unlock()
						mu.Lock()
						seenAtReturn[name] = seen
						mu.Unlock()
					}
				})
			}
		}
		all.Wait()
		last := newReplica(api, "last", time.Now)
		if err := last.Pull(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(last.merged) != 3*writers*each {
			t.Fatalf("%d entries are stored, want %d", len(last.merged), 3*writers*each)
		}
		for i, later := range last.merged {
			for _, earlier := range last.merged[:i] {
				if of, _, _ := strings.Cut(later, "-"); !strings.HasPrefix(earlier, of+"-") && !seenAtReturn[later][earlier] {
					t.Fatalf("round %d: %s comes after %s and has not seen it", round, later, earlier)
				}
			}
		}
	}
}

// TestEntries: what is written is what others read, as far as they need it.
func TestEntries(t *testing.T) {
	api := newAPI(t, interceptor.Funcs{})
	claimOf := func(kind ports.Kind, socket string, scope ports.Scope) ports.Claim {
		return ports.Claim{Kind: kind, Socket: ports.MustParseSocket(socket), Scope: scope}
	}
	e := entry("a",
		claimOf(ports.NodePort, "0.0.0.0:30080/TCP", ports.EverywhereScope()),
		claimOf(ports.HostPort, "*:9100/UDP", ports.NodeScope("n1")),
		claimOf(ports.HostPort, "[::]:9101/SCTP", ports.EachScope([]string{"n1", "n2"})),
		claimOf(ports.ExternalIP, "192.0.2.1:80/TCP", ports.AddressScope()),
		claimOf(ports.HostNetwork, "*:1/TCP", ports.AmongScope(2, []string{"n1"})),
	)
	e.After, e.Claims[0].Address = 7, ports.AllIPv4().WithoutLoopback()
	e.Owner.Controller = &ports.Owner{Ref: ports.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "default", Name: "d"}}
	if err := newReplica(api, "one", time.Now).Append(t.Context(), e, due); err != nil {
		t.Fatal(err)
	}
	var got []Entry
	other := New(api, api, "portcullis-system", "two", func(entries []Entry) { got = entries }, time.Now)
	if err := other.Pull(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := e
	want.Claims = slices.Clone(e.Claims)
	want.Claims[0].Address = ports.AllIPv4() // more than it was, never less
	want.Claims[2].Scope = ports.EverywhereScope()
	want.Claims[4].Scope = ports.Scope{}
	text := func(e Entry) string {
		return fmt.Sprintf("%v %v %s %d %v", e.Owner.Ref, e.Owner.Controller.Ref, e.UID, e.After, e.Claims)
	}
	if len(got) != 1 {
		t.Fatalf("%d entries", len(got))
	}
	if diff := cmp.Diff(text(want), text(got[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if addr, ok := got[0].Claims[3].Address.Single(); !ok || addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("address %v", got[0].Claims[3].Address)
	}
}

// TestOneWriteForAll: requests that append while a write is under way share the next one, and what is known is not written.
func TestOneWriteForAll(t *testing.T) {
	var writes int
	release, started := make(chan struct{}), make(chan struct{}, 100)
	slow := func(ctx context.Context, c client.WithWatch, o client.Object, do func() error) error {
		writes++
		started <- struct{}{}
		<-release
		return do()
	}
	api := newAPI(t, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return slow(ctx, c, o, func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return slow(ctx, c, o, func() error { return c.Update(ctx, o, opts...) })
		},
	})
	r := newReplica(api, "one", time.Now)
	var all sync.WaitGroup
	add := func(name string) {
		all.Go(func() {
			if err := r.Append(t.Context(), entry(name), due); err != nil {
				t.Error(err)
			}
		})
	}
	add("first")
	<-started
	for i := range 20 {
		add(fmt.Sprint("n", i))
	}
	for len(func() []*request { r.Journal.mu.Lock(); defer r.Journal.mu.Unlock(); return r.waiting }()) < 20 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	all.Wait()
	if writes != 2 || len(r.state.Entries) != 21 {
		t.Errorf("%d writes of %d entries, want 2 of 21", writes, len(r.state.Entries))
	}
	if err := r.Append(t.Context(), entry("known"), func() bool { return false }); err != nil || writes != 2 {
		t.Errorf("%v, %d writes: what is known was written", err, writes)
	}
}

// TestFailures: an entry that could not be written is an error, in bounded time, and the next one is written.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection refused")
		var fails error
		var hangs bool
		api := newAPI(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if hangs {
				<-ctx.Done()
				return ctx.Err()
			}
			if fails != nil {
				return fails
			}
			return c.Create(ctx, o, opts...)
		}})
		r := newReplica(api, "one", time.Now)
		fails = down
		if err := r.Append(t.Context(), entry("a"), due); !errors.Is(err, down) {
			t.Errorf("%v", err)
		}
		fails, hangs = nil, true
		began := time.Now()
		if err := r.Append(t.Context(), entry("a"), due); err == nil || time.Since(began) != writeTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		waiting, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Append(waiting, entry("b"), due); err == nil {
			t.Log("written although nobody waits") // either will do
		}
		hangs = false
		if err := r.Append(t.Context(), entry("c"), due); err != nil {
			t.Error(err)
		}
	})
}

// TestEntriesEnd: an entry stays for as long as the others need to read it, and there is a bound.
func TestEntriesEnd(t *testing.T) {
	clock := time.Unix(0, 0)
	api := newAPI(t, interceptor.Funcs{})
	r := newReplica(api, "one", func() time.Time { return clock })
	add := func(name string) int {
		if err := r.Append(t.Context(), entry(name), due); err != nil {
			t.Fatal(err)
		}
		return len(r.state.Entries)
	}
	add("a")
	clock = clock.Add(keepTime - 1)
	if n := add("b"); n != 2 {
		t.Errorf("%d entries just before the end", n)
	}
	clock = clock.Add(1)
	if n := add("c"); n != 2 {
		t.Errorf("%d entries at the end of the first", n)
	}
	// Another replica, whose clock is another one, keeps what it has just read.
	other := newReplica(api, "two", func() time.Time { return clock.Add(time.Hour) })
	if err := other.Append(t.Context(), entry("d"), due); err != nil || len(other.state.Entries) != 3 {
		t.Errorf("%v, %d entries", err, len(other.state.Entries))
	}
}

// TestMissed: a replica that was stopped for so long that entries went before it has read them lets nothing through, and ends.
func TestMissed(t *testing.T) {
	for _, c := range []struct {
		name   string
		slept  time.Duration
		missed bool
	}{
		{"shorter than entries stay", keepTime - 1, false}, {"longer", keepTime, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := time.Unix(0, 0)
			api := newAPI(t, interceptor.Funcs{})
			now := func() time.Time { return clock }
			one, two := newReplica(api, "one", now), newReplica(api, "two", now)
			if err := errors.Join(one.Append(t.Context(), entry("a"), due), two.Pull(t.Context()), one.Append(t.Context(), entry("b"), due)); err != nil {
				t.Fatal(err)
			}
			clock = clock.Add(c.slept)
			if err := one.Append(t.Context(), entry("c"), due); err != nil {
				t.Fatal(err)
			}
			err := two.Append(t.Context(), entry("d"), due)
			if errors.Is(err, errMissed) != c.missed || two.has("b") == c.missed || !two.has("c") {
				t.Errorf("%v, merged %v", err, two.merged)
			}
			if !c.missed {
				return
			}
			if err := two.Append(t.Context(), entry("e"), due); !errors.Is(err, errMissed) {
				t.Errorf("the next one: %v", err)
			}
			if err := two.Start(t.Context()); !errors.Is(err, errMissed) {
				t.Errorf("it goes on: %v", err)
			}
			if err := newReplica(api, "three", now).Append(t.Context(), entry("f"), due); err != nil {
				t.Errorf("started anew: %v", err)
			}
		})
	}
}

// TestFull: a ConfigMap holds so much and no more. What every replica has read makes room, and nothing else does.
func TestFull(t *testing.T) {
	clock := time.Unix(0, 0)
	api := newAPI(t, interceptor.Funcs{})
	r := newReplica(api, "one", func() time.Time { return clock })
	many := make([]ports.Claim, 2*entryMost)
	for i := range many {
		many[i] = ports.Claim{Kind: ports.HostPort, Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(i + 1), Address: ports.AllIPv6()}, Scope: ports.NodeScope(strings.Repeat("n", 60))}
	}
	var err error
	n := 0
	of := func(namespace int, e Entry) Entry {
		e.Owner.Namespace = fmt.Sprint("namespace-", namespace)
		return e
	}
	for ; err == nil && n < 100; n++ {
		err = r.Append(t.Context(), of(n, entry(fmt.Sprint("n", n), many...)), due)
	}
	if !errors.Is(err, errFull) || n < 5 {
		t.Fatalf("after %d: %v", n, err)
	}
	if n := sizeOf(r.state); n > mostBytes || n < mostBytes/2 {
		t.Errorf("%d bytes: a ConfigMap holds 1 MiB", n)
	}
	if packed, err := r.state.encode(); err != nil || len(packed) > mostBytes/4 {
		t.Errorf("%d bytes packed, %v", len(packed), err)
	}
	clock = clock.Add(keepLeast)
	if err := r.Append(t.Context(), entry("later", many[0]), due); err != nil {
		t.Errorf("later: %v", err)
	}
	clock = clock.Add(keepLeast)
	var all sync.WaitGroup
	for i := range 5 { // at once: more than one write
		all.Go(func() {
			if err := r.Append(t.Context(), of(i, entry(fmt.Sprint("m", i), many...)), due); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// sizeOf is how long a state is before it is packed.
func sizeOf(s state) (n int) {
	for _, e := range s.Entries {
		n += e.size
	}
	return n
}

// TestPace: what is written in a second is bounded, however many come, and all of them share the writes that there are.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, writes, began := 0, 0, time.Now()
		count := func(object client.Object) {
			size := len(object.(*corev1.ConfigMap).BinaryData[dataKey])
			// What was written before has been waited for.
			if most := int(time.Since(began).Seconds() * bytesPerSecond); written > most {
				t.Errorf("%d bytes were written within %s, want at most %d", written, time.Since(began), most)
			}
			written += size
			writes++
		}
		api := newAPI(t, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, o ...client.CreateOption) error {
				count(object)
				return c.Create(ctx, object, o...)
			},
			Update: func(ctx context.Context, c client.WithWatch, object client.Object, o ...client.UpdateOption) error {
				count(object)
				return c.Update(ctx, object, o...)
			},
		})
		r := newReplica(api, "one", time.Now)
		var all sync.WaitGroup
		const appends = 2000
		for i := range appends {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // a thousand in a second
				e := entry(fmt.Sprint("n", i), ports.Claim{Kind: ports.HostPort, Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(i + 1), Address: ports.AllAddresses()}})
				e.Owner.Namespace, e.UID = fmt.Sprint("ns", i%10), uuid.NewUUID()
				if err := r.Append(t.Context(), e, due); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		t.Logf("%d appended by %d writes of %d bytes in %s", appends, writes, written, time.Since(began))
		if writes > appends/10 {
			t.Errorf("%d appended by %d writes, want at most %d", appends, writes, appends/10)
		}
	})
}

// TestFullNamespace: who fills the share of a namespace keeps nobody else from writing, not even in the same write.
func TestFullNamespace(t *testing.T) {
	clock := time.Unix(0, 0)
	r := newReplica(newAPI(t, interceptor.Funcs{}), "one", func() time.Time { return clock })
	many := make([]ports.Claim, entryMost)
	for i := range many {
		many[i] = ports.Claim{Kind: ports.HostPort, Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(i + 1), Address: ports.AllAddresses()}}
	}
	var all sync.WaitGroup
	var refused atomic.Int32
	for i := range 100 {
		all.Go(func() {
			if err := r.Append(t.Context(), entry(fmt.Sprint("n", i), many...), due); errors.Is(err, errFull) {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
		if i%10 == 0 {
			all.Go(func() {
				other := entry(fmt.Sprint("other", i), many[0])
				other.Owner.Namespace = "other"
				if err := r.Append(t.Context(), other, due); err != nil {
					t.Errorf("in another namespace: %v", err)
				}
			})
		}
	}
	all.Wait()
	if n := refused.Load(); n == 0 || n == 100 {
		t.Errorf("%d of 100 entries of one namespace were refused", n)
	}
	if n := sizeOf(r.state); n > mostBytes/2 {
		t.Errorf("%d bytes: of one namespace and ten small entries", n)
	}
	clock = clock.Add(keepLeast)
	if err := r.Append(t.Context(), entry("later", many...), due); err != nil {
		t.Errorf("later: %v", err)
	}
}

// TestFullNamespaces: who fills the journal from many namespaces keeps nobody else from a few ports.
func TestFullNamespaces(t *testing.T) {
	clock := time.Unix(0, 0)
	r := newReplica(newAPI(t, interceptor.Funcs{}), "one", func() time.Time { return clock })
	many := make([]ports.Claim, entryMost)
	for i := range many {
		many[i] = ports.Claim{Kind: ports.HostPort, Socket: ports.Socket{Protocol: ports.TCP, Port: uint16(i + 1), Address: ports.AllAddresses()}}
	}
	appended := func(namespace, name string, claims []ports.Claim) error {
		e := entry(name, claims...)
		e.Owner.Namespace = namespace
		return r.Append(t.Context(), e, due)
	}
	refused := 0
	for i := range 40 {
		if err := appended(fmt.Sprint("theirs-", i%10), fmt.Sprint("n", i), many); errors.Is(err, errFull) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("all of it was let through")
	}
	for i := range 40 {
		if err := appended(fmt.Sprint("other-", i), "few", many[:50]); err != nil {
			t.Errorf("50 ports of another namespace: %v", err)
		}
	}
	if err := appended("other-0", "more", many[:50]); !errors.Is(err, errFull) {
		t.Errorf("50 more of one that has had its share: %v", err)
	}
	clock = clock.Add(keepLeast)
	if err := appended("other-0", "later", many); err != nil {
		t.Errorf("later: %v", err)
	}
	if n := sizeOf(r.state); n > mostBytes {
		t.Errorf("%d bytes", n)
	}
}

// TestWithdraw: what is withdrawn the others hear of within two seconds, or with the next entry.
func TestWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t, interceptor.Funcs{})
		one := newReplica(api, "one", time.Now)
		var heard []string
		two := New(api, api, "portcullis-system", "two", func(entries []Entry) {
			for _, e := range entries {
				heard = append(heard, fmt.Sprint(e.Owner.Name, e.Withdrawn))
			}
		}, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- one.Start(ctx) }()
		if err := one.Append(t.Context(), entry("a"), due); err != nil {
			t.Fatal(err)
		}
		one.Withdraw(entry("a"))
		time.Sleep(pullEvery)
		synctest.Wait()
		for range 3 * withdrawnMost {
			one.Withdraw(entry("b"))
		}
		if err := errors.Join(one.Append(t.Context(), entry("c"), due), two.Pull(t.Context())); err != nil {
			t.Fatal(err)
		}
		if len(heard) != 2+withdrawnMost+1 || heard[0] != "afalse" || heard[1] != "atrue" || heard[2] != "btrue" || heard[len(heard)-1] != "cfalse" {
			t.Errorf("%d: %q", len(heard), heard)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestSpoilt: a ConfigMap that was deleted or overwritten begins anew, and nobody misses what is appended then. Who may have missed
// what was overwritten ends.
func TestSpoilt(t *testing.T) {
	for name, spoil := range map[string]func(context.Context, client.Client, *corev1.ConfigMap) error{
		"deleted": func(ctx context.Context, c client.Client, m *corev1.ConfigMap) error { return c.Delete(ctx, m) },
		"overwritten": func(ctx context.Context, c client.Client, m *corev1.ConfigMap) error {
			m.BinaryData = map[string][]byte{dataKey: []byte("nonsense")}
			return c.Update(ctx, m)
		},
		"emptied": func(ctx context.Context, c client.Client, m *corev1.ConfigMap) error {
			m.BinaryData = nil
			return c.Update(ctx, m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			api := newAPI(t, interceptor.Funcs{})
			one, two := newReplica(api, "one", time.Now), newReplica(api, "two", time.Now)
			for _, r := range []*replica{one, two, one} {
				if err := r.Append(t.Context(), entry(r.self), due); err != nil {
					t.Fatal(err)
				}
			}
			m := &corev1.ConfigMap{}
			if err := errors.Join(api.Get(t.Context(), one.key, m), spoil(t.Context(), api, m)); err != nil {
				t.Fatal(err)
			}
			if err := one.Append(t.Context(), entry("after"), due); err != nil {
				t.Fatal(err)
			}
			if err := two.Append(t.Context(), entry("last"), due); errors.Is(err, errMissed) != (name != "deleted") {
				t.Error(err)
			}
			if !two.has("after") {
				t.Errorf("merged %v", two.merged)
			}
		})
	}
}

// TestStart: an idle replica follows the others.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t, interceptor.Funcs{})
		one, two := newReplica(api, "one", time.Now), newReplica(api, "two", time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- two.Start(ctx) }()
		synctest.Wait()
		if err := one.Append(t.Context(), entry("a"), due); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pullEvery)
		synctest.Wait()
		if !two.has("a") || two.NeedLeaderElection() {
			t.Errorf("merged %v", two.merged)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
