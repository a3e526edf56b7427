package redteam

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// What the webhook may allocate for what a stranger sends, and how long a connection may last.
const (
	allocatedEach  = 1024      // bytes, for each that is received
	allocatedFixed = 512 << 10 // bytes, for a connection: TLS, its buffers, and the answer
	longest        = 8 * time.Second
)

// TestBytes sends bytes at random to the webhook's port, as anybody on the network can: requests with reviews, and both of them
// broken. The webhook does not panic, allocates no more than so much for each byte, and ends each connection in time.
func TestBytes(t *testing.T) {
	w := newWorld(t)
	s := source{seed.Rand(t)}
	count := func(name string) float64 {
		n, err := w.Webhook.Count(t.Context(), name)
		must(t, err)
		return n
	}
	most, answers := 0.0, map[string]int{}
	const together = 20 // what is allocated is looked at after so many connections
	for range seed.Rounds(40, 10_000) {
		before, sent, last := count("go_memstats_alloc_bytes_total"), 0, ""
		for range together {
			input := s.input()
			begin := time.Now()
			answer, err := exchange(w, input)
			if took := time.Since(begin); err != nil || took > longest {
				t.Fatalf("after %s: %v\n%.4000q", took, err, input)
			}
			answers[answer]++
			sent += len(input)
			last = input
		}
		allocated := count("go_memstats_alloc_bytes_total") - before
		most = math.Max(most, (allocated-together*allocatedFixed)/float64(sent))
		if allocated > float64(allocatedEach*sent+together*allocatedFixed) {
			t.Errorf("%.0f bytes were allocated for %d, the last of which were\n%.4000q", allocated, sent, last)
		}
	}
	t.Logf("answers: %v; beyond %d KiB for a connection, %.1f bytes were allocated for each at most", answers, allocatedFixed>>10, math.Max(most, 0))
	if n := count("controller_runtime_webhook_panics_total"); n > 0 {
		t.Errorf("%.0f panics", n)
	}
	log, err := os.ReadFile(w.Webhook.LogFile())
	if err != nil || bytes.Contains(log, []byte("panic")) {
		t.Errorf("%v, or the log tells of a panic", err)
	}
	for _, status := range []string{"200 allowed", "200 422", "200 400", "400", "404", "405", "408", "413", "415"} {
		if answers[status] == 0 {
			t.Errorf("%s was never the answer, which proves little", status)
		}
	}
}

// exchange sends bytes over a connection of their own, and nothing after them. It returns the first answer's status, and of a
// review what became of it; "none" for no answer.
func exchange(w *world, input string) (string, error) {
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.Webhook.URL(), "https://"), &tls.Config{RootCAs: roots(w.Webhook)})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(longest)); err != nil {
		return "", err
	}
	sent := make(chan error, 1)
	go func() { // the answer may come before all is sent
		_, err := io.WriteString(conn, input)
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	answer, err := io.ReadAll(conn)
	<-sent // it fails where the webhook has closed the connection before it has read all
	if err != nil && len(answer) == 0 && !strings.Contains(err.Error(), "reset") {
		return "", err
	}
	head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	var version, status string
	if _, err := fmt.Sscan(head, &version, &status); err != nil {
		return "none", nil
	}
	var review struct {
		Response *struct {
			Allowed bool
			Status  struct{ Code int }
		}
	}
	switch err := json.NewDecoder(strings.NewReader(body)).Decode(&review); {
	case err != nil || review.Response == nil:
		return status, nil
	case review.Response.Allowed:
		return status + " allowed", nil
	default:
		return fmt.Sprint(status, " ", review.Response.Status.Code), nil
	}
}

// input draws what somebody sends.
func (s source) input() string {
	body := s.review()
	for range s.IntN(3) {
		body = s.broken(body)
	}
	if s.chance(2) {
		body = "{" + strings.Repeat(" ", 8<<20) + "}"
	}
	method, path := "POST", s.pick(hooks.PathValidatePods, hooks.PathValidateServices, hooks.PathValidateWorkload, hooks.PathValidateScale, hooks.PathMutatePods, hooks.PathMutateServices)
	kind, length := "application/json", fmt.Sprintf("Content-Length: %d", len(body))
	switch s.IntN(12) {
	case 0:
		method = s.pick("GET", "HEAD", "PUT", "OPTIONS", "CONNECT", "", "POST POST")
	case 1:
		path = s.pick("", "*", "/"+hooks.PathValidatePods, "/x"+hooks.PathValidatePods, "/%00", "/"+strings.Repeat("a", 1<<14), "http://x"+hooks.PathValidatePods)
	case 2:
		kind = s.pick("", "application/yaml", "text/plain", "application/json; charset=\x01", "multipart/form-data; boundary=x")
	case 3:
		length = s.pick("Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: 0", fmt.Sprintf("Content-Length: %d", len(body)+1), "Transfer-Encoding: identity")
	case 4:
		length = "Transfer-Encoding: chunked"
		body = s.pick(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body), "7fffffffffffffff\r\n"+body, strings.Repeat("1\r\n{\r\n", 1000), "0\r\nX: y\r\n\r\n")
	case 5:
		length += "\r\n" + s.pick("Expect: 100-continue", "Upgrade: h2c\r\nConnection: Upgrade", "X: "+strings.Repeat("y", 1<<16), strings.Repeat("X: y\r\n", 5000)+"Z: z", "Content-Encoding: gzip")
	}
	input := method + " " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + kind + "\r\n" + length + "\r\n\r\n" + body
	switch s.IntN(12) {
	case 0:
		return s.broken(input)
	case 1:
		return strings.Repeat(input, 1+s.IntN(3)) // one after the other, before the first is answered
	}
	return input
}

// review is one of a random object.
func (s source) review() string {
	r := s.request("default", nil)
	kind := r.object.GroupVersionKind()
	return string(marshal(raw{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": raw{
		"uid": "u", "operation": s.pick("CREATE", "CREATE", "CREATE", "UPDATE", "DELETE"), "namespace": "default", "name": r.object.GetName(), "dryRun": true,
		"kind":     raw{"group": kind.Group, "version": kind.Version, "kind": kind.Kind},
		"resource": raw{"group": kind.Group, "version": kind.Version, "resource": strings.ToLower(kind.Kind) + "s"},
		"object":   r.object.Object,
	}}))
}

// broken is a text in which something is missing, changed, or there more than once.
func (s source) broken(text string) string {
	if text == "" {
		return text
	}
	at := s.IntN(len(text))
	end := min(len(text), at+1+s.IntN(64))
	switch s.IntN(6) {
	case 0:
		return text[:at]
	case 1:
		return text[:at] + text[end:]
	case 2:
		return text[:at] + strings.Repeat(text[at:end], 1+s.IntN(2000)) + text[end:]
	case 3:
		return text[:at] + strings.Repeat(s.pick("[", "{\"a\":", "\"", ",", "\x00", "9"), 1+s.IntN(20_000)) + text[at:]
	case 4:
		return text[:at] + string(rune(s.IntN(256))) + text[at+1:]
	default:
		return strings.ReplaceAll(text, s.pick("80", "true", "[", "\"c\""), s.pick("1e400", "null", "-1", "\"\"", "[[", "99999999999"))
	}
}
