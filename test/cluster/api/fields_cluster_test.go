package api

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// cluster is an API server with the webhook in front. Its warnings go to whom the context of a request names.
type cluster struct{ client.Client }

func newCluster(t *testing.T, r *rig.Rig) *cluster {
	t.Helper()
	config := r.RESTConfig()
	config.WarningHandlerWithContext = toContext{}
	config.QPS = -1
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), v1alpha1.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: known})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{c}
}

// warnings are the codes that a request was warned of.
type warnings struct {
	mu    sync.Mutex
	codes []string
}

type warningsKey struct{}

type toContext struct{}

var code = regexp.MustCompile(`PC[0-9]{4}`)

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (toContext) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if w, ok := ctx.Value(warningsKey{}).(*warnings); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.codes = append(w.codes, code.FindAllString(text, -1)...)
	}
}

var _ rest.WarningHandlerWithContext = toContext{}

// placesOf gives each version of each row a place. Its name, and with it what is hashed, does not depend on other fields'
// rows.
func placesOf(rows []webhookRow) [][2]place {
	all, of, first := make([][2]place, len(rows)), map[string]int{}, 30000
	for i, r := range rows {
		field := strings.ToLower(r.kind[len("Port"):] + strings.NewReplacer("spec.", "-", ".", "-", "[]", "", "{}", "").Replace(r.field))
		of[field]++
		for v := range 2 {
			all[i][v] = place{name: fmt.Sprintf("%s-%d%c", field, of[field], 'a'+v), first: first, now: time.Now(), version: v}
			first += width
		}
	}
	return all
}

// furnish makes the places and what exists there, and returns when the webhook has seen all of it.
func (c *cluster) furnish(t *testing.T, rows []webhookRow, places [][2]place) {
	t.Helper()
	// The webhook sees objects of one kind in the order in which they came, and so the last of each kind after all others.
	const canary, held, free = "canary", 32766, 32767
	own := `{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: canary}, spec: {ranges: [{port: 32766, endPort: 32767}],
		namespaceSelector: {matchLabels: {place: canary}}, limits: {perNamespace: 1}, enforcement: Deny}}`
	for _, of := range places {
		for _, p := range of {
			c.make(t, namespaceOf(p.name))
		}
	}
	c.make(t, namespaceOf(canary))
	for i, r := range rows {
		for _, p := range places[i] {
			for text := range strings.SplitSeq(p.fill(r.beside), "\n---\n") {
				if text != "" {
					c.make(t, poolOf(t, text))
				}
			}
			if r.unmade {
				continue
			}
			object, err := r.object(p)
			if err != nil {
				t.Fatal(err)
			}
			c.make(t, object)
		}
	}
	c.make(t, poolOf(t, own))
	policy := &v1alpha1.PortPolicy{ObjectMeta: metav1.ObjectMeta{Name: canary}}
	policy.Spec.NamespaceSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"place": canary}}
	policy.Spec.Enforcement = v1alpha1.Deny
	policy.Spec.HostPorts = &v1alpha1.HostPortPolicy{HostNetwork: v1alpha1.Forbidden}
	c.make(t, policy)
	c.make(t, &v1alpha1.PortClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(held)},
		Spec: v1alpha1.PortClaimSpec{
			Port: held, Pool: canary, Service: v1alpha1.ClaimingService{Namespace: canary, Name: "other"}, RequestedAt: metav1.Now(),
		},
	})
	poll.Until(t, func(context.Context) error {
		pod := podOf(canary, "probe")
		pod.Annotations, pod.Spec.HostNetwork = nil, true
		return errors.Join(
			c.isRefused(t.Context(), serviceOf(canary, "probe", free), "PC0308"), // by the last namespace, pool and claim
			c.isRefused(t.Context(), pod, "PC0311"),                              // and policy
		)
	})
}

// isRefused returns nil if an object would be refused for a reason.
func (c *cluster) isRefused(ctx context.Context, object client.Object, code string) error {
	err := c.Create(ctx, object, client.DryRunAll)
	if err == nil {
		return fmt.Errorf("%T is not refused for %s", object, code)
	}
	if !strings.Contains(err.Error(), code) {
		return err
	}
	return nil
}

// make creates an object, with its status if it is a claim's.
func (c *cluster) make(t *testing.T, object client.Object) {
	t.Helper()
	wanted := object.DeepCopyObject()
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	claim, ok := wanted.(*v1alpha1.PortClaim)
	if !ok || claim.Status.Phase == "" {
		return
	}
	claim.ObjectMeta = metav1.ObjectMeta{Name: object.GetName(), ResourceVersion: object.GetResourceVersion()}
	if err := c.Status().Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
}

func namespaceOf(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"place": name}}}
}

func poolOf(t *testing.T, text string) *v1alpha1.PortPool {
	t.Helper()
	p := &v1alpha1.PortPool{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// serviceOf is a Service with a port for each nodePort; 0 leaves it out.
func serviceOf(namespace, name string, nodePorts ...int) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	svc.Spec.Type = corev1.ServiceTypeNodePort
	for i, n := range nodePorts {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(80 + i), NodePort: int32(n)})
	}
	return svc
}

// podOf is a pod that asks for a host port.
func podOf(namespace, name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, Annotations: map[string]string{extract.HostPortAnnotation + "game": extract.AnyPool},
	}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "game", ContainerPort: 7777}}}}
	return pod
}

// situation is a place where a version exists, and something comes.
type situation struct {
	t *testing.T
	*cluster
	of    versions
	place place
}

// version is the object itself.
func (s situation) version() client.Object {
	object, err := s.of.object(s.place)
	if err != nil {
		s.t.Fatal(err)
	}
	return object
}

// create creates a Service or pod and tells its numbers, "N0 N1 warned PC0307", or "refused PC0309".
func (s situation) create(object client.Object) string {
	heard := &warnings{}
	err := s.Create(context.WithValue(s.t.Context(), warningsKey{}, heard), object)
	if err != nil {
		found := code.FindAllString(err.Error(), -1)
		if !apierrors.IsInvalid(err) || len(found) == 0 {
			return err.Error()
		}
		slices.Sort(found)
		return "refused " + strings.Join(slices.Compact(found), " ")
	}
	var numbers []string
	switch o := object.(type) {
	case *corev1.Service:
		for _, p := range o.Spec.Ports {
			numbers = append(numbers, s.place.told(p.NodePort))
		}
	case *corev1.Pod:
		for _, p := range o.Spec.Containers[0].Ports {
			numbers = append(numbers, s.place.told(p.HostPort))
		}
	}
	text := strings.Join(numbers, " ")
	if len(heard.codes) > 0 {
		slices.Sort(heard.codes)
		text += " warned " + strings.Join(slices.Compact(heard.codes), " ")
	}
	return text
}

func (s situation) delete(object client.Object) {
	if err := s.Delete(s.t.Context(), object); err != nil {
		s.t.Fatal(err)
	}
}

// claim returns the claim of a number, nil if there is none.
func (s situation) claim(number int) (*v1alpha1.PortClaim, error) {
	var claim v1alpha1.PortClaim
	err := s.Get(s.t.Context(), client.ObjectKey{Name: v1alpha1.ClaimName(int32(number))}, &claim)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &claim, err
}

// causesOf are the fields that a refusal is about.
func causesOf(err error) []string {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || status.Status().Details == nil {
		return []string{err.Error()}
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		fields = append(fields, cause.Field)
	}
	return fields
}
