package redteam

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apiserver/pkg/admission"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"  // the defaults of their kinds
	_ "k8s.io/kubernetes/pkg/apis/batch/install" // the defaults of their kinds
	_ "k8s.io/kubernetes/pkg/apis/core/install"  // the defaults of their kinds
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	jobstrategy "k8s.io/kubernetes/pkg/registry/batch/job"
	podstrategy "k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	servicestrategy "k8s.io/kubernetes/pkg/registry/core/service"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// aWorld is how many requests are made in one installation: what is stored grows.
const aWorld = 1000

// TestSearchInMemory is TestSearch with another API server: it has the defaults, the validation and the match conditions of the
// real one, stores in memory, and takes a tenth of the time. Its watch lags behind at times.
func TestSearchInMemory(t *testing.T) {
	first := seed.Of(t)
	all := map[string]int{}
	for i := range seed.Rounds(2000, 200_000) / aWorld {
		t.Run(fmt.Sprint("seed ", first+uint64(i)), func(t *testing.T) {
			inMemory(t, first+uint64(i), func(t *testing.T, s *search, _ *memory) {
				s.counts = all
				must(t, s.run(aWorld, 20))
			})
		})
	}
	(&search{counts: all}).enough(t)
}

// TestSearchWithoutWebhook: the model of the search finds what an API server without the webhook stores.
func TestSearchWithoutWebhook(t *testing.T) {
	inMemory(t, seed.Of(t), func(t *testing.T, s *search, m *memory) {
		m.mutating, m.validating = nil, nil
		err := s.run(1000, 1000)
		for _, rule := range []string{
			"host network", "host port 9100 is", "host port 10250 is", "host port 30800 is", "(none-1): host port 80", "(none-1): node port",
			"of a pool of others", "of the pool, and 2 are the most", "of a node", "which is another Service's", "port 9100 at",
		} {
			if err == nil || !strings.Contains(err.Error(), rule) {
				t.Errorf("nothing is found of %q", rule)
			}
		}
	})
}

// inMemory searches in a world of its own, in which time passes at once.
func inMemory(t *testing.T, from uint64, test func(*testing.T, *search, *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &search{source: source{seed.From(from)}, yards: yards(), counts: map[string]int{}}
		m := newMemory(t, s.source)
		for i := range s.yards {
			s.yards[i].namespace = s.yards[i].name
			m.addNamespace(s.yards[i].name, s.yards[i].labels)
		}
		s.server = m
		test(t, s, m)
	})
}

// memory is an API server in memory, with the webhook in front of it.
type memory struct {
	source
	*ownHooks
	*mirror
	objects map[ref]client.Object // of the API's version
	held    map[int32]ref         // node ports, and who has them
	made    int64                 // objects, for their names and addresses
}

type ref struct{ kind, namespace, name string }

func refOf(o client.Object) ref {
	return ref{o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName()}
}

func newMemory(t *testing.T, s source) *memory {
	t.Helper()
	m := &memory{source: s, objects: map[ref]client.Object{}, held: map[int32]ref{}}
	m.mirror = newMirror(t, m)
	m.ownHooks = newHooks(t, m.mirror)
	m.setUp(t)
	return m
}

// resource of a kind.
func resourceOf(kind schema.GroupVersionKind) schema.GroupVersionResource {
	return kind.GroupVersion().WithResource(strings.ToLower(kind.Kind) + "s")
}

// strategy is how the API server prepares and validates a kind.
type strategy interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

func strategyOf(kind string) strategy {
	return map[string]strategy{
		"Pod": podstrategy.Strategy, "Deployment": deployment.Strategy, "ReplicaSet": replicaset.Strategy, "StatefulSet": statefulset.Strategy,
		"DaemonSet": daemonset.Strategy, "ReplicationController": replicationcontroller.Strategy, "Job": jobstrategy.Strategy, "CronJob": cronjob.Strategy,
		"Service": servicestrategy.Strategy,
	}[kind]
}

// stored implements server.
func (m *memory) stored(namespace string) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, o := range m.objects {
		if o.GetNamespace() == namespace {
			var u unstructured.Unstructured
			if err := u.UnmarshalJSON(marshal(o)); err != nil {
				panic(err)
			}
			all = append(all, &u)
		}
	}
	slices.SortFunc(all, func(a, b *unstructured.Unstructured) int {
		return strings.Compare(a.GetKind()+" "+a.GetName(), b.GetKind()+" "+b.GetName())
	})
	return all
}

// send implements server. Before a request some time passes, and the watch shows some of what has been stored.
func (m *memory) send(r request) error {
	time.Sleep(time.Duration(m.IntN(500)) * time.Millisecond)
	if m.chance(3) {
		time.Sleep(time.Minute)
	}
	m.show(m.chance(70))
	m.settleClaims()
	kind := r.object.GroupVersionKind()
	switch r.verb {
	case "create":
		o, err := decoded(kind, marshal(r.object))
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		return m.create(o, r.dryRun)
	case "delete":
		m.commit(m.objects[refOf(r.object)], nil)
		return nil
	}
	old := m.objects[refOf(r.object)]
	if r.verb == "scale" {
		return m.scale(old, []byte(r.patch))
	}
	text, err := patched(old, r.form, []byte(r.patch))
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	changed, err := decoded(kind, text)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return m.update(changed, old)
}

// decoded is an object of the API's version, with its defaults.
func decoded(kind schema.GroupVersionKind, text []byte) (client.Object, error) {
	o, err := legacyscheme.Scheme.New(kind)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, o); err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(kind)
	legacyscheme.Scheme.Default(o)
	return o.(client.Object), nil
}

func patched(o client.Object, form types.PatchType, patch []byte) ([]byte, error) {
	if form == types.StrategicMergePatchType {
		return strategicpatch.StrategicMergePatch(marshal(o), patch, o)
	}
	return jsonpatch.MergePatch(marshal(o), patch)
}

// prepared applies what the API server does between the mutating and the validating hooks.
func prepared(o client.Object, do func(context.Context, strategy, runtime.Object) error) (client.Object, error) {
	kind := o.GetObjectKind().GroupVersionKind()
	ctx := genericapirequest.WithRequestInfo(genericapirequest.WithNamespace(context.Background(), o.GetNamespace()), &genericapirequest.RequestInfo{
		IsResourceRequest: true, APIGroup: kind.Group, APIVersion: kind.Version, Resource: resourceOf(kind).Resource, Namespace: o.GetNamespace(), Name: o.GetName(),
	})
	internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(o.DeepCopyObject(), schema.GroupVersion{Group: kind.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		return nil, err
	}
	if err := do(ctx, strategyOf(kind.Kind), internal); err != nil {
		return nil, err
	}
	external, err := legacyscheme.Scheme.UnsafeConvertToVersion(internal, kind.GroupVersion())
	if err != nil {
		return nil, err
	}
	external.GetObjectKind().SetGroupVersionKind(kind)
	return external.(client.Object), nil
}

func (m *memory) create(o client.Object, dryRun bool) error {
	m.made++
	o, err := m.mutate(call{operation: admission.Create, object: o, dryRun: dryRun})
	if err != nil {
		return err
	}
	if o.GetName() == "" {
		o.SetName(fmt.Sprint(o.GetGenerateName(), m.made))
	}
	o.SetUID(types.UID(fmt.Sprint("uid-", m.made)))
	o.SetCreationTimestamp(metav1.Now())
	if svc, is := o.(*corev1.Service); is {
		if err := m.allocate(svc, nil, dryRun); err != nil {
			return err
		}
	}
	o, err = prepared(o, func(ctx context.Context, s strategy, internal runtime.Object) error {
		return rest.BeforeCreate(s, ctx, internal)
	})
	if err != nil {
		return err
	}
	if err := m.validate(call{operation: admission.Create, object: o, dryRun: dryRun}); err != nil {
		return err
	}
	kind := o.GetObjectKind().GroupVersionKind()
	if m.objects[refOf(o)] != nil {
		return apierrors.NewAlreadyExists(resourceOf(kind).GroupResource(), o.GetName())
	}
	if !dryRun {
		m.commit(nil, o)
	}
	return nil
}

func (m *memory) update(o, old client.Object) error {
	o, err := m.mutate(call{operation: admission.Update, object: o, old: old})
	if err != nil {
		return err
	}
	if svc, is := o.(*corev1.Service); is {
		if err := m.allocate(svc, old.(*corev1.Service), false); err != nil {
			return err
		}
	}
	o, err = prepared(o, func(ctx context.Context, s strategy, internal runtime.Object) error {
		kind := old.GetObjectKind().GroupVersionKind()
		before, err := legacyscheme.Scheme.UnsafeConvertToVersion(old.DeepCopyObject(), schema.GroupVersion{Group: kind.Group, Version: runtime.APIVersionInternal})
		if err != nil {
			return err
		}
		return rest.BeforeUpdate(s, ctx, internal, before)
	})
	if err != nil {
		return err
	}
	if err := m.validate(call{operation: admission.Update, object: o, old: old}); err != nil {
		return err
	}
	m.commit(old, o)
	return nil
}

// scale asks as the subresource does, and changes the object.
func (m *memory) scale(old client.Object, patch []byte) error {
	kind := old.GetObjectKind().GroupVersionKind()
	if !slices.Contains([]string{"Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"}, kind.Kind) {
		return apierrors.NewNotFound(resourceOf(kind).GroupResource(), old.GetName())
	}
	text, err := patched(old, types.MergePatchType, patch)
	if err != nil {
		return err
	}
	changed, err := decoded(kind, text)
	if err != nil {
		return err
	}
	scaleOf := func(o client.Object) client.Object {
		var u unstructured.Unstructured
		if err := u.UnmarshalJSON(marshal(o)); err != nil {
			panic(err)
		}
		replicas, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
		s := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()}}
		s.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("Scale"))
		s.Spec.Replicas = int32(replicas)
		return s
	}
	of := resourceOf(kind)
	if err := m.validate(call{operation: admission.Update, object: scaleOf(changed), old: scaleOf(old), of: &of}); err != nil {
		return err
	}
	m.commit(old, changed)
	return nil
}

// allocate gives a Service its addresses and numbers, as the API server does, or says that one is taken. What it takes is not
// kept before commit: there is only one request at a time.
func (m *memory) allocate(svc, old *corev1.Service, dryRun bool) error {
	if svc.Spec.ClusterIP == "" && svc.Spec.Type != corev1.ServiceTypeExternalName {
		svc.Spec.ClusterIP = fmt.Sprintf("10.96.%d.%d", 100+m.made/250%100, 1+m.made%250)
		if old != nil {
			svc.Spec.ClusterIP = old.Spec.ClusterIP
		}
	}
	if svc.Spec.ClusterIP != "" {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	single := corev1.IPFamilyPolicySingleStack
	svc.Spec.IPFamilyPolicy, svc.Spec.IPFamilies = &single, []corev1.IPFamily{corev1.IPv4Protocol}
	needs := svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer && (svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts)
	numbers := map[int32]bool{}
	give := func(number *int32, needs bool) error {
		holder, taken := m.held[*number]
		switch {
		case *number == 0 && needs:
			*number = m.free(numbers, dryRun)
		case taken && holder != refOf(svc) || numbers[*number]:
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, svc.Name, nil)
		}
		numbers[*number] = *number != 0
		return nil
	}
	for i := range svc.Spec.Ports {
		if err := give(&svc.Spec.Ports[i].NodePort, needs); err != nil {
			return err
		}
	}
	return give(&svc.Spec.HealthCheckNodePort, svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal)
}

// free is a number that no Service has; on a dry run it is beyond all of them.
func (m *memory) free(numbers map[int32]bool, dryRun bool) int32 {
	if dryRun {
		return 32769 + int32(len(numbers))
	}
	for {
		number := int32(30000 + m.IntN(2768))
		if _, taken := m.held[number]; !taken && !numbers[number] {
			return number
		}
	}
}

// commit stores an object in the place of an old one; nil for none.
func (m *memory) commit(old, o client.Object) {
	if old != nil {
		delete(m.objects, refOf(old))
		for _, number := range numbersOf(old) {
			delete(m.held, number)
		}
	}
	if o != nil {
		m.version++
		o.SetResourceVersion(strconv.FormatUint(m.version, 10))
		m.objects[refOf(o)] = o
		for _, number := range numbersOf(o) {
			m.held[number] = refOf(o)
		}
	}
	m.watch(old, o)
}

func numbersOf(o client.Object) []int32 {
	svc, is := o.(*corev1.Service)
	if !is {
		return nil
	}
	numbers := []int32{svc.Spec.HealthCheckNodePort}
	for _, p := range svc.Spec.Ports {
		numbers = append(numbers, p.NodePort)
	}
	return slices.DeleteFunc(numbers, func(n int32) bool { return n == 0 })
}
