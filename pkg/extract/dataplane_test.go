package extract_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
)

// TestEvidence: what objects show of the data plane counts where the configuration says nothing, and what may serve ports beside
// kube-proxy leaves it unknown.
func TestEvidence(t *testing.T) {
	daemons := func(name, args, more string) string {
		return "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: " + name + ", namespace: kube-system}, spec: {template: {spec: {" + more + "containers: [{name: c, command: [/usr/local/bin/x], args: [" + args + "]}]}}}}"
	}
	proxy := daemons("kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "nodeSelector: {kubernetes.io/os: linux}, ")
	config := func(mode string) string {
		return "{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-proxy, namespace: kube-system}, data: {config.conf: \"kind: KubeProxyConfiguration\\nmode: " + mode + "\\nnftables:\\n  mode: x\\n\"}}"
	}
	network := func(namespace, plugin string) string {
		return "{apiVersion: v1, kind: ConfigMap, metadata: {name: cni, namespace: " + namespace + "}, data: {cni-conf.json: '{\"plugins\": [{\"type\": \"bridge\"}, {" + plugin + "}]}'}}"
	}
	const portmap = `"type" : "portmap", "mtu": __MTU__`
	const unknown = "dataplane: {serviceProxy: unknown, hostPort: unknown}\n"
	for _, c := range []struct {
		why, file string
		objects   []string
		want      string
	}{
		{"nothing", "", nil, "unknown unknown [* (not loopback)]"},
		{"what is written counts", "dataplane: {serviceProxy: ipvs, hostPort: none}\n", []string{proxy, config(`\"\"`), network("kube-flannel", portmap)}, "ipvs none [* (not loopback)]"},
		{"one of the two is written", "dataplane: {hostPort: none}\n", []string{proxy, config("nftables"), network("kube-flannel", portmap)}, "nftables none [* (primary)]"},
		{"kube-proxy by its default", unknown, []string{proxy, config(`\"\"`)}, "iptables unknown [* (not ::1)]"},
		{"kube-proxy by its file", unknown, []string{config("ipvs"), proxy}, "ipvs unknown [* (not loopback)]"},
		{"which goes over flags", unknown, []string{config("ipvs"), daemons("kube-proxy", "--proxy-mode=nftables, --config=x", "")}, "ipvs unknown [* (not loopback)]"},
		{"a file that is not given", unknown, []string{proxy}, "unknown unknown [* (not loopback)]"},
		{"a file alone proves nothing", unknown, []string{config("ipvs")}, "unknown unknown [* (not loopback)]"},
		{"a flag", unknown, []string{daemons("kube-proxy", "--v=2, --proxy-mode=nftables", "")}, "nftables unknown [* (primary)]"},
		{"a flag and its value apart", unknown, []string{daemons("kube-proxy", "--proxy-mode, ipvs", "")}, "ipvs unknown [* (not loopback)]"},
		{"no flag", unknown, []string{daemons("kube-proxy", "", "")}, "iptables unknown [* (not ::1)]"},
		{"of another system", unknown, []string{daemons("kube-proxy", "--proxy-mode=kernelspace", "")}, "unknown unknown [* (not loopback)]"},
		{"off all nodes", unknown, []string{daemons("kube-proxy", "", "nodeSelector: {non-calico: \"true\"}, ")}, "unknown unknown [* (not loopback)]"},
		{"Cilium, whose part is not known", unknown, []string{daemons("kube-proxy", "", ""), daemons("cilium", "", ""), network("kube-system", portmap)}, "unknown unknown [* (not loopback)]"},
		{"an agent that leaves Services alone", unknown, []string{daemons("kube-proxy", "", ""), daemons("calico-node", "", "")}, "iptables unknown [* (not ::1)]"},
		{"portmap", unknown, []string{network("kube-flannel", portmap)}, "unknown portmap-iptables [* (not loopback)]"},
		{"portmap with nft", unknown, []string{network("kube-system", portmap+`, "backend": "nftables"`)}, "unknown portmap-nftables [* (not loopback)]"},
		{"somebody's own file", unknown, []string{network("shop", portmap)}, "unknown unknown [* (not loopback)]"},
		{"no portmap", unknown, []string{network("kube-system", `"type": "tuning"`)}, "unknown unknown [* (not loopback)]"},
	} {
		settings, err := extract.NewSettings(mustConfigure(c.file))
		if err != nil {
			t.Fatal(err)
		}
		in, err := manifest.Parse("in", []byte(strings.Join(c.objects, "\n---\n")), manifest.Scheme())
		if err != nil && len(c.objects) > 0 {
			t.Fatal(err)
		}
		var objects []runtime.Object
		for _, o := range in.Objects {
			objects = append(objects, o.Object)
		}
		s := settings.WithEvidence(objects)
		var on []string
		for _, a := range s.NodePorts.On(true, true) {
			on = append(on, a.String())
		}
		if got := s.ServiceProxy + " " + s.HostPorts + " [" + strings.Join(on, " ") + "]"; got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
}
