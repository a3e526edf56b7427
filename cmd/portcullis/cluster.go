package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cluster are kubectl's flags that say which cluster, as whom, and in which namespace.
type cluster struct {
	loading   *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
}

func (c *cluster) addFlags(cmd *cobra.Command) {
	c.loading = clientcmd.NewDefaultClientConfigLoadingRules()
	f := cmd.Flags()
	f.StringVar(&c.loading.ExplicitPath, "kubeconfig", "", "kubeconfig `FILE`; without it $KUBECONFIG, ~/.kube/config, or the pod's service account")
	flags := clientcmd.RecommendedConfigOverrideFlags("")
	flags.ContextOverrideFlags.Namespace.Description = "`NAMESPACE` to look in; without it that of the kubeconfig's context"
	clientcmd.BindOverrideFlags(&c.overrides, f, flags)
}

func (c *cluster) config() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(c.loading, &c.overrides)
}

// namespace returns that of -n, else that of the kubeconfig's context.
func (c *cluster) namespace() (string, error) {
	namespace, _, err := c.config().Namespace()
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return namespace, nil
}

// reader reads a cluster.
type reader struct {
	client.Reader
	host     string
	progress *progress
}

func (c *cluster) reader(p *progress) (*reader, error) {
	config, err := c.config().ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("there is no kubeconfig that names a cluster: name one with --kubeconfig, or give the objects with -f")
	case err != nil:
		return nil, fmt.Errorf("finding the cluster: %w; name another with --kubeconfig and --context, or give the objects with -f", err)
	}
	config.UserAgent = "portcullis/" + programVersion()
	config.QPS = -1 // one page after the other is no load
	known, err := scheme()
	if err != nil {
		return nil, err
	}
	reading, err := client.New(config, client.Options{Scheme: known, Mapper: mapper(known)})
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	return &reader{reading, config.Host, p}, nil
}

// mapper knows the paths of the kinds in a scheme, so that the API server need not be asked for them.
func mapper(known *runtime.Scheme) meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for gvk := range known.AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		if gvk.Kind == "Node" || gvk.Kind == "ServiceCIDR" {
			scope = meta.RESTScopeRoot
		}
		m.Add(gvk, scope)
	}
	return m
}

// pageSize is kubectl's.
const pageSize = 500

// each lists the objects of all namespaces page by page. What is called what for a person is plural: "pods".
func each[T any](ctx context.Context, r *reader, what string, list client.ObjectList, items func() []T) ([]*T, error) {
	var all []*T
	options := client.ListOptions{Limit: pageSize}
	for {
		r.progress.say(fmt.Sprintf("reading %s, %s so far", what, grouped(len(all))))
		err := r.List(ctx, list, &options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" { // this took minutes: all at once, from the beginning
			all, options = nil, client.ListOptions{}
			continue
		}
		if err != nil {
			return nil, err
		}
		page := items()
		for i := range page {
			all = append(all, &page[i])
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return all, nil
		}
	}
}

// ports reads what claims ports, and the nodes.
func (r *reader) ports(ctx context.Context) (*view, error) {
	var v view
	var refused []string
	var errs []error
	note := func(what string, err error) {
		if apierrors.IsForbidden(err) {
			refused = append(refused, what)
		} else if err != nil {
			errs = append(errs, fmt.Errorf("reading %s: %w", what, r.explain(err)))
		}
	}
	var nodes corev1.NodeList
	var services corev1.ServiceList
	var pods corev1.PodList
	var err error
	v.nodes, err = each(ctx, r, "nodes", &nodes, func() []corev1.Node { return takeItems(&nodes.Items) })
	note("nodes", err)
	if len(errs) > 0 {
		return nil, errors.Join(errs...) // the others would say the same
	}
	v.services, err = each(ctx, r, "services", &services, func() []corev1.Service { return takeItems(&services.Items) })
	note("services", err)
	v.pods, err = each(ctx, r, "pods", &pods, func() []corev1.Pod { return takeItems(&pods.Items) })
	note("pods", err)
	if refused != nil {
		errs = append(errs, missingRights(refused))
	}
	return &v, errors.Join(errs...)
}

// takeItems leaves nothing behind for the next page to be decoded into.
func takeItems[T any](items *[]T) []T {
	page := *items
	*items = nil
	return page
}

// missingRights names what a ClusterRole must allow.
func missingRights(resources []string) error {
	list := strings.Join(resources, ", ")
	return fmt.Errorf("you may not list %s in all namespaces: ask for a ClusterRole with the verb list on nodes, services and pods "+
		"(kubectl auth can-i list %s -A), or for the objects in a file (kubectl get nodes,services,pods -A -o yaml), which -f reads",
		list, resources[0])
}

// explain says what a person can do about an error of the API server.
func (r *reader) explain(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server %s does not know you: log in again, or choose another --user or --context", r.host)
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		return err
	default:
		return fmt.Errorf("the API server %s cannot be reached: %w; choose another --context, or give the objects with -f", r.host, err)
	}
}

// object reads one object of a kind; false if there is none.
func (r *reader) object(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (runtime.Object, bool, error) {
	known, err := scheme()
	if err != nil {
		return nil, false, err
	}
	made, err := known.New(gvk)
	if err != nil {
		return nil, false, err
	}
	object, ok := made.(client.Object)
	if !ok {
		return nil, false, fmt.Errorf("%s is no object", gvk.Kind)
	}
	err = r.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
	switch {
	case apierrors.IsNotFound(err):
		return nil, false, nil
	case apierrors.IsForbidden(err):
		return nil, false, fmt.Errorf("you may not get %s %s/%s: ask for the right to get it, or name one of its pods", gvk.Kind, namespace, name)
	case err != nil:
		return nil, false, fmt.Errorf("reading %s %s/%s: %w", gvk.Kind, namespace, name, r.explain(err))
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	return object, true, nil
}
