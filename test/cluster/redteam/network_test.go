package redteam

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// stranger is somebody on the network, without credentials, who can reach the webhook's port.
type stranger struct {
	*place
	http *http.Client
	url  string
}

func newStranger(p *place) *stranger {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(p.Webhook)}, MaxConnsPerHost: 1000}
	return &stranger{p, &http.Client{Transport: transport, Timeout: 20 * time.Second}, p.Webhook.URL()}
}

func roots(g *rig.Replica) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(g.CA)
	return pool
}

// post sends a body, and returns the status, and of a review the code of its answer.
func (s *stranger) post(path, kind string, body io.Reader) string {
	req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.url+path, body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", kind)
	answer, err := s.http.Do(req)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	var review admissionv1.AdmissionReview
	text, err := io.ReadAll(answer.Body)
	if json.Unmarshal(text, &review) != nil || err != nil || review.Response == nil {
		return fmt.Sprint(answer.StatusCode)
	}
	if review.Response.Allowed {
		return fmt.Sprint(answer.StatusCode, " allowed")
	}
	return fmt.Sprint(answer.StatusCode, " ", review.Response.Result.Code)
}

// forge sends the review of a request that nobody has made.
func (s *stranger) forge(path string, operation admissionv1.Operation, object, old client.Object) string {
	raw := func(o client.Object) runtime.RawExtension {
		data, err := json.Marshal(o)
		must(s.T, err)
		return runtime.RawExtension{Raw: data}
	}
	gvk := object.GetObjectKind().GroupVersionKind()
	request := &admissionv1.AdmissionRequest{
		UID: "forged", Kind: metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind},
		Resource: metav1.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: strings.ToLower(gvk.Kind) + "s"},
		Name:     object.GetName(), Namespace: object.GetNamespace(), Operation: operation, Object: raw(object),
	}
	if old != nil {
		request.OldObject = raw(old)
	}
	review := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request}
	data, err := json.Marshal(review)
	must(s.T, err)
	return s.post(path, "application/json", bytes.NewReader(data))
}

// slow is a body that never ends.
type slow struct{ every time.Duration }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(s.every)
	p[0] = ' '
	return 1, nil
}

// forgery is one attempt of a stranger's.
type forgery struct {
	about, name string
	do          func(*stranger) string
	want        string
}

func forgeries() []forgery {
	return slices.Concat(forged(), bodies(), malformed(), connections())
}

// forged are reviews of requests that nobody has made.
func forged() []forgery {
	return []forgery{
		{"W1", "ports, kept in somebody's name", func(s *stranger) string {
			forged := s.forge(hooks.PathValidatePods, admissionv1.Create, objects.One(s.T, "victim", pod("p", "nodeName: n1, ", "hostPort: 30810")), nil)
			var err error
			poll.Until(s.T, func(context.Context) error { // a client of client-go tries again
				err = s.keep(s.tenant, s.object(objects.Service("mine", "type: NodePort, ports: [{port: 80, nodePort: 30810}]")))
				if strings.HasPrefix(finding.Answer(err), "429") {
					return err
				}
				return nil
			})
			return forged + ", then " + finding.Answer(err)
		}, "200 allowed, then ok"},
		{"W2", "a Service's number, said to be another one", func(s *stranger) string {
			var stored corev1.Service
			must(s.T, s.admin.Get(s.Context(), types.NamespacedName{Namespace: "victim", Name: "shop"}, &stored))
			stored.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
			changed := stored.DeepCopy()
			changed.Spec.Ports[0].NodePort = 30811
			forged := s.forge(hooks.PathValidateServices, admissionv1.Update, changed, &stored)
			return forged + ", then " + finding.Answer(s.create(pod("p", "", "hostPort: 30800")))
		}, "200 allowed, then 422 Invalid PC0201 Service victim/shop"},
		{"W3", "numbers of a pool, booked in another namespace's name", func(s *stranger) string {
			other, mine := s.namespace(s.T, few()), s.world.place(s.T, few())
			forged := 0
			poll.Until(s.T, func(context.Context) error { // until the other's limit is reached
				forged++
				o := objects.One(s.T, other, objects.Service(fmt.Sprint("s", forged), "type: NodePort, ports: [{port: 80, protocol: TCP}]"))
				if answer := s.forge(hooks.PathMutateServices, admissionv1.Create, o, nil); answer != "200 422" {
					return errors.New(answer)
				}
				return nil
			})
			last := time.Now()
			answer := finding.Answer(mine.create(service("type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81}]")))
			poll.Until(s.T, func(ctx context.Context) error {
				var booked v1alpha1.PortClaimList
				must(s.T, s.admin.List(ctx, &booked, client.MatchingFields{"spec.service.namespace": other}))
				if time.Since(last) > 16*time.Second && len(booked.Items) > 0 {
					s.Errorf("%d numbers are booked after %s", len(booked.Items), time.Since(last))
					return nil
				}
				for _, c := range booked.Items {
					if c.Status.Phase != v1alpha1.ClaimRequested {
						s.Errorf("%s is %s", c.Name, c.Status.Phase)
					}
				}
				if len(booked.Items) > 0 {
					return fmt.Errorf("%d numbers are booked", len(booked.Items))
				}
				return nil
			})
			return answer
		}, "ok"},
		{"W1", "a release, of what somebody else has", func(s *stranger) string {
			s.victimHas(objects.Service("shop-2", "type: NodePort, ports: [{port: 80, nodePort: 30812}]"))
			gone := objects.One(s.T, "victim", objects.Service("shop-2", "ports: [{port: 80}]"))
			forged := s.forge(hooks.PathValidateServices, admissionv1.Update, gone, s.made[len(s.made)-1])
			return forged + ", then " + finding.Answer(s.create(pod("p", "", "hostPort: 30812")))
		}, "200 allowed, then 422 Invalid PC0201 Service victim/shop-2"},
		{"W1", "a pod that a node says is a mirror pod", func(s *stranger) string {
			o := objects.One(s.T, "victim", with("annotations: {kubernetes.io/config.mirror: x}", pod("p", "nodeName: n1, ", "hostPort: 30813")))
			forged := s.forge(hooks.PathValidatePods, admissionv1.Create, o, nil)
			var err error
			poll.Until(s.T, func(context.Context) error {
				err = s.keep(s.tenant, s.object(objects.Service("mine", "type: NodePort, ports: [{port: 80, nodePort: 30813}]")))
				if strings.HasPrefix(finding.Answer(err), "429") {
					return err
				}
				return nil
			})
			return forged + ", then " + finding.Answer(err)
		}, "200 allowed, then ok"},
		{"W4", "an offer of the scheduler's", func(s *stranger) string {
			return s.post("/filter", "application/json", strings.NewReader("{}"))
		}, "404"},
	}
}

// bodies are attempts to use up what the webhook has.
func bodies() []forgery {
	return []forgery{
		{"W6", "YAML, whose aliases grow", func(s *stranger) string {
			return s.post(hooks.PathValidatePods, "application/yaml", strings.NewReader("a: &a [x, x]\n"))
		}, "415"},
		{"W6", "JSON that is no object", func(s *stranger) string {
			return s.post(hooks.PathValidatePods, "application/json", strings.NewReader("a: &a [x, x]\n"))
		}, "400"},
		{"W5", "a body of 18 MB", func(s *stranger) string {
			return s.post(hooks.PathValidatePods, "application/json", bytes.NewReader(append([]byte("{"), bytes.Repeat([]byte(" "), 18<<20)...)))
		}, "413"},
		{"W5", "a pod of a hundred thousand ports", func(s *stranger) string {
			ports := "containerPort: 80" + strings.Repeat("}, {containerPort: 80", 100_000)
			return s.forge(hooks.PathValidatePods, admissionv1.Create, s.object(objects.Pod("p", objects.Containers(ports))), nil)
		}, "200 413"},
		{"W7", "bodies that never come to their end, and others who ask", func(s *stranger) string {
			var all sync.WaitGroup
			ctx, stop := context.WithCancel(s.Context())
			for range 400 {
				all.Go(func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+hooks.PathValidatePods, slow{100 * time.Millisecond})
					if err != nil {
						return
					}
					req.Header.Set("Content-Type", "application/json")
					if answer, err := s.http.Do(req); err == nil {
						answer.Body.Close()
					}
				})
			}
			time.Sleep(time.Second)
			err := s.tenant.Create(s.Context(), s.object(pod("q", "", "hostPort: 9000")), client.DryRunAll)
			stop()
			all.Wait()
			return finding.Answer(err)
		}, "ok"},
	}
}

// malformed are reviews that the API server does not send.
func malformed() []forgery {
	const of = `"uid": "1", "operation": "CREATE", "namespace": "default", "kind": {"version": "v1", "kind": "Pod"}, "resource": {"version": "v1", "resource": "pods"}`
	const about = `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {` + of + `, "object": `
	posted := func(name, body, want string) forgery {
		return forgery{"malformed", name, func(s *stranger) string {
			return s.post(hooks.PathValidatePods, "application/json", strings.NewReader(body))
		}, want}
	}
	port := func(value string) string {
		return about + `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "ports": [{"hostPort": ` + value + `}]}]}}}}`
	}
	return []forgery{
		posted("nothing", "", "400"),
		posted("null", "null", "400"),
		posted("a list", "[]", "400"),
		posted("a text", `"x"`, "400"),
		posted("half an object", `{"request": {`, "200 400"),
		posted("two objects", about+`{}}}{}`, "200 400"),
		posted("NUL bytes", "{\x00}", "200 400"),
		posted("no UTF-8", "{\"request\": {\"uid\": \"\xff\xfe\"}}", "200 400"),
		posted("an empty object", "{}", "200 400"),
		posted("no request", `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": null}`, "200 400"),
		posted("an empty request", `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}`, "200 400"),
		posted("a request that is a list", `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": []}`, "200 400"),
		posted("another kind of review", `{"apiVersion": "v1", "kind": "Pod", "request": {`+of+`}}`, "200 400"),
		posted("a version that there is not", `{"apiVersion": "admission.k8s.io/v9", "kind": "AdmissionReview", "request": {`+of+`}}`, "200 400"),
		posted("no object", `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {`+of+`}}`, "200 400"),
		posted("an object that is null", about+`null}}`, "200 400"),
		posted("an object that is a text", about+`"pod"}}`, "200 400"),
		posted("an object that is a list", about+`[]}}`, "200 400"),
		posted("an object of another kind", about+`{"apiVersion": "v1", "kind": "Service"}}}`, "200 400"),
		posted("containers that are no list", about+`{"spec": {"containers": {}}}}}`, "200 400"),
		posted("containers that are null", about+`{"spec": {"containers": [null, null]}}}}`, "200 allowed"),
		posted("a host port that is a text", port(`"80"`), "200 400"),
		posted("a host port with a fraction", port("80.5"), "200 400"),
		posted("a host port below zero", port("-1"), "200 allowed"),
		posted("a host port beyond all", port("2147483647"), "200 allowed"),
		posted("a host port that no number can be", port("1e999"), "200 400"),
		posted("an operation that there is not", strings.Replace(port("30800"), "CREATE", "DESTROY", 1), "200 allowed"),
		posted("an update of nothing", strings.Replace(port("30800"), "CREATE", "UPDATE", 1), "200 allowed"),
		posted("a hundred thousand brackets", about+strings.Repeat(`[`, 100_000)+strings.Repeat(`]`, 100_000)+`}}`, "200 400"),
		posted("a hundred thousand objects in each other", about+strings.Repeat(`{"a":`, 100_000)+`1`+strings.Repeat(`}`, 100_000)+`}}`, "200 400"),
		posted("a key a hundred thousand times", about+`{`+strings.Repeat(`"a": 1, `, 90_000)+`"kind": "Pod"}}}`, "200 allowed"),
	}
}

// connections are attempts to talk to the webhook in other ways.
func connections() []forgery {
	dialled := func(name, want string, config *tls.Config) forgery {
		return forgery{"TLS", name, func(s *stranger) string {
			config.RootCAs = roots(s.Webhook)
			conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), config)
			if err != nil {
				return "refused"
			}
			defer conn.Close()
			return tls.VersionName(conn.ConnectionState().Version)
		}, want}
	}
	suite := func(id uint16) *tls.Config {
		return &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{id}}
	}
	asked := func(name, method, want string, url func(*stranger) string) forgery {
		return forgery{"paths", name, func(s *stranger) string {
			req, err := http.NewRequestWithContext(s.Context(), method, url(s), nil)
			must(s.T, err)
			answer, err := s.http.Do(req)
			must(s.T, err)
			answer.Body.Close()
			return fmt.Sprint(answer.StatusCode)
		}, want}
	}
	ofHooks := func(path string) func(*stranger) string { return func(s *stranger) string { return s.url + path } }
	metrics := func(path string) func(*stranger) string {
		return func(s *stranger) string { return "http://" + s.Webhook.MetricsAddress() + path }
	}
	health := func(path string) func(*stranger) string {
		return func(s *stranger) string { return "http://" + s.Webhook.HealthAddress() + path }
	}
	all := []forgery{
		dialled("1.0", "refused", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}),
		dialled("1.1", "refused", &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}),
		dialled("1.2", "TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}),
		dialled("1.3", "TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}),
		dialled("another name than the certificate's", "refused", &tls.Config{ServerName: "example.com"}),
		asked("plain HTTP", http.MethodPost, "400", func(s *stranger) string { return strings.Replace(s.url, "https", "http", 1) + hooks.PathValidatePods }),
		asked("GET of a hook", http.MethodGet, "405", ofHooks(hooks.PathValidatePods)),
		asked("PUT to a hook", http.MethodPut, "405", ofHooks(hooks.PathValidatePods)),
		asked("DELETE of a hook", http.MethodDelete, "405", ofHooks(hooks.PathValidatePods)),
		asked("TRACE of a hook", http.MethodTrace, "405", ofHooks(hooks.PathValidatePods)),
		asked("the hooks' metrics", http.MethodGet, "404", ofHooks("/metrics")),
		asked("a path above", http.MethodPost, "404", ofHooks("/../../etc/passwd")),
		asked("a segment before a hook", http.MethodPost, "404", ofHooks("/0123456789abcdef0123456789abcdef"+hooks.PathValidatePods)),
	}
	for _, id := range tls.InsecureCipherSuites() {
		if slices.Contains(id.SupportedVersions, tls.VersionTLS12) {
			all = append(all, dialled(id.Name, "refused", suite(id.ID)))
		}
	}
	for name, at := range inOrder(map[string]func(string) func(*stranger) string{"hooks": ofHooks, "metrics": metrics, "health": health}) {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/vars"} {
			all = append(all, asked(path+" beside the "+name, http.MethodGet, "404", at(path)))
		}
	}
	return all
}

// TestNetwork are the attempts of a stranger.
func TestNetwork(t *testing.T) {
	w := newWorld(t)
	for _, a := range forgeries() {
		t.Run(a.about+" "+a.name, func(t *testing.T) {
			p := w.place(t, nil)
			if got := strings.ReplaceAll(a.do(newStranger(p)), p.Namespace, "HERE"); got != a.want {
				t.Errorf("got  %s\nwant %s", got, a.want)
			}
		})
	}
}
