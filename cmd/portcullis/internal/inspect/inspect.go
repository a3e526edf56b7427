// Package inspect has the commands ports and why, which say who holds which port of which node, and why a pod finds none.
//
// Both make a view of what package source reads: the objects by their kinds. ports puts what holds ports into a ledger
// (holdings) and lists it. For one number it has the pools and the checks tell what would become of a new holder, and walks
// packets through the rules of a node of each kind (group, stage, walker) to tell who gets them. why looks for the pod
// (asked) and judges it on every node by what the scheduler plugin knows (holding, placement).
//
// What they say of one cluster must agree, and with what the webhook answers: TestParity compares them.
package inspect

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// view is what a cluster holds at one moment, of the kinds that matter to a pod that seeks a node.
type view struct {
	all         []runtime.Object
	nodes       []*corev1.Node
	services    []*corev1.Service
	pods        []*corev1.Pod
	workloads   []runtime.Object
	controllers extract.Controllers // of pods in files, which may not name theirs
	inputs      *report.Inputs      // of the files; nil: of a cluster
}

// viewOf takes what matters out of objects of files.
func viewOf(objects []*manifest.Object) *view {
	v := &view{all: source.Bare(objects)}
	for _, object := range objects {
		switch o := object.Object.(type) {
		case *corev1.Node:
			v.nodes = append(v.nodes, o)
		case *corev1.Service:
			v.services = append(v.services, o)
		case *corev1.Pod:
			v.pods = append(v.pods, o)
		default:
			if _, ok := extract.Workload(o, nil, nil); ok {
				v.workloads = append(v.workloads, o)
			}
		}
	}
	v.controllers = extract.NewControllers(v.workloads)
	return v
}
