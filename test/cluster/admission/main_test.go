// Package admission proves the gate against a real API server: every refusal by its exact words, everything that must pass,
// and what happens while things race, stop and start.
package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	os.Exit(m.Run())
}

// cluster is a rig with a client that remembers warnings.
type cluster struct {
	*rig.Rig
	client.Client
	warnings *warnings
}

func newCluster(t *testing.T, o rig.Options) *cluster {
	t.Helper()
	c := &cluster{Rig: rig.Run(t, o), warnings: &warnings{}}
	var err error
	if c.Client, err = client.New(c.warnings.hear(c.RESTConfig()), client.Options{Scheme: manifest.Scheme()}); err != nil {
		t.Fatal(err)
	}
	return c
}

// warnings collects what the API server warns of.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) hear(config *rest.Config) *rest.Config {
	config.WarningHandlerWithContext = w
	return config
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// take returns what was said about ports since the last time, and forgets it.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := slices.DeleteFunc(w.said, func(s string) bool { return !strings.Contains(s, "(PC") })
	w.said = nil
	return said
}

// namespace makes a namespace of the test's own, and removes what it claims when the test ends.
func (c *cluster) namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), ns); err != nil {
			t.Error(err)
		}
	})
	return ns.Name
}

// objects reads manifests and puts them into a namespace.
func objects(t *testing.T, namespace, text string) []client.Object {
	t.Helper()
	in, err := manifest.Parse("manifest", []byte(text), manifest.Scheme())
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var list []client.Object
	for _, o := range in.Objects {
		object, ok := o.Object.(client.Object)
		if !ok {
			t.Fatalf("%T is no object", o.Object)
		}
		object.SetNamespace(namespace)
		list = append(list, object)
	}
	return list
}

// object reads one manifest.
func object(t *testing.T, namespace, text string) client.Object {
	t.Helper()
	list := objects(t, namespace, text)
	if len(list) != 1 {
		t.Fatalf("%d objects in\n%s", len(list), text)
	}
	return list[0]
}

// running waits until a pod of a namespace with a name that begins so is on a node and runs, and returns them all.
func (c *cluster) running(t *testing.T, namespace, prefix string, count int) []corev1.Pod {
	t.Helper()
	var found []corev1.Pod
	poll.Until(t, func(context.Context) error {
		var pods corev1.PodList
		if err := c.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
			return err
		}
		found = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
			return !strings.HasPrefix(p.Name, prefix) || p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil
		})
		if len(found) != count {
			return fmt.Errorf("%d pods %s* run in %s, want %d", len(found), prefix, namespace, count)
		}
		return nil
	})
	return found
}

// causes returns the field and the message of each cause of a refusal, after checking its form.
func causes(err error) ([]string, error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil, fmt.Errorf("no refusal: %w", err)
	}
	s := status.Status()
	if s.Code != http.StatusUnprocessableEntity || s.Reason != metav1.StatusReasonInvalid || s.Details == nil {
		return nil, fmt.Errorf("refused as %d %s, want a 422 Invalid with causes: %w", s.Code, s.Reason, err)
	}
	var found []string
	for _, cause := range s.Details.Causes {
		found = append(found, cause.Field+": "+cause.Message)
	}
	if len(found) == 0 || !strings.Contains(s.Message, ".portcullis.dev\" denied the request: "+found[0]) {
		return nil, fmt.Errorf("the message is not the gate's, with the first cause: %q", s.Message)
	}
	return found, nil
}

// refused creates an object and returns the causes of its refusal.
func (c *cluster) refused(ctx context.Context, object client.Object) ([]string, error) {
	err := c.Create(ctx, object.DeepCopyObject().(client.Object))
	if err == nil {
		return nil, fmt.Errorf("%s was admitted", object.GetName())
	}
	return causes(err)
}
