package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// site is a cluster to install in. It has controllers, but no node: the webhook's pods are made and stay pending.
type site struct {
	*controlplane.ControlPlane
	client.Client
	now, before string          // folders with config/: as it is, and as it was when it was last changed
	env         []string        // of commands
	had         map[string]bool // validating hooks of the version before
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{ControlPlane: controlplane.Run(t, controlplane.Options{ControllerManager: true})}
	var err error
	if s.Client, err = client.New(s.RESTConfig(), client.Options{}); err != nil {
		t.Fatal(err)
	}
	programs, err := binaries.Ensure(t.Context(), binaries.Options{}, binaries.Kubectl, binaries.Helm)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	kubeconfig := filepath.Join(home, "kubeconfig")
	if err := s.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(), "HOME="+home, "KUBECONFIG="+kubeconfig, "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home,
		"PATH="+filepath.Dir(programs.Path(binaries.Kubectl))+":"+filepath.Dir(programs.Path(binaries.Helm))+":"+os.Getenv("PATH"))
	s.now, s.before = t.TempDir(), previous(t)
	here, err := filepath.Abs(config)
	if err == nil {
		err = errors.Join(os.Symlink(here, filepath.Join(s.now, "config")), os.WriteFile(filepath.Join(s.now, "ca.crt"), s.RESTConfig().CAData, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// previous returns a folder with config/ as it was in the newest commit in which it was another. Where the history is too
// short for that, as in a shallow clone, it is what is there, and an upgrade is one to itself.
func previous(t *testing.T) string {
	t.Helper()
	git := func(args ...string) ([]byte, error) {
		return exec.CommandContext(t.Context(), "git", append([]string{"-C", "../../.."}, args...)...).Output()
	}
	log, err := git("log", "--format=%H", "--", "config")
	if err != nil {
		t.Fatalf("the previous version is in git, which does not tell: %v", err)
	}
	for commit := range strings.FieldsSeq(string(log)) {
		if _, err := git("diff", "--quiet", commit, "--", "config"); err == nil {
			continue
		}
		dir := t.TempDir()
		archive, err := git("archive", "--format=tar", commit, "config")
		if err != nil {
			t.Fatal(err)
		}
		tar := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
		tar.Stdin = strings.NewReader(string(archive))
		if err := tar.Run(); err != nil {
			t.Fatal(err)
		}
		t.Logf("the previous version is of commit %.12s", commit)
		return dir
	}
	t.Log("the history has no other version of config: upgrades are from the present one")
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "config"), os.DirFS(config)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs commands as a user types them, in a folder with config/, and returns what they say.
func (s *site) run(t *testing.T, dir, script string) string {
	t.Helper()
	out, err := s.try(t, dir, script)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	return out
}

func (s *site) try(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euc", script)
	cmd.WaitDelay = time.Second // its children hold its output
	cmd.Dir, cmd.Env = dir, s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return string(out), err
}

// work is what a running replica leaves in the cluster: its authority in a Secret and in both configurations, armed. A pool
// is a user's.
func (s *site) work(t *testing.T) {
	t.Helper()
	as := client.FieldOwner("portcullis") // who runs by that name
	mutating, validating := s.registrations(t)
	for i := range mutating.Webhooks {
		mutating.Webhooks[i].ClientConfig.CABundle = s.RESTConfig().CAData
	}
	fail := admissionregistrationv1.Fail
	s.had = map[string]bool{}
	for i := range validating.Webhooks {
		s.had[validating.Webhooks[i].Name] = true
		validating.Webhooks[i].ClientConfig.CABundle, validating.Webhooks[i].FailurePolicy = s.RESTConfig().CAData, &fail
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-ca", Namespace: namespace}, StringData: map[string]string{"tls.crt": "of the webhook"}}
	if err := errors.Join(s.Update(t.Context(), mutating, as), s.Update(t.Context(), validating, as), s.Create(t.Context(), secret, as)); err != nil {
		t.Fatal(err)
	}
	s.established(t)
	s.run(t, s.now, "kubectl apply -f config/samples/pools/01-team.yaml")
}

// callBelow is the webhook that writes a secret segment into the paths.
func (s *site) callBelow(t *testing.T, segment string) {
	t.Helper()
	mutating, validating := s.registrations(t)
	for _, path := range pathsOf(mutating, validating) {
		*path = segment + *path
	}
	as := client.FieldOwner("portcullis")
	if err := errors.Join(s.Update(t.Context(), mutating, as), s.Update(t.Context(), validating, as)); err != nil {
		t.Fatal(err)
	}
}

func pathsOf(mutating *admissionregistrationv1.MutatingWebhookConfiguration, validating *admissionregistrationv1.ValidatingWebhookConfiguration) []*string {
	var all []*string
	for _, h := range mutating.Webhooks {
		all = append(all, h.ClientConfig.Service.Path)
	}
	for _, h := range validating.Webhooks {
		all = append(all, h.ClientConfig.Service.Path)
	}
	return all
}

// established waits until the API server serves our kinds. One that is deleted before can take it minutes to let go of.
func (s *site) established(t *testing.T) {
	t.Helper()
	s.run(t, s.now, "kubectl wait --for=condition=Established --timeout=60s crd --selector app.kubernetes.io/part-of=portcullis")
	s.run(t, s.now, "for kind in portpools portpolicies portclaims; do until kubectl get $kind; do sleep 0.2; done; done")
}

func (s *site) registrations(t *testing.T) (*admissionregistrationv1.MutatingWebhookConfiguration, *admissionregistrationv1.ValidatingWebhookConfiguration) {
	t.Helper()
	mutating, validating := &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}
	name := client.ObjectKey{Name: "portcullis"}
	if err := errors.Join(s.Get(t.Context(), name, mutating), s.Get(t.Context(), name, validating)); err != nil {
		t.Fatal(err)
	}
	return mutating, validating
}

// holdInstalled holds what an installation, or an upgrade, must give: the present Deployment and its pods, which the
// namespace, its quota and its Pod Security let in.
func (s *site) holdInstalled(t *testing.T) {
	t.Helper()
	want := one[*appsv1.Deployment](t, overlay(t), "Deployment/"+namespace+"/portcullis").Spec.Template.Spec.Containers[0].Image
	poll.Until(t, func(ctx context.Context) error {
		var pods corev1.PodList
		if err := s.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/name": "portcullis"}); err != nil {
			return err
		}
		n := 0
		for _, p := range pods.Items {
			if c := p.Spec.Containers[0]; c.Image == want && slices.Contains(c.Args, "serve") && len(c.Env) >= 3 {
				n++
			}
		}
		if n == 0 {
			return fmt.Errorf("of %d pods none is of the present version", len(pods.Items))
		}
		return nil
	})
}

// holdKept holds what an upgrade must leave, and what it makes of failurePolicy.
func (s *site) holdKept(t *testing.T, policy admissionregistrationv1.FailurePolicyType) {
	t.Helper()
	mutating, validating := s.registrations(t)
	for _, h := range mutating.Webhooks {
		if len(h.ClientConfig.CABundle) == 0 {
			t.Errorf("%s lost its caBundle", h.Name)
		}
	}
	for _, h := range validating.Webhooks {
		if !s.had[h.Name] {
			continue // a hook that is new in this version is as it ships until a replica has seen it
		}
		if len(h.ClientConfig.CABundle) == 0 || *h.FailurePolicy != policy {
			t.Errorf("%s: a caBundle of %d bytes and failurePolicy %s, want one and %s", h.Name, len(h.ClientConfig.CABundle), *h.FailurePolicy, policy)
		}
	}
	secret := &corev1.Secret{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "portcullis-ca"}, secret); err != nil || string(secret.Data["tls.crt"]) != "of the webhook" {
		t.Errorf("the webhook's authority: %v, %q", err, secret.Data)
	}
	s.run(t, s.now, "kubectl get -f config/samples/pools/01-team.yaml")
}

// admits tries a Service with a node port, as a dry run, which no hook lets through while the webhook is away and armed.
func (s *site) admits(ctx context.Context) error {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "anybody", Namespace: "default"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "anybody", Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}}}},
	}
	return errors.Join(s.Create(ctx, service, client.DryRunAll), s.Create(ctx, pod, client.DryRunAll))
}

// inventory is everything in the cluster, but for what comes and goes by itself.
func (s *site) inventory(ctx context.Context) (map[string]bool, error) {
	config := s.RESTConfig()
	config.WarningHandler = rest.NoWarnings{} // deprecated kinds are counted too
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	c, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	lists, err := d.ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, list := range lists {
		for _, r := range list.APIResources {
			gv, err := schema.ParseGroupVersion(list.GroupVersion)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(r.Verbs, "list") || slices.Contains([]string{"events", "leases", "componentstatuses"}, r.Name) {
				continue
			}
			found, err := c.Resource(gv.WithResource(r.Name)).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) {
				continue // a kind that has just gone
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
			for _, o := range found.Items {
				all[fmt.Sprintf("%s %s/%s", r.Name, o.Namespace, o.Name)] = true
			}
		}
	}
	return all, nil
}

// holdLeft waits until nothing is there that was not before, but for what the left match by a part of their names.
func (s *site) holdLeft(t *testing.T, before map[string]bool, left ...string) {
	t.Helper()
	poll.Until(t, func(ctx context.Context) error {
		after, err := s.inventory(ctx)
		if err != nil {
			return err
		}
		missing := slices.Clone(left)
		var extra []string
		for _, name := range slices.Sorted(maps.Keys(after)) {
			at := slices.IndexFunc(left, func(l string) bool { return strings.Contains(name, l) })
			switch {
			case before[name]:
			case at < 0:
				extra = append(extra, name)
			default:
				missing = slices.DeleteFunc(missing, func(l string) bool { return l == left[at] })
			}
		}
		if len(extra)+len(missing) > 0 {
			return fmt.Errorf("left are %q, and %q are gone", extra, missing)
		}
		return s.admits(ctx)
	})
}
