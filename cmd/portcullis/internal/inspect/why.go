package inspect

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// whyOptions are the flags of `portcullis why`.
type whyOptions struct {
	cli.ReportFlags
	source.FileFlags
	files []string
}

// Why returns the command why.
func Why(version string) *cobra.Command {
	o := &whyOptions{}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "why POD",
		Short: "Explain why a pod is not scheduled: for each node, who holds its ports",
		Long: `Show for each node which of the pod's host ports is already held, by what and since when, and which other rule of the
node excludes the pod. The answer about ports is that of the scheduler plugin PortClaims; of kube-scheduler's own rules
nodeName, nodeSelector, node affinity, taints, cordons and requests are looked at, and the others are named where the pod
uses them.

POD is NAME, NAMESPACE/NAME or pod/NAME. With deployment/NAME (or another kind that has a pod template) it is a pod of it
that waits, else the template as one more pod to be.

It also reports when all pods of a workload have a node, when its controller cannot create pods and what the API server says
about that, and when a pod waits for older ones of its own rollout.

It reads nodes, services and pods of all namespaces from the cluster, and the objects that make pods where it may, and writes
nothing; with -f it reads them from files and needs no cluster.

Exit code: 0 a node fits or the pod is on one, 1 no node fits (of a DaemonSet: a node cannot get its pod), or some of the files could not be read, 2 bad usage, or there is
no such pod.`,
		Example: `  portcullis why tomcat-5d8f9c6b7-x2x7k
  portcullis why shop/tomcat-5d8f9c6b7-x2x7k -o json
  portcullis why deployment/tomcat -n shop --context production

  kubectl get nodes,namespaces,services,endpointslices,pods,deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs -A -o yaml > state.yaml
  portcullis why shop/tomcat-5d8f9c6b7-x2x7k -f state.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name a pod or workload, for example: portcullis why shop/web-1 or portcullis why deployment/web")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return o.run(ctx, cli.StreamsOf(cmd), args[0])
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	o.FileFlags.AddFlags(f)
	o.ReportFlags.AddFlags(cmd, cli.Forms("PodReport"))
	return cmd
}

func (o *whyOptions) run(ctx context.Context, s cli.Streams, name string) error {
	settings, err := o.Settings(cli.Forms("PodReport"))
	if err != nil {
		return err
	}
	p := s.Progress()
	stop := p.Start()
	defer stop()
	subject, v, incomplete, err := o.find(ctx, s, p, name)
	if err != nil {
		return err
	}
	placed := v.placement(subject, settings.WithEvidence(v.all))
	r := report.NewPodReport(placed)
	r.Inputs = v.inputs
	stop()
	if err := o.Write(s.Out, r, func(w io.Writer) error { return r.WriteTable(w, time.Now()) }); err != nil {
		return err
	}
	isMissed := perNode(subject) != "" && slices.ContainsFunc(placed.Nodes, func(c report.Candidate) bool { return len(c.Obstacles) > 0 && len(c.Excluded) == 0 })
	if r.Node == "" && r.Summary.Fits == 0 || isMissed {
		return &cli.FindingsError{N: r.Summary.Nodes}
	}
	return incomplete
}

// find reads the objects and finds the pod that is asked about. incomplete is an error if some of the files were not read.
func (o *whyOptions) find(ctx context.Context, s cli.Streams, p *cli.Progress, name string) (pod *corev1.Pod, v *view, incomplete, err error) {
	if len(o.files) == 0 {
		pod, v, err = o.findInCluster(ctx, p, name)
		return pod, v, nil, err
	}
	a, err := parseAsked(name, o.NamedNamespace())
	if err != nil {
		return nil, nil, nil, err
	}
	in, err := o.Read(o.files, s.In, p)
	if err != nil {
		return nil, nil, nil, err
	}
	objects, incomplete, err := in.Existing(p)
	if err != nil {
		return nil, nil, nil, err
	}
	v = viewOf(objects)
	v.inputs = in.FileCounts()
	pod, err = v.find(a, v.listed)
	if err == nil && len(v.nodes) == 0 {
		err = errors.New("there is no Node among the objects: add them, as kubectl get nodes -o yaml prints them")
	}
	return pod, v, incomplete, err
}

func (o *whyOptions) findInCluster(ctx context.Context, p *cli.Progress, name string) (*corev1.Pod, *view, error) {
	r, err := source.Connect(&o.ClusterFlags, p)
	if err != nil {
		return nil, nil, err
	}
	namespace, err := o.Namespace()
	if err != nil {
		return nil, nil, err
	}
	a, err := parseAsked(name, o.NamedNamespace())
	if err != nil {
		return nil, nil, err
	}
	if a.namespace == "" {
		a.namespace = namespace
	}
	objects, err := r.Read(ctx, slices.Concat(source.Holders(), source.Templates()))
	if err != nil {
		return nil, nil, err
	}
	v := viewOf(objects)
	pod, err := v.find(a, func(a asked) (*corev1.Pod, error) {
		object, ok, err := r.Object(ctx, a.kind, a.namespace, a.name)
		if err != nil || !ok {
			return nil, err
		}
		made, _ := extract.PodToBe(object)
		return made, nil
	})
	return pod, v, err
}

// placement judges a pod on every node, or on its own if it is on one.
func (v *view) placement(pod *corev1.Pod, settings *extract.Settings) report.Placement {
	p := report.Placement{Annotation: extract.ReservedPortsAnnotation, Phase: string(pod.Status.Phase)}
	if extract.IsFinished(pod) { // judged as if it were made again
		p.Ended = ending(pod)
		pod = pod.DeepCopy()
		pod.Spec.NodeName, pod.Status = "", corev1.PodStatus{}
	}
	w := extract.Pod(pod, nil, settings.Check.Trusted)
	v.controllers.Adopt(w, pod)
	h := v.holding(pod, settings)
	seeker := check.NewSeeker(w, h.ledger.Snapshot(), settings.Check.Reserved)
	p.Pod, p.Wanted, p.Unmodelled = w.Owner, seeker.Wanted(), extract.Unmodelled(pod)
	for _, gate := range pod.Spec.SchedulingGates {
		p.Gates = append(p.Gates, gate.Name)
	}
	if pod.Name != "" && pod.Spec.NodeName != "" {
		p.Node, p.Since = pod.Spec.NodeName, extract.Started(pod)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && p.Node == "" {
			p.Said = c.Message
		}
	}
	for _, node := range v.nodes {
		if p.Node != "" && p.Node != node.Name {
			continue
		}
		c := report.Candidate{Node: node.Name, NotReady: !extract.IsReady(node), Unknown: !extract.HasAllocatable(node)}
		reserved, _ := extract.ReservedPorts(node) // what is malformed in it reserves nothing
		for _, o := range seeker.On(check.Node{Name: node.Name, Labels: node.Labels, Reserved: reserved}) {
			c.Obstacles = append(c.Obstacles, h.dated(o, pod))
		}
		if p.Node == "" {
			c.Excluded = extract.Exclusions(pod, node, h.loads[node.Name])
		}
		p.Nodes = append(p.Nodes, c)
	}
	if p.Node != "" && slices.ContainsFunc(p.Nodes, func(c report.Candidate) bool { return len(c.Obstacles) > 0 }) {
		p.Conflicts = v.conflicts(pod, settings)
	}
	if p.Siblings = v.siblings(pod, w, h); p.Siblings != nil {
		p.Siblings.Older = h.waitsForRollout(pod, p.Siblings.Of, p.Nodes)
	}
	return p
}

// conflicts are those of a pod that is on a node, with who gets the packets.
func (v *view) conflicts(pod *corev1.Pod, settings *extract.Settings) []check.Finding {
	judge, _ := audit.New(settings, v.all, nil, time.Now()) // it does without pools and policies that are none
	findings, _ := judge.WouldFind(pod)
	return slices.DeleteFunc(findings, func(f check.Finding) bool { return f.Code != check.Held })
}

// ending tells how a pod ended: "Failed, NodePorts: Pod was rejected ...".
func ending(pod *corev1.Pod) string {
	text := string(pod.Status.Phase)
	if pod.Status.Reason != "" {
		text += ", " + pod.Status.Reason
	}
	if pod.Status.Message != "" {
		text += ": " + pod.Status.Message
	}
	return text
}
