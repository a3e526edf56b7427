package journal

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// state is what the ConfigMap holds, as JSON. A reader ignores fields that it does not know, and claims whose kind it does
// not know: replicas of two versions read each other.
type state struct {
	Next    uint64   `json:"next"` // number of the next entry
	Entries []stored `json:"entries"`
}

type stored struct {
	N          uint64    `json:"n"`
	By         string    `json:"by"` // the replica
	Owner      ref       `json:"owner"`
	Controller *ref      `json:"controller,omitempty"`
	UID        types.UID `json:"uid,omitempty"`
	After      uint64    `json:"after,omitempty"`
	Claims     []claim   `json:"claims"`
	Withdrawn  bool      `json:"withdrawn,omitempty"`
	Short      bool      `json:"short,omitempty"`

	seen time.Time // by this replica
	size int       // as JSON, in bytes
}

type ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// claim is a claim as far as others need it. What it says of addresses and nodes may be too much: where exactly a claim is
// they read from the object, once that is stored.
type claim struct {
	Kind     string `json:"kind"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	Address  string `json:"address,omitempty"` // one address, IPv4 or IPv6 for all of a family, "" for all
	Node     string `json:"node,omitempty"`
	All      bool   `json:"all,omitempty"` // on every node, or on each of a set
	At       bool   `json:"at,omitempty"`  // on the node of the address
}

// decode reads what encode has written. It reads no more than a state may have: somebody else may have written it.
func decode(packed []byte) (state, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return state{}, fmt.Errorf("the entries: %w", err)
	}
	var s state
	if err := json.NewDecoder(io.LimitReader(r, 2*mostBytes)).Decode(&s); err != nil {
		return state{}, fmt.Errorf("the entries: %w", err)
	}
	return s, nil
}

// encode packs a state: etcd keeps each version of it for minutes, and entries resemble each other.
func (s state) encode() ([]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(json.NewEncoder(w).Encode(s), w.Close()); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// inherit takes over since when a replica knows the entries of s; it knows the others since now.
func (s *state) inherit(known state, now time.Time) {
	seen := make(map[uint64]time.Time, len(known.Entries))
	for _, e := range known.Entries {
		seen[e.N] = e.seen
	}
	for i := range s.Entries {
		e := &s.Entries[i]
		if e.seen = seen[e.N]; e.seen.IsZero() {
			e.seen = now
		}
		e.size = e.measure()
	}
}

// lacks reports whether entries from a number on are gone.
func (s state) lacks(from uint64) bool {
	there := uint64(0)
	for _, e := range s.Entries {
		if e.N >= from {
			there++
		}
	}
	return there < s.Next-from
}

// errFull is that so much was let through in the last seconds, in the cluster or in one namespace, that no more can be.
var errFull = errors.New("too many ports were let through in the last seconds")

// with returns the state after s with one more entry.
func (s state) with(e Entry, by string, now time.Time) (state, error) {
	added := store(e, s.Next, by, now)
	ofNamespace := func(e stored) bool { return e.Owner.Namespace == added.Owner.Namespace }
	most := mostBytes
	if _, err := s.withRoom(added.size, smallBytes, ofNamespace, now); err != nil {
		most -= reservedBytes
	}
	next, err := s.withRoom(added.size, most, func(stored) bool { return true }, now)
	if err == nil {
		next, err = next.withRoom(added.size, namespaceBytes, ofNamespace, now)
	}
	if err != nil {
		return s, err
	}
	next.Entries = append(next.Entries, added)
	next.Next++
	return next, nil
}

// withRoom returns s without as many of the counted entries, the oldest first, as leaves room for some bytes more below
// most. Only those go that every replica has read.
func (s state) withRoom(bytes, most int, isCounted func(stored) bool, now time.Time) (state, error) {
	for _, e := range s.Entries {
		if isCounted(e) {
			bytes += e.size
		}
	}
	if bytes <= most {
		return s, nil
	}
	kept := state{Next: s.Next}
	for _, e := range s.Entries {
		if bytes > most && isCounted(e) && now.Sub(e.seen) >= keepLeast {
			bytes -= e.size
			continue
		}
		kept.Entries = append(kept.Entries, e)
	}
	if bytes > most {
		return s, errFull
	}
	return kept, nil
}

// withoutOld returns s without the entries that have been there for long.
func (s state) withoutOld(now time.Time) state {
	kept := state{Next: s.Next}
	for _, e := range s.Entries {
		if now.Sub(e.seen) < keepTime {
			kept.Entries = append(kept.Entries, e)
		}
	}
	return kept
}

func store(e Entry, n uint64, by string, now time.Time) stored {
	s := stored{N: n, By: by, Owner: ref(e.Owner.Ref), UID: e.UID, After: e.After, Withdrawn: e.Withdrawn, Short: e.IsShort, seen: now}
	if e.Owner.Controller != nil {
		controller := ref(e.Owner.Controller.Ref)
		s.Controller = &controller
	}
	for _, c := range e.Claims {
		node, _ := c.Scope.Node()
		s.Claims = append(s.Claims, claim{
			Kind: c.Kind.String(), Protocol: c.Protocol.String(), Port: c.Port, Address: addressOf(c.Address), Node: node,
			All: c.Scope.Kind == ports.Everywhere || c.Scope.Kind == ports.OnEach, At: c.Scope.Kind == ports.AtAddress,
		})
	}
	s.size = s.measure()
	return s
}

// measure returns how long an entry is as JSON, with the comma behind it.
func (s stored) measure() int {
	text, err := json.Marshal(s)
	if err != nil {
		return 0 // strings and numbers always can be encoded
	}
	return len(text) + 1
}

func (s stored) entry() Entry {
	e := Entry{Owner: ports.Owner{Ref: ports.Ref(s.Owner)}, UID: s.UID, After: s.After, Withdrawn: s.Withdrawn, IsShort: s.Short}
	if s.Controller != nil {
		e.Owner.Controller = &ports.Owner{Ref: ports.Ref(*s.Controller)}
	}
	for _, c := range s.Claims {
		kind, known := kindOf(c.Kind)
		protocol, err1 := ports.ParseProtocol(c.Protocol)
		address, err2 := c.address()
		if !known || err1 != nil || err2 != nil {
			continue
		}
		socket := ports.Socket{Address: address, Protocol: protocol, Port: c.Port}
		scope := ports.Scope{}
		switch {
		case c.Node != "":
			scope = ports.NodeScope(c.Node)
		case c.All:
			scope = ports.EverywhereScope()
		case c.At:
			scope = ports.AddressScope()
		}
		e.Claims = append(e.Claims, ports.Claim{Socket: socket, Kind: kind, Scope: scope})
	}
	return e
}

const allIPv4, allIPv6 = "IPv4", "IPv6"

func addressOf(a ports.Address) string {
	addr, single := a.Single()
	switch {
	case single:
		return addr.String()
	case !a.HasIPv6():
		return allIPv4
	case !a.HasIPv4():
		return allIPv6
	default:
		return ""
	}
}

func (c claim) address() (ports.Address, error) {
	switch c.Address {
	case "":
		return ports.AllAddresses(), nil
	case allIPv4:
		return ports.AllIPv4(), nil
	case allIPv6:
		return ports.AllIPv6(), nil
	default:
		return ports.ParseAddress(c.Address)
	}
}

func kindOf(name string) (ports.Kind, bool) {
	for k := ports.NodePort; k <= ports.ServiceLBPort; k++ {
		if k.String() == name {
			return k, true
		}
	}
	return 0, false
}
