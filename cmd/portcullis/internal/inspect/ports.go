package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// portsOptions are the flags of `portcullis ports`.
type portsOptions struct {
	cli.ReportFlags
	source.FileFlags
	files         []string
	node          string
	allNamespaces bool
}

// Ports returns the command ports.
func Ports(version string) *cobra.Command {
	o := &portsOptions{}
	o.Version = version
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
			return o.run(ctx, cli.StreamsOf(cmd), args)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	f.StringVar(&o.node, "node", "", "only ports held on node `NAME`, including those held on every node")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "report on all namespaces, as without -n")
	o.FileFlags.AddFlags(f)
	o.ReportFlags.AddFlags(cmd, portsForms())
	f.Lookup("namespace").Usage = "only ports held by objects of `NAMESPACE`; without it all namespaces"
	return cmd
}

// atMostOne accepts one argument or none, and says usage where there are more.
func atMostOne(usage string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return errors.New(usage)
		}
		return nil
	}
}

// portsForms are those of a report, and one more for a person.
func portsForms() []cobra.Completion {
	return slices.Insert(cli.Forms("PortList"), 1, cobra.CompletionWithDesc("wide", "with pods and fields"))
}

func (o *portsOptions) run(ctx context.Context, s cli.Streams, args []string) error {
	settings, err := o.Settings(portsForms())
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
	namespace, err := o.OnlyNamespace(o.allNamespaces)
	if err != nil {
		return err
	}
	p := s.Progress()
	stop := p.Start()
	defer stop()
	kinds := source.Holders()
	if asked != nil {
		kinds = slices.Concat(kinds, source.Templates(), source.Restrictions())
	}
	in, err := source.Objects(ctx, &o.ClusterFlags, &o.FileFlags, o.files, kinds, s.In, p)
	if err != nil {
		return err
	}
	objects, incomplete, err := in.ExistingForms(p)
	if err != nil {
		return err
	}
	h := holdingsOf(objects, settings.WithEvidence(source.Bare(objects)))
	if o.node != "" && !h.hasNode(o.node) {
		return fmt.Errorf("there is no Node %q; there are %s", o.node, strings.Join(h.nodeNames(), ", "))
	}
	l := report.NewPortList(h.listed(namespace, o.node, asked))
	if asked != nil {
		if l.About, err = h.about(*asked, o.node, cmp.Or(namespace, metav1.NamespaceDefault), objects); err != nil {
			return err
		}
	}
	l.Namespace, l.Inputs = namespace, in.FileCounts()
	stop()
	wide := o.Output == "wide"
	if err := o.Write(s.Out, l, func(w io.Writer) error { return l.WriteTable(w, time.Now(), wide) }); err != nil {
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
