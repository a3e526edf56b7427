package serve

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/semaphore"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
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
		{"YAML", http.MethodPost, "application/json", "a: &a [*a]", http.StatusBadRequest, "not a JSON object"},
		{"a list", http.MethodPost, "application/json", "[{}]", http.StatusBadRequest, "not a JSON object"},
		{"nothing", http.MethodPost, "application/json", " ", http.StatusBadRequest, "not a JSON object"},
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

// TestSecretPath: a hook is served below the segments that are accepted, and nowhere else; of other requests nothing is
// read, and they are counted.
func TestSecretPath(t *testing.T) {
	const one, two = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	registry := prometheus.NewRegistry()
	refused := webhook.NewRefusedMetric(registry)
	var prefixes certificate.Prefixes
	server := crwebhook.NewServer(crwebhook.Options{})
	newReception(1, 1<<20, 4<<20, refused).register(server, "/validate-pods", func(segment string) bool { return prefixes.Accepts(segment) }, echo(t))
	post := func(path string, body io.Reader) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodPost, path, body)
		request.Header.Set("Content-Type", "application/json")
		server.WebhookMux().ServeHTTP(w, request)
		return w
	}
	paths := []string{"/validate-pods", "/" + one + "/validate-pods", "/" + two + "/validate-pods"}
	want404 := 0.0
	for _, c := range []struct {
		name     string
		prefixes certificate.Prefixes
		served   []string
	}{
		{"without a segment", certificate.Prefixes{Current: certificate.Plain}, paths[:1]},
		{"one begins", certificate.Prefixes{Current: certificate.Plain, Next: "/" + one + "/"}, paths[:2]},
		{"one is registered", certificate.Prefixes{Current: "/" + one + "/", Former: certificate.Plain}, paths[:2]},
		{"no API server uses the plain path", certificate.Prefixes{Current: "/" + one + "/"}, paths[1:2]},
		{"rotated", certificate.Prefixes{Current: "/" + two + "/", Former: "/" + one + "/"}, paths[1:]},
		{"no API server uses the former", certificate.Prefixes{Current: "/" + two + "/"}, paths[2:]},
		{"nothing is known yet", certificate.Prefixes{}, nil},
	} {
		prefixes = c.prefixes
		for _, path := range append(paths, "/"+one[1:]+"/validate-pods", "/"+strings.ToUpper(one)+"/validate-pods", "/%2e/validate-pods") {
			if slices.Contains(c.served, path) {
				if w := post(path, strings.NewReader("{}")); w.Code != http.StatusOK || w.Body.String() != "{}" {
					t.Errorf("%s: %s: %d %s", c.name, path, w.Code, w.Body)
				}
				continue
			}
			want404++
			w := post(path, iotest.ErrReader(errors.New("the body was read")))
			if w.Code != http.StatusNotFound || w.Body.String() != "404 page not found\n" || w.Header().Get("Connection") != "close" {
				t.Errorf("%s: %s: %d %s", c.name, path, w.Code, w.Body)
			}
		}
		// Whatever is asked there, and whether there is such a hook at all, the answer is the same.
		for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodPut, http.MethodOptions} {
			w := httptest.NewRecorder()
			server.WebhookMux().ServeHTTP(w, httptest.NewRequest(method, "/"+strings.Repeat("0", 32)+"/validate-pods", nil))
			if want404++; w.Code != http.StatusNotFound || w.Header().Get("Allow") != "" || w.Header().Get("Location") != "" {
				t.Errorf("%s: %s: %d %v", c.name, method, w.Code, w.Header())
			}
		}
		if w := post("/"+one+"/healthz", strings.NewReader("{}")); w.Code != http.StatusNotFound {
			t.Errorf("%s: another path below a segment: %d", c.name, w.Code)
		}
	}
	if got := testutil.ToFloat64(refused.WithLabelValues("404")); got != want404 {
		t.Errorf("%v are counted, want %v", got, want404)
	}
	families, err := registry.Gather()
	if err != nil || strings.Contains(fmt.Sprint(families), one) {
		t.Errorf("%v, metrics %v", err, families)
	}
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
