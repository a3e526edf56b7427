package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// SystemNamespace is where the webhook is installed unless somebody chooses another namespace.
const SystemNamespace = "portcullis-system"

// UserAgent is what the program calls itself in front of an API server.
func UserAgent(version string) string { return "portcullis/" + version }

// ClusterFlags are kubectl's flags that say which cluster, as whom, and in which namespace.
type ClusterFlags struct {
	Version string // of the program

	loading   *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
}

// AddFlags adds the flags to a command.
func (c *ClusterFlags) AddFlags(cmd *cobra.Command) {
	c.loading = clientcmd.NewDefaultClientConfigLoadingRules()
	f := cmd.Flags()
	f.StringVar(&c.loading.ExplicitPath, "kubeconfig", "", "kubeconfig `FILE`; without it $KUBECONFIG, ~/.kube/config, or the pod's service account")
	flags := clientcmd.RecommendedConfigOverrideFlags("")
	flags.ContextOverrideFlags.Namespace.Description = "look in `NAMESPACE`; without it in that of the kubeconfig's context"
	clientcmd.BindOverrideFlags(&c.overrides, f, flags)
}

// Config reads the kubeconfig.
func (c *ClusterFlags) Config() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(c.loading, &c.overrides)
}

// Namespace returns that of -n, else that of the kubeconfig's context.
func (c *ClusterFlags) Namespace() (string, error) {
	namespace, _, err := c.Config().Namespace()
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return namespace, nil
}

// NamedNamespace returns that of -n; "" without it.
func (c *ClusterFlags) NamedNamespace() string { return c.overrides.Context.Namespace }

// OnlyNamespace returns the namespace of -n, which excludes -A; "" for all of them.
func (c *ClusterFlags) OnlyNamespace(allNamespaces bool) (string, error) {
	if namespace := c.NamedNamespace(); namespace != "" && allNamespaces {
		return "", fmt.Errorf("-n %s and -A: leave one of the two out", namespace)
	}
	return c.NamedNamespace(), nil
}

// Clientset speaks to the cluster, and says where that is.
func (c *ClusterFlags) Clientset() (kubernetes.Interface, string, error) {
	config, err := c.Config().ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, "", errors.New("there is no kubeconfig that names a cluster: name one with --kubeconfig")
	case err != nil:
		return nil, "", fmt.Errorf("finding the cluster: %w; name another with --kubeconfig and --context", err)
	}
	config = rest.CopyConfig(config)
	config.UserAgent = UserAgent(c.Version)
	config.QPS, config.Timeout = -1, 30*time.Second
	config.WarningHandler = rest.NoWarnings{} // of the dry runs
	client, err := kubernetes.NewForConfig(config)
	return client, config.Host, err
}

// Scheme knows the kinds that the webhook judges, the observer watches, the leader writes and the commands read.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, networkingv1.AddToScheme, v1alpha1.AddToScheme,
		admissionregistrationv1.AddToScheme, discoveryv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}
