package admission

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
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// chooseHigh is a configuration by which what the webhook chooses keeps out of the way of the numbers that the tests name.
const chooseHigh = "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nallocateFrom: 32000-32767\n"

// TestQuietCluster is without controllers: nobody but the test asks the webhook anything, so that counts are exact.
func TestQuietCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, rig.Options{Config: chooseHigh})
	t.Run("not our business", c.testNotOurBusiness)
	t.Run("race for one number", c.testRace)
	t.Run("generateName", c.testGenerateName)
	t.Run("malformed reviews", c.testMalformed)
	t.Run("race between two replicas", c.testRaceOfReplicas)
}

func (c *cluster) reviews(t *testing.T) float64 {
	t.Helper()
	n, err := c.Webhook.Count(t.Context(), "portcullis_admission_verdicts_total")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (c *cluster) testNotOurBusiness(t *testing.T) {
	ns := objects.Namespace(t, c)
	before := c.reviews(t)
	objects.Create(t, c, ns, objects.Pod("plain", objects.Containers("containerPort: 80")))
	objects.Create(t, c, ns, objects.Service("cluster", "ports: [{port: 80}]"))
	objects.Create(t, c, ns, objects.Service("headless", "clusterIP: None, ports: [{port: 80}]"))
	objects.Create(t, c, ns, objects.Service("external", "type: ExternalName, externalName: example.org"))
	objects.Create(t, c, ns, objects.Service("balanced", "type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]"))
	objects.Create(t, c, ns, objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80")))
	if after := c.reviews(t); after != before {
		t.Errorf("the webhook was asked %v times about what has nothing to do with node ports", after-before)
	}
	// A pod of the host network may listen anywhere, whatever it says: policies want to know of it.
	objects.Create(t, c, ns, objects.Pod("network", "hostNetwork: true, containers: [{name: c, image: i}]"))
	if after := c.reviews(t); after != before+2 {
		t.Errorf("a pod of the host network was judged %v times, want twice", after-before)
	}
	before += 2
	// Control: what has is counted, and its edits that change no port are not.
	s := c.service(t, ns, objects.Service("node", "type: NodePort, ports: [{port: 80}]"))
	if after := c.reviews(t); after != before+2 {
		t.Errorf("a NodePort Service was judged %v times, want once before and once after the allocation", after-before)
	}
	s.Annotations = map[string]string{"a": "b"}
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	d := objects.Create(t, c, ns, objects.Workload("Deployment", "h", "", objects.Containers("containerPort: 80, hostPort: 8040")))[0]
	if after := c.reviews(t); after != before+3 {
		t.Errorf("a Deployment with a host port, and an annotation on a Service: %v reviews, want 1", after-before-2)
	}
	patch := func(text string) {
		t.Helper()
		if err := c.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	patch(`{"metadata":{"labels":{"a":"b"}},"spec":{"progressDeadlineSeconds":700}}`)
	if after := c.reviews(t); after != before+3 {
		t.Errorf("an edit that changes neither ports nor the rollout was judged")
	}
	patch(`{"spec":{"replicas":3}}`)
	if after := c.reviews(t); after != before+4 {
		t.Errorf("a change of replicas: %v reviews, want 1", after-before-3)
	}
}

// testRace lets two clients want one number at the same moment, again and again. Exactly one may get it. The loser is
// told by the webhook who has it, or, if the webhook had not seen the winner, by the API server that it is taken.
func (c *cluster) testRace(t *testing.T) {
	ns := objects.Namespace(t, c)
	if ours, _ := c.race(t, [2]string{ns, ns}); ours == 0 {
		t.Error("the webhook told nobody")
	}
}

// testRaceOfReplicas lets each of the two clients be judged by a replica of its own, which cannot have seen what the other
// webhook has just let through.
func (c *cluster) testRaceOfReplicas(t *testing.T) {
	first, second := objects.Namespace(t, c), objects.Namespace(t, c)
	c.Split(t, c.Replica(t, ""), second)
	c.race(t, [2]string{first, second})
}

// race lets two clients, each in a namespace, want one number at the same moment, again and again, and returns by whom
// the losers were told.
func (c *cluster) race(t *testing.T, ns [2]string) (ours, theirs int) {
	t.Helper()
	for round := range seed.Rounds(100, 2000) {
		number := 30000 + round%2000
		var errs [2]error
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() {
				s := objects.One(t, ns[i], objects.Service(fmt.Sprintf("r%d-%d", round, i), fmt.Sprintf("type: NodePort, ports: [{port: 80, nodePort: %d}]", number)))
				errs[i] = c.Create(t.Context(), s)
			})
		}
		group.Wait()
		winner, loser := 0, 1
		if errs[0] != nil {
			winner, loser = 1, 0
		}
		if errs[winner] != nil || errs[loser] == nil {
			t.Fatalf("round %d: %v and %v, want exactly one winner", round, errs[0], errs[1])
		}
		switch got, err := causes(errs[loser]); {
		case err == nil && strings.HasSuffix(finding.Of(got[0]), fmt.Sprintf("Service %s/r%d-%d", ns[winner], round, winner)):
			ours++
		case strings.Contains(errs[loser].Error(), "provided port is already allocated"):
			theirs++
		default:
			t.Fatalf("round %d: the loser is told %v", round, errs[loser])
		}
		for i := range errs {
			if errs[i] == nil {
				if err := c.Delete(t.Context(), objects.One(t, ns[i], objects.Service(fmt.Sprintf("r%d-%d", round, i), ""))); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("losers told by the webhook: %d, by the API server: %d", ours, theirs)
	return ours, theirs
}

// review posts raw bytes to a hook, past the API server.
func (c *cluster) review(ctx context.Context, path string, body []byte) (int, string, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.Webhook.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Webhook.URL()+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	return resp.StatusCode, string(answer), err
}

func (c *cluster) testMalformed(t *testing.T) {
	good, err := json.Marshal(podReview(podWithPorts(10000)))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		name, path string
		body       []byte
		want       string // in the answer
	}{
		{"empty", hooks.PathValidatePods, nil, "not a JSON object"},
		{"truncated", hooks.PathValidatePods, good[:len(good)/2], `"allowed":false`},
		{"no JSON", hooks.PathValidateServices, []byte("hello"), "not a JSON object"},
		{"another kind of review", hooks.PathValidatePods, []byte(`{"apiVersion":"v1","kind":"Pod"}`), `"allowed":false`},
		{"a pod at the hook of Services", hooks.PathValidateServices, good, "this hook judges services"},
		{"a pod at the hook of templates", hooks.PathValidateWorkload, good, "this hook judges objects with a pod template"},
		{"10 MB", hooks.PathValidatePods, append(bytes.Repeat([]byte(" "), 10<<20), good...), "longer than 7340032 bytes"},
		{"10,000 ports, each twice", hooks.PathValidatePods, good, "PC0102"},
	} {
		t.Run(m.name, func(t *testing.T) {
			_, answer, err := c.review(t.Context(), m.path, m.body)
			if err != nil || !strings.Contains(answer, m.want) || strings.Contains(answer, "panic") {
				t.Errorf("%v %.300s, want %q in it", err, answer, m.want)
			}
		})
	}
	if panics, err := c.Webhook.Count(t.Context(), "controller_runtime_webhook_panics_total"); err != nil || panics != 0 {
		t.Errorf("%v panics, %v", panics, err)
	}
}

func podWithPorts(n int) *corev1.Pod {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "many", Namespace: "default"}}
	container := corev1.Container{Name: "c", Image: "i"}
	for i := range n {
		container.Ports = append(container.Ports, corev1.ContainerPort{ContainerPort: 80, HostPort: int32(1 + i%(n/2))})
	}
	p.Spec.Containers = []corev1.Container{container}
	return p
}

func podReview(p *corev1.Pod) *admissionv1.AdmissionReview {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // a pod that the test made itself
	}
	return &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Name: p.Name, Namespace: p.Namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
		},
	}
}

// TestManyServices lets clients create Services without numbers, until a tenth of what they are allocated from is left. They are
// no more than a busy machine serves before the webhook's grace for a write is over: later the number may be another's.
func TestManyServices(t *testing.T) {
	t.Parallel()
	many := seed.Rounds(300, 900)
	part := fmt.Sprintf("30100-%d,31200-%d", 30099+many, 31199+many/3)
	for _, r := range []struct{ name, config, apiServer, from string }{
		{"from a part of the default range", "allocateFrom: " + part, "", part},
		{"from 30000-50000", "nodePortRange: 30000-50000", "30000-50000", "30000-50000"},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := newCluster(t, rig.Options{
				ControlPlane: controlplane.Options{NodePortRange: r.apiServer},
				Config:       "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\n" + r.config + "\n",
			})
			c.testMany(t, r.from, many)
		})
	}
}

func (c *cluster) testMany(t *testing.T, from string, many int) {
	ns := objects.Namespace(t, c)
	allowed := portSet(t, from)
	held := map[int32]bool{}
	random := seed.Rand(t)
	for len(held) < many/9 { // host ports in the way
		port := int32(30100 + random.IntN(many))
		if !held[port] {
			held[port] = true
			objects.Create(t, c, ns, objects.Pod(fmt.Sprintf("p%d", port), objects.Containers(fmt.Sprintf("containerPort: 80, hostPort: %d", port))))
		}
	}
	clients, services := seed.Rounds(16, 64), many+many/9
	numbers := make([]int32, services)
	errs := make([]error, services)
	var group sync.WaitGroup
	for w := range clients {
		group.Go(func() {
			for i := w; i < services; i += clients {
				s := objects.One(t, ns, objects.Service(fmt.Sprintf("s%d", i), "type: NodePort, ports: [{port: 80}]")).(*corev1.Service)
				errs[i] = c.Create(t.Context(), s)
				if errs[i] == nil {
					numbers[i] = s.Spec.Ports[0].NodePort
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("clients saw errors: %.2000s", err.Error())
	}
	seen := map[int32]bool{}
	for i, n := range numbers {
		if seen[n] || !allowed[n] || held[n] {
			t.Errorf("s%d got %d: twice %v, inside %v, held by a hostPort %v", i, n, seen[n], allowed[n], held[n])
		}
		seen[n] = true
	}
	c.noDrift(t)
}

// portSet reads ranges without the code that the webhook reads them with.
func portSet(t *testing.T, ranges string) map[int32]bool {
	t.Helper()
	set := map[int32]bool{}
	for part := range strings.SplitSeq(ranges, ",") {
		var first, last int32
		if _, err := fmt.Sscanf(part, "%d-%d", &first, &last); err != nil {
			t.Fatal(err)
		}
		for p := first; p <= last; p++ {
			set[p] = true
		}
	}
	return set
}

// guardBindings adds the guard on bindings to what is armed.
func (c *cluster) guardBindings(t *testing.T) {
	t.Helper()
	registration := c.Registration()
	registration.GuardBindings = true
	guarded := hooks.Validating(registration)
	poll.Until(t, func(context.Context) error {
		current, err := c.Rig.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), hooks.ConfigurationName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for i := range guarded.Webhooks { // a guard that lets pass what it cannot be asked about would show nothing here
			fail := admissionregistrationv1.Fail
			guarded.Webhooks[i].FailurePolicy = &fail
		}
		current.Webhooks = guarded.Webhooks
		_, err = c.Rig.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(t.Context(), current, metav1.UpdateOptions{})
		return err
	})
}
