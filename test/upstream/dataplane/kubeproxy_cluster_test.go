//go:build linux

package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
)

// cluster is a real API server that holds one case at a time.
type cluster struct {
	client     kubernetes.Interface
	kubeProxy  string // the program
	kubeconfig string
	address    string // where it listens, on the machine's loopback
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	cp := controlplane.Run(t, controlplane.Options{ServiceCIDRs: []string{controlplane.IPv4ServiceCIDR, controlplane.IPv6ServiceCIDR}})
	c := &cluster{kubeProxy: binaries.For(t, binaries.KubeProxy), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	if err := cp.WriteKubeconfig(c.kubeconfig); err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(cp.RESTConfig().Host)
	if err != nil {
		t.Fatal(err)
	}
	c.address = server.Host
	if c.client, err = kubernetes.NewForConfig(cp.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	create(t, c.client.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web"}})
	c.awaitOwn(t)
	return c
}

// awaitOwn waits for what the API server writes by itself some time after it is ready: where its Service kubernetes leads,
// and the ServiceCIDRs that its flag gave.
func (c *cluster) awaitOwn(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, slice := c.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Get(t.Context(), own, metav1.GetOptions{})
		_, cidrs := c.client.NetworkingV1().ServiceCIDRs().Get(t.Context(), own, metav1.GetOptions{})
		_, service := c.client.CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), own, metav1.GetOptions{})
		err := errors.Join(slice, cidrs, service)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// own is the name of the API server's own objects.
const own = "kubernetes"

// admitted is a case that kube-proxy can be shown through an API server of today: Draw's hold fields left over from a change
// of type, and spellings that only an older one admitted.
func admitted(c *Case) *Case {
	if len(c.Node.Status.Addresses) == 0 {
		// Without an address kube-proxy waits for half a minute and then does as the proxiers in process are told to.
		for _, a := range c.Interfaces {
			c.Node.Status.Addresses = append(c.Node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
		}
	}
	c.Proxy.Counters = true // kube-proxy makes them itself
	for _, svc := range c.Services {
		spec := &svc.Spec
		spec.ExternalIPs = slices.DeleteFunc(spec.ExternalIPs, func(ip string) bool { return netip.MustParseAddr(ip).IsLinkLocalUnicast() })
		if spec.Type == corev1.ServiceTypeClusterIP && len(spec.ExternalIPs) == 0 {
			spec.ExternalTrafficPolicy = ""
		}
		if spec.Type != corev1.ServiceTypeLoadBalancer || spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			spec.HealthCheckNodePort = 0
		}
		for i, text := range spec.LoadBalancerSourceRanges {
			if r := netip.MustParsePrefix(strings.TrimSpace(text)); r != r.Masked() {
				spec.LoadBalancerSourceRanges[i] = r.Masked().String()
			}
		}
		switch len(spec.IPFamilies) {
		case 1:
			spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
		case 2:
			spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
		}
	}
	const most = 1000 // endpoints in a slice
	for _, s := range c.Slices {
		if len(s.Endpoints) > most {
			rest := s.DeepCopy()
			rest.Name += "-rest"
			s.Endpoints, rest.Endpoints = s.Endpoints[:most], rest.Endpoints[most:]
			c.Slices = append(c.Slices, rest)
		}
	}
	return c
}

// write puts the objects of a case into the API server until the test ends.
func (c *cluster) write(t *testing.T, from *Case) {
	t.Helper()
	t.Cleanup(func() { c.clear(t) })
	core := c.client.CoreV1()
	node := create(t, core.Nodes().Create, from.Node)
	node.Status.Addresses = from.Node.Status.Addresses
	if _, err := core.Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range from.Services {
		created := create(t, core.Services(s.Namespace).Create, s)
		if len(s.Status.LoadBalancer.Ingress) > 0 {
			created.Status = s.Status
			if _, err := core.Services(s.Namespace).UpdateStatus(t.Context(), created, metav1.UpdateOptions{}); err != nil {
				t.Fatalf("the status of Service %s/%s: %v", s.Namespace, s.Name, err)
			}
		}
	}
	for _, s := range from.Slices {
		create(t, c.client.DiscoveryV1().EndpointSlices(s.Namespace).Create, s)
	}
}

func create[T metav1.Object](t *testing.T, with func(context.Context, T, metav1.CreateOptions) (T, error), o T) T {
	t.Helper()
	created, err := with(t.Context(), o, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("%T %s/%s: %v", o, o.GetNamespace(), o.GetName(), err)
	}
	return created
}

// clear takes away what write put there, and leaves what the API server has of its own. The test's context is over.
func (c *cluster) clear(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	gone := func(err error) {
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	}
	services, err := c.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	gone(err)
	for _, s := range services.Items {
		if s.Name != own {
			gone(c.client.CoreV1().Services(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{}))
		}
	}
	endpoints, err := c.client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	gone(err)
	for _, s := range endpoints.Items {
		if s.Name != own {
			gone(c.client.DiscoveryV1().EndpointSlices(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{}))
		}
	}
	gone(c.client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
}

// world is what our renderers are given: the objects as the API server holds them now, which chose and defaulted what a
// case leaves open and has the Service kubernetes of its own.
func (c *cluster) world(t *testing.T, from *Case) *rules.World {
	t.Helper()
	var objects []runtime.Object
	add := func(list runtime.Object, err error) {
		t.Helper()
		if err == nil {
			err = meta.EachListItem(list, func(o runtime.Object) error {
				objects = append(objects, o)
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all := metav1.ListOptions{}
	nodes, err := c.client.CoreV1().Nodes().List(t.Context(), all)
	add(nodes, err)
	services, err := c.client.CoreV1().Services("").List(t.Context(), all)
	add(services, err)
	endpoints, err := c.client.DiscoveryV1().EndpointSlices("").List(t.Context(), all)
	add(endpoints, err)
	cidrs, err := c.client.NetworkingV1().ServiceCIDRs().List(t.Context(), all)
	add(cidrs, err)
	w, err := extract.World(objects, extract.WorldOptions{Node: from.Node.Name, Addresses: from.Interfaces, Proxy: from.Proxy})
	if err != nil {
		t.Fatal(err)
	}
	return w
}
