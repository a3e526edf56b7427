// Package admission proves `portcullis generate vap` with the API server's own code, in this process: its validation takes the
// policies, its type checker has nothing to say, and its admission plugins judge random objects as pkg/check does.
//
//	alone.Draw -> defaults, validation -> ValidatingAdmissionPolicy plugin -> alone.Comparison <- pkg/check
//
// That a whole API server does the same is for test/cluster/policies to prove, with fewer objects.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/discovery"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install" // into legacyscheme
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard()) // the API server's code has nothing to add to what the tests say
	os.Exit(m.Run())
}

// apiServer is what of an API server answers a request about an object, from its defaults to the admission policies.
type apiServer struct {
	validating *validating.Plugin
	mutating   *mutating.Plugin
	objects    admission.ObjectInterfaces
}

// newAPIServer has the policies of a source, and namespaces.
func newAPIServer(t *testing.T, policies []runtime.Object, namespaces []*corev1.Namespace) *apiServer {
	t.Helper()
	objects := make([]runtime.Object, 0, len(policies)+len(namespaces))
	for _, p := range policies {
		p = p.DeepCopyObject()
		legacyscheme.Scheme.Default(p)
		objects = append(objects, p)
	}
	for _, ns := range namespaces {
		objects = append(objects, ns)
	}
	api := &apiServer{objects: admission.NewObjectInterfacesFromScheme(legacyscheme.Scheme)}
	var err error
	if api.validating, err = validating.NewPlugin(nil); err != nil {
		t.Fatal(err)
	}
	if api.mutating, err = mutating.NewPlugin(nil); err != nil {
		t.Fatal(err)
	}
	c := clientset{fake.NewClientset(objects...)}
	factory := informers.NewSharedInformerFactory(c, 0)
	plugins := initializer.New(c, dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()), factory, authorizerfactory.NewAlwaysDenyAuthorizer(),
		utilfeature.DefaultFeatureGate, compatibility.DefaultBuildEffectiveVersion(), t.Context().Done(), newMapper())
	for _, plugin := range []interface {
		admission.Interface
		admission.InitializationValidator
	}{api.validating, api.mutating} {
		plugins.Initialize(plugin)
		if err := plugin.ValidateInitialization(); err != nil {
			t.Fatal(err)
		}
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	poll.Until(t, func(context.Context) error {
		if !api.validating.WaitForReady() || !api.mutating.WaitForReady() {
			return errors.New("the plugins are compiling")
		}
		return nil
	})
	return api
}

// newMapper knows the kinds of Kubernetes.
func newMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind := range legacyscheme.Scheme.AllKnownTypes() {
		if kind.Version == "v1" {
			mapper.Add(kind, meta.RESTScopeNamespace)
		}
	}
	return mapper
}

// clientset has an OpenAPI, without which the plugin patches nothing.
type clientset struct{ *fake.Clientset }

func (c clientset) Discovery() discovery.DiscoveryInterfaces {
	return described{c.Clientset.Discovery()}
}

type described struct{ discovery.DiscoveryInterfaces }

func (described) OpenAPIV3() openapi.Client { return openapitest.NewEmbeddedFileClient() }

// strategy is how the API server defaults and validates objects of a kind.
type strategy interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

// kindOf returns the kind of an object, its resource and the strategy.
func kindOf(o client.Object) (schema.GroupVersionKind, string, strategy) {
	apps, batch, core := appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion, corev1.SchemeGroupVersion
	switch o.(type) {
	case *corev1.Pod:
		return core.WithKind("Pod"), "pods", pod.Strategy
	case *corev1.Service:
		return core.WithKind("Service"), "services", service.Strategy
	case *corev1.ReplicationController:
		return core.WithKind("ReplicationController"), "replicationcontrollers", replicationcontroller.Strategy
	case *appsv1.Deployment:
		return apps.WithKind("Deployment"), "deployments", deployment.Strategy
	case *appsv1.StatefulSet:
		return apps.WithKind("StatefulSet"), "statefulsets", statefulset.Strategy
	case *appsv1.DaemonSet:
		return apps.WithKind("DaemonSet"), "daemonsets", daemonset.Strategy
	case *appsv1.ReplicaSet:
		return apps.WithKind("ReplicaSet"), "replicasets", replicaset.Strategy
	case *batchv1.Job:
		return batch.WithKind("Job"), "jobs", job.Strategy
	case *batchv1.CronJob:
		return batch.WithKind("CronJob"), "cronjobs", cronjob.Strategy
	default:
		panic(fmt.Sprintf("%T", o))
	}
}

// ask makes a request: a create where old is nil. It returns the object as it would be stored.
func (api *apiServer) ask(t *testing.T, object, old client.Object, dryRun bool) (client.Object, alone.Answer) {
	t.Helper()
	kind, resource, strategy := kindOf(object)
	gvr := kind.GroupVersion().WithResource(resource)
	who := &user.DefaultInfo{Name: "jane", Groups: []string{"system:authenticated"}}
	if object.GetAnnotations()[alone.ByController] != "" {
		who = &user.DefaultInfo{Name: "system:serviceaccount:kube-system:replicaset-controller"}
	}
	operation, verb := admission.Create, "create"
	if old != nil {
		operation, verb = admission.Update, "update"
	}
	warnings := &recorder{}
	ctx := genericapirequest.WithUser(genericapirequest.WithNamespace(t.Context(), object.GetNamespace()), who)
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: verb, APIGroup: kind.Group, APIVersion: kind.Version, Resource: resource, Namespace: object.GetNamespace(), Name: object.GetName(),
	})
	ctx = warning.WithWarningRecorder(ctx, warnings)
	now := internal(t, object)
	attributes := func(o, old runtime.Object) *annotated {
		options := runtime.Object(&metav1.CreateOptions{})
		if old != nil {
			options = &metav1.UpdateOptions{}
		}
		return &annotated{
			Attributes: admission.NewAttributesRecord(o, old, kind, object.GetNamespace(), object.GetName(), gvr, "", operation, options, dryRun, who),
			values:     map[string]string{},
		}
	}
	var before runtime.Object
	var err error
	if old != nil {
		before = internal(t, old)
	}
	if err := api.mutating.Admit(ctx, attributes(now, before), api.objects); err != nil {
		return nil, alone.Answer{Other: err}
	}
	if old == nil {
		accessor, _ := meta.Accessor(now) // it is an object of the API
		rest.FillObjectMetaSystemFields(accessor)
		err = rest.BeforeCreate(strategy, ctx, now)
	} else {
		err = rest.BeforeUpdate(strategy, ctx, now, before)
	}
	stored := versioned(t, now, kind)
	if err != nil {
		return stored, alone.Answer{Other: err}
	}
	*warnings = nil // those of the strategy
	asked := attributes(now, before)
	err = api.validating.Validate(ctx, asked, api.objects)
	a := alone.AnswerOf(err, *warnings)
	a.Audited = asked.failures(t)
	return stored, a
}

// internal is an object with the API server's defaults, in the form that it works with.
func internal(t *testing.T, o client.Object) runtime.Object {
	t.Helper()
	o = o.DeepCopyObject().(client.Object)
	legacyscheme.Scheme.Default(o)
	made, err := legacyscheme.Scheme.ConvertToVersion(o, runtime.InternalGroupVersioner)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func versioned(t *testing.T, o runtime.Object, kind schema.GroupVersionKind) client.Object {
	t.Helper()
	made, err := legacyscheme.Scheme.ConvertToVersion(o, kind.GroupVersion())
	if err != nil {
		t.Fatal(err)
	}
	return made.(client.Object)
}

// recorder collects warnings.
type recorder []string

func (r *recorder) AddWarning(_, text string) { *r = append(*r, text) }

// annotated remembers what is written into the audit log.
type annotated struct {
	admission.Attributes
	values map[string]string
}

func (a *annotated) AddAnnotation(key, value string) error {
	a.values[key] = value
	return nil
}

// failures are the messages of failed validations whose binding audits.
func (a *annotated) failures(t *testing.T) []string {
	t.Helper()
	text, ok := a.values["validation.policy.admission.k8s.io/validation_failure"]
	if !ok {
		return nil
	}
	var failures []validating.ValidationFailureValue
	if err := json.Unmarshal([]byte(text), &failures); err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, f := range failures {
		messages = append(messages, f.Message)
	}
	return messages
}

// namespacesOf makes a namespace of each set of labels.
func namespacesOf(places []map[string]string) []*corev1.Namespace {
	var all []*corev1.Namespace
	for i, labels := range places {
		name := labels[corev1.LabelMetadataName]
		if name == "" {
			name = fmt.Sprintf("ns-%d", i)
			labels[corev1.LabelMetadataName] = name
		}
		all = append(all, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	}
	return all
}

// made returns the policies of a source.
func made(t *testing.T, s vap.Source) []runtime.Object {
	t.Helper()
	p, err := s.Validating()
	if err != nil {
		t.Fatal(err)
	}
	return p.Objects
}
