package webhook

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// GuardPrefix begins the names of hooks that are never Fail: while the webhook is down, pods must be placed, and may get other
// labels.
const GuardPrefix = "guard-"

// Name is the name of both webhook configurations.
const Name = "portcullis"

// Registration is what differs between installations of the webhook configurations. ClientConfig and FailurePolicy are as in Shipped
// where they are left out.
type Registration struct {
	// ClientConfig tells how the API server reaches the hook at path.
	ClientConfig func(path string) admissionregistrationv1.WebhookClientConfig
	// FailurePolicy is what happens while the webhook cannot be reached: Ignore until it is known to work, then Fail.
	FailurePolicy admissionregistrationv1.FailurePolicyType
	// ExcludedNamespaces are never judged: what a cluster needs to come up runs there, of the host network often.
	ExcludedNamespaces []string
	// GuardBindings adds the optional guard on bindings, for clusters with several schedulers.
	GuardBindings bool
}

func (r Registration) complete() Registration {
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
	nodesGroup = "system:nodes" // whose members are nodes (k8s.io/apiserver pkg/authentication/user)

	// Only a node may say of a pod that it is a static one, which runs whatever is said of its image.
	notMirror = `!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}) && '` + nodesGroup + `' in request.userInfo.?groups.orValue([]))`

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

// hasHostPorts is the condition on a pod or pod template, found at path: it uses the node's network, has a host port, or
// asks for one.
func hasHostPorts(path string) string {
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
func Mutating(r Registration) *admissionregistrationv1.MutatingWebhookConfiguration {
	r = r.complete()
	c := &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
	}
	c.ObjectMeta = objectMeta()
	again := admissionregistrationv1.IfNeededReinvocationPolicy // the handlers are idempotent
	for _, h := range []hook{mutatePods(), mutateServices()} {
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.MutatingWebhook{
			Name: h.name, ClientConfig: r.ClientConfig(h.path), Rules: h.rules, FailurePolicy: &r.FailurePolicy,
			MatchPolicy: h.matchPolicy(), NamespaceSelector: r.selector(), SideEffects: h.sideEffects(),
			TimeoutSeconds: &h.timeout, AdmissionReviewVersions: []string{"v1"}, ReinvocationPolicy: &again,
			MatchConditions: h.conditions,
		})
	}
	return c
}

// Validating is the configuration of the validating hooks.
func Validating(r Registration) *admissionregistrationv1.ValidatingWebhookConfiguration {
	r = r.complete()
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
	}
	c.ObjectMeta = objectMeta()
	hooks := []hook{validatePods(), validateServices(), validateWorkloads(), validateScale(), validateCronJobs(), guardPodLabels()}
	if r.GuardBindings {
		hooks = append(hooks, guardBindings())
	}
	for _, h := range hooks {
		policy := r.FailurePolicy
		if strings.HasPrefix(h.name, GuardPrefix) {
			policy = admissionregistrationv1.Ignore
		}
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.ValidatingWebhook{
			Name: h.name, ClientConfig: r.ClientConfig(h.path), Rules: h.rules, FailurePolicy: &policy,
			MatchPolicy: h.matchPolicy(), NamespaceSelector: r.selector(), SideEffects: h.sideEffects(),
			TimeoutSeconds: &h.timeout, AdmissionReviewVersions: []string{"v1"}, MatchConditions: h.conditions,
		})
	}
	return c
}

func objectMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: Name, Labels: map[string]string{
		"app.kubernetes.io/name": "portcullis", "app.kubernetes.io/part-of": "portcullis",
	}}
}

func (r Registration) selector() *metav1.LabelSelector {
	if len(r.ExcludedNamespaces) == 0 {
		return &metav1.LabelSelector{}
	}
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: r.ExcludedNamespaces,
	}}}
}

// hook is one entry of a configuration.
type hook struct {
	name       string
	path       string
	rules      []admissionregistrationv1.RuleWithOperations
	conditions []admissionregistrationv1.MatchCondition
	timeout    int32 // seconds
}

func (hook) matchPolicy() *admissionregistrationv1.MatchPolicyType {
	policy := admissionregistrationv1.Equivalent
	return &policy
}

// sideEffects: an answer is remembered in memory until the cluster shows it, but not on a dry run.
func (hook) sideEffects() *admissionregistrationv1.SideEffectClass {
	class := admissionregistrationv1.SideEffectClassNoneOnDryRun
	return &class
}

// mutatePods sees the pods that validatePods sees, and those that a client wrote an assigned host port on.
func mutatePods() hook {
	h := validatePods()
	h.name, h.path, h.timeout = "mutate-pods.portcullis.dev", PathMutatePods, 2
	h.conditions = conditions("not-a-mirror-pod", notMirror, "has-host-ports", hasHostPorts("object")+` || `+hasAnnotation("object", extract.AssignedHostPortAnnotation))
	return h
}

func mutateServices() hook {
	h := validateServices()
	h.name, h.path, h.timeout = "mutate-services.portcullis.dev", PathMutateServices, 3
	return h
}

func validatePods() hook {
	return hook{
		"validate-pods.portcullis.dev", PathValidatePods,
		on("", []string{"pods"}, admissionregistrationv1.Create),
		conditions("not-a-mirror-pod", notMirror, "has-host-ports", hasHostPorts("object")), 3,
	}
}

// guardPodLabels asks about pods whose labels may end an exception. Operators change labels of their pods when they fail over,
// and must not be kept from it while the webhook is down.
func guardPodLabels() hook {
	return hook{
		"guard-pod-labels.portcullis.dev", PathValidatePods,
		on("", []string{"pods"}, admissionregistrationv1.Update),
		conditions("not-a-mirror-pod", notMirror, "has-host-ports", hasHostPorts("object"), "labels-changed", labelsChanged), 1,
	}
}

func validateServices() hook {
	return hook{
		"validate-services.portcullis.dev", PathValidateServices,
		on("", []string{"services"}, admissionregistrationv1.Create, admissionregistrationv1.Update),
		conditions("holds-node-ports", holdsPorts, "ports-changed", portsChanged), 3,
	}
}

func validateWorkloads() hook {
	const template = "spec.template"
	apps := on("apps", []string{"daemonsets", "deployments", "replicasets", "statefulsets"}, admissionregistrationv1.Create, admissionregistrationv1.Update)
	batch := on("batch", []string{"jobs"}, admissionregistrationv1.Create, admissionregistrationv1.Update)
	core := on("", []string{"replicationcontrollers"}, admissionregistrationv1.Create, admissionregistrationv1.Update)
	return hook{
		"validate-workloads.portcullis.dev", PathValidateWorkload, append(append(apps, batch...), core...),
		conditions("has-host-ports", hasHostPorts("object."+template), "template-changed", templateChanged(template)), 3,
	}
}

// validateScale asks about what kubectl scale and autoscalers write, where it is the first pod of all.
func validateScale() hook {
	update := admissionregistrationv1.Update
	apps := on("apps", []string{"deployments/scale", "replicasets/scale", "statefulsets/scale"}, update)
	core := on("", []string{"replicationcontrollers/scale"}, update)
	return hook{
		"validate-scale.portcullis.dev", PathValidateScale, append(apps, core...),
		conditions("becomes-active", `oldObject.spec.?replicas.orValue(0) == 0 && object.spec.?replicas.orValue(0) > 0`), 3,
	}
}

func validateCronJobs() hook {
	const template = "spec.jobTemplate.spec.template"
	return hook{
		"validate-cronjobs.portcullis.dev", PathValidateWorkload,
		on("batch", []string{"cronjobs"}, admissionregistrationv1.Create, admissionregistrationv1.Update),
		conditions("has-host-ports", hasHostPorts("object."+template), "template-changed", templateChanged(template)), 3,
	}
}

func guardBindings() hook {
	return hook{
		"guard-bindings.portcullis.dev", PathValidateBindings,
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

// conditions pairs names and expressions.
func conditions(pairs ...string) []admissionregistrationv1.MatchCondition {
	var list []admissionregistrationv1.MatchCondition
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, admissionregistrationv1.MatchCondition{Name: pairs[i], Expression: pairs[i+1]})
	}
	return list
}
