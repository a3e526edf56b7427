package main

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
)

// listing is a kind that is read from a cluster.
type listing struct {
	what string // for a person, as a ClusterRole calls it
	list client.ObjectList
	need bool // nothing can be said without it
}

// holders are what holds ports, and the nodes.
func holders() []listing {
	return []listing{{"nodes", &corev1.NodeList{}, true}, {"services", &corev1.ServiceList{}, true}, {"pods", &corev1.PodList{}, true}}
}

// restrictions are what pools and policies need.
func restrictions() []listing {
	return []listing{
		pools(), {"namespaces", &corev1.NamespaceList{}, false},
		{"portpolicies.portcullis.dev", &v1alpha1.PortPolicyList{}, false}, {"portclaims.portcullis.dev", &v1alpha1.PortClaimList{}, false},
	}
}

func pools() listing { return listing{"portpools.portcullis.dev", &v1alpha1.PortPoolList{}, false} }

// templates are what makes pods, and what else is known of the network.
func templates() []listing {
	return []listing{
		{"deployments.apps", &appsv1.DeploymentList{}, false}, {"statefulsets.apps", &appsv1.StatefulSetList{}, false},
		{"daemonsets.apps", &appsv1.DaemonSetList{}, false}, {"replicasets.apps", &appsv1.ReplicaSetList{}, false},
		{"replicationcontrollers", &corev1.ReplicationControllerList{}, false}, {"jobs.batch", &batchv1.JobList{}, false},
		{"cronjobs.batch", &batchv1.CronJobList{}, false}, {"endpointslices.discovery.k8s.io", &discoveryv1.EndpointSliceList{}, false},
		{"servicecidrs.networking.k8s.io", &networkingv1.ServiceCIDRList{}, false},
	}
}

// objects reads what there is: from files, or of these kinds from the cluster.
func (c *cluster) objects(ctx context.Context, s streams, p *progress, how *reading, files []string, kinds []listing) (*input, error) {
	if len(files) > 0 {
		return how.read(files, s, p)
	}
	r, err := c.reader(p)
	if err != nil {
		return nil, err
	}
	objects, err := r.read(ctx, kinds)
	return &input{Input: manifest.Input{Objects: objects}}, err
}

// read reads all objects of kinds, and tells what of them is not looked at. What may not be listed and is not needed it names, and does without.
func (r *reader) read(ctx context.Context, kinds []listing) ([]*manifest.Object, error) {
	known, err := scheme()
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
			return nil, fmt.Errorf("reading %s: %w", kind.what, r.explain(err)) // the others would say the same
		default:
			all = append(all, found...)
		}
	}
	if refused != nil {
		return nil, missingRights(refused)
	}
	if left != nil {
		r.progress.println(fmt.Sprintf("not looked at, as you may not list them in all namespaces: %s", strings.Join(left, ", ")))
	}
	tellTooWide(r.progress, all)
	return all, nil
}

// listAll lists the objects of one kind.
func (r *reader) listAll(ctx context.Context, kind listing, known *runtime.Scheme) ([]*manifest.Object, error) {
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
