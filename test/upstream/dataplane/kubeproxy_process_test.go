//go:build linux

package dataplane

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/test/lab/child"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// kubeProxy is the program, which runs in a namespace that has the addresses of a case's node and nothing else.
type kubeProxy struct {
	in      *netns.Namespace
	process *child.Process
	logFile string
	api     net.Listener
}

func startKubeProxy(t testing.TB, cluster *cluster, c *Case, mode string, proxy rules.Proxy) *kubeProxy {
	t.Helper()
	dir := t.TempDir()
	config, err := yaml.Marshal(kubeProxyConfig(cluster.kubeconfig, c.Node.Name, mode, proxy))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &kubeProxy{in: netns.New(t), logFile: filepath.Join(dir, "kube-proxy.log")}
	// There are no dummy interfaces in every kernel; a bridge that nothing is plugged into does as well.
	lines := []string{"link add eth0 type bridge", "link set eth0 addrgenmode none up"}
	for _, a := range c.Interfaces {
		line := "addr add " + a.String() + " dev eth0"
		if a.Is6() {
			line += " nodad"
		}
		lines = append(lines, line)
	}
	p.in.Run(t, strings.Join(lines, "\n"), "ip", "-batch", "-")
	p.api = forward(t, p.in, cluster.address)
	// nsenter becomes the program that it starts.
	p.process, err = child.Start(child.Program{
		Name: "kube-proxy", Path: "nsenter", Log: p.logFile,
		Args: []string{"--net=" + p.in.Path(), cluster.kubeProxy, "--config=" + file, "--v=2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

// stop ends the program; stopping twice is no harm.
func (p *kubeProxy) stop() {
	p.process.Kill() // it has nothing to tidy up that does not go with the namespace
	_ = p.api.Close()
	p.in.Close()
}

// forward lets loopback of a namespace lead to an address of the machine's loopback, as it is written. Nothing of the
// network is changed.
func forward(t testing.TB, ns *netns.Namespace, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	err := ns.Do(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return // it was closed
			}
			go join(from, address)
		}
	}()
	return listener
}

func join(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return // as if nobody listened there
	}
	go func() {
		defer to.Close()
		_, _ = io.Copy(to, from)
	}()
	_, _ = io.Copy(from, to)
}

// kubeProxyConfig is the file that --config names. The sysctls of conntrack are left alone: some are the machine's.
func kubeProxyConfig(kubeconfig, node, mode string, p rules.Proxy) map[string]any {
	options := map[string]any{"masqueradeAll": p.MasqueradeAll, "masqueradeBit": p.MasqueradeBit, "minSyncPeriod": "100ms"}
	if mode == "iptables" {
		options["localhostNodePorts"] = p.LocalhostNodePorts
	}
	config := map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"hostnameOverride": node, "mode": mode, mode: options, "oomScoreAdj": 0,
		"clientConnection": map[string]any{"kubeconfig": kubeconfig},
		"conntrack":        map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s", "tcpBeLiberal": p.LiberalConntrack},
	}
	var nodePorts, clusterCIDRs []string
	if p.PrimaryNodePorts {
		nodePorts = append(nodePorts, "primary")
	}
	for _, a := range p.NodePortAddresses {
		nodePorts = append(nodePorts, a.String())
	}
	if mode == "nftables" && len(p.NodePortAddresses) == 0 && len(nodePorts) == 1 {
		nodePorts = nil // it is the default
	}
	for _, f := range both() { // it takes one of each
		if cidr, ok := p.Detector.CIDR(f); ok {
			clusterCIDRs = append(clusterCIDRs, cidr.String())
		}
	}
	config["nodePortAddresses"], config["clusterCIDR"] = nodePorts, strings.Join(clusterCIDRs, ",")
	switch {
	case p.Detector.Bridge != "":
		config["detectLocalMode"], config["detectLocal"] = "BridgeInterface", map[string]any{"bridgeInterface": p.Detector.Bridge}
	case p.Detector.InterfacePrefix != "":
		config["detectLocalMode"], config["detectLocal"] = "InterfaceNamePrefix", map[string]any{"interfaceNamePrefix": p.Detector.InterfacePrefix}
	}
	return config
}

const synced = `"SyncProxyRules complete" ipFamily="`

// awaitSync waits until the rules of both families are written, and nothing was written for a while.
func (p *kubeProxy) awaitSync(t testing.TB) {
	t.Helper()
	const quiet = 500 * time.Millisecond
	last, since := 0, time.Now()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		log := p.log(t)
		if n := strings.Count(log, synced); n != last {
			last, since = n, time.Now()
		}
		if strings.Contains(log, synced+"IPv4") && strings.Contains(log, synced+"IPv6") && time.Since(since) > quiet {
			return
		}
		select {
		case <-p.process.Done():
			t.Fatal(p.process.Explain(errors.New("waiting for its rules")))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal(p.process.Explain(errors.New("its rules are not written")))
		}
	}
}

func (p *kubeProxy) log(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// missed tells what kube-proxy did not see when it started, if that explains a difference. It asks for Services, nodes and
// ServiceCIDRs at one time and acts as soon as it knows the Services; of its own Node it may then know nothing for ever
// (the handler is added to an informer that runs, before it is told whom to call), and of the ServiceCIDRs it makes use
// only when it next writes everything, within the hour.
func (p *kubeProxy) missed(t testing.TB, c *Case, diff string) string {
	t.Helper()
	_, zone := c.Node.Labels[corev1.LabelTopologyZone]
	switch {
	case zone && strings.Contains(p.log(t), "topology hints for service since node is missing label"):
		return "the node's zone"
	case strings.Contains(diff, "Drop traffic to unallocated ClusterIPs"):
		return "the ServiceCIDRs"
	default:
		return ""
	}
}
