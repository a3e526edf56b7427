package rig

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// Account is the user that an installation is, with the rights of config/rbac.
const Account = "system:serviceaccount:portcullis-system:portcullis"

// API is an API server that has the kinds of pools and the rights that ship, and no controllers.
type API struct {
	*controlplane.ControlPlane
	client.Client // may do everything
	Types         *runtime.Scheme
}

// RunAPI starts it for a test, and stops it when the test ends.
func RunAPI(tb testing.TB) *API {
	tb.Helper()
	a := &API{ControlPlane: controlplane.Run(tb, controlplane.Options{}), Types: runtime.NewScheme()}
	if err := errors.Join(scheme.AddToScheme(a.Types), v1alpha1.AddToScheme(a.Types)); err != nil {
		tb.Fatal(err)
	}
	var err error
	if a.Client, err = client.New(a.RESTConfig(), client.Options{Scheme: a.Types}); err != nil {
		tb.Fatal(err)
	}
	if err := a.Create(tb.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "portcullis-system"}}); err != nil {
		tb.Fatal(err)
	}
	for _, folder := range []string{"crd/bases", "rbac"} {
		if err := Install(tb.Context(), a.RESTConfig(), folder); err != nil {
			tb.Fatal(err)
		}
	}
	for _, list := range []client.ObjectList{&v1alpha1.PortPoolList{}, &v1alpha1.PortPolicyList{}, &v1alpha1.PortClaimList{}} {
		poll.Until(tb, func(ctx context.Context) error { return a.List(ctx, list) })
	}
	return a
}

// Warnings collects what the API server warns a client of. It implements rest.WarningHandlerWithContext.
type Warnings struct {
	mu    sync.Mutex
	heard []string
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *Warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, text)
}

// Take returns what was heard since the last time, and forgets it.
func (w *Warnings) Take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := slices.Clone(w.heard)
	w.heard = nil
	return heard
}
