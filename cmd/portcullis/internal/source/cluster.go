package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
)

// Reader reads a cluster.
type Reader struct {
	client.Reader
	host     string
	progress *cli.Progress
}

// Connect makes a reader of the cluster of kubectl's flags.
func Connect(flags *cli.ClusterFlags, p *cli.Progress) (*Reader, error) {
	config, err := flags.Config().ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("there is no kubeconfig that names a cluster: name one with --kubeconfig, or give the objects with -f")
	case err != nil:
		return nil, fmt.Errorf("finding the cluster: %w; name another with --kubeconfig and --context, or give the objects with -f", err)
	}
	ctrl.SetLogger(logr.Discard()) // what controller-runtime would log goes to nobody; unset, it complains after 30 s
	config.UserAgent = cli.UserAgent(flags.Version)
	config.QPS = -1 // one page after the other is no load
	known, err := cli.Scheme()
	if err != nil {
		return nil, err
	}
	api, err := client.New(config, client.Options{Scheme: known, Mapper: mapper(known)})
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	return &Reader{api, config.Host, p}, nil
}

// Kind is a kind that is read from a cluster.
type Kind struct {
	what string // for a person, as a ClusterRole calls it
	list client.ObjectList
	need bool // nothing can be said without it
}

// Holders are what holds ports, and the nodes.
func Holders() []Kind {
	return []Kind{{"nodes", &corev1.NodeList{}, true}, {"services", &corev1.ServiceList{}, true}, {"pods", &corev1.PodList{}, true}}
}

// Restrictions are what pools and policies need.
func Restrictions() []Kind {
	return []Kind{
		pools(), {"namespaces", &corev1.NamespaceList{}, false},
		{"portpolicies.portcullis.dev", &v1alpha1.PortPolicyList{}, false}, {"portclaims.portcullis.dev", &v1alpha1.PortClaimList{}, false},
	}
}

func pools() Kind { return Kind{"portpools.portcullis.dev", &v1alpha1.PortPoolList{}, false} }

// Templates are what makes pods, and what else is known of the network.
func Templates() []Kind {
	return []Kind{
		{"deployments.apps", &appsv1.DeploymentList{}, false}, {"statefulsets.apps", &appsv1.StatefulSetList{}, false},
		{"daemonsets.apps", &appsv1.DaemonSetList{}, false}, {"replicasets.apps", &appsv1.ReplicaSetList{}, false},
		{"replicationcontrollers", &corev1.ReplicationControllerList{}, false}, {"jobs.batch", &batchv1.JobList{}, false},
		{"cronjobs.batch", &batchv1.CronJobList{}, false}, {"endpointslices.discovery.k8s.io", &discoveryv1.EndpointSliceList{}, false},
		{"servicecidrs.networking.k8s.io", &networkingv1.ServiceCIDRList{}, false},
	}
}

// Objects reads what there is: from the files that are named, or of these kinds from the cluster.
func Objects(ctx context.Context, flags *cli.ClusterFlags, how *FileFlags, files []string, kinds []Kind, stdin io.Reader, p *cli.Progress) (*Input, error) {
	if len(files) > 0 {
		return how.Read(files, stdin, p)
	}
	r, err := Connect(flags, p)
	if err != nil {
		return nil, err
	}
	objects, err := r.Read(ctx, kinds)
	return &Input{Input: manifest.Input{Objects: objects}}, err
}

// Read reads all objects of kinds, and tells what of them is not looked at. What may not be listed and is not needed it names, and does without.
func (r *Reader) Read(ctx context.Context, kinds []Kind) ([]*manifest.Object, error) {
	known, err := cli.Scheme()
	if err != nil {
		return nil, err
	}
	var all []*manifest.Object
	var refused, left []string
	for _, kind := range kinds {
		found, err := r.listAll(ctx, kind, known)
		switch {
		case apierrors.IsForbidden(err) && kind.need:
			refused = append(refused, kind.what)
		case apierrors.IsForbidden(err):
			left = append(left, kind.what)
		case apierrors.IsNotFound(err) && !kind.need: // this cluster has no such kind
		case err != nil:
			return nil, fmt.Errorf("reading %s: %w", kind.what, r.Explain(err)) // the others would say the same
		default:
			all = append(all, found...)
		}
	}
	if refused != nil {
		return nil, missingRights(refused)
	}
	if left != nil {
		r.progress.Println(fmt.Sprintf("not looked at, as you may not list them in all namespaces: %s", strings.Join(left, ", ")))
	}
	TellTooWide(r.progress, all)
	return all, nil
}

// listAll lists the objects of one kind.
func (r *Reader) listAll(ctx context.Context, kind Kind, known *runtime.Scheme) ([]*manifest.Object, error) {
	var all []*manifest.Object
	err := r.pages(ctx, kind.what, kind.list, func(isFirst bool) (int, error) {
		if isFirst {
			all = nil
		}
		page, err := meta.ExtractList(kind.list)
		if err != nil {
			return 0, err
		}
		for _, object := range page {
			gvk, err := apiutil.GVKForObject(object, known)
			if err != nil {
				return 0, err
			}
			object.GetObjectKind().SetGroupVersionKind(gvk)
			all = append(all, &manifest.Object{Object: object})
		}
		return len(all), meta.SetList(kind.list, nil) // nothing may be left for the next page to be decoded into
	})
	return all, err
}

// Object reads one object of a kind; false if there is none.
func (r *Reader) Object(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (runtime.Object, bool, error) {
	known, err := cli.Scheme()
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
		return nil, false, fmt.Errorf("reading %s %s/%s: %w", gvk.Kind, namespace, name, r.Explain(err))
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	return object, true, nil
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
func (r *Reader) pages(ctx context.Context, what string, list client.ObjectList, take func(isFirst bool) (int, error)) error {
	options := client.ListOptions{Limit: pageSize}
	for n := 0; ; {
		r.progress.Say(fmt.Sprintf("reading %s, %s so far", what, cli.Grouped(n)))
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

// Each lists the objects of a kind.
func Each[T any](ctx context.Context, r *Reader, what string, list client.ObjectList, items func() []T) ([]*T, error) {
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

// TakeItems leaves nothing behind for the next page to be decoded into.
func TakeItems[T any](items *[]T) []T {
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

// Explain says what a person can do about an error of the API server.
func (r *Reader) Explain(err error) error {
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
