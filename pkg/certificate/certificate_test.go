package certificate

import (
	"crypto/x509"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

const name = "portcullis.portcullis-system.svc"

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func must[T any](t *testing.T) func(T, error) T {
	return func(x T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}

func verify(s *Store, leaf *x509.Certificate, now time.Time, name string) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.Bundle()) {
		return fmt.Errorf("an empty bundle")
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
	return err
}

func TestIssue(t *testing.T) {
	s := must[*Store](t)(NewStore(start, time.Hour))
	c, err := s.Current.Issue(start, 10*time.Hour, name, "10.0.0.1", "::1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		after time.Duration
		want  string // in the error; "" for none
	}{
		{name, 0, ""},
		{"10.0.0.1", 0, ""},
		{"::1", 0, ""},
		{name, -backdated, ""},
		{name, time.Hour - time.Second, ""},
		{name, time.Hour + time.Second, "expired"}, // the authority ends, whatever was asked for
		{"other.portcullis-system.svc", 0, "not other.portcullis-system.svc"},
	} {
		err := verify(s, c.Leaf, start.Add(tc.after), tc.name)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s after %s: %v, want %q", tc.name, tc.after, err, tc.want)
		}
	}
	other := must[*Store](t)(NewStore(start, time.Hour))
	if err := verify(other, c.Leaf, start, name); err == nil {
		t.Error("another authority vouches for it")
	}
}

// TestNoGap lives through the life of many authorities in random steps: whatever was issued by the store of one moment
// is trusted by every bundle from that moment until it expires, and by the bundle that is everywhere since the last
// time that somebody looked.
func TestNoGap(t *testing.T) {
	random := seed.Rand(t)
	for range 4 {
		lifetime := time.Duration(1+random.IntN(100)) * time.Minute
		now := start
		s := must[*Store](t)(NewStore(now, lifetime))
		published, trusted := s, now // what the API servers trust, and since when they trust all of it
		var leaves []*x509.Certificate
		authorities := 1
		for range 200 {
			now = now.Add(time.Duration(random.Int64N(int64(lifetime / 40))))
			since := trusted
			if published != s {
				since = time.Time{}
			}
			next := must[*Store](t)(s.Step(now, since, lifetime))
			if next.Current != s.Current {
				authorities++
			}
			s = must[*Store](t)(roundTrip(next, s))
			leaves = append(leaves, must[*x509.Certificate](t)(leafOf(s, now, lifetime/2)))
			for _, leaf := range leaves {
				if now.After(leaf.NotAfter) {
					continue
				}
				if err := verify(published, leaf, now, name); err != nil {
					t.Fatalf("after %s of %s: %v", now.Sub(start), lifetime, err)
				}
			}
			if published != s && random.IntN(2) == 0 { // publishing may fail for a while
				published, trusted = s, now
			}
			if len(s.Trusted) > 3 {
				t.Fatalf("%d authorities are trusted", len(s.Trusted))
			}
		}
		if authorities < 2 {
			t.Errorf("one authority for all of %s, at a lifetime of %s", now.Sub(start), lifetime)
		}
	}
}

// roundTrip is what another replica reads of a store; the store itself if nothing changed.
func roundTrip(next, before *Store) (*Store, error) {
	if next == before {
		return before, nil
	}
	data, err := next.Data()
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

func leafOf(s *Store, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	c, err := s.Current.Issue(now, lifetime, name)
	if err != nil {
		return nil, err
	}
	return c.Leaf, nil
}

// TestAfterASleep: where nothing ran for the life of an authority, a new one begins at once.
func TestAfterASleep(t *testing.T) {
	for _, after := range []time.Duration{time.Hour, 2 * time.Hour, 24 * time.Hour} {
		s := must[*Store](t)(NewStore(start, time.Hour))
		s = must[*Store](t)(s.Step(start.Add(50*time.Minute), time.Time{}, time.Hour)) // with a successor, never trusted
		now := start.Add(after)
		s = must[*Store](t)(s.Step(now, time.Time{}, time.Hour))
		if err := verify(s, must[*x509.Certificate](t)(leafOf(s, now, time.Hour)), now, name); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
}

func TestParse(t *testing.T) {
	s := must[*Store](t)(NewStore(start, time.Hour))
	s = must[*Store](t)(s.Step(start.Add(50*time.Minute), time.Time{}, time.Hour))
	good := must[map[string][]byte](t)(s.Data())
	other := must[map[string][]byte](t)(must[*Store](t)(NewStore(start, time.Hour)).Data())
	leaf := must[*x509.Certificate](t)(leafOf(s, start, time.Hour))
	for _, tc := range []struct {
		what string
		edit func(map[string][]byte)
		want string // the key that the error begins with; "" for none
	}{
		{"as written", func(map[string][]byte) {}, ""},
		{"no successor", func(d map[string][]byte) { delete(d, keyNextCertificate); delete(d, keyNextKey) }, ""},
		{"empty", func(d map[string][]byte) { clear(d) }, keyCertificate},
		{"no key", func(d map[string][]byte) { delete(d, keyKey) }, keyCertificate},
		{"another's key", func(d map[string][]byte) { d[keyKey] = other[keyKey] }, keyCertificate},
		{"a leaf", func(d map[string][]byte) { d[keyCertificate] = encode("CERTIFICATE", leaf.Raw) }, keyCertificate},
		{"half a successor", func(d map[string][]byte) { delete(d, keyNextKey) }, keyNextCertificate},
		{"no bundle", func(d map[string][]byte) { delete(d, keyBundle) }, keyBundle},
		{"another's bundle", func(d map[string][]byte) { d[keyBundle] = other[keyBundle] }, keyBundle},
		{"a bundle of words", func(d map[string][]byte) { d[keyBundle] = []byte("words") }, keyBundle},
	} {
		data := map[string][]byte{}
		maps.Copy(data, good)
		tc.edit(data)
		got, err := Parse(data)
		if (err == nil) != (tc.want == "") || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.what, err, tc.want)
		}
		if err != nil {
			continue
		}
		if again := must[map[string][]byte](t)(got.Data()); !cmp.Equal(again, data) {
			t.Errorf("%s: %s", tc.what, cmp.Diff(data, again))
		}
	}
}
