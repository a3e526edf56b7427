package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestReception: what is no review in JSON is said so, and gives back what it held.
func TestReception(t *testing.T) {
	const longest, weight = 200 << 10, 1 << 20
	objects := func(n int) string { return "[" + strings.Repeat("{},", n) + "{}]" }
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
		{"too long", http.MethodPost, "application/json", "{" + strings.Repeat(" ", longest) + "}", http.StatusRequestEntityTooLarge, "longer than 204800 bytes"},
		{"much in little", http.MethodPost, "application/json", `{"a": ` + objects(weight/objectWeight) + "}", http.StatusRequestEntityTooLarge, "too many objects"},
		{"as much as may be", http.MethodPost, "application/json", `{"a": ` + objects(weight/objectWeight/2) + "}", http.StatusOK, "{"},
	} {
		r := newReception(1, longest, weight, newRefusedMetric(prometheus.NewRegistry()))
		w := httptest.NewRecorder()
		request := httptest.NewRequest(c.method, "/", strings.NewReader(c.body))
		request.Header.Set("Content-Type", c.kind)
		r.before(echo(t)).ServeHTTP(w, request)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || w.Code == http.StatusOK && w.Body.Len() != len(c.body) {
			t.Errorf("%s: %d %.100q, want %d and %q", c.name, w.Code, w.Body, c.status, c.want)
		}
		if !r.bodies.TryAcquire(weight) || len(r.slots) != 0 {
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
	r := newReception(1, 1<<20, 3*readStep, newRefusedMetric(prometheus.NewRegistry()))
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
