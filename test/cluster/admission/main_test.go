// Package admission proves the webhook in front of a real API server: every refusal by its code, field and holder, everything
// that must pass, and what happens while things race, stop and start.
package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
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
	warnings *rig.Warnings
}

func newCluster(t *testing.T, o rig.Options) *cluster {
	t.Helper()
	c := &cluster{Rig: rig.Run(t, o), warnings: &rig.Warnings{}}
	config := c.RESTConfig()
	config.WarningHandlerWithContext = c.warnings
	var err error
	if c.Client, err = client.New(config, client.Options{Scheme: manifest.Scheme()}); err != nil {
		t.Fatal(err)
	}
	return c
}

// ours are the warnings about ports since the last time.
func (c *cluster) ours() []string {
	return slices.DeleteFunc(c.warnings.Take(), func(s string) bool { return !strings.Contains(s, "(PC") })
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
		return nil, fmt.Errorf("the message is not the webhook's, with the first cause: %q", s.Message)
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
