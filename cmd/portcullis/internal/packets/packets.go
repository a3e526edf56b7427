// Package packets has the commands rules and trace, which show the packet rules of a node and follow a packet through them,
// without that node.
//
// dataPlane are the flags that both have: the objects, the node, and how its kube-proxy and portmap are started. world reads
// the objects by package source, settles what installs rules, and has pkg/extract make a rules.World of them. rules has
// pkg/explain render it and pkg/rules/text print it, or compares it with a listing of the node; trace has pkg/explain follow
// the packet of --from and --to through it, or through a listing.
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
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// dataPlane are the flags that say of which node the rules are, and how its components were started.
type dataPlane struct {
	source.FileFlags
	files             []string
	configFile        string
	node              string
	serviceProxy      string
	hostPort          string
	clusterCIDRs      []string
	nodePortAddresses []string
	nodeAddresses     []string
	masqueradeAll     bool
	cniNetwork        string
	podPrefixLength   int
	isListed          bool // the rules are those of a listing
}

func (d *dataPlane) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&d.files, "filename", "f", nil, "`PATH` of the objects: a file, a folder (with all below it) or -; may be repeated")
	d.FileFlags.AddFlags(f)
	f.StringVar(&d.node, "node", "", "`NAME` of the node; may be left out where there is only one")
	f.StringVar(&d.configFile, "config", "", "read the configuration from `FILE`: its data plane counts where no flag is given")
	f.StringVar(&d.serviceProxy, "service-proxy", "", "kube-proxy's `MODE`: iptables, nftables, ipvs, userspace, none or unknown; without it what the objects or the configuration say, else iptables")
	f.StringVar(&d.hostPort, "host-port", "", "`WHAT` maps host ports: portmap-iptables, portmap-nftables, none or unknown; without it what the objects or the configuration say, else portmap-iptables")
	f.StringSliceVar(&d.clusterCIDRs, "cluster-cidr", nil, "kube-proxy's --cluster-cidr, one `CIDR` a family; without it what the objects say")
	f.StringSliceVar(&d.nodePortAddresses, "node-port-addresses", nil, "kube-proxy's --nodeport-addresses: `CIDR`s, primary (the default with nftables), localhost or all (the default else)")
	f.StringSliceVar(&d.nodeAddresses, "node-address", nil, "`IP` that is local to the node beside those of the Node object")
	f.BoolVar(&d.masqueradeAll, "masquerade-all", false, "kube-proxy's --masquerade-all")
	f.StringVar(&d.cniNetwork, "cni-network", "", "`NAME` of the CNI network, which portmap writes into its rules")
	f.IntVar(&d.podPrefixLength, "pod-prefix-length", 0, "prefix `LENGTH` of the pods' addresses in the CNI result; without it that of the node's podCIDR, else the whole address")
}

// validate reports what the flags cannot mean.
func (d *dataPlane) validate() error {
	p := explain.Plane{
		ServiceProxy: cmp.Or(explain.ServiceProxy(d.serviceProxy), explain.IPTables),
		HostPorts:    cmp.Or(explain.HostPortMapper(d.hostPort), explain.PortmapIPTables),
	}
	return p.Validate()
}

// settle returns the settings with the data plane that counts: of the flags, else of the configuration, else of the objects, else
// kube-proxy and portmap with iptables, which is said.
func (d *dataPlane) settle(objects []runtime.Object, stderr io.Writer) (*extract.Settings, error) {
	settings, err := cli.ReadSettings(d.configFile)
	if err != nil {
		return nil, err
	}
	s := settings.WithEvidence(objects)
	serviceProxy, hostPort := configv1alpha1.ServiceProxy(d.serviceProxy), configv1alpha1.HostPortMapper(d.hostPort)
	var assumed, flags []string
	if serviceProxy == "" && s.ServiceProxy == string(configv1alpha1.ServiceProxyUnknown) {
		serviceProxy = configv1alpha1.ServiceProxyIPTables
		assumed, flags = append(assumed, "kube-proxy in iptables mode"), append(flags, "--service-proxy")
	}
	if hostPort == "" && s.HostPorts == string(configv1alpha1.HostPortUnknown) {
		hostPort = configv1alpha1.HostPortPortmapIPTables
		assumed, flags = append(assumed, "portmap with iptables"), append(flags, "--host-port")
	}
	if assumed != nil && !d.isListed {
		cli.PrintLine(stderr, "assumed, as no object tells: %s (%s)", strings.Join(assumed, ", "), strings.Join(flags, ", "))
	}
	return s.With(serviceProxy, hostPort), nil
}

// unknown returns an error where it is not known what a plane installs: a packet cannot be followed through that.
func unknown(p explain.Plane) error {
	var flags []string
	if p.ServiceProxy == explain.UnknownProxy {
		flags = append(flags, "--service-proxy")
	}
	if p.HostPorts == explain.UnknownMapper {
		flags = append(flags, "--host-port")
	}
	if flags == nil {
		return nil
	}
	return fmt.Errorf("which rules the node has is not known: name what installs them with %s", strings.Join(flags, " and "))
}

// objects reads the objects that are named. incomplete is an error if some of the files were not read.
func (d *dataPlane) objects(stdin io.Reader, stderr io.Writer) (objects []runtime.Object, incomplete, err error) {
	if len(d.files) == 0 {
		return nil, nil, errors.New("there are no objects: name a file, a folder or - with -f")
	}
	p := cli.Streams{Err: stderr}.Progress()
	in, err := d.Read(d.files, stdin, p)
	if err != nil {
		return nil, nil, err
	}
	found, incomplete, err := in.Existing(p)
	return source.Bare(found), incomplete, err
}

// world makes of the objects what the node's components see, and says which they are. incomplete is as for objects.
func (d *dataPlane) world(stdin io.Reader, stderr io.Writer) (p explain.Plane, w *rules.World, incomplete, err error) {
	objects, incomplete, err := d.objects(stdin, stderr)
	if err != nil {
		return p, nil, nil, err
	}
	settings, err := d.settle(objects, stderr)
	if err != nil {
		return p, nil, nil, err
	}
	p = explain.PlaneOf(settings.ServiceProxy, settings.HostPorts, !settings.NodePorts.IPv4Loopback)
	options, err := d.options(objects, settings)
	if err != nil {
		return p, nil, nil, err
	}
	if w, err = extract.World(withEndpoints(objects, stderr), options); err != nil {
		return p, nil, nil, err
	}
	for _, pod := range w.Pods {
		if len(pod.Addresses) == 0 {
			cli.PrintLine(stderr, "%s has no address yet, so that nothing is mapped for it", pod.Ref)
		}
	}
	return p, w, incomplete, nil
}

// withEndpoints adds to objects the EndpointSlices that the control plane makes of the pods among them, for Services of which none
// is given, and says of which Services nothing is known.
func withEndpoints(objects []runtime.Object, stderr io.Writer) []runtime.Object {
	services := extract.NewServices(objects)
	all := slices.Clone(objects)
	given := map[runtime.Object]bool{}
	for _, o := range objects {
		given[o] = true
	}
	var unknown []string
	for _, o := range objects {
		svc, ok := o.(*corev1.Service)
		if !ok || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == corev1.ClusterIPNone {
			continue
		}
		endpoints, known := services.Endpoints(svc)
		if !known {
			unknown = append(unknown, svc.Namespace+"/"+svc.Name)
		}
		for _, e := range endpoints {
			if !given[e] {
				all = append(all, e)
			}
		}
	}
	if unknown != nil {
		cli.PrintLine(stderr, "assumed to have no endpoints, as neither they nor ready pods are among the objects: %s", shortened(unknown))
	}
	return all
}

// shortened names the first few of many.
func shortened(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func (d *dataPlane) options(objects []runtime.Object, settings *extract.Settings) (extract.WorldOptions, error) {
	o := extract.WorldOptions{PodPrefixLength: d.podPrefixLength, Portmap: rules.Portmap{Network: d.cniNetwork, MarkBit: cli.PortmapMarkBit}}
	var err error
	if o.Node, err = nodeNamed(d.node, objects); err != nil {
		return o, err
	}
	if o.Addresses, err = parseAll("--node-address", d.nodeAddresses, netip.ParseAddr); err != nil {
		return o, err
	}
	o.Proxy = rules.Proxy{MasqueradeAll: d.masqueradeAll, LocalhostNodePorts: true, Counters: true}
	if len(d.nodePortAddresses) == 0 {
		o.Proxy.PrimaryNodePorts, o.Proxy.NodePortAddresses = settings.NodePorts.Primary, settings.NodePorts.Prefixes
	}
	if o.Proxy.Detector.CIDRs, err = parseAll("--cluster-cidr", d.clusterCIDRs, netip.ParsePrefix); err != nil {
		return o, err
	}
	if o.Proxy.Detector.CIDRs == nil {
		o.Proxy.Detector.CIDRs = extract.ClusterCIDRs(objects)
	}
	var networks []string
	for _, word := range d.nodePortAddresses {
		switch word { // kube-proxy's words (pkg/proxy/config)
		case configv1alpha1.PrimaryAddresses:
			o.Proxy.PrimaryNodePorts = true
		case "localhost":
			networks = append(networks, "127.0.0.0/8", "::1/128")
		case "all":
			networks = append(networks, "0.0.0.0/0", "::/0")
		default:
			networks = append(networks, word)
		}
	}
	if networks != nil {
		o.Proxy.NodePortAddresses, err = parseAll("--node-port-addresses", networks, netip.ParsePrefix)
	}
	return o, err
}

func parseAll[T any](flag string, texts []string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for _, text := range texts {
		value, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", flag, text, err)
		}
		all = append(all, value)
	}
	return all, nil
}

// nodeNamed returns the name of the node that is meant: the only one, if none is named.
func nodeNamed(name string, objects []runtime.Object) (string, error) {
	var names []string
	for _, object := range objects {
		if n, ok := object.(interface{ GetName() string }); ok && object.GetObjectKind().GroupVersionKind().Kind == "Node" {
			names = append(names, n.GetName())
		}
	}
	switch {
	case len(names) == 0:
		return "", errors.New("there is no Node among the objects: add one, as kubectl get nodes -o yaml prints it")
	case name == "" && len(names) == 1:
		return names[0], nil
	case name == "":
		return "", fmt.Errorf("which node? Name one of %s with --node", strings.Join(names, ", "))
	case !slices.Contains(names, name):
		return "", fmt.Errorf("there is no Node %q among the objects; there are %s", name, strings.Join(names, ", "))
	default:
		return name, nil
	}
}
