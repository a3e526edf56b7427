package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/portcullis-k8s/portcullis/webhook"
)

// TestReception: what is no review in JSON is said so, and gives back what it held.
func TestReception(t *testing.T) {
	const longest, all = 2 << 20, 4 << 20
	elements := func(n int) string { return "[" + strings.Repeat("null,", n) + "null]" }
	const most = heavyReview / elementWeight
	for _, c := range []struct {
		name, method, kind, body string
		status                   int
		want                     string // in the answer; of what is passed on its body
	}{
		{"a review", http.MethodPost, "application/json", `{"a": 1}`, http.StatusOK, `{"a": 1}`},
		{"with a charset", http.MethodPost, "application/json; charset=utf-8", ` {}`, http.StatusOK, ` {}`},
		{"of several steps", http.MethodPost, "application/json", "{" + strings.Repeat(" ", 3*readStep) + "}", http.StatusOK, "{"},
		{"another method", http.MethodGet, "application/json", "{}", http.StatusMethodNotAllowed, "POST"},
		{"no type", http.MethodPost, "", "{}", http.StatusUnsupportedMediaType, "application/json"},
		{"YAML by its type", http.MethodPost, "application/yaml", "{}", http.StatusUnsupportedMediaType, "application/json"},
		{"YAML", http.MethodPost, "application/json", "a: &a [*a]", http.StatusBadRequest, "no JSON object"},
		{"a list", http.MethodPost, "application/json", "[{}]", http.StatusBadRequest, "no JSON object"},
		{"nothing", http.MethodPost, "application/json", " ", http.StatusBadRequest, "no JSON object"},
		{"too long", http.MethodPost, "application/json", "{" + strings.Repeat(" ", longest) + "}", http.StatusRequestEntityTooLarge, "longer than 2097152 bytes"},
		{"as much as may be", http.MethodPost, "application/json", `{"a": ` + elements(most) + "}", http.StatusOK, "{"},
		{"text is light", http.MethodPost, "application/json", `{"a": "` + strings.Repeat(`,{\"`, most) + `"}`, http.StatusOK, "{"},
		{"much in little", http.MethodPost, "application/json", `{"request": {"uid": "7"}, "a": ` + elements(most+1) + "}", http.StatusOK,
			`"response":{"uid":"7","allowed":false,"status":{"metadata":{},"status":"Failure","message":"the object has more than 98304 entries`},
		{"much of what is no review", http.MethodPost, "application/json", `{` + elements(most+1) + "}", http.StatusBadRequest, "no review"},
	} {
		r := newReception(1, longest, all, webhook.NewRefusedMetric(prometheus.NewRegistry()))
		r.heavy = semaphore.NewWeighted(maxHeavy)
		w := httptest.NewRecorder()
		request := httptest.NewRequest(c.method, "/", strings.NewReader(c.body))
		request.Header.Set("Content-Type", c.kind)
		r.before(echo(t)).ServeHTTP(w, request)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || w.Code == http.StatusOK && c.want[0] != '"' && w.Body.Len() != len(c.body) {
			t.Errorf("%s: %d %.100q, want %d and %q", c.name, w.Code, w.Body, c.status, c.want)
		}
		if !r.bodies.TryAcquire(all) || !r.heavy.TryAcquire(maxHeavy) || len(r.slots) != 0 {
			t.Errorf("%s: it holds something afterwards", c.name)
		}
	}
}

func echo(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	})
}

// TestSlowSender: who sends slowly takes nobody's place, and is given up.
func TestSlowSender(t *testing.T) {
	r := newReception(1, 1<<20, 3*readStep, webhook.NewRefusedMetric(prometheus.NewRegistry()))
	server := httptest.NewServer(r.before(echo(t)))
	defer server.Close()
	post := func(body io.Reader) (int, error) {
		resp, err := http.Post(server.URL, "application/json", body)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	slow, sender := io.Pipe()
	defer sender.Close()
	done := make(chan int)
	go func() {
		status, err := post(slow)
		if err != nil {
			status = http.StatusRequestTimeout // the connection was closed before the answer was read
		}
		done <- status
	}()
	if _, err := sender.Write([]byte("{")); err != nil { // it is being read now
		t.Fatal(err)
	}
	for range 3 {
		if status, err := post(strings.NewReader("{}")); status != http.StatusOK || err != nil {
			t.Errorf("while somebody sends slowly: %d, %v", status, err)
		}
	}
	if status := <-done; status != http.StatusRequestTimeout {
		t.Errorf("who sends slowly gets %d", status)
	}
	if !r.bodies.TryAcquire(3 * readStep) {
		t.Error("who was given up holds something")
	}
}
