package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// TestUpgrade does on a real API server what docs/install.md says, by its own commands: installs the previous version,
// upgrades it while the webhook is armed, uninstalls. TestInstall does the rest on another one, at the same time.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before, err := s.inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var (
		kubectl, kustomize, helm = commands(t, "kubectl")[0], commands(t, "kustomize")[0], commands(t, "Helm")
		upgrade, uninstall       = commands(t, "Upgrade"), commands(t, "Uninstall")
		clientSide               = strings.NewReplacer(" --server-side", "", " --force-conflicts", "")
		kept                     = []string{"customresourcedefinitions ", "apiservices /v1alpha1.portcullis.dev", "portpools "}
		// What the previous version is installed by where it has no install.yaml, no chart.
		old = func(file, script string) string {
			if _, err := os.Stat(filepath.Join(s.before, "config", file)); err == nil {
				return script
			}
			t.Logf("the previous version has no config/%s: it is installed from config/default", file)
			return clientSide.Replace(kustomize)
		}
		chartOrNot = helm[1] // takes over what was installed in another way
	)
	if old("chart", helm[0]) == helm[0] {
		chartOrNot = upgrade[2]
	}
	const fail, ignore = admissionregistrationv1.Fail, admissionregistrationv1.Ignore
	// The three doors; the ways from one to another take minutes and are soaked.
	const doors = 3
	paths := []struct {
		name      string
		previous  string // run in the folder of the previous version
		upgrade   string
		policy    admissionregistrationv1.FailurePolicyType // what the upgrade makes of Fail
		uninstall string
		left      []string
		purge     string
	}{
		{"kubectl", old("install.yaml", kubectl), upgrade[0], ignore, uninstall[1], nil, ""},
		{"kustomize", kustomize, upgrade[1], ignore, uninstall[2], nil, ""},
		{"Helm", old("chart", helm[0]), chartOrNot, fail, uninstall[0], kept, uninstall[4]},
		{"kubectl, client-side", clientSide.Replace(old("install.yaml", kubectl)), clientSide.Replace(upgrade[0]), ignore, uninstall[1], nil, ""},
		{"kubectl, client-side and then server-side", clientSide.Replace(kustomize), upgrade[0], ignore, uninstall[1], nil, ""},
		{"kubectl, keeping the pools", kustomize, upgrade[1], ignore, uninstall[3], kept, uninstall[4]},
		{"kubectl and then Helm", clientSide.Replace(kustomize), helm[1], fail, uninstall[0], kept, uninstall[4]},
	}
	if !seed.Soaking() {
		paths = paths[:doors]
	}
	for _, c := range paths {
		t.Run(c.name, func(t *testing.T) {
			s.run(t, s.before, c.previous)
			s.work(t)
			poll.Until(t, func(ctx context.Context) error { // armed, and nobody there: the hooks must be felt for this to prove anything
				if err := s.admits(ctx); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
					return errors.Join(errors.New("the hooks are not asked"), err)
				}
				return nil
			})
			s.run(t, s.now, c.upgrade)
			s.holdInstalled(t)
			s.holdKept(t, c.policy)
			s.run(t, s.now, c.upgrade) // again, with nothing new
			s.holdKept(t, c.policy)
			s.run(t, s.now, c.uninstall)
			s.holdLeft(t, before, c.left...)
			if c.purge != "" {
				s.run(t, s.now, c.purge)
				s.holdLeft(t, before)
			}
		})
	}
}

// TestInstall does what docs/install.md says where nothing is installed yet.
func TestInstall(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.run(t, s.now, "kubectl kustomize config/default"); got != string(built(t, "default")) {
		t.Error("kubectl makes something else of config/default than what config/install.yaml is built by")
	}
	before, err := s.inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("from nothing", func(t *testing.T) { s.testFromNothing(t, before) })
	t.Run("Helm, what it changes of an armed webhook", s.testHelm)
	t.Run("order of Helm's uninstall", s.testOrder)
}

// testFromNothing installs the present version in every way that the document shows.
func (s *site) testFromNothing(t *testing.T, before map[string]bool) {
	remove, purge := commands(t, "Uninstall")[0], commands(t, "Uninstall")[4]
	for _, c := range []struct{ install, uninstall string }{
		{commands(t, "kubectl")[0], commands(t, "Uninstall")[1]},
		{commands(t, "kustomize")[0], commands(t, "Uninstall")[2]},
		{commands(t, "Helm")[0], remove + purge},
		{commands(t, "Certificates")[0], remove + purge},
		{commands(t, "High availability")[0], remove + purge},
	} {
		s.run(t, s.now, c.install)
		s.holdInstalled(t)
		if err := s.admits(t.Context()); err != nil {
			t.Errorf("%s\nbefore any replica is there nothing must be refused: %v", c.install, err)
		}
		s.established(t)
		s.run(t, s.now, c.uninstall)
		s.holdLeft(t, before)
	}
}

// testHelm: whose failurePolicy and path they are, and that Helm says so.
func (s *site) testHelm(t *testing.T) {
	install, upgrade := commands(t, "Helm")[0], strings.TrimSpace(commands(t, "Upgrade")[2])
	s.run(t, s.now, install)
	s.work(t)
	s.callBelow(t, "/00112233445566778899aabbccddeeff")
	for _, flag := range []string{" --set webhook.secretPath=true", ""} { // it is the webhook that takes the segment away
		s.run(t, s.now, upgrade+flag)
		mutating, validating := s.registrations(t)
		if paths := pathsOf(mutating, validating); slices.ContainsFunc(paths, func(p *string) bool { return !strings.HasPrefix(*p, "/00112233445566778899aabbccddeeff/") }) {
			t.Errorf("after an upgrade with%s the hooks are called at other paths: %v", flag, validating.Webhooks)
		}
	}
	if out, err := s.try(t, s.now, upgrade+" --set arm=false"); err == nil || !strings.Contains(out, "conflict") || !strings.Contains(out, "failurePolicy") {
		t.Errorf("disarming without force: %v, %s; want a conflict about failurePolicy", err, out)
	}
	s.holdKept(t, admissionregistrationv1.Fail)
	s.run(t, s.now, upgrade+" --set arm=false --force-conflicts")
	s.holdKept(t, admissionregistrationv1.Ignore)
	s.run(t, s.now, "helm rollback portcullis 1 --namespace "+namespace+" --force-conflicts")
	s.holdKept(t, admissionregistrationv1.Ignore)
}

// testOrder uninstalls what testHelm has left, and watches what goes first.
func (s *site) testOrder(t *testing.T) {
	c, err := kubernetes.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hooks, err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=portcullis"})
	if err != nil {
		t.Fatal(err)
	}
	more, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=portcullis"})
	if err != nil {
		t.Fatal(err)
	}
	replica, err := c.AppsV1().Deployments(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=portcullis"})
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, s.now, commands(t, "Uninstall")[0])
	first, second, last := s.deleted(t, hooks), s.deleted(t, more), s.deleted(t, replica)
	if first >= last || second >= last {
		t.Errorf("deleted at %d and %d, the webhook at %d: the hooks must go first", first, second, last)
	}
	if err := s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "portcullis"}, &appsv1.Deployment{}); err == nil {
		t.Error("the Deployment is there still")
	}
}

// deleted waits for the end of what is watched, and returns when that was.
func (s *site) deleted(t *testing.T, w watch.Interface) (revision int) {
	t.Helper()
	defer w.Stop()
	for event := range w.ResultChan() {
		if event.Type != watch.Deleted {
			continue
		}
		revision, err := strconv.Atoi(event.Object.(metav1.Object).GetResourceVersion())
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	t.Fatal("the watch has ended before the object did")
	return 0
}
