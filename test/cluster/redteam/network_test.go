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
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// stranger is somebody on the network, without credentials, who can reach the webhook's port.
type stranger struct {
	*world
	http *http.Client
	url  string
}

func newStranger(w *world, g *rig.Gate) *stranger {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(g.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxConnsPerHost: 1000}
	return &stranger{w, &http.Client{Transport: transport, Timeout: 20 * time.Second}, g.URL()}
}

// post sends a body, and returns the status, and of a review the code of its answer.
func (s *stranger) post(path, kind string, body io.Reader) string {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+path, body)
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
		s.must(err)
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
	s.must(err)
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
	id, name string
	do       func(*stranger) string
	want     string
}

func forgeries(ns string) []forgery {
	return []forgery{
		{"W1", "ports, kept in somebody's name", func(s *stranger) string {
			forged := s.forge("/validate-pods", admissionv1.Create, objects.One(s.t, "victim", pod("p", "nodeName: n1, ", "hostPort: 30810")), nil)
			var err error
			poll.Until(s.t, func(ctx context.Context) error { // a client of client-go tries again
				err = s.tenant.Create(ctx, objects.One(s.t, ns, objects.Service("mine", "type: NodePort, ports: [{port: 80, nodePort: 30810}]")))
				if strings.HasPrefix(finding.Answer(err), "429") {
					return err
				}
				return nil
			})
			return forged + ", then " + finding.Answer(err)
		}, "200 allowed, then ok"},
		{"W2", "a Service's number, said to be another one", func(s *stranger) string {
			var stored corev1.Service
			s.must(s.admin.Get(s.t.Context(), types.NamespacedName{Namespace: "victim", Name: "shop"}, &stored))
			stored.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
			changed := stored.DeepCopy()
			changed.Spec.Ports[0].NodePort = 30811
			forged := s.forge("/validate-services", admissionv1.Update, changed, &stored)
			return forged + ", then " + finding.Answer(s.tenant.Create(s.t.Context(), objects.One(s.t, ns, pod("p", "", "hostPort: 30800"))))
		}, "200 allowed, then 422 Invalid PC0201 Service victim/shop"},
		{"W4", "an offer of the scheduler's", func(s *stranger) string {
			return s.post("/filter", "application/json", strings.NewReader("{}"))
		}, "404"},
		{"W6", "YAML, whose aliases grow", func(s *stranger) string {
			return s.post("/validate-pods", "application/yaml", strings.NewReader("a: &a [x, x]\n"))
		}, "415"},
		{"W6", "JSON that is no object", func(s *stranger) string {
			return s.post("/validate-pods", "application/json", strings.NewReader("a: &a [x, x]\n"))
		}, "400"},
		{"W5", "a body of 18 MB", func(s *stranger) string {
			return s.post("/validate-pods", "application/json", bytes.NewReader(append([]byte("{"), bytes.Repeat([]byte(" "), 18<<20)...)))
		}, "413"},
		{"W5", "a pod of a hundred thousand ports", func(s *stranger) string {
			ports := "containerPort: 80" + strings.Repeat("}, {containerPort: 80", 100_000)
			return s.forge("/validate-pods", admissionv1.Create, objects.One(s.t, ns, objects.Pod("p", objects.Containers(ports))), nil)
		}, "200 413"},
		{"W7", "bodies that never come to their end, and others who ask", func(s *stranger) string {
			var all sync.WaitGroup
			ctx, stop := context.WithCancel(s.t.Context())
			for range 400 {
				all.Go(func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/validate-pods", slow{100 * time.Millisecond})
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
			err := s.tenant.Create(s.t.Context(), objects.One(s.t, ns, pod("q", "", "hostPort: 9000")), client.DryRunAll)
			stop()
			all.Wait()
			return finding.Answer(err)
		}, "ok"},
	}
}

// TestNetwork are the attempts of a stranger.
func TestNetwork(t *testing.T) {
	r := rig.Run(t, rig.Options{})
	w := newWorld(t, r)
	ns := w.namespace(t, nil)
	for _, a := range forgeries(ns) {
		t.Run(a.id+" "+a.name, func(t *testing.T) {
			s := newStranger(&world{t, w.admin, w.tenant}, r.Gate)
			if got := strings.ReplaceAll(a.do(s), ns, "HERE"); got != a.want {
				t.Errorf("got  %s\nwant %s", got, a.want)
			}
			w.clear(t, ns)
		})
	}
}

// memoryLimit is what the shipped Deployment gives a container.
const memoryLimit = 512 << 20

// TestOverloads has a tenant send the worst objects that the API server lets through, and a stranger the worst bodies. No request
// of anybody else fails, and the webhook's memory stays below the shipped limit. How much longer the others wait is printed.
func TestOverloads(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "460MiB") // nine tenths, as shipped
	r := rig.Run(t, rig.Options{})
	w := newWorld(t, r)
	ns, other := w.namespace(t, nil), w.namespace(t, nil)
	s := newStranger(w, r.Gate)
	long := time.Duration(seed.Rounds(2, 60)) * time.Second
	wide := func(ports int) client.Object {
		list := make([]string, ports)
		for i := range list {
			list[i] = fmt.Sprintf("{containerPort: 80, hostPort: %d}", 1024+i)
		}
		return objects.One(t, ns, "{apiVersion: v1, kind: Pod, metadata: {generateName: p}, spec: {containers: [{name: c, image: i, ports: ["+strings.Join(list, ", ")+"]}]}}")
	}(2000)
	placed := objects.One(t, ns, objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80, hostPort: 30800"))).(*appsv1.Deployment)
	addresses := func() client.Object {
		svc := objects.One(t, ns, objects.Service("wide", "ports: [{port: 80}]")).(*corev1.Service)
		svc.Spec.Ports = nil
		for i := range 99 {
			svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, fmt.Sprintf("192.0.2.%d", i+1))
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(i), Port: int32(1000 + i)})
		}
		return svc
	}()
	blank := append([]byte("{"), bytes.Repeat([]byte(" "), 6<<20)...)
	w.must(w.tenant.Create(t.Context(), objects.One(t, ns, objects.Service("exists", "ports: [{port: 80}]"))))
	base := overload(t, w, r.Gate, other, long, 0, nil)
	t.Logf("undisturbed: %s", base)
	for _, o := range []struct {
		name    string
		clients int
		once    func(i int)
	}{
		{"pods of 2,000 ports, dry runs", 4, func(int) {
			_ = w.tenant.Create(t.Context(), wide.DeepCopyObject().(client.Object), client.DryRunAll)
		}},
		{"node selectors of a megabyte, refused", 4, func(i int) {
			d := placed.DeepCopy()
			d.Spec.Template.Spec.NodeSelector = map[string]string{}
			for j := range 6000 {
				d.Spec.Template.Spec.NodeSelector[fmt.Sprintf("k%d-%d-%s", i, j, strings.Repeat("x", 40))] = strings.Repeat("y", 60)
			}
			_ = w.tenant.Create(t.Context(), d, client.DryRunAll)
		}},
		{"Services of 9,801 sockets, dry runs", 4, func(int) {
			_ = w.tenant.Create(t.Context(), addresses.DeepCopyObject().(client.Object), client.DryRunAll)
		}},
		{"creates of a name that exists", 8, func(i int) {
			_ = w.tenant.Create(t.Context(), objects.One(t, ns, objects.Service("exists", fmt.Sprintf("type: NodePort, ports: [{port: 80, nodePort: %d}]", 30900+i%100))))
		}},
		{"bodies of 6 MiB, from the network", 8, func(int) { s.post("/validate-pods", "application/json", bytes.NewReader(blank)) }},
	} {
		loaded := overload(t, w, r.Gate, other, long, o.clients, o.once)
		t.Logf("%s: %s; median %.1f, ninth decile %.1f times the undisturbed", o.name, loaded,
			float64(loaded.median)/float64(base.median), float64(loaded.ninth)/float64(base.ninth))
	}
}

// load is what others met during an overload.
type load struct {
	requests, overloads int
	median, ninth       time.Duration
	memory              int64 // of the webhook at most, in bytes
}

func (l load) String() string {
	return fmt.Sprintf("%d requests of others beside %d, memory %d MiB", l.requests, l.overloads, l.memory>>20)
}

// overload has clients do something again and again for a while, and somebody else ask for host ports beside them.
func overload(t *testing.T, w *world, g *rig.Gate, namespace string, long time.Duration, clients int, once func(i int)) load {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var l load
	end := time.Now().Add(long)
	for c := range clients {
		all.Go(func() {
			for i := c; time.Now().Before(end); i += clients {
				once(i)
				mu.Lock()
				l.overloads++
				mu.Unlock()
			}
		})
	}
	var took []time.Duration
	random := rand.New(rand.NewPCG(1, uint64(clients)))
	for time.Now().Before(end) {
		begin := time.Now()
		err := w.admin.Create(t.Context(), objects.One(t, namespace, pod("p", "", fmt.Sprintf("hostPort: %d", 10500+random.IntN(1000)))), client.DryRunAll)
		took = append(took, time.Since(begin))
		if err != nil {
			t.Errorf("somebody else's request: %v", err)
		}
		l.memory = max(l.memory, memoryOf(t, g.Pid()))
		time.Sleep(20 * time.Millisecond)
	}
	all.Wait()
	slices.Sort(took)
	l.requests, l.median, l.ninth = len(took), took[len(took)/2], took[len(took)*9/10]
	if l.memory > memoryLimit {
		t.Errorf("%d MiB of memory, and %d MiB are the container's limit", l.memory>>20, memoryLimit>>20)
	}
	if clients > 0 && l.overloads < clients {
		t.Error(errors.New("there was no overload"))
	}
	return l
}

// memoryOf is the resident memory of a process.
func memoryOf(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	t.Fatal("the kernel does not say how much memory the webhook has")
	return 0
}
