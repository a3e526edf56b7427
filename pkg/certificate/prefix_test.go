package certificate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	oneSegment     = "/00112233445566778899aabbccddeeff/"
	anotherSegment = "/ffeeddccbbaa99887766554433221100/"
)

func TestPrefixesStep(t *testing.T) {
	const lifetime = time.Hour
	before, since := start.Add(-Retire(lifetime)+time.Second), start.Add(-Retire(lifetime))
	fresh := "a new one"
	for _, c := range []struct {
		name                     string
		from                     Prefixes
		secret, rotate, accepted bool
		registered               time.Time
		want                     Prefixes
	}{
		{"plain", Prefixes{Current: Plain}, false, false, true, since, Prefixes{Current: Plain}},
		{"plain, another authority", Prefixes{Current: Plain}, false, true, true, since, Prefixes{Current: Plain}},
		{"begin", Prefixes{Current: Plain}, true, false, true, since, Prefixes{Current: Plain, Next: fresh}},
		{"a replica does not accept it yet", Prefixes{Current: Plain, Next: oneSegment}, true, false, false, since, Prefixes{Current: Plain, Next: oneSegment}},
		{"all accept it", Prefixes{Current: Plain, Next: oneSegment, Seen: []string{"a"}}, true, false, true, since, Prefixes{Current: oneSegment, Former: Plain}},
		{"an API server may use the former", Prefixes{Current: oneSegment, Former: Plain}, true, true, true, before, Prefixes{Current: oneSegment, Former: Plain}},
		{"no API server does", Prefixes{Current: oneSegment, Former: Plain}, true, false, true, since, Prefixes{Current: oneSegment}},
		{"stay", Prefixes{Current: oneSegment}, true, false, true, since, Prefixes{Current: oneSegment}},
		{"rotate", Prefixes{Current: oneSegment}, true, true, true, since, Prefixes{Current: oneSegment, Next: fresh}},
		{"end", Prefixes{Current: oneSegment}, false, false, true, since, Prefixes{Current: oneSegment, Next: Plain}},
		{"end, all accept it", Prefixes{Current: oneSegment, Next: Plain}, false, false, true, since, Prefixes{Current: Plain, Former: oneSegment}},
		{"ended", Prefixes{Current: Plain, Former: oneSegment}, false, false, true, since, Prefixes{Current: Plain}},
		{"end while one begins", Prefixes{Current: Plain, Next: oneSegment}, false, false, true, since, Prefixes{Current: oneSegment, Former: Plain}},
	} {
		got := c.from.Step(c.secret, c.rotate, c.accepted, start, c.registered, lifetime)
		if c.want.Next == fresh && prefixPattern.MatchString(got.Next) && len(got.Next) == len(oneSegment) && got.Next != c.from.Current {
			got.Next = fresh
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if one, another := newPrefix(), newPrefix(); one == another {
		t.Error("two segments are the same")
	}
}

func TestAccepts(t *testing.T) {
	one, another := strings.Trim(oneSegment, "/"), strings.Trim(anotherSegment, "/")
	for _, c := range []struct {
		prefixes          Prefixes
		plain, one, other bool
	}{
		{Prefixes{Current: Plain}, true, false, false},
		{Prefixes{Current: Plain, Next: oneSegment}, true, true, false},
		{Prefixes{Current: oneSegment, Former: Plain}, true, true, false},
		{Prefixes{Current: oneSegment}, false, true, false},
		{Prefixes{Current: anotherSegment, Former: oneSegment}, false, true, true},
	} {
		if got := c.prefixes.Accepts(""); got != c.plain {
			t.Errorf("%v: plain %v", c.prefixes, got)
		}
		if got := c.prefixes.Accepts(one); got != c.one {
			t.Errorf("%v: the one %v", c.prefixes, got)
		}
		if got := c.prefixes.Accepts(another); got != c.other {
			t.Errorf("%v: the other %v", c.prefixes, got)
		}
		for _, wrong := range []string{"/", one[1:], one + "/", strings.ToUpper(one)} {
			if c.prefixes.Accepts(wrong) {
				t.Errorf("%v accepts %q", c.prefixes, wrong)
			}
		}
	}
}

func TestPrefixed(t *testing.T) {
	for _, c := range []struct{ path, prefix, want string }{
		{"/mutate-pods", Plain, "/mutate-pods"},
		{"/mutate-pods", oneSegment, oneSegment + "mutate-pods"},
		{oneSegment + "mutate-pods", anotherSegment, anotherSegment + "mutate-pods"},
		{oneSegment + "mutate-pods", Plain, "/mutate-pods"},
		{"/base/mutate-pods", oneSegment, "/base" + oneSegment + "mutate-pods"},
		{"/base" + oneSegment + "mutate-pods", Plain, "/base/mutate-pods"},
		{"/", oneSegment, "/"},
		{"", oneSegment, ""},
		{"mutate-pods", oneSegment, "mutate-pods"},
	} {
		if got := Prefixed(c.path, c.prefix); got != c.want {
			t.Errorf("%s with %s: %s, want %s", c.path, c.prefix, got, c.want)
		}
	}
}

func TestRedacted(t *testing.T) {
	const text = `failed calling webhook "a": Post "https://portcullis.portcullis-system.svc:443%svalidate-pods?timeout=3s": EOF`
	if got, want := Redacted(strings.Replace(text, "%s", oneSegment, 1)), strings.Replace(text, "%s", "/***/", 1); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if plain := strings.Replace(text, "%s", Plain, 1); Redacted(plain) != plain {
		t.Error(Redacted(plain))
	}
}

// TestParsePrefixes: what is written is read again, plain paths are not written, and an error has no segment in it.
func TestParsePrefixes(t *testing.T) {
	for _, p := range []Prefixes{
		{Current: Plain}, {Current: Plain, Next: oneSegment, Seen: []string{"a", "b"}}, {Current: oneSegment, Former: Plain}, {Current: oneSegment},
	} {
		data := map[string][]byte{}
		p.write(data)
		got, err := parsePrefixes(data)
		if diff := cmp.Diff(p, got); diff != "" || err != nil || p.Current == Plain && p.Next == "" && len(data) > 0 {
			t.Errorf("%v %s", err, diff)
		}
	}
	for _, wrong := range []string{oneSegment[1:], "/secret/", "//", oneSegment + "x"} {
		if _, err := parsePrefixes(map[string][]byte{keyPrefix: []byte(wrong)}); err == nil || strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
