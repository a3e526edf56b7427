//go:build linux

package operations

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/child"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const (
	system = "portcullis-system"
	// drain is long enough for the stand-in to see that a replica leaves.
	drain = 800 * time.Millisecond
)

// world is a control plane with the manifests that ship, and no replica yet.
type world struct {
	*controlplane.ControlPlane
	client kubernetes.Interface
}

// replicas counts those of all worlds: their networks lie side by side.
var replicas atomic.Int64

// asItShips is the configuration of config/manager.
const asItShips = "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\ndataplane: {serviceProxy: iptables, hostPort: portmap-iptables}\n"

func newWorld(t *testing.T, o controlplane.Options) *world {
	t.Helper()
	netns.Need(t, "ip", "unshare", "nsenter")
	// With routing by the aggregator the API server itself follows EndpointSlices, and needs no kube-proxy.
	o.APIServerFlags = append(o.APIServerFlags, "--bind-address=0.0.0.0", "--enable-aggregator-routing=true")
	w := &world{ControlPlane: controlplane.Run(t, o)}
	config, err := w.RESTConfig(), error(nil)
	config.WarningHandler = rest.NoWarnings{}
	if w.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"manager", "crd/bases", "rbac", "webhook"} {
		if err := w.install(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
	}
	// The replicas are processes: where there are controllers, nothing else is to be a pod of it.
	if err := w.client.AppsV1().Deployments(system).Delete(t.Context(), "portcullis", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// install creates a folder of config/.
func (w *world) install(ctx context.Context, folder string) error {
	if folder == "manager" { // the namespace must be first
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}}
		if _, err := w.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return rig.Install(ctx, w.RESTConfig(), folder)
}

// replica is one replica, in a network namespace as a pod.
type replica struct {
	world   *world
	name    string
	number  int64
	space   *netns.Namespace
	address string
	dir     string
	process *child.Process
	http    *http.Client
	ended   context.CancelFunc // the stand-in kubelet
	over    chan struct{}
}

// replica starts a version of the program with flags, and the stand-in that follows it.
func (w *world) replica(t *testing.T, version string, flags ...string) *replica {
	t.Helper()
	number := replicas.Add(1)
	r := &replica{world: w, number: number, name: fmt.Sprintf("portcullis-%d", number), dir: t.TempDir()}
	r.space = netns.New(t)
	r.connect(t)
	kubeconfig := r.kubeconfig(t)
	if err := os.WriteFile(filepath.Join(r.dir, "config.yaml"), []byte(asItShips), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"serve", "--kubeconfig", kubeconfig, "--config", filepath.Join(r.dir, "config.yaml"),
		"--drain-delay", drain.String(), "--arm", "--rebuild-every", "1s",
	}, flags...)
	r.start(t, version, args)
	return r
}

// connect joins the replica's namespace to that of the API server.
func (r *replica) connect(t *testing.T) {
	t.Helper()
	host, here := fmt.Sprintf("pc%dh", r.number), fmt.Sprintf("pc%dr", r.number)
	gateway := fmt.Sprintf("10.99.%d.1", r.number)
	r.address = fmt.Sprintf("10.99.%d.2", r.number)
	run(t, "ip", "link", "add", host, "type", "veth", "peer", "name", here, "netns", r.space.Path())
	run(t, "ip", "addr", "add", gateway+"/24", "dev", host)
	run(t, "ip", "link", "set", host, "up")
	r.space.Run(t, "", "ip", "addr", "add", r.address+"/24", "dev", here)
	r.space.Run(t, "", "ip", "link", "set", here, "up")
	transport := &http.Transport{DisableKeepAlives: true}
	r.http = &http.Client{Transport: transport, Timeout: time.Second}
}

// partition cuts the replica off from the API server, or joins it again.
func (r *replica) partition(t *testing.T, cut bool) {
	t.Helper()
	state := "up"
	if cut {
		state = "down"
	}
	run(t, "ip", "link", "set", fmt.Sprintf("pc%dh", r.number), state)
}

func (r *replica) kubeconfig(t *testing.T) string {
	t.Helper()
	config, err := r.world.RESTConfigFor(rig.Account,
		"system:serviceaccounts", "system:serviceaccounts:portcullis-system", "system:authenticated")
	if err != nil {
		t.Fatal(err)
	}
	_, port, ok := strings.Cut(strings.TrimPrefix(config.Host, "https://"), ":")
	if !ok {
		t.Fatalf("no port in %s", config.Host)
	}
	const name = "portcullis"
	k := clientcmdapi.NewConfig()
	k.Clusters[name] = &clientcmdapi.Cluster{
		Server: fmt.Sprintf("https://10.99.%d.1:%s", r.number, port), CertificateAuthorityData: config.CAData, TLSServerName: "kubernetes",
	}
	k.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	k.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	k.CurrentContext = name
	path := filepath.Join(r.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*k, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (r *replica) start(t *testing.T, version string, args []string) {
	t.Helper()
	var err error
	r.process, err = child.Start(child.Program{
		Name: r.name, Path: "nsenter", Args: append([]string{"--net=" + r.space.Path(), "--", program(version)}, args...),
		Env: []string{"POD_NAME=" + r.name, "POD_IP=" + r.address, "POD_NAMESPACE=" + system}, Log: r.logFile(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r.ended, r.over = cancel, make(chan struct{})
	go r.follow(ctx)
	t.Cleanup(func() {
		r.stop()
		if log, err := os.ReadFile(r.logFile()); err == nil && t.Failed() {
			lines := strings.Split(strings.TrimSpace(string(log)), "\n")
			t.Logf("the end of the log of %s:\n%s", r.name, strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
}

func (r *replica) logFile() string { return filepath.Join(r.dir, "log") }

// stop ends the replica as a kubelet does, and waits.
func (r *replica) stop() {
	r.process.Stop(15 * time.Second)
	r.ended()
	<-r.over
}

// kill ends it without a warning.
func (r *replica) kill() {
	r.process.Kill()
	r.ended()
	<-r.over
}

// ready returns nil if the replica says that it is.
func (r *replica) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+":8081/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz: %d", resp.StatusCode)
	}
	return nil
}

// follow writes the replica's EndpointSlice, as the kubelet and the controller do between them, but sooner.
func (r *replica) follow(ctx context.Context) {
	defer close(r.over)
	written := ""
	for {
		ready := ctx.Err() == nil && r.ready(ctx) == nil
		state := fmt.Sprint(ready)
		if ctx.Err() != nil {
			state = "gone"
		}
		if state != written && r.endpoint(context.WithoutCancel(ctx), state) == nil {
			written = state
		}
		if state == "gone" {
			return // what could not be removed leads nowhere
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *replica) endpoint(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	slices := r.world.client.DiscoveryV1().EndpointSlices(system)
	if state == "gone" {
		return slices.Delete(ctx, r.name, metav1.DeleteOptions{})
	}
	ready, port, protocol, name := state == "true", int32(9443), corev1.ProtocolTCP, "webhook"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: system, Name: r.name, Labels: map[string]string{discoveryv1.LabelServiceName: "portcullis"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{r.address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: system, Name: r.name},
		}},
	}
	_, err := slices.Create(ctx, slice, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = slices.Update(ctx, slice, metav1.UpdateOptions{})
	}
	return err
}

// replicas starts two replicas of this version and waits until the webhook is armed.
func (w *world) replicas(t *testing.T, flags ...string) []*replica {
	t.Helper()
	replicas := []*replica{w.replica(t, thisVersion, flags...), w.replica(t, thisVersion, flags...)}
	for _, r := range replicas {
		poll.Until(t, r.ready)
	}
	w.awaitPolicy(t, admissionregistrationv1.Fail)
	return replicas
}

// policy returns the failurePolicy of all validating hooks; "" if they differ.
func (w *world) policy(ctx context.Context) (admissionregistrationv1.FailurePolicyType, error) {
	c, err := w.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	policy := *c.Webhooks[0].FailurePolicy
	for _, h := range c.Webhooks {
		if *h.FailurePolicy != policy && !strings.HasPrefix(h.Name, hooks.GuardPrefix) { // who only looks on is never waited for
			return "", nil
		}
	}
	return policy, nil
}

func (w *world) awaitPolicy(t *testing.T, want admissionregistrationv1.FailurePolicyType) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		got, err := w.policy(ctx)
		if err == nil && got != want {
			err = fmt.Errorf("failurePolicy is %q, want %s", got, want)
		}
		return err
	})
}

// listed returns nil if the Service leads to a replica.
func (w *world) listed(ctx context.Context, r *replica) error {
	slice, err := w.client.DiscoveryV1().EndpointSlices(system).Get(ctx, r.name, metav1.GetOptions{})
	if err == nil && !*slice.Endpoints[0].Conditions.Ready {
		err = fmt.Errorf("%s is not ready", r.name)
	}
	return err
}
