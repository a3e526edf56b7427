package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// portmapMarkBit is portmap's default markMasqBit.
const portmapMarkBit = 13

// dataPlane are the flags that say of which node the rules are, and how its components were started.
type dataPlane struct {
	reading
	files             []string
	node              string
	serviceProxy      string
	hostPort          string
	clusterCIDRs      []string
	nodePortAddresses []string
	nodeAddresses     []string
	masqueradeAll     bool
	cniNetwork        string
	podPrefixLength   int
}

func (d *dataPlane) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&d.files, "filename", "f", nil, "`PATH` of the objects: a file, a folder (with all below it) or -; may be repeated")
	d.reading.addFlags(f)
	f.StringVar(&d.node, "node", "", "`NAME` of the node; may be left out where there is only one")
	f.StringVar(&d.serviceProxy, "service-proxy", string(explain.IPTables), "kube-proxy's `MODE`: iptables, nftables, ipvs, userspace, none or unknown")
	f.StringVar(&d.hostPort, "host-port", string(explain.PortmapIPTables), "`WHAT` maps host ports: portmap-iptables, portmap-nftables, none or unknown")
	f.StringSliceVar(&d.clusterCIDRs, "cluster-cidr", nil, "kube-proxy's --cluster-cidr, one `CIDR` a family")
	f.StringSliceVar(&d.nodePortAddresses, "node-port-addresses", nil, "kube-proxy's --nodeport-addresses: `CIDR`s, primary (the default with nftables), localhost or all (the default else)")
	f.StringSliceVar(&d.nodeAddresses, "node-address", nil, "`IP` that is local to the node beside those of the Node object")
	f.BoolVar(&d.masqueradeAll, "masquerade-all", false, "kube-proxy's --masquerade-all")
	f.StringVar(&d.cniNetwork, "cni-network", "", "`NAME` of the CNI network, which portmap writes into its rules")
	f.IntVar(&d.podPrefixLength, "pod-prefix-length", 0, "prefix `LENGTH` of the pods' addresses in the CNI result; without it that of the node's podCIDR, else the whole address")
}

// plane returns what the flags say of the components.
func (d *dataPlane) plane() (explain.Plane, error) {
	p := explain.Plane{ServiceProxy: explain.ServiceProxy(d.serviceProxy), HostPorts: explain.HostPortMapper(d.hostPort)}
	return p, p.Validate()
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
	p := &progress{w: stderr}
	in, err := d.read(d.files, streams{in: stdin}, p)
	if err != nil {
		return nil, nil, err
	}
	found, incomplete, err := in.existing(p)
	return bare(found), incomplete, err
}

// world makes of the objects what the node's components see. incomplete is as for objects.
func (d *dataPlane) world(stdin io.Reader, stderr io.Writer) (w *rules.World, incomplete, err error) {
	objects, incomplete, err := d.objects(stdin, stderr)
	if err != nil {
		return nil, nil, err
	}
	options, err := d.options(objects)
	if err != nil {
		return nil, nil, err
	}
	if w, err = extract.World(objects, options); err != nil {
		return nil, nil, err
	}
	for _, pod := range w.Pods {
		if len(pod.Addresses) == 0 {
			printLine(stderr, "%s has no address yet, so that nothing is mapped for it", pod.Ref)
		}
	}
	return w, incomplete, nil
}

func (d *dataPlane) options(objects []runtime.Object) (extract.WorldOptions, error) {
	o := extract.WorldOptions{PodPrefixLength: d.podPrefixLength, Portmap: rules.Portmap{Network: d.cniNetwork, MarkBit: portmapMarkBit}}
	var err error
	if o.Node, err = nodeNamed(d.node, objects); err != nil {
		return o, err
	}
	if o.Addresses, err = parseAll("--node-address", d.nodeAddresses, netip.ParseAddr); err != nil {
		return o, err
	}
	o.Proxy = rules.Proxy{
		MasqueradeAll: d.masqueradeAll, LocalhostNodePorts: true, Counters: true,
		PrimaryNodePorts: d.serviceProxy == string(explain.NFTables) && len(d.nodePortAddresses) == 0,
	}
	if o.Proxy.Detector.CIDRs, err = parseAll("--cluster-cidr", d.clusterCIDRs, netip.ParsePrefix); err != nil {
		return o, err
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
	o.Proxy.NodePortAddresses, err = parseAll("--node-port-addresses", networks, netip.ParsePrefix)
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
