package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// Options says what to put up. The zero value is an API server on IPv4 with a replica of the default configuration that is
// armed, and no nodes.
type Options struct {
	ControlPlane controlplane.Options
	Kubelet      kubelet.Options
	Config       string   // the text of the webhook's configuration file; "" for one like that which ships
	Flags        []string // of the webhook; they win over those that the rig gives
	Unarmed      bool     // the webhook runs and the API server does not ask it yet
	// SelfArmed leaves the certificate and failurePolicy to the webhook, as an installation does; else they are the rig's.
	SelfArmed bool
	Say       func(format string, args ...any)
}

// shipped names the data plane, as the configuration in config/manager does.
const shipped = "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\ndataplane: {serviceProxy: iptables, hostPort: portmap-iptables}\n"

// Rig is a control plane with its nodes and the webhook in front.
type Rig struct {
	*controlplane.ControlPlane
	Kubelet *kubelet.Kubelet
	Webhook *Replica
	Client  kubernetes.Interface // may do everything
	dir     string
}

// Run puts up a rig for a test, and takes it down when the test ends.
func Run(tb testing.TB, o Options) *Rig {
	tb.Helper()
	r, err := Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() && r.Webhook != nil {
			if log, err := os.ReadFile(r.Webhook.LogFile()); err == nil {
				lines := strings.Split(strings.TrimSpace(string(log)), "\n")
				tb.Logf("the end of the webhook's log:\n%s", strings.Join(lines[max(0, len(lines)-30):], "\n"))
			}
		}
		r.Stop()
	})
	return r
}

// Start puts up a rig. The context bounds the start only.
func Start(ctx context.Context, o Options) (_ *Rig, err error) {
	say := o.Say
	if say == nil {
		say = func(string, ...any) {}
	}
	r := &Rig{}
	defer func() {
		if err != nil {
			r.Stop()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "portcullis-rig-"); err != nil {
		return nil, err
	}
	say("starting etcd and kube-apiserver")
	if r.ControlPlane, err = controlplane.Start(ctx, o.ControlPlane); err != nil {
		return nil, err
	}
	if r.Client, err = kubernetes.NewForConfig(r.RESTConfig()); err != nil {
		return nil, err
	}
	if len(o.Kubelet.Nodes) > 0 {
		say("registering %d nodes", len(o.Kubelet.Nodes))
		// The kubelet works until Stop, not until the start is over.
		if r.Kubelet, err = kubelet.Start(context.WithoutCancel(ctx), r.RESTConfig(), o.Kubelet); err != nil {
			return nil, err
		}
	}
	say("starting the webhook: portcullis serve")
	var flags []string
	if o.SelfArmed {
		flags = []string{"--cert-dir=", "--certificate-names=127.0.0.1", "--arm"}
	}
	if err := r.startReplica(ctx, o.Config, append(flags, o.Flags...)...); err != nil {
		return nil, err
	}
	if o.SelfArmed {
		say("registering it with failurePolicy Ignore; it switches to Fail after a self-test")
		return r, r.awaitSelfArmed(ctx)
	}
	if o.Unarmed {
		return r, nil
	}
	say("registering it with failurePolicy Fail")
	return r, r.Arm(ctx)
}

// Stop takes down everything that Start put up.
func (r *Rig) Stop() {
	if r.Webhook != nil {
		r.Webhook.Close()
	}
	if r.Kubelet != nil {
		r.Kubelet.Stop()
	}
	if r.ControlPlane != nil {
		r.ControlPlane.Stop()
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir) // a left-over in the temporary folder harms nobody
	}
}

// startGate gives the webhook the rights that ship in config/rbac, and runs it as the service account that they are for.
func (r *Rig) startReplica(ctx context.Context, config string, flags ...string) (err error) {
	if err := r.grant(ctx); err != nil {
		return err
	}
	r.Webhook, err = r.newReplica(ctx, r.dir, config, "", flags...)
	if err != nil {
		return err
	}
	return r.Webhook.Start(ctx)
}

// Replica runs one more replica for a test, with a configuration file's text, and ends it with the test. Nobody asks it
// yet.
func (r *Rig) Replica(tb testing.TB, config string) *Replica {
	tb.Helper()
	return r.ReplicaAt(tb, config, "")
}

// ReplicaAt is Replica with an API server of its own, "" for the first one, and flags that win over those that the rig gives.
func (r *Rig) ReplicaAt(tb testing.TB, config, host string, flags ...string) *Replica {
	tb.Helper()
	g, err := r.newReplica(tb.Context(), tb.TempDir(), config, host, flags...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(g.Close)
	if err := g.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return g
}

func (r *Rig) newReplica(ctx context.Context, dir, config, host string, flags ...string) (*Replica, error) {
	as, err := r.RESTConfigFor(Account, "system:serviceaccounts", "system:serviceaccounts:portcullis-system", "system:authenticated")
	if err != nil {
		return nil, err
	}
	if host != "" {
		as.Host = host
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, as, ""); err != nil {
		return nil, err
	}
	return NewReplica(ctx, dir, cmp.Or(config, shipped), kubeconfig, flags...)
}

// grant installs the kinds and the rights that ship.
func (r *Rig) grant(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-system"}}
	if _, err := r.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	return errors.Join(Install(ctx, r.RESTConfig(), "crd/bases"), Install(ctx, r.RESTConfig(), "rbac"))
}

// Registration is what ships, but that the API server reaches the webhook at a URL, and that it is armed.
func (r *Rig) Registration() hooks.Options { return r.Webhook.Registration() }

// Registration is what ships, but that the API server reaches this replica at a URL, and that it is armed.
func (r *Replica) Registration() hooks.Options {
	registration := hooks.Shipped()
	registration.ClientConfig = hooks.URLClient(r.URL(), r.CA)
	registration.FailurePolicy = admissionregistrationv1.Fail
	return registration
}

// Arm registers the hooks and returns when the API server asks them.
func (r *Rig) Arm(ctx context.Context) error {
	admission := r.Client.AdmissionregistrationV1()
	mutating, validating := hooks.Mutating(r.Registration()), hooks.Validating(r.Registration())
	if _, err := admission.MutatingWebhookConfigurations().Create(ctx, mutating, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := admission.ValidatingWebhookConfigurations().Create(ctx, validating, metav1.CreateOptions{}); err != nil {
		return err
	}
	return r.awaitArmed(ctx)
}

// awaitSelfArmed registers the hooks as they ship, but for the URL, and returns when the webhook has armed them.
func (r *Rig) awaitSelfArmed(ctx context.Context) error {
	registration := hooks.Shipped()
	registration.ClientConfig = hooks.URLClient(r.Webhook.URL(), nil)
	admission := r.Client.AdmissionregistrationV1()
	if _, err := admission.MutatingWebhookConfigurations().Create(ctx, hooks.Mutating(registration), metav1.CreateOptions{}); err != nil {
		return err
	}
	configurations := admission.ValidatingWebhookConfigurations()
	if _, err := configurations.Create(ctx, hooks.Validating(registration), metav1.CreateOptions{}); err != nil {
		return err
	}
	err := poll.Wait(ctx, func(ctx context.Context) error {
		c, err := configurations.Get(ctx, hooks.ConfigurationName, metav1.GetOptions{})
		if err == nil && *c.Webhooks[0].FailurePolicy != admissionregistrationv1.Fail {
			err = errors.New("failurePolicy is still Ignore")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the webhook has not armed itself: %w", err)
	}
	return r.awaitArmed(ctx)
}

// awaitArmed asks for what each configuration alone refuses, until it is refused: a dry run of a Service whose number
// only the mutating hook refuses in our words, and of a template, which only a validating hook sees.
func (r *Rig) awaitArmed(ctx context.Context) error {
	err := poll.Wait(ctx, func(ctx context.Context) error {
		services, workloads := r.probeService(ctx), r.probeWorkload(ctx)
		if isOurs(services) && isOurs(workloads) {
			return nil
		}
		return errors.Join(errors.New("the probes were not refused by the webhook"), services, workloads)
	})
	if err != nil {
		return fmt.Errorf("the API server does not ask the webhook: %w", err)
	}
	return nil
}

func (r *Rig) probeService(ctx context.Context) error { return r.probeServiceIn(ctx, "default") }

func (r *Rig) probeServiceIn(ctx context.Context, namespace string) error {
	probe := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-probe"}}
	probe.Spec.Type = corev1.ServiceTypeNodePort
	probe.Spec.Ports = []corev1.ServicePort{{Port: 80, NodePort: 1}}
	_, err := r.Client.CoreV1().Services(namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func (r *Rig) probeWorkload(ctx context.Context) error {
	labels := map[string]string{"app": "portcullis-probe"}
	probe := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-probe"}}
	probe.Spec.Selector = labels
	probe.Spec.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
	probe.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "probe", Image: "probe", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, HostIP: "probe"}},
	}}
	_, err := r.Client.CoreV1().ReplicationControllers("default").Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func isOurs(err error) bool {
	return apierrors.IsInvalid(err) && strings.Contains(err.Error(), hooks.Suffix)
}
