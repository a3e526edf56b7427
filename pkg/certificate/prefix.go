package certificate

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The keys of the prefixes in a Secret. Without them the paths are plain.
const (
	keyPrefix       = "path.current"
	keyNextPrefix   = "path.next"
	keyFormerPrefix = "path.former"
	keySeenPrefix   = "path.seen"
)

// Plain is the prefix of a path without a secret segment.
const Plain = "/"

// segmentBytes is the length of a secret segment, which is written in hexadecimal: the API server admits only lowercase
// letters and digits in a path.
const segmentBytes = 16

var prefixPattern = regexp.MustCompile(fmt.Sprintf("^/([0-9a-f]{%d}/)?$", 2*segmentBytes))

// Prefixes are what the paths of the hooks begin with: Plain, or "/SEGMENT/". A replica accepts all of them; the webhook
// configurations have Current. There are at most two, and they move on in this order, so that no API server ever uses one
// that a replica does not accept:
//
//	Current A
//	Current A, Next B    every replica accepts B before it is registered
//	Current B, Former A  B is registered; every API server has seen it before A is no longer accepted
//	Current B
//
// To begin with segments, to rotate one, and to go back to plain paths are the same steps: Plain is one of the prefixes.
type Prefixes struct {
	Current      string
	Next, Former string // empty for none
	// Seen has the names of the replicas that accept Next.
	Seen []string
}

// Accepts reports whether requests to a path of a segment are served; an empty segment stands for the plain path. It
// takes the same time for each segment of the right length.
func (p *Prefixes) Accepts(segment string) bool {
	prefix := Plain
	if segment != "" {
		prefix = "/" + segment + "/"
	}
	accepted := 0
	for _, one := range []string{p.Current, p.Next, p.Former} {
		accepted |= subtle.ConstantTimeCompare([]byte(one), []byte(prefix))
	}
	return accepted == 1
}

// See returns the prefixes with the names of a replica that accepts them; nothing is added while there is no next one.
func (p *Prefixes) See(names ...string) Prefixes {
	next := *p
	next.Seen = slices.Clone(p.Seen)
	for _, name := range names {
		if p.Next != "" && name != "" && !slices.Contains(next.Seen, name) {
			next.Seen = append(next.Seen, name)
		}
	}
	return next
}

// Retire is how long a former prefix is accepted after it was replaced in the webhook configurations: an API server
// whose watch is broken begins another one within ten minutes.
func Retire(lifetime time.Duration) time.Duration { return min(lifetime/4, 10*time.Minute) }

// Step returns the prefixes as they should be now. Secret says whether Current is to have a segment, and rotate that it
// is to be another one. Accepted reports that every replica accepts Next, and registered since when the webhook
// configurations have had Current.
func (p *Prefixes) Step(secret, rotate, accepted bool, now, registered time.Time, lifetime time.Duration) Prefixes {
	switch {
	case p.Former != "" && now.Sub(registered) >= Retire(lifetime):
		return Prefixes{Current: p.Current}
	case p.Former != "" || p.Next != "" && !accepted:
		return *p
	case p.Next != "":
		return Prefixes{Current: p.Next, Former: p.Current}
	case !secret && p.Current != Plain:
		return Prefixes{Current: p.Current, Next: Plain}
	case secret && (rotate || p.Current == Plain):
		return Prefixes{Current: p.Current, Next: newPrefix()}
	}
	return *p
}

func newPrefix() string {
	segment := make([]byte, segmentBytes)
	_, _ = rand.Read(segment) // it never fails
	return "/" + hex.EncodeToString(segment) + "/"
}

// Equal reports whether two are the same, whoever has seen them.
func (p *Prefixes) Equal(o Prefixes) bool {
	return p.Current == o.Current && p.Next == o.Next && p.Former == o.Former
}

// write adds the prefixes to the data of a Secret.
func (p *Prefixes) write(data map[string][]byte) {
	if p.Equal(Prefixes{Current: Plain}) {
		return
	}
	for key, value := range map[string]string{
		keyPrefix: p.Current, keyNextPrefix: p.Next, keyFormerPrefix: p.Former, keySeenPrefix: strings.Join(p.Seen, "\n"),
	} {
		if value != "" {
			data[key] = []byte(value)
		}
	}
}

func parsePrefixes(data map[string][]byte) (Prefixes, error) {
	p := Prefixes{Current: string(data[keyPrefix]), Next: string(data[keyNextPrefix]), Former: string(data[keyFormerPrefix])}
	if p.Current == "" {
		p.Current = Plain
	}
	for key, prefix := range map[string]string{keyPrefix: p.Current, keyNextPrefix: p.Next, keyFormerPrefix: p.Former} {
		if prefix != "" && !prefixPattern.MatchString(prefix) {
			return p, errors.New(key + ": neither / nor a path segment") // the value is secret
		}
	}
	if seen := data[keySeenPrefix]; len(seen) > 0 {
		p.Seen = strings.Split(string(seen), "\n")
	}
	return p, nil
}

// Prefixed returns a path with another prefix; the path itself if it has it. Of a path that does not end with the name of
// a hook nothing can be said.
func Prefixed(path, prefix string) string {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 || slash == len(path)-1 {
		return path
	}
	base, name := path[:slash], path[slash+1:]
	if at := strings.LastIndexByte(base, '/'); at >= 0 && prefixPattern.MatchString(base[at:]+"/") {
		base = base[:at]
	}
	return base + prefix + name
}

// segments are the secret segments in the text of an error: the API server puts the URL of a webhook that does not
// answer into it.
var segments = regexp.MustCompile(fmt.Sprintf("/[0-9a-f]{%d}/", 2*segmentBytes))

// Redacted returns a text without the secret segments in it.
func Redacted(text string) string { return segments.ReplaceAllString(text, "/***/") }
