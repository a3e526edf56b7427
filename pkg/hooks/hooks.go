// Package hooks is what the API server is told of the webhook: the names and paths of its hooks, which requests each is asked
// about, and the two webhook configurations that say so.
//
// Mutating and Validating make the configurations from Options; Shipped are the Options that config/webhook is rendered from.
// Package webhook serves the handlers at the paths, package webhook/vap judges the same requests by admission policies, and
// the controllers and `portcullis doctor` compare what is installed with it.
package hooks

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// The paths at which the hooks are served.
const (
	PathMutatePods       = "/mutate-pods"
	PathMutateServices   = "/mutate-services"
	PathValidatePods     = "/validate-pods"
	PathValidateServices = "/validate-services"
	PathValidateWorkload = "/validate-workloads"
	PathValidateScale    = "/validate-scale"
	PathValidateBindings = "/validate-bindings"
)

// The names of the hooks in the webhook configurations.
const (
	MutatePodsName        = "mutate-pods" + Suffix
	MutateServicesName    = "mutate-services" + Suffix
	ValidatePodsName      = ValidatePrefix + "pods" + Suffix
	ValidateServicesName  = ValidatePrefix + "services" + Suffix
	ValidateWorkloadsName = ValidatePrefix + "workloads" + Suffix // is asked about the Deployment of the self-test
	ValidateScaleName     = ValidatePrefix + "scale" + Suffix
	ValidateCronJobsName  = ValidatePrefix + "cronjobs" + Suffix
	GuardPodLabelsName    = GuardPrefix + "pod-labels" + Suffix
	GuardBindingsName     = GuardPrefix + "bindings" + Suffix
)

const (
	// ValidatePrefix begins the names of the hooks whose failurePolicy is Fail once the webhook is known to work.
	ValidatePrefix = "validate-"
	// GuardPrefix begins the names of hooks that are never Fail: while the webhook is down, pods must be placed, and may get
	// other labels.
	GuardPrefix = "guard-"
	// Suffix ends the names of all hooks.
	Suffix = "." + v1alpha1.Group
)

// HandlerName is what metrics, logs and traces call the handler at path.
func HandlerName(path string) string { return strings.TrimPrefix(path, "/") }

// ConfigurationName is the name of both webhook configurations.
const ConfigurationName = "portcullis"

// Options is what differs between installations of the webhook configurations. ClientConfig and FailurePolicy are as in Shipped
// where they are left out.
type Options struct {
	// ClientConfig tells how the API server reaches the hook at path.
	ClientConfig func(path string) admissionregistrationv1.WebhookClientConfig
	// FailurePolicy is what happens while the webhook cannot be reached: Ignore until it is known to work, then Fail.
	FailurePolicy admissionregistrationv1.FailurePolicyType
	// ExcludedNamespaces are never judged: what a cluster needs to come up runs there, of the host network often.
	ExcludedNamespaces []string
	// GuardBindings adds the optional guard on bindings, for clusters with several schedulers.
	GuardBindings bool
}

func (r Options) complete() Options {
	if r.ClientConfig == nil {
		r.ClientConfig = Shipped().ClientConfig
	}
	if r.FailurePolicy == "" {
		r.FailurePolicy = Shipped().FailurePolicy
	}
	return r
}

// ServiceClient reaches the hooks through a Service of the cluster. The CA bundle is filled in by whoever has it.
func ServiceClient(namespace, name string) func(string) admissionregistrationv1.WebhookClientConfig {
	return func(path string) admissionregistrationv1.WebhookClientConfig {
		return admissionregistrationv1.WebhookClientConfig{
			Service: &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: name, Path: &path},
		}
	}
}

// URLClient reaches the hooks at a base URL, for a replica that runs outside of the cluster.
func URLClient(base string, ca []byte) func(string) admissionregistrationv1.WebhookClientConfig {
	return func(path string) admissionregistrationv1.WebhookClientConfig {
		url := base + path
		return admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca}
	}
}

// Conditions by which requests that have nothing to do with node ports never leave the API server. They are untyped
// CEL over the object as JSON, from which zero values are dropped, so that every optional field is guarded.
const (
	// NodesGroup is the group whose members are nodes (k8s.io/apiserver pkg/authentication/user).
	NodesGroup = "system:nodes"

	// NotMirror is the condition that a pod is no static one: only a node may say so, as it runs whatever is said of its image.
	NotMirror = `!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}) && '` + NodesGroup + `' in request.userInfo.?groups.orValue([]))`

	// One Service may hold a node port, a health check node port, or an external address, also one that a load balancer was
	// given.
	holdsPorts = `object.spec.?type.orValue('ClusterIP') == 'NodePort' || ` +
		`(object.spec.?type.orValue('ClusterIP') == 'LoadBalancer' && ` +
		`(object.spec.?allocateLoadBalancerNodePorts.orValue(true) || object.spec.?externalTrafficPolicy.orValue('Cluster') == 'Local')) || ` +
		`object.spec.?ports.orValue([]).exists(p, p.?nodePort.orValue(0) > 0) || ` +
		`object.spec.?externalIPs.orValue([]).size() > 0 || ` +
		`object.?status.?loadBalancer.?ingress.orValue([]).size() > 0`

	// The labels of a Service decide which pools and exceptions it is for.
	portsChanged = `request.operation != 'UPDATE' || ` +
		`oldObject.metadata.?labels != object.metadata.?labels || ` +
		`oldObject.spec.?type != object.spec.?type || ` +
		`oldObject.spec.?ports != object.spec.?ports || ` +
		`oldObject.spec.?externalIPs != object.spec.?externalIPs || ` +
		`oldObject.spec.?ipFamilies != object.spec.?ipFamilies || ` +
		`oldObject.spec.?externalTrafficPolicy != object.spec.?externalTrafficPolicy || ` +
		`oldObject.spec.?healthCheckNodePort != object.spec.?healthCheckNodePort || ` +
		`oldObject.spec.?allocateLoadBalancerNodePorts != object.spec.?allocateLoadBalancerNodePorts`
)

// labelsChanged is the condition on pods that stay, whose ports cannot be changed: exceptions of policies go by their labels.
const labelsChanged = `!has(object.metadata.deletionTimestamp) && oldObject.metadata.?labels != object.metadata.?labels`

// HasHostPorts is the condition on a pod or pod template, found at path: it uses the node's network, has a host port, or
// asks for one.
func HasHostPorts(path string) string {
	spec := path + `.spec`
	return spec + `.?hostNetwork.orValue(false) || ` +
		`(` + spec + `.containers + ` + spec + `.?initContainers.orValue([])).exists(c, c.?ports.orValue([]).exists(p, p.?hostPort.orValue(0) > 0)) || ` +
		hasAnnotation(path, extract.HostPortAnnotation)
}

// hasAnnotation is the condition on the object at path: an annotation's key begins with prefix.
func hasAnnotation(path, prefix string) string {
	return path + `.?metadata.?annotations.orValue({}).exists(k, k.startsWith('` + prefix + `'))`
}

// becomesActive is the condition on an object that is scaled up from nothing.
const becomesActive = `oldObject.spec.?replicas.orValue(1) == 0 && object.spec.?replicas.orValue(1) > 0`

// templateChanged is the condition on the template at path of an object, on its beginning to want pods, or, where nobody
// controls it, on how many pods there are and how they are replaced. A Deployment scales its ReplicaSets all the time.
func templateChanged(path string) string {
	job := strings.TrimSuffix(path, ".template")
	rollout := `oldObject.spec.?replicas != object.spec.?replicas || ` +
		`oldObject.spec.?strategy != object.spec.?strategy || ` +
		`oldObject.spec.?updateStrategy != object.spec.?updateStrategy || ` +
		`oldObject.` + job + `.?parallelism != object.` + job + `.?parallelism || ` +
		`oldObject.` + job + `.?completions != object.` + job + `.?completions`
	return `request.operation != 'UPDATE' || oldObject.` + path + ` != object.` + path + ` || ` +
		`(` + becomesActive + `) || ` +
		`(oldObject.` + job + `.?parallelism.orValue(1) == 0 && object.` + job + `.?parallelism.orValue(1) > 0) || ` +
		`(oldObject.spec.?suspend.orValue(false) && !object.spec.?suspend.orValue(false)) || ` +
		`(!object.metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false)) && (` + rollout + `))`
}

// Mutating is the configuration of the mutating hooks.
func Mutating(r Options) *admissionregistrationv1.MutatingWebhookConfiguration {
	r = r.complete()
	c := &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
	}
	c.ObjectMeta = ObjectMeta()
	again := admissionregistrationv1.IfNeededReinvocationPolicy // the handlers are idempotent
	for _, h := range []Hook{MutatePods(), mutateServices()} {
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.MutatingWebhook{
			Name: h.Name, ClientConfig: r.ClientConfig(h.Path), Rules: h.Rules, FailurePolicy: &r.FailurePolicy,
			MatchPolicy: h.matchPolicy(), NamespaceSelector: r.NamespaceSelector(), SideEffects: h.sideEffects(),
			TimeoutSeconds: &h.Timeout, AdmissionReviewVersions: []string{"v1"}, ReinvocationPolicy: &again,
			MatchConditions: h.Conditions,
		})
	}
	return c
}

// Validating is the configuration of the validating hooks.
func Validating(r Options) *admissionregistrationv1.ValidatingWebhookConfiguration {
	r = r.complete()
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
	}
	c.ObjectMeta = ObjectMeta()
	hooks := []Hook{ValidatePods(), ValidateServices(), ValidateWorkloads(), validateScale(), ValidateCronJobs(), guardPodLabels()}
	if r.GuardBindings {
		hooks = append(hooks, guardBindings())
	}
	for _, h := range hooks {
		policy := r.FailurePolicy
		if strings.HasPrefix(h.Name, GuardPrefix) {
			policy = admissionregistrationv1.Ignore
		}
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.ValidatingWebhook{
			Name: h.Name, ClientConfig: r.ClientConfig(h.Path), Rules: h.Rules, FailurePolicy: &policy,
			MatchPolicy: h.matchPolicy(), NamespaceSelector: r.NamespaceSelector(), SideEffects: h.sideEffects(),
			TimeoutSeconds: &h.Timeout, AdmissionReviewVersions: []string{"v1"}, MatchConditions: h.Conditions,
		})
	}
	return c
}

// ObjectMeta is the name and labels of what is installed.
func ObjectMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: ConfigurationName, Labels: map[string]string{
		"app.kubernetes.io/name": "portcullis", "app.kubernetes.io/part-of": "portcullis",
	}}
}

// NamespaceSelector selects all namespaces but those that are excluded.
func (r Options) NamespaceSelector() *metav1.LabelSelector {
	if len(r.ExcludedNamespaces) == 0 {
		return &metav1.LabelSelector{}
	}
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: r.ExcludedNamespaces,
	}}}
}

// Hook is one entry of a configuration.
type Hook struct {
	Name       string
	Path       string // at which it is served
	Rules      []admissionregistrationv1.RuleWithOperations
	Conditions []admissionregistrationv1.MatchCondition
	Timeout    int32 // seconds
}

func (Hook) matchPolicy() *admissionregistrationv1.MatchPolicyType {
	policy := admissionregistrationv1.Equivalent
	return &policy
}

// sideEffects: an answer is remembered in memory until the cluster shows it, but not on a dry run.
func (Hook) sideEffects() *admissionregistrationv1.SideEffectClass {
	class := admissionregistrationv1.SideEffectClassNoneOnDryRun
	return &class
}

// MutatePods sees the pods that ValidatePods sees, and those that a client wrote an assigned host port on.
func MutatePods() Hook {
	h := ValidatePods()
	h.Name, h.Path, h.Timeout = MutatePodsName, PathMutatePods, 2
	h.Conditions = Conditions("not-a-mirror-pod", NotMirror, "has-host-ports", HasHostPorts("object")+` || `+hasAnnotation("object", extract.AssignedHostPortAnnotation))
	return h
}

func mutateServices() Hook {
	h := ValidateServices()
	h.Name, h.Path, h.Timeout = MutateServicesName, PathMutateServices, 3
	return h
}

// ValidatePods is asked about new pods with host ports.
func ValidatePods() Hook {
	return Hook{
		ValidatePodsName, PathValidatePods,
		on("", []string{"pods"}, admissionregistrationv1.Create),
		Conditions("not-a-mirror-pod", NotMirror, "has-host-ports", HasHostPorts("object")), 3,
	}
}

// guardPodLabels asks about pods whose labels may end an exception. Operators change labels of their pods when they fail over,
// and must not be kept from it while the webhook is down.
func guardPodLabels() Hook {
	return Hook{
		GuardPodLabelsName, PathValidatePods,
		on("", []string{"pods"}, admissionregistrationv1.Update),
		Conditions("not-a-mirror-pod", NotMirror, "has-host-ports", HasHostPorts("object"), "labels-changed", labelsChanged), 1,
	}
}

// ValidateServices is asked about Services with ports on nodes.
func ValidateServices() Hook {
	return Hook{
		ValidateServicesName, PathValidateServices,
		on("", []string{"services"}, admissionregistrationv1.Create, admissionregistrationv1.Update),
		Conditions("holds-node-ports", holdsPorts, "ports-changed", portsChanged), 3,
	}
}

// ValidateWorkloads is asked about objects with a pod template in spec.template.
func ValidateWorkloads() Hook {
	const template = "spec.template"
	apps := on("apps", []string{"daemonsets", "deployments", "replicasets", "statefulsets"}, admissionregistrationv1.Create, admissionregistrationv1.Update)
	batch := on("batch", []string{"jobs"}, admissionregistrationv1.Create, admissionregistrationv1.Update)
	core := on("", []string{"replicationcontrollers"}, admissionregistrationv1.Create, admissionregistrationv1.Update)
	return Hook{
		ValidateWorkloadsName, PathValidateWorkload, append(append(apps, batch...), core...),
		Conditions("has-host-ports", HasHostPorts("object."+template), "template-changed", templateChanged(template)), 3,
	}
}

// validateScale asks about what kubectl scale and autoscalers write, where it is the first pod of all.
func validateScale() Hook {
	update := admissionregistrationv1.Update
	apps := on("apps", []string{"deployments/scale", "replicasets/scale", "statefulsets/scale"}, update)
	core := on("", []string{"replicationcontrollers/scale"}, update)
	return Hook{
		ValidateScaleName, PathValidateScale, append(apps, core...),
		Conditions("becomes-active", `oldObject.spec.?replicas.orValue(0) == 0 && object.spec.?replicas.orValue(0) > 0`), 3,
	}
}

// ValidateCronJobs is asked about CronJobs.
func ValidateCronJobs() Hook {
	const template = "spec.jobTemplate.spec.template"
	return Hook{
		ValidateCronJobsName, PathValidateWorkload,
		on("batch", []string{"cronjobs"}, admissionregistrationv1.Create, admissionregistrationv1.Update),
		Conditions("has-host-ports", HasHostPorts("object."+template), "template-changed", templateChanged(template)), 3,
	}
}

func guardBindings() Hook {
	return Hook{
		GuardBindingsName, PathValidateBindings,
		on("", []string{"pods/binding", "bindings"}, admissionregistrationv1.Create), nil, 1,
	}
}

func on(group string, resources []string, operations ...admissionregistrationv1.OperationType) []admissionregistrationv1.RuleWithOperations {
	scope := admissionregistrationv1.NamespacedScope
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: operations,
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources, Scope: &scope},
	}}
}

// Conditions pairs names and expressions.
func Conditions(pairs ...string) []admissionregistrationv1.MatchCondition {
	var list []admissionregistrationv1.MatchCondition
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, admissionregistrationv1.MatchCondition{Name: pairs[i], Expression: pairs[i+1]})
	}
	return list
}
