package packets

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
)

// rulesOptions are the flags of `portcullis rules`.
type rulesOptions struct {
	dataPlane
	family string
	output string
	diff   string
}

// Rules returns the command rules.
func Rules() *cobra.Command {
	o := &rulesOptions{}
	cmd := &cobra.Command{
		Use:   "rules -f PATH… --node NAME",
		Short: "Show the rules that kube-proxy and portmap install on a node",
		Long: `Render exactly what kube-proxy 1.37 and the CNI plugin portmap v1.9.1 install on a node for the objects in files, without
that node. The objects are Nodes, Services with their status, EndpointSlices or Endpoints, Pods with their status, and
ServiceCIDRs; others are passed over.

The forms save and restore are those of iptables, ip6tables with --family ipv6; restore loads into an empty network
namespace as it is, and so does nft, which has both families. What the kernel must hold first, the ipsets of ipvs mode and
its virtual servers, is printed by ipset and ipvsadm.

With --diff, say which rules of a listing of the node (iptables-save, or nft -j list ruleset) are missing, stale or foreign.

Exit code: 0, 1 if some of the files could not be read, or with --diff if there is a difference, 2 bad usage.`,
		Example: `  kubectl get nodes,services,endpointslices,pods -A -o yaml > cluster.yaml
  portcullis rules -f cluster.yaml --node n1 --cluster-cidr 10.244.0.0/16
  portcullis rules -f cluster.yaml --node n1 --service-proxy nftables --host-port portmap-nftables -o nft
  iptables-save | portcullis rules -f cluster.yaml --node n1 --diff -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.family, "family", "ipv4", "`FAMILY` of the rules of iptables and ipset: ipv4 or ipv6")
	f.StringVarP(&o.output, "output", "o", "save", "`FORM`: restore, save, nft, ipvsadm, ipset or json")
	f.StringVar(&o.diff, "diff", "", "compare with a listing of the node in `FILE`, or - for standard input")
	return cmd
}

func parseFamily(s string) (rules.Family, error) {
	switch s {
	case "ipv4":
		return rules.IPv4, nil
	case "ipv6":
		return rules.IPv6, nil
	default:
		return 0, fmt.Errorf("--family %q is not one of ipv4, ipv6", s)
	}
}

func (o *rulesOptions) run(stdin io.Reader, stdout, stderr io.Writer) error {
	family, err := parseFamily(o.family)
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	write, ok := map[string]func(*rules.Ruleset) error{
		"restore": printed(stdout, func(r *rules.Ruleset) string { return text.Restore(r, rules.XTables, family) }),
		"save":    printed(stdout, func(r *rules.Ruleset) string { return text.Save(r, rules.XTables, family) }),
		"nft":     printed(stdout, text.NFT),
		"ipvsadm": printed(stdout, text.IPVSAdm),
		"ipset":   printed(stdout, func(r *rules.Ruleset) string { return text.IPSet(r, family) }),
		"json":    func(r *rules.Ruleset) error { return report.WriteRuleSet(stdout, r) },
	}[o.output]
	if !ok {
		return fmt.Errorf("--output %q is not one of restore, save, nft, ipvsadm, ipset, json", o.output)
	}
	plane, w, incomplete, err := o.world(stdin, stderr)
	if err != nil {
		return err
	}
	if err := unknown(plane); err != nil {
		cli.PrintLine(stderr, "not all rules are here: %v", err)
	}
	rs := plane.Rules(w)
	if o.diff != "" {
		return cmp.Or(o.compare(rs, family, stdin, stdout), incomplete)
	}
	if o.output != "json" {
		if err := holdNames(w); err != nil {
			return err
		}
	}
	if err := o.prints(plane); err != nil {
		return err
	}
	return cmp.Or(write(rs), incomplete)
}

// prints returns an error if a form shows nothing of what a plane installs: it would look as if there were no rules.
func (o *rulesOptions) prints(p explain.Plane) error {
	const save, nft, ipvs = 1, 2, 4
	proxies := map[explain.ServiceProxy]int{explain.IPTables: save, explain.NFTables: nft, explain.IPVS: save | ipvs, explain.Userspace: save}
	mappers := map[explain.HostPortMapper]int{explain.PortmapIPTables: save, explain.PortmapNFTables: nft}
	forms := map[string]int{"save": save, "restore": save, "nft": nft, "ipvsadm": ipvs, "ipset": ipvs}
	installed := proxies[p.ServiceProxy] | mappers[p.HostPorts]
	if shown, ok := forms[o.output]; !ok || installed == 0 || installed&shown != 0 {
		return nil
	}
	return fmt.Errorf("--output %s shows nothing of kube-proxy in mode %s and host ports by %s: use another form, or name others with --service-proxy and --host-port",
		o.output, p.ServiceProxy, p.HostPorts)
}

// holdNames refuses names that Kubernetes does not accept: what is behind a newline would be a rule of its own to the tool that
// reads what is printed.
func holdNames(w *rules.World) error {
	hold := func(what fmt.Stringer, names ...string) error {
		for _, name := range names {
			if report.Escape(name) != name {
				return fmt.Errorf("%s: Kubernetes does not accept the name %q; correct it, or print the rules with -o json", what, name)
			}
		}
		return nil
	}
	for _, s := range w.Services {
		if err := hold(s.Ref, s.Ref.Namespace, s.Ref.Name); err != nil {
			return err
		}
		for _, p := range s.Ports {
			if err := hold(s.Ref, p.Name); err != nil {
				return err
			}
		}
	}
	for _, p := range w.Pods {
		if err := hold(p.Ref, p.SandboxID, w.Portmap.Network); err != nil {
			return err
		}
	}
	return nil
}

func printed(w io.Writer, form func(*rules.Ruleset) string) func(*rules.Ruleset) error {
	return func(r *rules.Ruleset) error {
		_, err := io.WriteString(w, form(r))
		return err
	}
}

// compare tells the differences between what should be installed and what a listing says is.
func (o *rulesOptions) compare(want *rules.Ruleset, family rules.Family, stdin io.Reader, stdout io.Writer) error {
	have, err := readListing(o.diff, family, stdin)
	if err != nil {
		return err
	}
	drift := explain.Drift(want, have)
	if o.output == "json" {
		err = report.WriteDriftJSON(stdout, drift)
	} else {
		err = report.WriteDrift(stdout, drift)
	}
	if wrong := slices.ContainsFunc(drift, func(d explain.Difference) bool { return d.Kind != explain.Foreign }); err == nil && wrong {
		return &cli.FindingsError{N: len(drift)}
	}
	return err
}

// readListing reads what iptables-save, or for IPv6 ip6tables-save, or nft -j list ruleset printed.
func readListing(path string, family rules.Family, stdin io.Reader) (*rules.Ruleset, error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	const limit = 256 << 20
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: is larger than %d MiB", path, limit>>20)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%s: the listing is empty: iptables-save and nft print nothing unless root runs them, on the node", path)
	}
	var rs *rules.Ruleset
	if listing := string(bytes.TrimSpace(data)); strings.HasPrefix(listing, "{") {
		rs, err = text.ParseNFTJSON(listing)
	} else {
		rs, err = text.ParseSave(string(data), rules.XTables, family)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rs, nil
}
