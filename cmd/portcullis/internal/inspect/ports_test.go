package inspect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// runCommand runs a program with the commands of this package.
func runCommand(t *testing.T, stdin string, args ...string) clitest.Outcome {
	t.Helper()
	return clitest.Run(t, stdin, args, Ports("development"), Why("development"))
}

// noDaemons is a configuration without daemons of the nodes, for shorter lists.
const noDaemons = "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, nodeReserved: [{name: kubelet, port: 10250, protocol: TCP}]}"

const (
	portsReserved = "{apiVersion: v1, kind: Node, metadata: {name: n3, annotations: {portcullis.dev/reserved-ports: \"9100/TCP\"}}}\n"
	portsWaiting  = "{apiVersion: v1, kind: Pod, metadata: {name: waits, namespace: shop}, spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080}]}]}}\n"
	portsHostNet  = "{apiVersion: v1, kind: Pod, metadata: {name: exporter, namespace: shop}, spec: {nodeName: n3, hostNetwork: true, containers: [{name: c, ports: [{containerPort: 9100, hostPort: 9100}]}]}}\n"
	portsKubelet  = "{apiVersion: v1, kind: Pod, metadata: {name: k, namespace: kube-system}, spec: {nodeName: n1, hostNetwork: true, containers: [{name: kubelet, ports: [{containerPort: 10250, hostPort: 10250}]}]}}\n"
)

const portsSay = `NODE     ADDRESS       PROTOCOL   PORT    KIND          HOLDER                   AGE   CONFLICT
<none>   *             TCP        8080    hostPort      Pod shop/waits           -     -
n1       *             TCP        8080    hostPort      Pod default/early        -     Pod shop/late
n1       *             TCP        8080    hostPort      Pod shop/late            -     Pod default/early
n3       *             TCP        9100    daemon        Node n3                  -     Pod shop/exporter
n3       *             TCP        9100    hostNetwork   Pod shop/exporter        -     Node n3
<all>    *             TCP        10250   daemon        kubelet, a node daemon   -     -
n1       *             TCP        10250   hostNetwork   Pod kube-system/k        -     -
<all>    * (not ::1)   TCP        30062   nodePort      Service default/app1     -     Deployment default/web
n1       *             TCP        30062   hostPort      Deployment default/web   -     Service default/app1
n2       *             TCP        30062   hostPort      Deployment default/web   -     Service default/app1
`

func portsCluster() string {
	all := strings.Join([]string{clitest.AuditCluster(), portsReserved, portsWaiting, portsHostNet, portsKubelet}, "---\n")
	lines := strings.Split(all, "\n")
	for i := range lines { // ages would pass
		if at := strings.Index(lines[i], "creationTimestamp: "); at >= 0 {
			rest := lines[i][at:]
			lines[i] = strings.TrimSuffix(lines[i][:at], " ") + strings.TrimPrefix(rest[strings.IndexAny(rest, ",}"):], ",")
		}
	}
	return strings.Join(lines, "\n")
}

func TestPorts(t *testing.T) {
	clitest.Folder(t, map[string]string{"state.yaml": portsCluster(), "config.yaml": noDaemons, "empty.yaml": clitest.AuditNodes, "broken.yaml": "a: ["})
	t.Setenv("KUBECONFIG", "/nowhere/at/all")
	for _, c := range []struct {
		args string
		exit int
		says string // all of it on stdout, or a part of what is wrong
	}{
		{"-f state.yaml --config config.yaml", 0, portsSay},
		{"-f state.yaml --config config.yaml -A -o table", 0, portsSay},
		{"-f state.yaml --config config.yaml --node n2", 0, "NODE    ADDRESS       PROTOCOL   PORT    KIND       HOLDER                   AGE   CONFLICT\n" +
			"<all>   *             TCP        10250   daemon     kubelet, a node daemon   -     -\n" +
			"<all>   * (not ::1)   TCP        30062   nodePort   Service default/app1     -     Deployment default/web\n" +
			"n2      *             TCP        30062   hostPort   Deployment default/web   -     Service default/app1\n"},
		{"-f state.yaml --config config.yaml -n shop -o wide", 0, "NODE     ADDRESS   PROTOCOL   PORT   KIND          HOLDER              AGE   CONFLICT            POD             FIELD\n" +
			"<none>   *         TCP        8080   hostPort      Pod shop/waits      -     -                   shop/waits      spec.containers[0].ports[0].hostPort\n" +
			"n1       *         TCP        8080   hostPort      Pod shop/late       -     Pod default/early   shop/late       spec.containers[0].ports[0].hostPort\n" +
			"n3       *         TCP        9100   hostNetwork   Pod shop/exporter   -     Node n3             shop/exporter   spec.containers[0].ports[0].hostPort\n"},
		{"-f state.yaml -n nobody", 0, "nobody in namespace nobody holds a port; leave -n out to see all namespaces\n"},

		{"-f state.yaml --node n9", 2, `there is no Node "n9"; there are n1, n2, n3`},
		{"0 -f state.yaml", 2, `"0": `},
		{"80/XYZ -f state.yaml", 2, "write NUMBER or NUMBER/PROTOCOL, as 30062/TCP"},
		{"80 81 -f state.yaml", 2, "name one port, for example: portcullis ports 30062"},
		{"-f state.yaml -n shop -A", 2, "-n shop and -A: leave one of the two out"},
		{"-f state.yaml -o sarif", 2, `--output "sarif" is not one of table, wide, json, yaml`},
		{"-f broken.yaml", 2, "broken.yaml:1"},
		{"-f state.yaml --config missing.yaml", 2, "missing.yaml"},
		{"", 2, "there is no kubeconfig that names a cluster: name one with --kubeconfig, or give the objects with -f"},
	} {
		o := runCommand(t, "", append([]string{"ports"}, strings.Fields(c.args)...)...)
		said := o.Stdout
		if c.exit == cli.ExitUsage && strings.Contains(o.Stderr, c.says) {
			said = c.says
		}
		if diff := gocmp.Diff(c.says, said); diff != "" || o.Exit != c.exit {
			t.Errorf("%s: exit %d, want %d %s (-want +got):\n%s", c.args, o.Exit, c.exit, o.Stderr, diff)
		}
	}
}

// TestPortsNumber: what is told of a number, in parts.
func TestPortsNumber(t *testing.T) {
	const ready = "status: {podIP: 10.244.0.%s, conditions: [{type: Ready, status: \"True\"}]}"
	serving := func(name, node, ip string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {app: s}}, spec: {nodeName: %s, containers: [{name: c, ports: [{name: http, containerPort: 8081}]}]}, "+ready+"}\n", name, node, ip)
	}
	service := "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: NodePort, clusterIP: 10.96.0.1, selector: {app: s}, ports: [{port: 80, targetPort: http, nodePort: 30070}]}}\n"
	const taker = "{apiVersion: v1, kind: Pod, metadata: {name: taker}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 30070}]}]}, status: {podIP: 10.244.0.30}}\n"
	const emptySlice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}, addressType: IPv4, ports: [{name: \"\", port: 8080}], endpoints: []}\n"
	clitest.Folder(t, map[string]string{
		"state.yaml": portsCluster(), "config.yaml": noDaemons, "pool.yaml": portsCluster() + clitest.And + clitest.TeamPool,
		"served.yaml":    strings.Join([]string{clitest.AuditNodes, clitest.IPTablesEverywhere, service, serving("a", "n1", "8"), serving("b", "n2", "9"), strings.Replace(serving("c", "n2", "10"), `"True"`, `"False"`, 1)}, clitest.And),
		"idle.yaml":      strings.Join([]string{clitest.AuditNodes, clitest.IPTablesEverywhere, service, strings.Replace(serving("c", "n2", "10"), `"True"`, `"False"`, 1)}, clitest.And),
		"full.yaml":      clitest.FourOnThree(),
		"roomy.yaml":     clitest.FourOnThree() + clitest.And + "{apiVersion: v1, kind: Node, metadata: {name: n4}}\n",
		"reserving.yaml": portsReserved,
		"closed.yaml": portsReserved + clitest.And + "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n" + clitest.And + "{apiVersion: portcullis.dev/v1alpha1, kind: PortPolicy, metadata: {name: closed}, " +
			"spec: {enforcement: Deny, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}, hostPorts: {mode: Forbidden}}}\n",
		"unshown.yaml":     strings.ReplaceAll(portsCluster(), clitest.IPTablesEverywhere, "{apiVersion: v1, kind: Node, metadata: {name: n9}}\n"),
		"unserved.yaml":    clitest.AuditNodes + clitest.And + service,
		"empty-slice.yaml": strings.Join([]string{clitest.AuditNodes, clitest.IPTablesEverywhere, service, taker, emptySlice}, clitest.And),
		"full-slice.yaml":  strings.Join([]string{clitest.AuditNodes, clitest.IPTablesEverywhere, service, taker, strings.Replace(emptySlice, "[]", "[{addresses: [10.244.0.9]}]", 1)}, clitest.And),
		"windows.yaml":     strings.Join([]string{strings.Replace(clitest.AuditNodes, "{name: n1}", "{name: n1, labels: {kubernetes.io/os: windows}}", 1), clitest.IPTablesEverywhere, service, serving("b", "n2", "9")}, clitest.And),
		"ipvs.yaml":        "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, dataplane: {serviceProxy: ipvs}}",
		"nft.yaml":         "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, dataplane: {serviceProxy: nftables, hostPort: portmap-nftables}}",
	})
	for _, c := range []struct {
		args string
		says []string
		not  []string
	}{
		{"30063 -f state.yaml", []string{"30063/TCP is free: nobody holds it on any node\n", "is in the node port range 30000-32767\n", "A new nodePort 30063/TCP: allowed\n",
			"A new hostPort 30063/TCP: allowed, with a warning, and free on all 3 nodes\n"}, []string{"Packets"}},
		{"40000/udp -f state.yaml", []string{"40000/UDP is free", "is in the range 32768-60999 that outgoing connections", "A new nodePort 40000/UDP: refused\n  40000 is outside the node port range"}, nil},
		{"30500 -f state.yaml", []string{"in its dynamic allocation band 30086-32767"}, nil},
		{"30062/TCP -f pool.yaml", []string{"is in PortPool team\n"}, nil},
		{"10250 -f state.yaml --config config.yaml", []string{"A new nodePort 10250/TCP: refused", "belongs to kubelet", "A new hostPort 10250/TCP: refused\n"}, []string{"is free"}},
		{"8080 -f state.yaml", []string{"Packets for 8080/TCP on node n1:\n", "A new hostPort 8080/TCP: allowed, but free on 2 of 3 nodes only: held by Pod default/early and Pod shop/late\n",
			"Simulated: a client outside, 198.51.100.7:50000; a client in a pod; the nodes' address 192.0.2.1; the nodes' podCIDR 10.244.0.0/24; an address of pods that have none yet\n"}, []string{"is free"}},
		{"30062 -f state.yaml", []string{"The endpoints of Service default/app1 are not known: ",
			"Packets for 30062/TCP on nodes n1, n2:\n  from outside, from pods, from the node itself, over loopback: Service default/app1 if it has endpoints; else Deployment default/web\n", "Packets for 30062/TCP on node n3:\n",
			"prerouting   nat KUBE-NODEPORTS: -p tcp -m comment --comment \"default/app1\" -m tcp --dport 30062 -j KUBE-EXT-"}, nil},
		{"30062 -f state.yaml --node n3", []string{"Packets for 30062/TCP on node n3:\n"}, []string{"n1, n2:"}},
		{"30062 -f state.yaml --config ipvs.yaml", []string{"Packets for 30062/TCP on nodes n1, n2:\n  from outside, from pods, from the node itself, over loopback: Deployment default/web\n"}, nil},
		{"30062 -f state.yaml --config nft.yaml", []string{"in another order of starts they go to another holder"}, nil},
		{"30070 -f served.yaml", []string{"Service default/s has 2 ready endpoints\n", "--to-destination 10.244.0.8:8081", "Packets for 30070/TCP on nodes n1, n2:\n"}, []string{"an endpoint of"}},
		{"30070 -f idle.yaml", []string{"Service default/s has 0 ready endpoints\n", "has no endpoints"}, []string{"an endpoint of"}},
		{"30062 -f unshown.yaml", []string{"Who gets the packets for 30062/TCP is not known: nothing tells what serves node ports and maps host ports; set dataplane.serviceProxy (iptables, nftables, ipvs, userspace or none) and dataplane.hostPort (portmap-iptables, portmap-nftables or none) in the configuration (--config)"}, []string{"Packets for", "packets;"}},
		{"8080 -f unshown.yaml", []string{"Who gets the packets for 8080/TCP is not known: nothing tells what maps host ports; set dataplane.hostPort (portmap-iptables, portmap-nftables or none) in the configuration (--config)"}, []string{"Packets for"}},
		{"30070 -f unserved.yaml", []string{"Who gets the packets for 30070/TCP is not known: nothing tells what serves node ports; set dataplane.serviceProxy (iptables, nftables, ipvs, userspace or none) in the configuration (--config)"}, []string{"Packets for"}},
		{"9100 -f unshown.yaml", []string{"Packets for 9100/TCP on node n3"}, []string{"is not known"}},
		{"30070 -f empty-slice.yaml", []string{"Service default/s has 0 ready endpoints\n", "Packets for 30070/TCP on node n1:\n  from outside, from pods, from the node itself, over loopback: Pod default/taker\n",
			"Packets for 30070/TCP on node n2:\n  from outside, from pods, from the node itself, over loopback: nobody: rejected by Service default/s\n"}, []string{"if it has endpoints\n", "if it has endpoints; else"}},
		{"30070 -f full-slice.yaml", []string{"Service default/s has 1 ready endpoint\n", "Packets for 30070/TCP on node n1:\n  from outside, from pods, from the node itself, over loopback: Service default/s\n"}, []string{"if it has endpoints\n", "if it has endpoints; else"}},
		{"30070 -f windows.yaml", []string{"Packets for 30070/TCP on node n2:\n", "Who gets the packets for 30070/TCP is not known: node n1 runs Windows"}, []string{"n1, n2:"}},
		{"9000 -f full.yaml", []string{"A new hostPort 9000/TCP: refused\n", "(PC0202)"}, []string{"but free on"}},
		{"9000 -f roomy.yaml", []string{"A new hostPort 9000/TCP: allowed, but free on 1 of 4 nodes only: held by Deployment default/tomcat\n"}, []string{"PC0202"}},
		{"9100 -f reserving.yaml", []string{"A new nodePort 9100/TCP: refused", "A new hostPort 9100/TCP: refused"}, []string{"but free on"}},
		{"9100/UDP -f reserving.yaml", []string{"A new hostPort 9100/UDP: allowed, and free on all 1 nodes"}, nil},
		{"9000 -f closed.yaml", []string{"A new hostPort 9000/TCP: refused", "(PC0311)"}, nil},
		{"9000 -n shop -f closed.yaml", []string{"A new hostPort 9000/TCP: allowed"}, []string{"(PC0311)"}},
		{"9100 -f state.yaml", []string{"from outside, from pods, from the node itself, over loopback: Pod shop/exporter\n"}, nil},
	} {
		o := runCommand(t, "", append([]string{"ports"}, strings.Fields(c.args)...)...)
		for _, part := range c.says {
			if !strings.Contains(o.Stdout, part) || o.Exit != 0 {
				t.Errorf("%s: exit %d %s, want %q in\n%s", c.args, o.Exit, o.Stderr, part, o.Stdout)
			}
		}
		for _, part := range c.not {
			if strings.Contains(o.Stdout, part) {
				t.Errorf("%s: there is %q in\n%s", c.args, part, o.Stdout)
			}
		}
	}
}

func portList(t *testing.T, args ...string) (l report.PortList) {
	t.Helper()
	o := runCommand(t, "", append([]string{"ports"}, args...)...)
	if err := yaml.Unmarshal([]byte(o.Stdout), &l); err != nil || o.Exit != 0 {
		t.Fatalf("exit %d: %v in %s %s", o.Exit, err, o.Stdout, o.Stderr)
	}
	return l
}

// TestPortsJSON: JSON and YAML are one PortList.
func TestPortsJSON(t *testing.T) {
	clitest.Folder(t, map[string]string{"state.yaml": clitest.AuditCluster()})
	l := portList(t, "30062", "-f", "state.yaml", "-o", "json")
	if diff := gocmp.Diff(l, portList(t, "30062", "-f", "state.yaml", "-o", "yaml")); diff != "" {
		t.Errorf("(-json +yaml):\n%s", diff)
	}
	if l.APIVersion != "portcullis.dev/v1alpha1" || l.Kind != "PortList" || len(l.Items) != 3 || len(l.About) != 1 || l.About[0].Free || len(l.About[0].Situations) != 1 {
		t.Fatalf("%+v", l)
	}
	want := report.PortItem{
		Node: "*", Address: "* (not ::1)", Protocol: "TCP", Port: 30062, Kind: "nodePort", Since: "2026-01-01T00:00:00Z",
		Holder:    report.Holder{Kind: "Service", Namespace: "default", Name: "app1", Field: "spec.ports[0].nodePort"},
		Conflicts: []report.Holder{{Kind: "Deployment", Namespace: "default", Name: "web", Field: "spec.containers[0].ports[0].hostPort"}},
	}
	if diff := gocmp.Diff(want, l.Items[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if l.Items[1].Pod != "default/web-x-n1" || l.Items[1].Node != "n1" {
		t.Errorf("%+v", l.Items[1])
	}
}

// TestPortsEnumerates compares what is listed with what stands in random objects, field by field.
func TestPortsEnumerates(t *testing.T) {
	s := specimen.New(t)
	clitest.Folder(t, map[string]string{"config.yaml": noDaemons})
	listed, kinds := 0, map[string]int{}
	for range specimen.Rounds(60) {
		var objects []runtime.Object
		var want []string
		for i := range 3 {
			node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}}
			node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprint("10.0.0.", i)}}
			objects = append(objects, node)
		}
		for i := range 6 {
			pod, svc := specimen.Draw[corev1.Pod](s), specimen.Draw[corev1.Service](s)
			pod.TypeMeta, svc.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
			pod.ObjectMeta = metav1.ObjectMeta{Namespace: "a", Name: fmt.Sprint("p", i)}
			svc.ObjectMeta = metav1.ObjectMeta{Namespace: "a", Name: fmt.Sprint("s", i)}
			pod.Spec.Affinity, pod.Spec.NodeName = nil, []string{"", "n0", "n1"}[s.IntN(3)]
			svc.Spec.ExternalIPs, svc.Spec.IPFamilies = []string{"10.0.0.1", "10.0.0.9"}[:s.IntN(3)], nil
			svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Status = []string{"", "None"}[s.IntN(2)], nil, corev1.ServiceStatus{}
			objects = append(objects, pod, svc)
			want = append(want, portsOfPod(pod)...)
			want = append(want, portsOfService(svc)...)
		}
		var text []string
		for _, object := range objects {
			b, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, string(b))
		}
		if err := os.WriteFile("state.yaml", []byte(strings.Join(text, "\n---\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range portList(t, "-f", "state.yaml", "-o", "json", "--config", "config.yaml").Items {
			if i.Kind != "daemon" {
				got = append(got, fmt.Sprintf("%s %s/%s %s %d/%s %s", i.Kind, i.Holder.Namespace, i.Holder.Name, i.Node, i.Port, i.Protocol, i.Holder.Field))
				kinds[i.Kind]++
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("(-enumerated +listed):\n%s", diff)
		}
		listed += len(got)
	}
	t.Logf("%d ports: %v", listed, kinds)
	if len(kinds) < 5 {
		t.Error("the objects are too plain to prove anything")
	}
}

// portsOfPod enumerates what a pod holds, by what the API says of its fields.
func portsOfPod(pod *corev1.Pod) []string {
	var all []string
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	add := func(list string, containers []corev1.Container, holds func(*corev1.Container) bool) {
		for i := range containers {
			for j, p := range containers[i].Ports {
				number, kind, field := p.HostPort, "hostPort", "hostPort"
				if pod.Spec.HostNetwork {
					kind = "hostNetwork"
					if number == 0 {
						number, field = p.ContainerPort, "containerPort"
					}
				}
				isAddress := p.HostIP != "nonsense" && p.HostIP != "None" && !strings.Contains(p.HostIP, "%")
				if number < 1 || number > 65535 || p.Protocol == "tcp" || !isAddress || !holds(&containers[i]) {
					continue
				}
				all = append(all, fmt.Sprintf("%s a/%s %s %d/%s spec.%s[%d].ports[%d].%s", kind, pod.Name, pod.Spec.NodeName, number, cmp.Or(p.Protocol, "TCP"), list, i, j, field))
			}
		}
	}
	add("containers", pod.Spec.Containers, func(*corev1.Container) bool { return true })
	add("initContainers", pod.Spec.InitContainers, func(c *corev1.Container) bool {
		return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
	return all
}

// portsOfService enumerates what a Service holds.
func portsOfService(svc *corev1.Service) []string {
	var all []string
	has := svc.Spec.Type == "NodePort" || svc.Spec.Type == "LoadBalancer"
	for i, p := range svc.Spec.Ports {
		if p.Protocol == "tcp" || p.Port < 1 || p.Port > 65535 || p.NodePort < 0 || p.NodePort > 65535 {
			continue
		}
		protocol := cmp.Or(p.Protocol, "TCP")
		if has && p.NodePort > 0 {
			all = append(all, fmt.Sprintf("nodePort a/%s * %d/%s spec.ports[%d].nodePort", svc.Name, p.NodePort, protocol, i))
		}
		if svc.Spec.Type == "ExternalName" || svc.Spec.ClusterIP == "None" {
			continue
		}
		for _, ip := range svc.Spec.ExternalIPs {
			node := map[string]string{"10.0.0.1": "n1", "10.0.0.9": "*"}[ip]
			all = append(all, fmt.Sprintf("externalIP a/%s %s %d/%s spec.ports[%d].port", svc.Name, node, p.Port, protocol, i))
		}
	}
	if n := svc.Spec.HealthCheckNodePort; svc.Spec.Type == "LoadBalancer" && svc.Spec.ExternalTrafficPolicy == "Local" && n > 0 && n <= 65535 {
		all = append(all, fmt.Sprintf("healthCheckNodePort a/%s * %d/TCP spec.healthCheckNodePort", svc.Name, n))
	}
	return all
}

// TestPortsOfForms: of two forms of one object each holds what it claims, as for lint and audit.
func TestPortsOfForms(t *testing.T) {
	clitest.Folder(t, map[string]string{"a.yaml": clitest.App1, "b.yaml": strings.Replace(clitest.App1, "30062", "30063", 1)})
	for _, args := range []string{"ports 30062 -f a.yaml -f b.yaml", "ports 30063 -f a.yaml -f b.yaml", "ports 30062 -f b.yaml -f a.yaml"} {
		o := runCommand(t, "", strings.Fields(args)...)
		if !strings.Contains(o.Stdout, "A new nodePort "+strings.Fields(args)[1]+"/TCP: refused\n") || strings.Contains(o.Stdout, "is free") || !strings.Contains(o.Stderr, "both are judged") {
			t.Errorf("%s:\n%s%s", args, o.Stdout, o.Stderr)
		}
	}
}
