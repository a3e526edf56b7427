// Package journal lets the replicas of the webhook know what each of them admits, before the API server has stored it.
//
// A Journal is one replica's view of one ConfigMap, which all replicas write. Append writes an Entry with the
// resourceVersion of the state that the replica knows, so that the write succeeds only if it has seen everything before:
//
//	Append: update ConfigMap (resourceVersion) -> stored: the entry comes after all that this replica has merged
//	                                           -> 409:    read, merge what others have appended, try again
//
// What others have appended goes to the function that New is given, webhook.Handlers.Merge: before an Append returns, and
// every two seconds from Start. Of two entries for one port the later one has therefore seen the earlier one, whichever
// replica wrote them and however late their watches are: the later request yields, before it is written. Requests of one
// replica that append at the same time share a write. Withdraw takes back an entry whose request is rejected later.
package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

const (
	// Name is the name of the ConfigMap.
	Name = "portcullis-journal"

	pullEvery = 2 * time.Second // how often a replica reads what others have appended
	keepTime  = time.Minute     // how long an entry stays: replicas have read it by then
	keepLeast = 3 * pullEvery   // how long it stays in any case: a replica that is idle reads it
	mostBytes = 800 << 10       // of all entries; beyond that the oldest go. A ConfigMap holds 1 MiB
	// What the entries of one namespace may take of it: nobody who may write in one keeps the others from writing.
	namespaceBytes = mostBytes / 4
	// What is left for namespaces that have taken no more than smallBytes of it in the last seconds, some 50 ports: who has several
	// namespaces does not keep the others from writing either.
	reservedBytes = mostBytes / 4
	smallBytes    = 4 << 10
	batchMost     = 1000 // claims that are written at once
	// bytesPerSecond is how much one replica writes: etcd keeps every version of the ConfigMap until the API server compacts it,
	// which is every five minutes, and with its default quota of 2 GiB stops the cluster when it is full. Who comes sooner
	// shares the next write.
	bytesPerSecond = 256 << 10
	withdrawnMost  = 100 // entries that wait to be withdrawn
	entryMost      = 500 // claims of one entry; of an object that has more, the others are not written
	writeTime      = 1500 * time.Millisecond
	attempts       = 20      // to write
	leap           = 1 << 32 // in the numbers of entries, where the journal begins anew
	dataKey        = "entries"
	fieldOwner     = client.FieldOwner("portcullis")
)

// Entry is a write that a replica is about to let through.
type Entry struct {
	Owner     ports.Owner
	UID       types.UID // "" while the object has none
	After     uint64    // the resourceVersion that an update changes; 0 for a create
	Claims    []ports.Claim
	Withdrawn bool // it is not let through after all: an earlier entry says that it was
	IsShort   bool // it counts for a short time if it is not stored: others of its namespace never were
}

// Journal is one replica's view of the journal. Make one with New.
type Journal struct {
	reader client.Reader
	writer client.Client
	key    client.ObjectKey
	self   string
	merge  func([]Entry)
	now    func() time.Time

	slot     chan struct{} // held by whoever reads or writes the ConfigMap; guards what follows
	state    state
	version  string // resourceVersion of state; "" before the first read, and where there is no ConfigMap
	uid      types.UID
	position uint64    // of the next entry that has not been merged
	next     time.Time // when it may be written again

	read      atomic.Bool // at least once
	missed    atomic.Bool // entries went before they were read
	mu        sync.Mutex
	waiting   []*request
	withdrawn []Entry // to be written with the next ones
}

// request is an Append that waits for a write.
type request struct {
	entry Entry
	isDue func() bool
	done  chan error
}

// New returns the journal in a namespace. reader must read from the API server itself. self is a name that no other replica
// has or had. merge is called with what other replicas have appended, in order, and before any later Append of this replica
// returns.
func New(reader client.Reader, writer client.Client, namespace, self string, merge func([]Entry), now func() time.Time) *Journal {
	return &Journal{
		reader: reader, writer: writer, key: client.ObjectKey{Namespace: namespace, Name: Name}, self: self, merge: merge, now: now,
		slot: make(chan struct{}, 1),
	}
}

// errMissed is that entries went before this replica has read them: it was stopped or cut off for longer than they stay, and what it
// knows of the cluster may be as old. It has to start anew.
var errMissed = errors.New("what the other replicas let through was not read in time: this one starts anew")

// Start reads what others append until ctx ends. It is a manager's Runnable, for every replica. It returns an error, so that the
// program ends, when entries went unread.
func (j *Journal) Start(ctx context.Context) error {
	ticker := time.NewTicker(pullEvery)
	defer ticker.Stop()
	last := ""
	for {
		err := j.Pull(ctx)
		if err == nil {
			err = j.flush(ctx)
		}
		if j.missed.Load() {
			return errMissed
		}
		if err != nil && ctx.Err() == nil && err.Error() != last {
			logf.FromContext(ctx).Error(err, "Reading what the other replicas let through")
		}
		if last = ""; err != nil {
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// NeedLeaderElection says that every replica reads the journal.
func (j *Journal) NeedLeaderElection() bool { return false }

// IsRead reports whether what was appended before this replica started has been merged.
func (j *Journal) IsRead() bool { return j.read.Load() }

// Pull merges what others have appended.
func (j *Journal) Pull(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	select {
	case j.slot <- struct{}{}:
		defer j.drain(context.WithoutCancel(ctx)) // what came meanwhile
	case <-ctx.Done():
		return ctx.Err()
	}
	return j.pull(ctx)
}

// Append appends an entry. When it returns nil, everything that any replica has appended before it has been merged. isDue is
// asked when that is so, right before the write: if it returns false the entry is not written. It is called from another
// goroutine, once or more, and also after Append has returned an error.
func (j *Journal) Append(ctx context.Context, e Entry, isDue func() bool) error {
	e.Claims = e.Claims[:min(len(e.Claims), entryMost)]
	r := &request{e, isDue, make(chan error, 1)}
	j.mu.Lock()
	j.waiting = append(j.waiting, r)
	j.mu.Unlock()
	select {
	case j.slot <- struct{}{}:
		go j.drain(context.WithoutCancel(ctx))
	default: // whoever holds it writes this one too
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the journal: %w", ctx.Err()) // it may be written all the same, which others bear
	}
}

// drain writes what waits until nothing does, and gives the slot back. Nobody who waits does so for longer than it wants.
func (j *Journal) drain(ctx context.Context) {
	for {
		for j.isWaited() {
			j.pause()
			_ = j.commit(ctx, j.batch()) // who waits is told
		}
		<-j.slot
		if !j.isWaited() {
			return
		}
		select { // for one that came when the last batch was empty, and found the slot taken
		case j.slot <- struct{}{}:
		default:
			return
		}
	}
}

// pause waits until the ConfigMap may be written again. Those who come meanwhile share the write.
func (j *Journal) pause() {
	if wait := j.next.Sub(j.now()); wait > 0 {
		time.Sleep(min(wait, time.Second))
	}
}

func (j *Journal) isWaited() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting) > 0
}

// Withdraw tells the other replicas, soon, that an entry that was appended is not let through after all.
func (j *Journal) Withdraw(e Entry) {
	e.Withdrawn = true
	e.Claims = e.Claims[:min(len(e.Claims), entryMost)]
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.withdrawn) < withdrawnMost { // what others do not hear of they forget after its grace
		j.withdrawn = append(j.withdrawn, e)
	}
}

// flush writes what was withdrawn, where nothing else is written.
func (j *Journal) flush(ctx context.Context) error {
	j.mu.Lock()
	none := len(j.withdrawn) == 0
	j.mu.Unlock()
	if none {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	select {
	case j.slot <- struct{}{}:
		defer j.drain(context.WithoutCancel(ctx))
	case <-ctx.Done():
		return ctx.Err()
	}
	return j.commit(ctx, nil)
}

// batch takes as many of those who wait as one write may hold.
func (j *Journal) batch() []*request {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, claims := 0, 0
	for n < len(j.waiting) && (n == 0 || claims+len(j.waiting[n].entry.Claims) <= batchMost) {
		claims += len(j.waiting[n].entry.Claims)
		n++
	}
	batch := j.waiting[:n:n]
	j.waiting = j.waiting[n:]
	return batch
}

// commit writes the entries of a batch, in a time that does not depend on who of them waits for how long, and tells each
// request what became of it.
func (j *Journal) commit(ctx context.Context, batch []*request) error {
	j.mu.Lock()
	withdrawn := j.withdrawn
	j.withdrawn = nil
	j.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	full, err := j.append(ctx, withdrawn, batch)
	for _, r := range batch {
		if err == nil && full[r] {
			r.done <- fmt.Errorf("the journal: %w", errFull)
		} else {
			r.done <- err
		}
	}
	return err
}

// append writes the entries of a batch, except for those that it returns: there is no room for them.
func (j *Journal) append(ctx context.Context, withdrawn []Entry, batch []*request) (full map[*request]bool, err error) {
	for range attempts {
		if j.missed.Load() {
			return nil, errMissed
		}
		now := j.now()
		next := j.state.withoutOld(now)
		full = map[*request]bool{}
		for _, e := range withdrawn {
			if more, err := next.with(e, j.self, now); err == nil { // else the others forget it after its grace
				next = more
			}
		}
		for _, r := range batch {
			if !r.isDue() {
				continue
			}
			more, err := next.with(r.entry, j.self, now)
			if full[r] = err != nil; err == nil {
				next = more
			}
		}
		if next.Next == j.state.Next && j.version != "" {
			return full, nil
		}
		err := j.write(ctx, next)
		if err == nil {
			return full, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("the journal: %w", err)
		}
		if err := j.pull(ctx); err != nil {
			return nil, fmt.Errorf("the journal: %w", err)
		}
	}
	return nil, errors.New("the journal: other replicas wrote first")
}

// write stores the next state, if the one that it is made from is the current one.
func (j *Journal) write(ctx context.Context, next state) error {
	packed, err := next.encode()
	if err != nil {
		return err
	}
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: j.key.Namespace, Name: j.key.Name, ResourceVersion: j.version, Labels: map[string]string{
			"app.kubernetes.io/name": "portcullis", "app.kubernetes.io/part-of": "portcullis",
		}},
		BinaryData: map[string][]byte{dataKey: packed},
	}
	if j.version == "" {
		err = j.writer.Create(ctx, m, fieldOwner)
	} else {
		err = j.writer.Update(ctx, m, fieldOwner)
	}
	if err != nil {
		return err
	}
	j.state, j.version, j.position, j.uid = next, m.ResourceVersion, next.Next, m.UID
	j.next = j.now().Add(time.Duration(len(packed)) * time.Second / bytesPerSecond)
	return nil
}

// pull reads the state and merges what is new in it.
func (j *Journal) pull(ctx context.Context) error {
	m := &corev1.ConfigMap{}
	err := j.reader.Get(ctx, j.key, m)
	defer func() {
		if err == nil || apierrors.IsNotFound(err) {
			j.read.Store(true)
		}
	}()
	if apierrors.IsNotFound(err) {
		j.state, j.version, j.position = state{}, "", 0
		return nil
	}
	if err != nil {
		return err
	}
	if m.ResourceVersion == j.version {
		return nil
	}
	next, broken := decode(m.BinaryData[dataKey])
	if broken != nil {
		// Somebody else has written it. The other replicas see by the leap that they may have missed something.
		logf.FromContext(ctx).Error(broken, "The journal cannot be read, and begins anew", "configMap", j.key.String())
		next = state{Next: j.position + leap}
	}
	if j.version == "" || next.Next < j.position || m.UID != j.uid {
		j.position = 0 // it has begun anew
	} else if broken == nil && next.lacks(j.position) {
		j.missed.Store(true)
	}
	j.uid = m.UID
	next.inherit(j.state, j.now())
	var fresh []Entry
	for _, e := range next.Entries {
		if e.N >= j.position && e.By != j.self {
			fresh = append(fresh, e.entry())
		}
	}
	j.state, j.version, j.position = next, m.ResourceVersion, next.Next
	if len(fresh) > 0 {
		j.merge(fresh)
	}
	return nil
}
