package operations

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const namespace = "portcullis-system"

// healthy makes of a rig what an installation has: a Deployment whose replicas are ready, a Service with endpoints, and what
// else belongs to it. Nobody but the test says that the replicas are ready.
func healthy(t *testing.T, r *rig.Rig) {
	t.Helper()
	ctx := t.Context()
	labels := map[string]string{"app.kubernetes.io/name": "portcullis"}
	meta := metav1.ObjectMeta{Name: "portcullis", Namespace: namespace}
	deployment := &appsv1.Deployment{ObjectMeta: meta}
	deployment.Spec.Replicas = new(int32(2))
	deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	deployment.Spec.Template.Labels = labels
	deployment.Spec.Template.Spec.Containers = []corev1.Container{{Name: "portcullis", Image: "portcullis:1"}}
	service := &corev1.Service{ObjectMeta: meta}
	service.Spec.Ports = []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt32(9443)}}
	endpoints := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "portcullis-1", Namespace: namespace, Labels: map[string]string{"kubernetes.io/service-name": "portcullis"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.1.1"}}, {Addresses: []string{"10.1.1.2"}}},
	}
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta}
	budget.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	budget.Spec.MinAvailable = new(intstr.FromInt32(1))
	var errs []error
	note := func(_ any, err error) { errs = append(errs, err) }
	created, err := r.Client.AppsV1().Deployments(namespace).Create(ctx, deployment, metav1.CreateOptions{})
	errs = append(errs, err)
	created.Status = appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2, ObservedGeneration: created.Generation}
	note(r.Client.AppsV1().Deployments(namespace).UpdateStatus(ctx, created, metav1.UpdateOptions{}))
	note(r.Client.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{}))
	note(r.Client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, endpoints, metav1.CreateOptions{}))
	note(r.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(ctx, budget, metav1.CreateOptions{}))
	note(r.Client.CoreV1().ConfigMaps(namespace).Create(ctx, configMap(""), metav1.CreateOptions{}))
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func configMap(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "portcullis", Namespace: namespace}, Data: map[string]string{
		"config.yaml": "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\n" + text,
	}}
}

// breakage is one thing that is broken, and mended again.
type breakage struct {
	why  string
	do   func(context.Context, *rig.Rig) error
	undo func(context.Context, *rig.Rig) error
	want []string // what is told of it
	fix  string   // what the fix names
}

// validating changes the ValidatingWebhookConfiguration.
func validating(change func(*admissionregistrationv1.ValidatingWebhookConfiguration)) func(context.Context, *rig.Rig) error {
	return func(ctx context.Context, r *rig.Rig) error {
		c, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(c)
		_, err = r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(ctx, c, metav1.UpdateOptions{})
		return err
	}
}

// asShipped puts it back.
func asShipped(ctx context.Context, r *rig.Rig) error {
	return validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
		c.Webhooks = hooks.Validating(r.Registration()).Webhooks
	})(ctx, r)
}

func config(text string) func(context.Context, *rig.Rig) error {
	return func(ctx context.Context, r *rig.Rig) error {
		_, err := r.Client.CoreV1().ConfigMaps(namespace).Update(ctx, configMap(text), metav1.UpdateOptions{})
		return err
	}
}

func ready(n int32) func(context.Context, *rig.Rig) error {
	return func(ctx context.Context, r *rig.Rig) error {
		d, err := r.Client.AppsV1().Deployments(namespace).Get(ctx, "portcullis", metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Status.ReadyReplicas, d.Status.AvailableReplicas = n, n
		_, err = r.Client.AppsV1().Deployments(namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{})
		return err
	}
}

func endpointsReady(ready bool) func(context.Context, *rig.Rig) error {
	return func(ctx context.Context, r *rig.Rig) error {
		s, err := r.Client.DiscoveryV1().EndpointSlices(namespace).Get(ctx, "portcullis-1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for i := range s.Endpoints {
			s.Endpoints[i].Conditions.Ready = &ready
		}
		_, err = r.Client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, s, metav1.UpdateOptions{})
		return err
	}
}

// endedLease is that of a leader that died an hour ago.
func endedLease(ctx context.Context, r *rig.Rig) error {
	l, err := r.Client.CoordinationV1().Leases(namespace).Get(ctx, "portcullis", metav1.GetOptions{})
	if err != nil {
		return err
	}
	l.Spec.HolderIdentity, l.Spec.RenewTime = new("portcullis-1"), new(metav1.NewMicroTime(time.Now().Add(-time.Hour)))
	_, err = r.Client.CoordinationV1().Leases(namespace).Update(ctx, l, metav1.UpdateOptions{})
	return err
}

func withoutSecret(ctx context.Context, r *rig.Rig) error {
	return r.Client.CoreV1().Secrets(namespace).Delete(ctx, "portcullis-ca", metav1.DeleteOptions{})
}

// otherCA is a certificate that has nothing to do with the webhook.
func otherCA() []byte {
	certificate, _, err := cert.GenerateSelfSignedCertKey("elsewhere", nil, nil)
	if err != nil {
		panic(err) // there is no randomness left
	}
	return certificate
}

func pool(ctx context.Context, r *rig.Rig, name string) error {
	body := `{"apiVersion": "portcullis.dev/v1alpha1", "kind": "PortPool", "metadata": {"name": "` + name + `"}, "spec": {"ranges": [{"port": 30100}], "namespaceSelector": {}}}`
	return r.Client.Discovery().RESTClient().Post().AbsPath("/apis/portcullis.dev/v1alpha1/portpools").SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error()
}

func breakages() []breakage {
	remove := metav1.DeleteOptions{}
	return []breakage{
		{"a hook with other rules", validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) { c.Webhooks[0].MatchConditions = nil }), asShipped,
			[]string{"problem: webhook configurations"}, "kubectl apply -k config/default"},
		{"a hook is missing", validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) { c.Webhooks = c.Webhooks[:3] }), asShipped,
			[]string{"problem: webhook configurations"}, "kubectl apply -k config/default"},
		{"no caBundle", validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[1].ClientConfig.CABundle = nil
		}), asShipped,
			[]string{"problem: CA bundle"}, "caBundle"},
		{"Ignore", validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			for i := range c.Webhooks {
				c.Webhooks[i].FailurePolicy = new(admissionregistrationv1.Ignore)
			}
		}), asShipped, []string{"warning: failure policy"}, "--arm"},
		{"kube-system is judged", validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].NamespaceSelector = &metav1.LabelSelector{}
		}), asShipped, []string{"problem: namespaces"}, "NotIn"},
		{"long timeouts", validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			c.Webhooks[0].TimeoutSeconds = new(int32(30))
		}), asShipped,
			[]string{"problem: webhook configurations", "warning: timeouts"}, "kubectl apply"},
		{"one replica", ready(1), ready(2), []string{"problem: Deployment", "warning: failure policy"}, "kubectl -n portcullis-system"},
		{"no endpoints", endpointsReady(false), endpointsReady(true), []string{"problem: Service"}, "get pods,endpointslices"},
		{"no budget", func(ctx context.Context, r *rig.Rig) error {
			return r.Client.PolicyV1().PodDisruptionBudgets(namespace).Delete(ctx, "portcullis", remove)
		}, func(ctx context.Context, r *rig.Rig) error {
			b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "portcullis", Namespace: namespace}}
			b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "portcullis"}}
			b.Spec.MinAvailable = new(intstr.FromInt32(1))
			_, err := r.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(ctx, b, metav1.CreateOptions{})
			return err
		}, []string{"warning: PodDisruptionBudget"}, "kubectl apply"},
		{"a policy that lets nobody in", func(ctx context.Context, r *rig.Rig) error {
			p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "deny", Namespace: namespace}}
			p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			_, err := r.Client.NetworkingV1().NetworkPolicies(namespace).Create(ctx, p, metav1.CreateOptions{})
			return err
		}, func(ctx context.Context, r *rig.Rig) error {
			return r.Client.NetworkingV1().NetworkPolicies(namespace).Delete(ctx, "deny", remove)
		}, []string{"warning: NetworkPolicies"}, "9443"},
		{"another CA", validating(func(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
			for i := range c.Webhooks {
				c.Webhooks[i].ClientConfig.CABundle = otherCA()
			}
		}), asShipped, []string{"problem: CA bundle", "problem: end to end"}, "caBundle"},
		{"an authority that is none", func(ctx context.Context, r *rig.Rig) error {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-ca", Namespace: namespace}, Data: map[string][]byte{"tls.crt": []byte("none")}}
			_, err := r.Client.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{})
			return err
		}, withoutSecret, []string{"problem: certificate authority"}, "delete secret"},
		{"an authority that nobody trusts", func(ctx context.Context, r *rig.Rig) error {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-ca", Namespace: namespace}, Data: map[string][]byte{"tls.crt": otherCA()}}
			_, err := r.Client.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{})
			return err
		}, withoutSecret, []string{"problem: certificate authority"}, "log of the leader"},
		{"pools that overlap", func(ctx context.Context, r *rig.Rig) error {
			return errors.Join(pool(ctx, r, "one"), pool(ctx, r, "two"))
		}, func(ctx context.Context, r *rig.Rig) error {
			return r.Client.Discovery().RESTClient().Delete().AbsPath("/apis/portcullis.dev/v1alpha1/portpools").Do(ctx).Error()
		}, []string{"problem: pools and policies", "warning: pools and policies", "warning: pools and policies"}, "portcullis pool status"},
		{"a wrong configuration", config("nodeports: 1"), config(""), []string{"problem: configuration"}, "rollout restart"},
		{"another range", config("nodePortRange: 30000-31000"), config(""), []string{"problem: node port range"}, "nodePortRange: 30000-32767"},
		{"another one's slow hook", func(ctx context.Context, r *rig.Rig) error {
			c := hooks.Validating(r.Registration())
			c.Name, c.Webhooks = "other", c.Webhooks[:1]
			c.Webhooks[0].Name, c.Webhooks[0].TimeoutSeconds = "slow.example.org", new(int32(30))
			c.Webhooks[0].ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "has"}}
			_, err := r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, c, metav1.CreateOptions{})
			return err
		}, func(ctx context.Context, r *rig.Rig) error {
			return r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, "other", remove)
		}, []string{"warning: other webhooks"}, "timeoutSeconds"},
		{"no right to read Services", func(ctx context.Context, r *rig.Rig) error {
			return r.Client.RbacV1().ClusterRoleBindings().Delete(ctx, "portcullis", remove)
		}, func(ctx context.Context, r *rig.Rig) error { return rig.Install(ctx, r.RESTConfig(), "rbac") }, []string{"problem: rights"}, "config/rbac"},
		{"no Deployment", func(ctx context.Context, r *rig.Rig) error {
			return r.Client.AppsV1().Deployments(namespace).Delete(ctx, "portcullis", remove)
		}, nil, []string{"problem: Deployment"}, "kubectl apply"},
		{"no Service", func(ctx context.Context, r *rig.Rig) error {
			return r.Client.CoreV1().Services(namespace).Delete(ctx, "portcullis", remove)
		}, nil, []string{"problem: Deployment", "problem: Service"}, "kubectl apply"},
		{"no replica", func(_ context.Context, r *rig.Rig) error { r.Webhook.Stop(); return nil }, nil,
			[]string{"problem: Deployment", "problem: Service", "problem: end to end", "problem: leader"}, "break-glass"},
		{"the leader is dead", endedLease, nil, []string{"problem: Deployment", "problem: Service", "problem: end to end", "problem: leader"}, "log"},
		{"no webhook configuration", func(ctx context.Context, r *rig.Rig) error {
			return r.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, hooks.ConfigurationName, remove)
		}, nil, []string{"problem: Deployment", "problem: Service", "problem: end to end", "problem: leader", "problem: webhook configurations"}, "kubectl apply"},
	}
}

// TestDoctor is what doctor says of one installation: the breakages come last, for some of them are not mended.
func TestDoctor(t *testing.T) {
	t.Parallel()
	r := rig.Run(t, rig.Options{})
	t.Run("nobody", func(t *testing.T) { testNobody(t, r) })
	t.Run("breakages", func(t *testing.T) { testBreakages(t, r) })
}

// testBreakages: of a healthy installation nothing is told; of each breakage just what is broken, and what to do.
func testBreakages(t *testing.T, r *rig.Rig) {
	healthy(t, r)
	if found, code := examine(t, r); len(ill(found)) > 0 || code != 0 {
		t.Fatalf("a healthy installation, exit code %d:\n%s", code, told(found))
	}
	for _, b := range breakages() {
		if err := b.do(t.Context(), r); err != nil {
			t.Fatalf("%s: %v", b.why, err)
		}
		found := &report.DoctorReport{}
		// The API server takes a moment to see a changed configuration or right.
		poll.Until(t, func(context.Context) error {
			found, _ = examine(t, r)
			if diff := cmp.Diff(b.want, ill(found)); diff != "" {
				return &breakageError{b.why, diff, told(found)}
			}
			return nil
		})
		if b.fix != "" && !slices.ContainsFunc(found.Checks, func(c report.DoctorCheck) bool { return c.Status != report.DoctorOK && strings.Contains(c.Fix, b.fix) }) {
			t.Errorf("%s: no fix says %q:\n%s", b.why, b.fix, told(found))
		}
		if b.undo == nil {
			continue
		}
		if err := b.undo(t.Context(), r); err != nil {
			t.Fatalf("%s, mended: %v", b.why, err)
		}
	}
}

type breakageError struct{ why, diff, told string }

func (e *breakageError) Error() string { return e.why + " (-want +got):\n" + e.diff + e.told }

// testNobody: who may read nothing is told what was not checked, and nothing as broken.
func testNobody(t *testing.T, r *rig.Rig) {
	as, err := r.RESTConfigFor("nobody", "system:authenticated")
	if err != nil {
		t.Fatal(err)
	}
	k := clientcmdapi.NewConfig()
	k.Clusters["c"] = &clientcmdapi.Cluster{Server: as.Host, CertificateAuthorityData: as.CAData}
	k.AuthInfos["c"] = &clientcmdapi.AuthInfo{ClientCertificateData: as.CertData, ClientKeyData: as.KeyData}
	k.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	k.CurrentContext = "c"
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*k, kubeconfig); err != nil {
		t.Fatal(err)
	}
	out, errs, code := runOn(t, r, "doctor", "--kubeconfig", kubeconfig)
	if code != 0 || !strings.Contains(out, "0 problems") || !strings.Contains(out, "you may not read the webhook configurations") || errs != "" {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if _, errs, code = runOn(t, r, "doctor", "--kubeconfig", os.DevNull); code != 2 || !strings.Contains(errs, "--kubeconfig") {
		t.Errorf("without a cluster: exit code %d, %s", code, errs)
	}
}
