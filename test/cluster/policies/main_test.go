// Package policies proves `portcullis generate vap` on a real API server: that it accepts the admission policies, that they
// judge as pkg/check does, and that each rule can refuse.
package policies

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// typeChecked is how long the API server may take to check the types of a policy: it is in no hurry.
const typeChecked = 5 * time.Minute

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	os.Exit(m.Run())
}

// cluster is an API server with a client that remembers warnings.
type cluster struct {
	client.Client
	controller client.Client // the controller manager's
	warnings   *rig.Warnings
	config     *rest.Config
}

func newCluster(t *testing.T, o controlplane.Options) *cluster {
	t.Helper()
	cp := controlplane.Run(t, o)
	return clusterOf(t, cp.RESTConfig())
}

func clusterOf(t *testing.T, config *rest.Config) *cluster {
	t.Helper()
	c := &cluster{warnings: &rig.Warnings{}, config: rest.CopyConfig(config)}
	config.QPS = -1
	config.WarningHandlerWithContext = c.warnings
	scheme := manifest.Scheme()
	err := admissionregistrationv1.AddToScheme(scheme)
	if err != nil {
		t.Fatal(err)
	}
	if c.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	asController := rest.CopyConfig(config)
	asController.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:replicaset-controller", Groups: []string{user.SystemPrivilegedGroup}}
	if c.controller, err = client.New(asController, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return c
}

// as returns the client of whoever makes an object.
func (c *cluster) as(o client.Object) client.Client {
	if o.GetAnnotations()[alone.ByController] != "" {
		return c.controller
	}
	return c.Client
}

// install creates the policies of a source and removes them when the test ends. It returns when the API server judges by the
// last of them: each is taken up for itself, in any order, so that all are asked for.
func (c *cluster) install(t *testing.T, s vap.Source) *vap.Policies {
	t.Helper()
	made, err := s.Validating()
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range made.Objects {
		c.create(t, object)
	}
	return made
}

func (c *cluster) create(t *testing.T, object runtime.Object) {
	t.Helper()
	o := object.(client.Object)
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatalf("%T %s: %v", o, o.GetName(), err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), o); err != nil {
			t.Error(err)
		}
	})
}

// namespace makes a namespace of a test's own with labels.
func (c *cluster) namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "vap-", Labels: labels}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// try makes a request and returns the answer.
func (c *cluster) try(request func() error) alone.Answer {
	c.warnings.Take()
	err := request()
	return alone.AnswerOf(err, c.warnings.Take())
}

func (c *cluster) dryRun(ctx context.Context, o client.Object) alone.Answer {
	return c.try(func() error { return c.as(o).Create(ctx, o, client.DryRunAll) })
}
