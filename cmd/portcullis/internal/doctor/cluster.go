package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/arming"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// deployment looks at the replicas and what they run.
func (d *installation) deployment(ctx context.Context) []report.DoctorCheck {
	const name, versions = "Deployment", "versions"
	what := "Deployment " + d.installedIn + "/" + d.service
	deployment, err := d.AppsV1().Deployments(d.installedIn).Get(ctx, d.service, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return []report.DoctorCheck{broken(name, reinstall, "there is no %s", what)}
	}
	if err != nil {
		return unread(name, what, err)
	}
	checks := []report.DoctorCheck{well(name, "%d of %d replicas are ready", deployment.Status.ReadyReplicas, valueOr(deployment.Spec.Replicas, 1))}
	if deployment.Status.ReadyReplicas < valueOr(deployment.Spec.Replicas, 1) {
		checks[0] = broken(name, fmt.Sprintf("kubectl -n %s describe pods -l app.kubernetes.io/name=portcullis, and look at their log", d.installedIn),
			"%d of %d replicas are ready", deployment.Status.ReadyReplicas, valueOr(deployment.Spec.Replicas, 1))
	}
	selector, err := metav1.LabelSelectorAsSelector(deployment.Spec.Selector)
	if err != nil {
		return unread(versions, "the selector of "+what, err)
	}
	pods, err := d.CoreV1().Pods(d.installedIn).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return append(checks, unread(versions, "pods of "+d.installedIn, err)...)
	}
	return append(checks, images(deployment, pods.Items))
}

// images compares what the replicas run.
func images(deployment *appsv1.Deployment, pods []corev1.Pod) report.DoctorCheck {
	const name = "versions"
	running := map[string]bool{}
	for i := range pods {
		for _, c := range pods[i].Spec.Containers {
			if !extract.IsFinished(&pods[i]) && slices.ContainsFunc(deployment.Spec.Template.Spec.Containers, func(t corev1.Container) bool { return t.Name == c.Name }) {
				running[c.Name+"="+c.Image] = true
			}
		}
	}
	if len(running) > len(deployment.Spec.Template.Spec.Containers) {
		return warned(name, fmt.Sprintf("kubectl -n %s rollout status deployment/%s", deployment.Namespace, deployment.Name),
			"replicas run %d different images, and may answer differently", len(running))
	}
	return well(name, "all replicas run one image")
}

// endpoints looks whether the Service leads to anybody.
func (d *installation) endpoints(ctx context.Context) []report.DoctorCheck {
	const name = "Service"
	what := "Service " + d.installedIn + "/" + d.service
	if _, err := d.CoreV1().Services(d.installedIn).Get(ctx, d.service, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return []report.DoctorCheck{broken(name, reinstall, "there is no %s, by which the API server asks the webhook", what)}
	} else if err != nil {
		return unread(name, what, err)
	}
	list, err := d.DiscoveryV1().EndpointSlices(d.installedIn).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + d.service})
	if err != nil {
		return unread(name, "EndpointSlices of "+d.installedIn, err)
	}
	ready := 0
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if valueOr(e.Conditions.Ready, true) {
				ready++
			}
		}
	}
	if ready == 0 {
		return []report.DoctorCheck{broken(name, fmt.Sprintf("kubectl -n %s get pods,endpointslices -o wide, and compare the Service's selector with the pods' labels", d.installedIn),
			"%s has no ready endpoint, so that nobody answers the API server", what)}
	}
	return []report.DoctorCheck{well(name, "%s has %d ready endpoints", what, ready)}
}

// disruption looks at what keeps a drained node from taking all replicas, or a node from being drained.
func (d *installation) disruption(ctx context.Context) []report.DoctorCheck {
	const name = "PodDisruptionBudget"
	deployment, err := d.AppsV1().Deployments(d.installedIn).Get(ctx, d.service, metav1.GetOptions{})
	if err != nil {
		return unread(name, "Deployment "+d.installedIn+"/"+d.service, err)
	}
	list, err := d.PolicyV1().PodDisruptionBudgets(d.installedIn).List(ctx, metav1.ListOptions{})
	if err != nil {
		return unread(name, "PodDisruptionBudgets of "+d.installedIn, err)
	}
	for _, b := range list.Items {
		if !selects(b.Spec.Selector, deployment.Spec.Template.Labels) {
			continue
		}
		if b.Status.ExpectedPods > 0 && b.Status.DisruptionsAllowed == 0 && b.Status.DesiredHealthy >= b.Status.ExpectedPods {
			return []report.DoctorCheck{warned(name, "run two replicas or more, or lower minAvailable", "%s allows no pod to be evicted, so that no node with one can be drained", b.Name)}
		}
		return []report.DoctorCheck{well(name, "%s keeps a drain from taking all replicas", b.Name)}
	}
	if valueOr(deployment.Spec.Replicas, 1) < 2 {
		return []report.DoctorCheck{well(name, "there is none, and one replica should have none")}
	}
	return []report.DoctorCheck{warned(name, reinstall, "there is none for the replicas, so that a drain may take all of them at once")}
}

func selects(s *metav1.LabelSelector, set map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && s != nil && selector.Matches(labels.Set(set))
}

// networkPolicies looks for what keeps the API server from the webhook: its address is hardly ever one that a rule can name.
func (d *installation) networkPolicies(ctx context.Context) []report.DoctorCheck {
	const name = "NetworkPolicies"
	list, err := d.NetworkingV1().NetworkPolicies(d.installedIn).List(ctx, metav1.ListOptions{})
	if err != nil {
		return unread(name, "NetworkPolicies of "+d.installedIn, err)
	}
	var closed []string
	isOpen := false
	for _, p := range list.Items {
		isIngress := len(p.Spec.PolicyTypes) == 0 || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		if !isIngress || !selects(&p.Spec.PodSelector, map[string]string{"app.kubernetes.io/name": "portcullis"}) {
			continue
		}
		if len(p.Spec.Ingress) == 0 {
			closed = append(closed, p.Name)
		}
		for _, rule := range p.Spec.Ingress {
			isOpen = isOpen || len(rule.From) == 0
		}
	}
	if len(closed) > 0 && !isOpen {
		return []report.DoctorCheck{warned(name, "add one that allows TCP port 9443 of the pods from everywhere",
			"%s lets nobody to the pods of %s, the API server neither", strings.Join(closed, ", "), d.installedIn)}
	}
	return []report.DoctorCheck{well(name, "none keeps everybody from the webhook")}
}

// leader looks whether the one that writes is alive.
func (d *installation) leader(ctx context.Context) []report.DoctorCheck {
	const name = "leader"
	what := "Lease " + d.installedIn + "/" + d.service
	lease, err := d.CoordinationV1().Leases(d.installedIn).Get(ctx, d.service, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "there is no " + what + ": no replica has been leader yet, or --leader-elect=false"}}
	}
	if err != nil {
		return unread(name, what, err)
	}
	holder := valueOr(lease.Spec.HolderIdentity, "")
	late := time.Duration(valueOr(lease.Spec.LeaseDurationSeconds, 15)) * time.Second
	if holder == "" || lease.Spec.RenewTime == nil || d.now.After(lease.Spec.RenewTime.Add(4*late)) {
		return []report.DoctorCheck{broken(name, fmt.Sprintf("kubectl -n %s get pods, and look at their log", d.installedIn),
			"nobody renews %s, so that no claims, status and certificates are written", what)}
	}
	return []report.DoctorCheck{well(name, "%s", holder)}
}

// kinds looks whether the API server knows our kinds.
func (d *installation) kinds(ctx context.Context) []report.DoctorCheck {
	const name = "custom resources"
	list, err := d.Discovery().ServerResourcesForGroupVersion(v1alpha1.GroupVersion().String())
	if err != nil && !apierrors.IsNotFound(err) {
		return unread(name, "the resources of "+v1alpha1.GroupVersion().String(), err)
	}
	missing := []string{"portpools", "portpolicies", "portclaims"}
	if err == nil {
		for _, r := range list.APIResources {
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == r.Name })
		}
	}
	if len(missing) > 0 {
		return []report.DoctorCheck{broken(name, "kubectl apply -k config/crd", "the API server does not serve %s in %s", strings.Join(missing, ", "), v1alpha1.GroupVersion())}
	}
	return []report.DoctorCheck{well(name, "PortPools, PortPolicies and PortClaims are served in %s", v1alpha1.GroupVersion())}
}

// pools looks for pools that are not what their owner thinks.
func (d *installation) pools(ctx context.Context) []report.DoctorCheck {
	const name = "pools and policies"
	text, err := d.Discovery().RESTClient().Get().AbsPath("/apis/" + v1alpha1.GroupVersion().String() + "/portpools").DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "the API server does not know PortPools"}}
	}
	if err != nil {
		return unread(name, "PortPools", err)
	}
	var list v1alpha1.PortPoolList
	if err := json.Unmarshal(text, &list); err != nil {
		return unread(name, "PortPools", err)
	}
	var checks []report.DoctorCheck
	for _, p := range list.Items {
		for _, c := range p.Status.Conditions {
			fix := "portcullis pool status " + p.Name + ", and kubectl describe portpool " + p.Name
			switch {
			case c.Type == "Accepted" && c.Status == metav1.ConditionFalse:
				checks = append(checks, broken(name, fix, "PortPool %s has no effect: %s", p.Name, c.Message))
			case c.Type == "Overlapping" && c.Status == metav1.ConditionTrue:
				checks = append(checks, warned(name, fix, "PortPool %s overlaps others: %s", p.Name, c.Message))
			}
		}
	}
	if len(checks) == 0 {
		return []report.DoctorCheck{well(name, "%d PortPools, none refused, none overlapping", len(list.Items))}
	}
	return checks
}

// rights asks what the webhook itself may do. Who asks needs the right to ask for others.
func (d *installation) rights(ctx context.Context) []report.DoctorCheck {
	const name = "rights"
	user := "system:serviceaccount:" + d.installedIn + ":" + d.service
	var lacks []string
	for _, a := range []authorizationv1.ResourceAttributes{
		{Verb: "watch", Resource: "services"}, {Verb: "watch", Resource: "pods"}, {Verb: "watch", Resource: "nodes"}, {Verb: "watch", Resource: "namespaces"},
		{Verb: "watch", Group: "apps", Resource: "deployments"}, {Verb: "watch", Group: "apps", Resource: "daemonsets"}, {Verb: "watch", Group: "batch", Resource: "jobs"},
		{Verb: "watch", Group: v1alpha1.GroupVersion().Group, Resource: "portpools"}, {Verb: "create", Group: v1alpha1.GroupVersion().Group, Resource: "portclaims"},
		{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: d.installedIn, Name: d.service},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &a,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + d.installedIn, "system:authenticated"}}}
		answer, err := d.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return unread(name, "what "+user+" may do", err)
		}
		if !answer.Status.Allowed {
			lacks = append(lacks, a.Verb+" "+a.Resource)
		}
	}
	if len(lacks) > 0 {
		return []report.DoctorCheck{broken(name, "kubectl apply -k config/rbac", "%s may not %s, so that the webhook never becomes ready, or writes nothing", user, strings.Join(lacks, ", "))}
	}
	return []report.DoctorCheck{well(name, "%s may do what the webhook does", user)}
}

// configuration looks at the configuration file, and compares its range with that of the API server.
func (d *installation) configuration(ctx context.Context) []report.DoctorCheck {
	const name = "configuration"
	var data []byte
	from := d.ConfigFile
	if from != "" {
		var err error
		if data, err = os.ReadFile(from); err != nil {
			return []report.DoctorCheck{broken(name, "name another file", "reading it: %v", err)}
		}
	} else {
		from = "ConfigMap " + d.installedIn + "/" + d.service
		m, err := d.CoreV1().ConfigMaps(d.installedIn).Get(ctx, d.service, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return unread(name, from, err)
		}
		for _, text := range m.Data {
			data = []byte(text)
		}
	}
	c, err := configv1alpha1.Load(data)
	var settings *extract.Settings
	if err == nil {
		settings, err = extract.NewSettings(c)
	}
	if err != nil {
		return []report.DoctorCheck{broken(name, "correct it, then kubectl -n "+d.installedIn+" rollout restart deployment/"+d.service, "%s: %v", from, err)}
	}
	return append([]report.DoctorCheck{well(name, "%s is valid", from)}, d.nodePortRange(ctx, settings))
}

// nodePortRange asks for a number that no API server gives: its refusal names the range.
func (d *installation) nodePortRange(ctx context.Context, settings *extract.Settings) report.DoctorCheck {
	const name = "node port range"
	probe := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-doctor"}}
	probe.Spec.Type, probe.Spec.Ports = corev1.ServiceTypeNodePort, []corev1.ServicePort{{Port: 1, NodePort: -1}}
	_, err := d.CoreV1().Services(d.probeNamespace).Create(ctx, probe, metav1.CreateOptions{})
	if err == nil || !apierrors.IsInvalid(err) {
		return unread(name, "the API server's range by a Service in "+d.probeNamespace+" that cannot be", err)[0]
	}
	found := regexp.MustCompile(`range of valid ports is (\d+-\d+)`).FindStringSubmatch(err.Error())
	if found == nil {
		return report.DoctorCheck{Name: name, Status: report.DoctorNotChecked, Message: inOneLine("the API server did not tell its range: %v", []any{err})}
	}
	if ours := settings.Check.NodePortRange.String(); ours != found[1] {
		return broken(name, "write nodePortRange: "+found[1]+" into the configuration", "nodePortRange is %s, and the API server gives out %s: what the webhook refuses or offers is wrong", ours, found[1])
	}
	return well(name, "%s, as the API server's", found[1])
}

// endToEnd has the API server ask the webhook about a dry run that must be refused.
func (d *installation) endToEnd(ctx context.Context) []report.DoctorCheck {
	const name = "end to end"
	_, err := d.AppsV1().Deployments(d.probeNamespace).Create(ctx, arming.NewProbe(d.probeNamespace), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	fix := "see the checks above; kubectl -n " + d.installedIn + " logs deployment/" + d.service
	switch {
	case err == nil:
		return []report.DoctorCheck{broken(name, fix, "a dry run that must be refused was let through: the API server does not ask the webhook, or goes on without its answer")}
	case arming.RejectedBy(err) == arming.OwnWebhook:
		return []report.DoctorCheck{well(name, "a dry run that must be refused was refused by the webhook")}
	case apierrors.IsForbidden(err) && arming.RejectedBy(err) == "":
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "you may not create Deployments in " + d.probeNamespace + ", not even on a dry run",
			Fix: "kubectl create rolebinding, or another --probe-namespace"}}
	case strings.Contains(err.Error(), "failed calling webhook"):
		return []report.DoctorCheck{broken(name, fix+"; to let everything pass meanwhile: portcullis break-glass", "the API server cannot ask the webhook: %v", err)}
	case arming.RejectedBy(err) != "":
		return []report.DoctorCheck{broken(name, "exempt the Deployment "+d.probeNamespace+"/portcullis-probe from it", "%s refuses the dry run before the webhook is asked, so that it cannot arm: %v", arming.RejectedBy(err), err)}
	default:
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: inOneLine("somebody else refused the dry run: %v", []any{err})}}
	}
}
