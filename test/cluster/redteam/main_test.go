// Package redteam tries to get around the webhook: as a tenant, who has the ClusterRole edit in namespaces of its own and
// nothing else, against policies, pools and holders of others; as a stranger on the network; and as the author of files that
// the command reads. Each row is one attempt, and what must become of it.
package redteam

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// shared is the installation that all attempts are made against: starting one takes longer than most of them.
var shared struct {
	once sync.Once
	rig  *rig.Rig
	err  error
}

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	code := m.Run()
	if shared.rig != nil {
		shared.rig.Stop()
	}
	os.Exit(code)
}

// What an administrator has set up: a namespace of somebody else with ports of its own, and what is forbidden to tenants.
const (
	victim = `
{apiVersion: v1, kind: Namespace, metadata: {name: victim}}
---
{apiVersion: v1, kind: Service, metadata: {name: shop, namespace: victim}, spec: {type: NodePort, clusterIP: 10.96.7.7, ports: [{port: 80, nodePort: 30800}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}}
`
	forbidden = `
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: no-ports}
spec:
  namespaceSelector: {matchLabels: {ports: none}}
  enforcement: Deny
  hostPorts: {mode: Forbidden, hostNetwork: Forbidden}
  nodePorts: {mode: Forbidden}
  externalIPs: NodeAddressesForbidden
  exceptions:
  - {name: edge, objectSelector: {matchLabels: {edge: "yes"}}, reason: told to}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: exporter}
spec:
  namespaceSelector: {}
  enforcement: Deny
  reserved:
  - {name: exporter, ports: [{port: 9100}], nodeSelector: {}}
  - {name: agent, ports: [{port: 9400}], nodeSelector: {matchLabels: {gpu: yes-please}}}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: hosts}
spec: {for: HostPorts, ranges: [{port: 7000, endPort: 7009}], namespaceSelector: {matchLabels: {hosts: one}}, enforcement: Deny, limits: {perNamespace: 1}}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: web}
spec: {ranges: [{port: 31500, endPort: 31509}], namespaceSelector: {}, serviceSelector: {matchLabels: {tier: web}}, enforcement: Deny}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: few}
spec: {ranges: [{port: 31000, endPort: 31029}], namespaceSelector: {matchLabels: {pool: few}}, enforcement: Deny, limits: {perNamespace: 2}, allocation: {reuseDelay: 1h}}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: named}
spec: {ranges: [{port: 31100, endPort: 31109}], namespaceSelector: {matchLabels: {pool: named}}, enforcement: Deny, limits: {perNamespace: 2}}
`
)

// Labels of namespaces.

func noPorts() map[string]string { return map[string]string{"ports": "none"} }
func few() map[string]string     { return map[string]string{"pool": "few"} }
func named() map[string]string   { return map[string]string{"pool": "named"} } // whose numbers attempts name: nobody else is given one

// world is an installation with a tenant.
type world struct {
	*rig.Rig
	admin, tenant client.Client
	namespaces    map[string]string // of the tenant's that several attempts are made in, by their labels
}

// newWorld returns the shared installation, and a tenant in it whom the webhook holds to the policies.
func newWorld(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() {
		t.Setenv("GOMEMLIMIT", "460MiB") // nine tenths of the container's limit, as shipped
		shared.rig, shared.err = rig.Start(t.Context(), rig.Options{})
		if shared.err == nil {
			setUp(t, shared.rig)
		}
	})
	if shared.err != nil || shared.rig == nil {
		t.Fatalf("there is no installation: %v", shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the webhook's log: %s", shared.rig.Webhook.LogFile())
		}
	})
	w := &world{Rig: shared.rig, namespaces: map[string]string{}}
	w.admin, w.tenant = newClient(t, w.RESTConfig(), ""), newClient(t, w.RESTConfig(), "tenant")
	ns := w.namespace(t, noPorts())
	poll.Until(t, func(ctx context.Context) error {
		err := w.tenant.Create(ctx, objects.One(t, ns, pod("probe", "", "hostPort: 9000")), client.DryRunAll)
		if got := finding.Answer(err); got != "422 Invalid PC0311" {
			return fmt.Errorf("a host port, which is forbidden: %s", got)
		}
		return nil
	})
	return w
}

// setUp creates what the administrator has set up.
func setUp(t *testing.T, r *rig.Rig) {
	t.Helper()
	admin := newClient(t, r.RESTConfig(), "")
	for _, o := range objects.Parse(t, "", victim) {
		must(t, admin.Create(t.Context(), o))
		if node, ok := o.(*corev1.Node); ok {
			node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0." + node.Name[1:]}}
			must(t, admin.Status().Update(t.Context(), node))
		}
	}
	for _, o := range objects.Parse(t, "", forbidden) {
		must(t, admin.Create(t.Context(), o))
	}
}

// namespace makes a namespace in which the tenant has the ClusterRole edit.
func (w *world) namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "tenant-", Labels: labels}}
	must(t, w.admin.Create(t.Context(), ns))
	for _, part := range []string{"edit", "view"} { // of which the controller manager, which is not here, makes the ClusterRole edit
		must(t, w.admin.Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: part, Namespace: ns.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:aggregate-to-" + part},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "tenant"}},
		}))
	}
	poll.Until(t, func(ctx context.Context) error { // the API server knows of the right
		return w.tenant.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe", Namespace: ns.Name}}, client.DryRunAll)
	})
	return ns.Name
}

// empty deletes what is in a namespace.
func (w *world) empty(t *testing.T, namespace string) {
	server := &apiServer{w, map[string]*unstructured.UnstructuredList{}}
	for _, o := range server.stored(namespace) {
		w.remove(t, o)
	}
}

func (w *world) remove(t *testing.T, o client.Object) {
	err := w.admin.Delete(context.WithoutCancel(t.Context()), o, client.GracePeriodSeconds(0), client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		t.Error(err)
	}
}

// place is a namespace of the tenant's for one attempt. What is created by it is deleted when the attempt is over.
type place struct {
	*testing.T
	*world
	Namespace string
	made      []client.Object
}

// place returns a namespace with these labels. Where no limit counts what was there before, attempts share one.
func (w *world) place(t *testing.T, labels map[string]string) *place {
	t.Helper()
	key := fmt.Sprint(labels)
	ns, known := w.namespaces[key]
	if !known {
		ns = w.namespace(t, labels)
		if len(labels) == 0 || labels["ports"] == "none" {
			w.namespaces[key] = ns
		}
	}
	p := &place{T: t, world: w, Namespace: ns}
	t.Cleanup(p.clear)
	return p
}

// clear deletes what was made.
func (p *place) clear() {
	for _, o := range p.made {
		p.remove(p.T, o)
	}
}

// keep creates an object as somebody, and has it deleted in the end.
func (p *place) keep(as client.Client, o client.Object, options ...client.CreateOption) error {
	kind := o.GetObjectKind().GroupVersionKind()
	err := as.Create(p.Context(), o, options...)
	o.GetObjectKind().SetGroupVersionKind(kind) // which the answer leaves out
	if err == nil {
		p.made = append(p.made, o)
	}
	return err
}

func (p *place) object(text string) client.Object { return objects.One(p.T, p.Namespace, text) }

// create is the tenant's.
func (p *place) create(text string) error { return p.keep(p.tenant, p.object(text)) }

// has creates what nobody may object to.
func (p *place) has(text string) client.Object {
	p.Helper()
	o := p.object(text)
	must(p.T, p.keep(p.tenant, o))
	return o
}

// victimHas creates what somebody else needs: nobody may object to it.
func (p *place) victimHas(text string) {
	p.Helper()
	must(p.T, p.victims(text))
}

func (p *place) victims(text string) error { return p.keep(p.admin, objects.One(p.T, "victim", text)) }

// ownedBy creates an object that names another one, which is created first, as its controller.
func (p *place) ownedBy(owner, text string) error {
	p.Helper()
	return p.controlled(p.has(owner), p.object(text))
}

// controlled creates an object that names another one as its controller.
func (p *place) controlled(by, o client.Object) error {
	version, kind := by.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: by.GetName(), UID: by.GetUID(), Controller: new(true)}})
	return p.keep(p.tenant, o)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pod(name, more, port string) string {
	return objects.Pod(name, more+objects.Containers("containerPort: 80, "+port))
}

func newClient(t *testing.T, config *rest.Config, user string) client.Client {
	t.Helper()
	config.WarningHandler = rest.NoWarnings{}
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	}
	scheme := manifest.Scheme()
	if err := errors.Join(rbacv1.AddToScheme(scheme), autoscalingv1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCount holds what docs/security.md says of the attempts to how many there are.
func TestCount(t *testing.T) {
	text, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	all := len(attempts()) + len(forgeries()) + len(hostile())
	want := fmt.Sprintf("%d attempts: %d as a tenant, %d as a stranger on the network, and %d at the command", all, len(attempts()), len(forgeries()), len(hostile()))
	if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
		t.Errorf("docs/security.md does not say %q", want)
	}
}
