package packets

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// traceOptions are the flags of `portcullis trace`.
type traceOptions struct {
	dataPlane
	started []string
	from    string
	to      string
	output  string
	listing []string
}

// Trace returns the command trace.
func Trace() *cobra.Command {
	o := &traceOptions{}
	cmd := &cobra.Command{
		Use:   "trace -f PATH… --node NAME --from WHERE --to ADDRESS:PORT/PROTOCOL",
		Short: "Follow a packet through the rules of a node",
		Long: `Follow the first packet of a connection through the rules that kube-proxy and portmap install on a node, or through those
of a listing from it: which rules match, in order, where the packet ends, and who would have got it otherwise.

A packet comes --from external (an address outside of every CIDR given), pod (a free address of the node's podCIDR), node (a
process of the node), loopback, or an ADDRESS. If the result depends on the order in which the components started, and
--started does not give it, both orders are followed.

Exit code: 0, 1 if some of the files could not be read, 2 bad usage, or a data plane that is said to be unknown.`,
		Example: `  portcullis trace -f cluster.yaml --node n1 --from external --to 192.0.2.1:30007/tcp
  portcullis trace -f cluster.yaml --node n1 --service-proxy nftables --started host-port,service-proxy \
    --from loopback --to 127.0.0.1:8080/TCP -o json
  iptables-save | portcullis trace -f node.yaml --listing - --from external --to 192.0.2.1:30007/TCP`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.started, "started", nil, "the components in the `ORDER` of their start: service-proxy,host-port or host-port,service-proxy")
	f.StringVar(&o.from, "from", "external", "`WHERE` the packet comes from: external, pod, node, loopback or an address")
	f.StringVar(&o.to, "to", "", "where it is sent to: `ADDRESS:PORT/PROTOCOL`")
	f.StringVarP(&o.output, "output", "o", "text", "`FORM`: text or json")
	f.StringArrayVar(&o.listing, "listing", nil, "follow it through the rules of `FILE` (iptables-save, nft -j list ruleset), or - for standard input, instead of those rendered; may be repeated, as a node may have both")
	return cmd
}

func (o *traceOptions) run(stdin io.Reader, stdout, stderr io.Writer) error {
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("--output %q is not one of text, json", o.output)
	}
	if err := o.validate(); err != nil {
		return err
	}
	started, err := parseStarted(o.started)
	if err != nil {
		return err
	}
	o.isListed = len(o.listing) > 0
	plane, w, incomplete, err := o.world(stdin, stderr)
	if err != nil {
		return err
	}
	if err := unknown(plane); err != nil && !o.isListed {
		return err
	}
	if plane.Started = started; !o.isListed && cli.AssumePodCIDRs(w) {
		cli.PrintLine(stderr, "assumed, as no object tells: kube-proxy knows pods by the node's podCIDR (--cluster-cidr)")
	}
	packet, err := o.packet(w)
	if err != nil {
		return err
	}
	host := explain.Host(w)
	var answer explain.Answer
	if len(o.listing) == 0 {
		answer = plane.Trace(w, host, packet)
	} else {
		listed := &rules.Ruleset{}
		for _, path := range o.listing {
			rs, err := readListing(path, rules.FamilyOf(packet.Dst.Addr()), stdin)
			if err != nil {
				return err
			}
			listed.Tables = append(listed.Tables, rs.Tables...)
		}
		answer = explain.Trace(slices.Collect(walk.Orders(listed)), host, packet)
	}
	t := report.NewTrace(answer)
	if o.output == "json" {
		return cmp.Or(t.WriteJSON(stdout), incomplete)
	}
	return cmp.Or(t.WriteText(stdout, packet), incomplete)
}

func parseStarted(names []string) (explain.Order, error) {
	if len(names) == 0 {
		return nil, nil
	}
	var order explain.Order
	for _, n := range names {
		order = append(order, explain.Component(n))
	}
	for _, known := range explain.Orders() {
		if slices.Equal(order, known) {
			return order, nil
		}
	}
	return nil, fmt.Errorf("--started %q is not one of service-proxy,host-port and host-port,service-proxy", strings.Join(names, ","))
}

// packet makes the packet that the flags describe.
func (o *traceOptions) packet(w *rules.World) (walk.Packet, error) {
	to, protocol, err := parseTo(o.to)
	if err != nil {
		return walk.Packet{}, err
	}
	from, err := explain.PacketFrom(w, o.from, to)
	if err != nil {
		return walk.Packet{}, fmt.Errorf("--from: %w", err)
	}
	from.Protocol = protocol
	return from, nil
}

func parseTo(s string) (netip.AddrPort, ports.Protocol, error) {
	if s == "" {
		return netip.AddrPort{}, 0, errors.New("where to? Write --to ADDRESS:PORT/PROTOCOL, as 192.0.2.1:30007/TCP")
	}
	address, name, ok := strings.Cut(s, "/")
	if !ok {
		name = "TCP"
	}
	protocol, err := ports.ParseProtocol(strings.ToUpper(name))
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("--to %q: %w", s, err)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("--to %q: write ADDRESS:PORT/PROTOCOL, an IPv6 address in brackets: %w", s, err)
	}
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), protocol, nil
}
