package transparency

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// newClient returns a client as controllers have one: it tries again after a 429.
func newClient(t *testing.T, cp *controlplane.ControlPlane) client.Client {
	t.Helper()
	config := cp.RESTConfig()
	config.WarningHandler = nil
	c, err := client.New(config, client.Options{Scheme: manifest.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSequences are everyday sequences of requests, each of which Portcullis once got wrong.
func TestSequences(t *testing.T) {
	t.Parallel()
	r := rig.Run(t, rig.Options{Flags: []string{"--audit-every=10m"}})
	c, s := newClient(t, r.ControlPlane), newServer(t, r.ControlPlane)
	others := newOthers(t)
	others.register(t, s)
	for name, sequence := range map[string]func(*testing.T, client.Client){
		"CreateTwice": createTwice, "CreateOfWhatExists": createOfWhatExists,
		"Quota":     func(t *testing.T, c client.Client) { quota(t, c, s) },
		"SlowWrite": func(t *testing.T, c client.Client) { slowWrite(t, c, s, others) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sequence(t, c)
		})
	}
}

// step is one request and its answer.
type step struct {
	do   func(context.Context, client.Client, client.Object) error
	what string // a manifest
	want string
}

func creates(ctx context.Context, c client.Client, o client.Object) error { return c.Create(ctx, o) }

func run(t *testing.T, c client.Client, namespace string, steps []step) {
	t.Helper()
	for i, s := range steps {
		if got := finding.Answer(s.do(t.Context(), c, objects.One(t, namespace, s.what))); got != s.want {
			t.Fatalf("step %d, %s:\ngot  %s\nwant %s", i+1, s.what, got, s.want)
		}
	}
}

func nodePort(name, port string) string {
	return "{apiVersion: v1, kind: Service, metadata: {name: " + name + "}, spec: {type: NodePort, ports: [{port: 80, nodePort: " + port + "}]}}"
}

func hostPort(name, port string) string {
	return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + "}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: " + port + "}]}]}}"
}

// createTwice: a create that fails because the name is taken hides nothing of what is stored.
func createTwice(t *testing.T, c client.Client) {
	ns := objects.Namespace(t, c)
	run(t, c, ns, []step{
		{creates, nodePort("a", "32755"), "ok"},
		{creates, nodePort("a", "32756"), "409 AlreadyExists"},
		{creates, hostPort("p", "32755"), "422 Invalid PC0201 Service " + ns + "/a"},
		{creates, nodePort("b", "32756"), "ok"},
	})
}

// createOfWhatExists: the API server says 409, whatever we would have filled in or refused.
func createOfWhatExists(t *testing.T, c client.Client) {
	ns := objects.Namespace(t, c)
	loadBalancer := "{apiVersion: v1, kind: Service, metadata: {name: lb}, spec: {type: LoadBalancer, ports: [{port: 80}]}}"
	run(t, c, ns, []step{
		{creates, nodePort("a", "0"), "ok"},
		{creates, nodePort("a", "0"), "409 AlreadyExists"},
		{creates, loadBalancer, "ok"},
		{creates, loadBalancer, "409 AlreadyExists"},
		{creates, nodePort("b", "32711"), "ok"},
		{creates, nodePort("b", "0"), "409 AlreadyExists"},
		{creates, hostPort("p", "9000"), "ok"},
		{creates, hostPort("p", "32711"), "409 AlreadyExists"},
	})
}

// quota: a create that a quota refuses after us keeps its port from others for the grace at most, and nobody is named.
func quota(t *testing.T, c client.Client, s *server) {
	tenant, other := objects.Namespace(t, c), objects.Namespace(t, c)
	none := corev1.ResourceList{corev1.ResourceServicesNodePorts: resource.MustParse("0")}
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none", Namespace: tenant}, Spec: corev1.ResourceQuotaSpec{Hard: none}}
	if err := c.Create(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	q.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none} // as the controller would
	if err := c.Status().Update(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	run(t, c, tenant, []step{{creates, nodePort("quo", "32733"), "403 Forbidden"}})
	seen := map[string]bool{}
	for !seen["ok"] { // without a client that tries again by itself
		r := s.do("POST", "/api/v1/namespaces/"+other+"/services", "", parse([]byte(`{"metadata": {"name": "b"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 32733}]}}`)))
		switch {
		case r.code == http.StatusCreated:
			seen["ok"] = true
		case r.code == http.StatusTooManyRequests && finding.Code(r.message) == "PC0203" && finding.Holder(r.message) == "":
			seen["429"] = true
			time.Sleep(200 * time.Millisecond)
		default:
			t.Fatalf("after a create that a quota refused: %s", r)
		}
	}
	if !seen["429"] {
		t.Error("the port was free at once: nothing shows that the failed request was remembered")
	}
}

// slowWrite: a write that another webhook keeps for longer than the grace may be stored beside what was admitted meanwhile. The
// audit finds it within a minute.
func slowWrite(t *testing.T, c client.Client, s *server, others others) {
	ns := objects.Namespace(t, c)
	stored := make(chan reply, 1)
	create := func(resource, body string) reply {
		return s.do("POST", "/api/v1/namespaces/"+ns+"/"+resource, "", parse([]byte(body)))
	}
	pod := func() reply {
		return create("pods", `{"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 32766}]}]}}`)
	}
	go func() {
		stored <- create("services", `{"metadata": {"name": "slow", "annotations": {"example.com/wait": ""}}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 32766}]}}`)
	}()
	isContended := false
	poll.Until(t, func(context.Context) error {
		r := pod()
		isContended = isContended || r.code == http.StatusTooManyRequests
		if r.code == http.StatusCreated {
			if isContended {
				return nil
			}
			s.must(t, s.do("DELETE", "/api/v1/namespaces/"+ns+"/pods/p", "", object{"gracePeriodSeconds": 0})) // it came before the Service
		}
		return fmt.Errorf("a pod while a Service with its port is being stored: %s", r)
	})
	others.goOn <- struct{}{}
	if r := <-stored; r.code != http.StatusCreated {
		t.Fatalf("the Service: %s", r)
	}
	poll.Within(t, time.Minute, func(ctx context.Context) error {
		events := &corev1.EventList{}
		if err := c.List(ctx, events, client.InNamespace(ns)); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "PortConflict" && strings.Contains(e.Message, "32766") {
				return nil
			}
		}
		return fmt.Errorf("no event of %d names the conflict", len(events.Items))
	})
}
