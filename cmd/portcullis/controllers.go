package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

const (
	leaseName        = "portcullis"
	defaultNamespace = "portcullis-system"
	// accountNamespace is where a pod finds the namespace of its service account.
	accountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// controllerOptions are the flags of serve that are about what one of the replicas writes.
type controllerOptions struct {
	elect     bool
	namespace string
}

func (o *controllerOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.elect, "leader-elect", true, "write claims and status only while holding the Lease portcullis; false if this is the only replica")
	f.StringVar(&o.namespace, "namespace", "", "namespace of the Lease; without it $POD_NAMESPACE, that of the service account, or portcullis-system")
}

// hasPools reports whether the kinds of portcullis.dev are installed, by the API server's own record of them: what it
// serves at the moment may be less, as it takes a while to begin. It asks until it knows.
func hasPools(ctx context.Context, config *rest.Config) (bool, error) {
	c, err := client.New(config, client.Options{})
	if err != nil {
		return false, fmt.Errorf("reaching the cluster: %w", err)
	}
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	for {
		err := c.Get(ctx, client.ObjectKey{Name: "portpools." + v1alpha1.Group}, crd)
		switch {
		case err == nil:
			return true, nil
		case apierrors.IsNotFound(err):
			logf.Log.Info("the cluster has no pools: install config/crd and start again to have them")
			return false, nil
		case apierrors.IsForbidden(err):
			return false, fmt.Errorf("asking whether there are pools: %w; grant what config/rbac does", err)
		}
		logf.Log.Error(err, "Asking whether there are pools")
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// addControllers adds what one replica writes.
func addControllers(manager ctrl.Manager, settings *extract.Settings, o controllerOptions) error {
	options := controller.Options{
		NodePortRange: settings.Check.NodePortRange, Metrics: controller.NewMetrics(metrics.Registry), Now: time.Now,
	}
	for _, r := range settings.Check.Reserved {
		options.Reserved = append(options.Reserved, r.Socket.Port)
	}
	if o.elect {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("naming this replica: %w", err)
		}
		options.Election = &controller.Election{
			Config: manager.GetConfig(), Namespace: o.leaseNamespace(), Name: leaseName, Identity: host + "_" + rand.Text(),
		}
	}
	c, err := controller.New(manager, options)
	if err != nil {
		return err
	}
	return manager.Add(c)
}

func (o *controllerOptions) leaseNamespace() string {
	account, _ := os.ReadFile(accountNamespace) // outside of a pod there is none
	return cmp.Or(o.namespace, os.Getenv("POD_NAMESPACE"), strings.TrimSpace(string(account)), defaultNamespace)
}
