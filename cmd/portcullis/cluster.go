package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
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
	flags.ContextOverrideFlags.Namespace.Description = "look in `NAMESPACE`; without it in that of the kubeconfig's context"
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

// only returns the namespace of -n, which excludes -A; "" for all of them.
func (c *cluster) only(allNamespaces bool) (string, error) {
	if namespace := c.overrides.Context.Namespace; namespace != "" && allNamespaces {
		return "", fmt.Errorf("-n %s and -A: leave one of the two out", namespace)
	}
	return c.overrides.Context.Namespace, nil
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
	ctrl.SetLogger(logr.Discard()) // what controller-runtime would log goes to nobody; unset, it complains after 30 s
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
		switch gvk.Kind {
		case "Node", "Namespace", "ServiceCIDR", "PortPool", "PortPolicy", "PortClaim":
			scope = meta.RESTScopeRoot
		}
		m.Add(gvk, scope)
	}
	return m
}

// pageSize is kubectl's.
const pageSize = 500

// pages lists the objects of all namespaces page by page. take is given each page in the list, the first one once more if
// all had to be read again, and returns how many it has. What is called what for a person is plural: "pods".
func (r *reader) pages(ctx context.Context, what string, list client.ObjectList, take func(isFirst bool) (int, error)) error {
	options := client.ListOptions{Limit: pageSize}
	for n := 0; ; {
		r.progress.say(fmt.Sprintf("reading %s, %s so far", what, grouped(n)))
		isFirst := options.Continue == ""
		err := r.List(ctx, list, &options)
		if apierrors.IsResourceExpired(err) && !isFirst { // this took minutes: all at once, from the beginning
			options = client.ListOptions{}
			continue
		}
		if err == nil {
			n, err = take(isFirst)
		}
		if options.Continue = list.GetContinue(); err != nil || options.Continue == "" {
			return err
		}
	}
}

// each lists the objects of a kind.
func each[T any](ctx context.Context, r *reader, what string, list client.ObjectList, items func() []T) ([]*T, error) {
	var all []*T
	err := r.pages(ctx, what, list, func(isFirst bool) (int, error) {
		if isFirst {
			all = nil
		}
		page := items()
		for i := range page {
			all = append(all, &page[i])
		}
		return len(all), nil
	})
	return all, err
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
