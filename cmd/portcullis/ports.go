package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// portsOptions are the flags of `portcullis ports`.
type portsOptions struct {
	reportOptions
	reading
	files         []string
	node          string
	allNamespaces bool
}

func newPorts() *cobra.Command {
	o := &portsOptions{}
	cmd := &cobra.Command{
		Use:   "ports [NUMBER[/PROTOCOL]]",
		Short: "Who holds which port, per node and everywhere",
		Long: `List who holds which port of which node: nodePorts, healthCheckNodePorts, hostPorts, ports of the host network, external and
load-balancer IPs, and the nodes' own daemons (nodeReserved of the configuration, and the nodes' annotation). NODE is <all>
for what is held everywhere, and <none> for a pod that has no node yet. Who else holds a port in the same place stands under
CONFLICT. HOLDER is the controller of a pod; -o wide names the pod and its field.

With NUMBER: who holds it, or that it is free; which range or pool it is of; who gets its packets on which nodes, and by
which rules; and what would become of a new nodePort or hostPort with it in the namespace of -n, else in default.

It lists nodes, services and pods, and with NUMBER what else it may: controllers, namespaces, pools, policies and claims. It
writes nothing; with -f it reads them from files and needs no cluster. Without -n it lists all namespaces.

Exit code: 0, 1 if some of the files could not be read, 2 bad usage, or a cluster that cannot be read.`,
		Example: `  portcullis ports
  portcullis ports --node n1 -o wide
  portcullis ports 30062
  portcullis ports 53/udp -o json

  kubectl get nodes,namespaces,services,endpointslices,pods,deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs -A -o yaml > state.yaml
  portcullis ports -f state.yaml`,
		Args: atMostOne("name one port, for example: portcullis ports 30062 or portcullis ports 53/udp"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return o.run(ctx, streamsOf(cmd), args)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	f.StringVar(&o.node, "node", "", "only ports held on node `NAME`, including those held on every node")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "report on all namespaces, as without -n")
	o.reading.addFlags(f)
	o.reportOptions.addFlags(cmd, portsForms())
	f.Lookup("namespace").Usage = "only ports held by objects of `NAMESPACE`; without it all namespaces"
	return cmd
}

// portsForms are those of a report, and one more for a person.
func portsForms() []cobra.Completion {
	return slices.Insert(forms("PortList"), 1, cobra.CompletionWithDesc("wide", "with pods and fields"))
}

func (o *portsOptions) run(ctx context.Context, s streams, args []string) error {
	settings, err := o.asked(portsForms())
	if err != nil {
		return err
	}
	var asked *number
	if len(args) > 0 {
		n, err := parseNumber(args[0])
		if err != nil {
			return err
		}
		asked = &n
	}
	namespace, err := o.only(o.allNamespaces)
	if err != nil {
		return err
	}
	p := &progress{w: s.err, watched: s.watched}
	stop := p.start()
	defer stop()
	kinds := holders()
	if asked != nil {
		kinds = slices.Concat(kinds, templates(), restrictions())
	}
	in, err := o.objects(ctx, s, p, &o.reading, o.files, kinds)
	if err != nil {
		return err
	}
	objects, incomplete, err := in.existingForms(p)
	if err != nil {
		return err
	}
	h := holdingsOf(objects, settings.WithEvidence(bare(objects)))
	if o.node != "" && !h.hasNode(o.node) {
		return fmt.Errorf("there is no Node %q; there are %s", o.node, strings.Join(h.nodeNames(), ", "))
	}
	l := report.NewPortList(h.listed(namespace, o.node, asked))
	if asked != nil {
		if l.About, err = h.about(*asked, o.node, cmp.Or(namespace, metav1.NamespaceDefault), objects); err != nil {
			return err
		}
	}
	l.Namespace, l.Inputs = namespace, in.ofTheFiles()
	stop()
	wide := o.output == "wide"
	if err := o.write(s.out, l, func(w io.Writer) error { return l.WriteTable(w, time.Now(), wide) }); err != nil {
		return err
	}
	return incomplete
}

// number is a port that is asked for, of one protocol or of all.
type number struct {
	port     uint16
	protocol ports.Protocol
	any      bool // no protocol was named
}

// parseNumber reads NUMBER or NUMBER/PROTOCOL, the protocol in any case.
func parseNumber(text string) (number, error) {
	digits, name, named := strings.Cut(text, "/")
	n := number{protocol: ports.TCP, any: !named}
	var err error
	if n.port, err = ports.ParsePort(digits); err == nil && named {
		n.protocol, err = ports.ParseProtocol(strings.ToUpper(name))
	}
	if err != nil {
		return n, fmt.Errorf("%q: %w; write NUMBER or NUMBER/PROTOCOL, as 30062/TCP", text, err)
	}
	return n, nil
}

func (n number) is(s ports.Socket) bool {
	return s.Port == n.port && (n.any || s.Protocol == n.protocol)
}

// holdings are what holds ports.
type holdings struct {
	*view
	settings    *extract.Settings
	known       *extract.Services
	ledger      ledger.Ledger
	clusterCIDR []netip.Prefix                // kube-proxy's; nil: no object tells
	pods        map[ports.Ref]*check.Workload // those that hold ports
	objects     map[ports.Ref]metav1.Object   // the pods and Services that do
}

func holdingsOf(objects []*manifest.Object, settings *extract.Settings) *holdings {
	all := bare(objects)
	h := &holdings{view: viewOf(objects), settings: settings, known: extract.NewServices(all), clusterCIDR: extract.ClusterCIDRs(all), pods: map[ports.Ref]*check.Workload{}, objects: map[ports.Ref]metav1.Object{}}
	for _, node := range h.nodes {
		h.ledger.ReplaceNode(node.Name, extract.NodeAddresses(node))
	}
	held := map[ports.Ref][]ports.Claim{} // by all forms of what is there in several
	for _, svc := range h.services {
		if s := extract.Service(svc, settings.NodePorts); len(s.Claims) > 0 {
			held[s.Owner.Ref] = append(held[s.Owner.Ref], s.Claims...)
			h.ledger.Replace(s.Owner, held[s.Owner.Ref])
			h.objects[s.Owner.Ref] = svc
		}
	}
	for _, object := range h.workloads {
		if w, ok := extract.Workload(object, nil, settings.Check.Trusted); ok {
			h.ledger.Replace(w.Owner, nil) // a template holds nothing, but leads to the controllers' controllers
		}
	}
	for _, pod := range h.view.pods {
		var nodes extract.EligibleNodes // who is on a node needs none
		if pod.Spec.NodeName == "" {
			nodes = extract.NodeList(h.nodes)
		}
		w := extract.Pod(pod, nodes, settings.Check.Trusted)
		h.controllers.Adopt(w, pod)
		w.Claims = slices.DeleteFunc(w.Claims, func(c ports.Claim) bool { return c.InitOnly }) // held for a moment only
		if len(w.Claims) > 0 {
			held[w.Owner.Ref] = append(held[w.Owner.Ref], w.Claims...)
			h.ledger.Replace(w.Owner, held[w.Owner.Ref])
			h.pods[w.Owner.Ref], h.objects[w.Owner.Ref] = w, pod
		}
	}
	return h
}

func (h *holdings) hasNode(name string) bool { return slices.Contains(h.nodeNames(), name) }

func (h *holdings) nodeNames() []string {
	var names []string
	for _, node := range h.nodes {
		names = append(names, node.Name)
	}
	slices.Sort(names)
	return names
}

// listed returns what is held, of a namespace, on a node and on a number if they are named.
func (h *holdings) listed(namespace, node string, asked *number) []report.HeldPort {
	return slices.DeleteFunc(h.all(), func(held report.HeldPort) bool {
		return asked != nil && !asked.is(held.Claim.Socket) || namespace != "" && held.Holder.Namespace != namespace ||
			node != "" && held.Node != node && held.Node != report.EveryNode
	})
}

// all returns everything that is held, with who else holds it.
func (h *holdings) all() []report.HeldPort {
	all := h.daemons()
	byPort := map[uint16][]int{}
	for i, d := range all {
		byPort[d.Claim.Port] = append(byPort[d.Claim.Port], i)
	}
	held := h.ledger.Snapshot()
	for _, c := range held.Claims() {
		one := report.HeldPort{Claim: c, Node: placeOf(c, held), Holder: held.Root(c.Owner), Since: h.since(c.Owner.Ref)}
		for _, other := range held.Conflicts(c) {
			one.Conflicts = append(one.Conflicts, check.Holder{Ref: held.Root(other.Held.Owner), Field: other.Held.Field})
		}
		for _, i := range byPort[c.Port] {
			if d := &all[i]; h.meetsDaemon(one, *d) {
				one.Conflicts = append(one.Conflicts, check.Holder{Ref: d.Holder, Field: d.Claim.Field})
				d.Conflicts = append(d.Conflicts, check.Holder{Ref: one.Holder, Field: c.Field})
			}
		}
		all = append(all, one)
	}
	for i := range all {
		all[i].Conflicts = eachOnce(all[i].Conflicts)
	}
	return all
}

func eachOnce(holders []check.Holder) []check.Holder {
	slices.SortStableFunc(holders, func(a, b check.Holder) int { return a.Compare(b.Ref) })
	return slices.CompactFunc(holders, func(a, b check.Holder) bool { return a.Ref == b.Ref })
}

// placeOf is where a claim is held: what has an address is held on its node, and everywhere if no node has it.
func placeOf(c ports.Claim, held *ledger.Snapshot) string {
	if node, ok := c.Scope.Node(); ok {
		return node
	}
	if addr, single := c.Address.Single(); single && c.Scope.Kind == ports.AtAddress {
		if node, _, known := held.NodeOf(addr); known {
			return node
		}
		return report.EveryNode
	}
	if c.Scope.Kind == ports.Undecided {
		return ""
	}
	return report.EveryNode
}

// since is from when on a pod or Service holds its ports.
func (h *holdings) since(owner ports.Ref) time.Time {
	switch object := h.objects[owner].(type) {
	case *corev1.Pod:
		return extract.Started(object)
	case *corev1.Service:
		return object.CreationTimestamp.Time
	default:
		return time.Time{}
	}
}

// daemons returns what the nodes' own daemons hold, and what nodes reserve by their annotation.
func (h *holdings) daemons() []report.HeldPort {
	var all []report.HeldPort
	daemon := func(r check.Reserved, node string) report.HeldPort {
		return report.HeldPort{Claim: ports.Claim{Socket: r.Socket, Kind: ports.HostNetwork}, Node: node, Holder: ports.Ref{Kind: check.DaemonKind, Name: r.Name}}
	}
	for _, r := range h.settings.Check.Reserved {
		if r.NodeLabel == "" {
			all = append(all, daemon(r, report.EveryNode))
		}
	}
	for _, node := range h.nodes {
		for _, r := range h.settings.Check.Reserved {
			if r.NodeLabel != "" && r.IsOn(node.Labels) {
				all = append(all, daemon(r, node.Name))
			}
		}
		reserved, _ := extract.ReservedPorts(node) // what is malformed in it reserves nothing
		for _, socket := range reserved {
			all = append(all, report.HeldPort{
				Claim: ports.Claim{Socket: socket, Kind: ports.HostNetwork, Field: "metadata.annotations[" + extract.ReservedPortsAnnotation + "]"},
				Node:  node.Name, Holder: ports.Ref{APIVersion: "v1", Kind: check.NodeKind, Name: node.Name},
			})
		}
	}
	return all
}

// meetsDaemon reports whether a daemon holds a claim's port in the same place. It may run as a pod itself.
func (h *holdings) meetsDaemon(one, daemon report.HeldPort) bool {
	switch {
	case !daemon.Claim.Overlaps(one.Claim.Socket):
		return false
	case one.Claim.Scope.Kind == ports.AtAddress && one.Node == report.EveryNode:
		return false // packets for an address of no node
	case daemon.Holder.Kind == check.DaemonKind && (check.Reserved{Name: daemon.Holder.Name}).IsRunBy(h.pods[one.Claim.Owner.Ref]):
		return false
	default:
		return daemon.Node == one.Node || daemon.Node == report.EveryNode || one.Node == report.EveryNode
	}
}
