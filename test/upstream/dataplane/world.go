// Package dataplane holds the renderers of pkg/rules to the components themselves: random worlds are given to the real
// proxiers in process, as objects of the API, and to ours, and what they install is compared.
package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
)

// Case is a random cluster as one node sees it: the objects that a service proxy is told of, the addresses that the node
// has, and how the proxy was started.
type Case struct {
	Seed         uint64
	Node         *corev1.Node
	Interfaces   []netip.Addr // without loopback
	Services     []*corev1.Service
	Slices       []*discoveryv1.EndpointSlice
	ServiceCIDRs *networkingv1.ServiceCIDR // nil: not known
	Proxy        rules.Proxy
}

// World is the case as our renderers are given it.
func (c *Case) World() *rules.World {
	objects := []runtime.Object{c.Node}
	for _, s := range c.Services {
		objects = append(objects, s)
	}
	for _, s := range c.Slices {
		objects = append(objects, s)
	}
	if c.ServiceCIDRs != nil {
		objects = append(objects, c.ServiceCIDRs)
	}
	w, err := extract.World(objects, extract.WorldOptions{Node: c.Node.Name, Addresses: c.Interfaces, Proxy: c.Proxy})
	if err != nil {
		panic(err) // the Node is there
	}
	return w
}

// Size bounds a case.
type Size struct {
	Services int // at most
	Large    int // one in so many cases has more than a thousand endpoints; 0: none
}

// Normal is the size of the cases of tests.
func Normal() Size { return Size{Services: 8, Large: 5} }

// Draw returns the case that a seed stands for. What it holds passes the API server's validation, but for fields left over
// from a change of type, and nothing in it leaves open what the real proxiers do, but for the order of Services.
func Draw(seed uint64, size Size) *Case {
	d := &draw{Rand: rand.New(rand.NewPCG(seed, 0)), nodePort: 30000}
	d.Case = &Case{Seed: seed, Proxy: d.proxy()}
	d.node()
	if d.one(3) {
		d.ServiceCIDRs = &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
		for _, f := range d.families {
			d.ServiceCIDRs.Spec.CIDRs = append(d.ServiceCIDRs.Spec.CIDRs, byFamily(f, "10.96.0.0/16", "fd00:10:96::/112"))
		}
	}
	for i := range 1 + d.IntN(size.Services) {
		d.service(fmt.Sprintf("s%d", i))
	}
	if size.Large > 0 && d.one(size.Large) {
		d.large()
	}
	return d.Case
}

// draw is a case in the making. Addresses and node ports are numbered, so that no two objects share one by chance.
type draw struct {
	*rand.Rand
	*Case
	families []corev1.IPFamily
	nodePort int32
	address  int
}

func (d *draw) one(in int) bool { return d.IntN(in) == 0 }

func pick[T any](d *draw, from ...T) T { return from[d.IntN(len(from))] }

func (d *draw) next() int {
	d.address++
	return d.address
}

func (d *draw) nextNodePort() int32 {
	d.nodePort++
	return d.nodePort
}

func byFamily[T any](f corev1.IPFamily, v4, v6 T) T {
	if f == corev1.IPv4Protocol {
		return v4
	}
	return v6
}

func (d *draw) proxy() rules.Proxy {
	d.families = pick(d, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol},
		[]corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol})
	p := rules.Proxy{
		MasqueradeAll:      d.one(5),
		MasqueradeBit:      pick(d, 14, 14, 14, 1, 7, 31),
		LocalhostNodePorts: !d.one(3),
		LiberalConntrack:   d.one(3),
		Counters:           !d.one(3),
		Scheduler:          pick(d, "", "", "rr", "lc", "mh"),
	}
	switch d.IntN(5) {
	case 0:
		p.PrimaryNodePorts = true
	case 1:
		p.PrimaryNodePorts = d.one(3)
		for _, s := range []string{"192.0.2.0/24", "192.0.2.11/32", "127.0.0.0/8", "127.0.0.1/32", "10.244.0.0/16", "203.0.113.0/24", "2001:db8::/64", "::1/128", "fd00:10:244:1::/64", "0.0.0.0/0", "::/0"} {
			if d.one(4) {
				p.NodePortAddresses = append(p.NodePortAddresses, netip.MustParsePrefix(s))
			}
		}
	default: // all
	}
	switch d.IntN(10) {
	case 0, 1:
		p.Detector.Bridge = "cni0"
	case 2, 3:
		p.Detector.InterfacePrefix = "veth"
	case 4, 5: // none
	case 6:
		p.Detector.CIDRs = []netip.Prefix{netip.MustParsePrefix(pick(d, "10.244.0.0/16", "fd00:10:244::/48"))}
	default:
		p.Detector.CIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48"), netip.MustParsePrefix("10.245.0.0/16")}
	}
	return p
}

// The nodes of all cases; the first is ours.
var nodeNames = []string{"n1", "n2", "n3"}

func (d *draw) node() {
	d.Node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeNames[0], Labels: map[string]string{}}}
	if !d.one(5) {
		d.Node.Labels[corev1.LabelTopologyZone] = pick(d, "za", "zb")
	}
	known := !d.one(5) // else the proxy takes loopback for the node's address
	for _, f := range d.families {
		primary, second := byFamily(f, "192.0.2.1", "2001:db8::1"), byFamily(f, "192.0.2.11", "2001:db8::11")
		if known {
			d.Node.Status.Addresses = append(d.Node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: primary})
		}
		d.Node.Spec.PodCIDRs = append(d.Node.Spec.PodCIDRs, byFamily(f, "10.244.1.0/24", "fd00:10:244:1::/64"))
		for _, s := range []string{primary, second, byFamily(f, "10.244.1.1", "fd00:10:244:1::1"), byFamily(f, "203.0.113.1", "fe80::1")} {
			if s == primary || !d.one(3) {
				d.Interfaces = append(d.Interfaces, netip.MustParseAddr(s))
			}
		}
	}
	d.Node.Spec.PodCIDR = d.Node.Spec.PodCIDRs[0]
}
