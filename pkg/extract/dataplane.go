package extract

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
)

// readDataPlane decides where the data plane serves node ports: kube-proxy's nftables mode on primary addresses unless
// told otherwise, its iptables mode on 127.0.0.0/8 too, the others never there, and none on ::1. One that is unknown is taken
// to serve them on the nodes' addresses, as all do.
func (s *Settings) readDataPlane(d configv1alpha1.DataPlane) error {
	s.dataPlane = d
	s.ServiceProxy, s.HostPorts = string(d.ServiceProxy), string(d.HostPort)
	s.NodePorts = NodePortAddresses{
		ServiceLB:    d.ServiceLB,
		IPv4Loopback: d.ServiceProxy == configv1alpha1.ServiceProxyIPTables && (d.LocalhostNodePorts == nil || *d.LocalhostNodePorts),
		Primary:      d.ServiceProxy == configv1alpha1.ServiceProxyNFTables && len(d.NodePortAddresses) == 0,
	}
	for i, text := range d.NodePortAddresses {
		if text == configv1alpha1.PrimaryAddresses {
			s.NodePorts.Primary = true
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("dataplane.nodePortAddresses[%d]: %w", i, err)
		}
		s.NodePorts.Prefixes = append(s.NodePorts.Prefixes, prefix)
	}
	return nil
}

// WithEvidence returns the settings with what objects show of the data plane in place of what the configuration leaves unknown.
func (s *Settings) WithEvidence(objects []runtime.Object) *Settings {
	e := evidenceOf(objects)
	d := s.dataPlane
	if d.ServiceProxy == configv1alpha1.ServiceProxyUnknown {
		d.ServiceProxy = e.serviceProxy()
	}
	if d.HostPort == configv1alpha1.HostPortUnknown {
		d.HostPort = e.hostPort
	}
	return s.with(d)
}

// With returns the settings with a data plane in place of the configuration's; what is "" stays.
func (s *Settings) With(serviceProxy configv1alpha1.ServiceProxy, hostPort configv1alpha1.HostPortMapper) *Settings {
	d := s.dataPlane
	d.ServiceProxy, d.HostPort = cmp.Or(serviceProxy, d.ServiceProxy), cmp.Or(hostPort, d.HostPort)
	return s.with(d)
}

func (s *Settings) with(d configv1alpha1.DataPlane) *Settings {
	with := *s
	if with.readDataPlane(d) != nil {
		return s // its addresses were read before: this cannot be
	}
	return &with
}

// ClusterCIDRs returns kube-proxy's --cluster-cidr, as its DaemonSet or its configuration file among objects says; nil: none of them
// does.
func ClusterCIDRs(objects []runtime.Object) []netip.Prefix {
	e := evidenceOf(objects)
	if e.proxy == nil {
		return nil
	}
	text, hasFile := e.flag("--cluster-cidr")
	if hasFile {
		text = ""
		if e.config != nil {
			text = fileValue(e.config, "clusterCIDR")
		}
	}
	var all []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		if p, err := netip.ParsePrefix(strings.TrimSpace(part)); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}

// fileValue returns a value of kube-proxy's configuration file; "" if it is not there.
func fileValue(config *corev1.ConfigMap, key string) string {
	found := regexp.MustCompile(`(?m)^` + key + `:\s*"?([^"\n]*?)"?\s*$`).FindStringSubmatch(config.Data["config.conf"])
	if found == nil {
		return ""
	}
	return found[1]
}

// evidence is what objects show of the data plane.
type evidence struct {
	proxy    *appsv1.DaemonSet // kube-proxy
	config   *corev1.ConfigMap // its configuration file
	another  bool              // there is an agent that may take kube-proxy's place
	hostPort configv1alpha1.HostPortMapper

	iptables, nftables bool // portmap's back ends that are configured
}

// otherProxies are the DaemonSets of agents that can serve node ports in kube-proxy's place, or before it.
func otherProxies() []string {
	return []string{"antrea-agent", "anetd", "cilium", "kube-router", "ovnkube-node"}
}

func evidenceOf(objects []runtime.Object) evidence {
	e := evidence{hostPort: configv1alpha1.HostPortUnknown}
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.DaemonSet:
			if o.Name == kubeProxy && o.Namespace == metav1.NamespaceSystem {
				e.proxy = o
			}
			e.another = e.another || slices.Contains(otherProxies(), o.Name)
		case *corev1.ConfigMap:
			if o.Name == kubeProxy && o.Namespace == metav1.NamespaceSystem {
				e.config = o
			}
			e.addNetwork(o)
		}
	}
	switch {
	case e.another: // it may map host ports itself
	case e.nftables && !e.iptables: // where configurations disagree nobody knows
		e.hostPort = configv1alpha1.HostPortPortmapNFTables
	case e.iptables && !e.nftables:
		e.hostPort = configv1alpha1.HostPortPortmapIPTables
	}
	return e
}

const kubeProxy = "kube-proxy"

// addNetwork looks for portmap in the CNI configuration that flannel and Calico install from a ConfigMap. The text need not be
// JSON yet: both have places in it to be filled in.
func (e *evidence) addNetwork(c *corev1.ConfigMap) {
	if c.Namespace != metav1.NamespaceSystem && c.Namespace != "kube-flannel" {
		return
	}
	for _, text := range c.Data {
		switch {
		case !regexp.MustCompile(`"type"\s*:\s*"portmap"`).MatchString(text):
		case regexp.MustCompile(`"backend"\s*:\s*"nftables"`).MatchString(text):
			e.nftables = true
		default:
			e.iptables = true
		}
	}
}

// serviceProxy is the mode of a kube-proxy that runs on all nodes, by its flag, else by its configuration file.
func (e *evidence) serviceProxy() configv1alpha1.ServiceProxy {
	if e.proxy == nil || e.another || e.isParked() {
		return configv1alpha1.ServiceProxyUnknown
	}
	mode, hasFile := e.flag("--proxy-mode")
	if hasFile { // then flags do not count
		if e.config == nil {
			return configv1alpha1.ServiceProxyUnknown
		}
		mode = fileValue(e.config, "mode")
	}
	switch found := configv1alpha1.ServiceProxy(mode); found {
	case "":
		return configv1alpha1.ServiceProxyIPTables // k8s.io/kubernetes cmd/kube-proxy/app, on Linux
	case configv1alpha1.ServiceProxyIPTables, configv1alpha1.ServiceProxyNFTables, configv1alpha1.ServiceProxyIPVS, configv1alpha1.ServiceProxyUserspace:
		return found
	case configv1alpha1.ServiceProxyNone, configv1alpha1.ServiceProxyUnknown: // no mode of kube-proxy
	}
	return configv1alpha1.ServiceProxyUnknown
}

// flag returns the value of a flag of kube-proxy, and whether it has a configuration file.
func (e *evidence) flag(name string) (found string, hasFile bool) {
	for i := range e.proxy.Spec.Template.Spec.Containers {
		c := &e.proxy.Spec.Template.Spec.Containers[i]
		words := strings.Fields(strings.Join(slices.Concat(c.Command, c.Args), " ")) // a flag and its value may be two
		for j, word := range words {
			flag, value, isJoined := strings.Cut(word, "=")
			if !isJoined && j+1 < len(words) {
				value = words[j+1]
			}
			switch flag {
			case name:
				found = value
			case "--config":
				hasFile = true
			}
		}
	}
	return found, hasFile
}

// isParked reports whether kube-proxy is kept off the nodes by a selector, as is done where something else takes its place.
func (e *evidence) isParked() bool {
	for key := range e.proxy.Spec.Template.Spec.NodeSelector {
		if key != corev1.LabelOSStable {
			return true
		}
	}
	return false
}
