package inspect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
)

// randomCluster draws a small cluster whose objects want the same few numbers.
type randomCluster struct {
	*rand.Rand
	nodes   int
	dual    bool // its nodes have both families
	plain   bool // bare pods and Services only, and no nodes that differ from others
	texts   []string
	numbers []int // that objects may want

	external map[int]bool // the nodes that have an ExternalIP
}

func drawCluster(r *rand.Rand, plain bool) *randomCluster {
	c := &randomCluster{Rand: r, nodes: 1 + r.IntN(3), dual: r.IntN(3) == 0, plain: plain, numbers: []int{30000, 30001, 30002, 30003, 30500, 8080, 9100}}
	c.external = map[int]bool{}
	if plain {
		c.numbers = c.numbers[:3]
	}
	for i := range c.nodes {
		c.addNode(i)
	}
	free := slices.Clone(c.numbers[:min(5, len(c.numbers))]) // no API server gives a nodePort to two Services
	r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for i := range r.IntN(4) {
		c.addService(i, free[i])
	}
	for i := range r.IntN(6) {
		c.addPod(i)
	}
	for i := range r.IntN(4) {
		if !plain {
			c.addWorkload(i)
		}
	}
	return c
}

func (c *randomCluster) chance(percent int) bool { return c.IntN(100) < percent }

func (c *randomCluster) add(format string, args ...any) {
	c.texts = append(c.texts, fmt.Sprintf(format, args...))
}

func (c *randomCluster) addNode(i int) {
	var spec, more []string
	addresses := fmt.Sprintf("{type: InternalIP, address: 10.0.0.%d}", i+1)
	if c.plain && c.chance(40) {
		addresses += fmt.Sprintf(", {type: ExternalIP, address: 192.168.7.%d}", i+1)
		c.external[i] = true
	}
	cidrs := fmt.Sprintf("10.244.%d.0/24", i)
	if c.dual {
		addresses += fmt.Sprintf(", {type: InternalIP, address: \"fd00::%d\"}", i+1)
		cidrs += fmt.Sprintf(", \"fd00:10:244:%d::/64\"", i)
	}
	if !c.plain && c.chance(30) {
		more = append(more, fmt.Sprintf("annotations: {portcullis.dev/reserved-ports: \"%d/TCP%s\"}", c.number(), []string{"", ",x", ", 9200/UDP"}[c.IntN(3)]))
	}
	switch {
	case !c.plain && c.chance(5):
		more = append(more, "labels: {kubernetes.io/os: windows}")
	case !c.plain && c.chance(30):
		more = append(more, "labels: {node-role.kubernetes.io/control-plane: \"\"}")
	}
	if !c.plain && c.chance(15) {
		spec = append(spec, "unschedulable: true")
	}
	spec = append(spec, "podCIDRs: ["+cidrs+"]")
	c.add("{apiVersion: v1, kind: Node, metadata: {%s}, spec: {%s}, status: {addresses: [%s], conditions: [{type: Ready, status: \"True\"}], allocatable: {pods: 110}}}",
		strings.Join(append([]string{fmt.Sprintf("name: n%d", i)}, more...), ", "), strings.Join(spec, ", "), addresses)
}

func (c *randomCluster) number() int { return c.numbers[c.IntN(len(c.numbers))] }

func (c *randomCluster) protocol() string {
	if c.chance(15) {
		return "UDP"
	}
	return "TCP"
}

func (c *randomCluster) metadata(name string, more ...string) string {
	minute := c.IntN(60)
	return strings.Join(append([]string{fmt.Sprintf("name: %s, namespace: default, uid: %[1]s, creationTimestamp: \"2026-01-01T00:%02[2]d:00Z\"", name, minute)}, more...), ", ")
}

// addService adds a Service with the endpoints of some kind that there may be, or none that are known.
func (c *randomCluster) addService(i, number int) {
	name, protocol := fmt.Sprint("s", i), c.protocol()
	ips := fmt.Sprintf("clusterIP: 10.96.0.%d, clusterIPs: [10.96.0.%[1]d]", i+1)
	if c.dual {
		ips = fmt.Sprintf("clusterIP: 10.96.0.%d, clusterIPs: [10.96.0.%[1]d, \"fd00:10:96::%[1]d\"]", i+1)
	}
	policy := ""
	if c.chance(30) {
		policy = "externalTrafficPolicy: Local, "
	}
	if c.chance(10) {
		policy += "internalTrafficPolicy: Local, "
	}
	kind, port := "NodePort", 80
	if c.plain && strings.Contains(policy, "external") && c.chance(60) {
		kind = "LoadBalancer"
		policy += fmt.Sprintf("healthCheckNodePort: %d, ", c.number())
	}
	if c.plain && c.chance(30) {
		port = c.number()
		policy += fmt.Sprintf("externalIPs: [%s], ", c.nodeAddress(c.IntN(c.nodes)))
	}
	c.add("{apiVersion: v1, kind: Service, metadata: {%s}, spec: {type: %s, %s%s, selector: {app: %s}, ports: [{name: p, protocol: %s, port: %d, targetPort: 8000, nodePort: %d}]}}",
		c.metadata(name), kind, policy, ips, name, protocol, port, number)
	if c.chance(25) {
		return
	}
	for f, format := range []string{"10.244.%d.%d", "fd00:10:244:%d::%d"} {
		if f == 1 && !c.dual {
			continue
		}
		var endpoints []string
		for e := range c.IntN(3) {
			node := c.IntN(c.nodes)
			endpoints = append(endpoints, fmt.Sprintf("{addresses: [\""+format+"\"], nodeName: n%d, conditions: {ready: %t}}", node, 100+10*i+e, node, c.chance(70)))
		}
		c.add("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: %s-%d, namespace: default, labels: {kubernetes.io/service-name: %[1]s}}, addressType: IPv%[3]d, ports: [{name: p, protocol: %[4]s, port: 8000}], endpoints: [%[5]s]}",
			name, f, 4+2*f, protocol, strings.Join(endpoints, ", "))
	}
}

// nodeAddress is an address of a node.
func (c *randomCluster) nodeAddress(node int) string {
	if c.external[node] && c.chance(50) {
		return fmt.Sprintf("192.168.7.%d", node+1)
	}
	return fmt.Sprintf("10.0.0.%d", node+1)
}

// port is a container's port that takes one of a node.
func (c *randomCluster) port(hostNetwork bool) string {
	number := c.number()
	container := 80
	if hostNetwork {
		container = number
	}
	address := ""
	if c.chance(15) {
		address = ", hostIP: 0.0.0.0"
	}
	if c.plain && c.chance(25) {
		address = ", hostIP: NODE" // of the node that the pod runs on
	}
	return fmt.Sprintf("{containerPort: %d, hostPort: %d, protocol: %s%s}", container, number, c.protocol(), address)
}

func (c *randomCluster) podSpec() (spec string, hostNetwork bool) {
	hostNetwork = c.chance(25)
	return fmt.Sprintf("hostNetwork: %t, containers: [{name: c, ports: [%s]}]", hostNetwork, c.port(hostNetwork)), hostNetwork
}

func (c *randomCluster) addPod(i int) {
	spec, hostNetwork := c.podSpec()
	node := c.IntN(c.nodes)
	if strings.Contains(spec, "NODE") {
		spec = strings.ReplaceAll(spec, "NODE", c.nodeAddress(node))
	}
	status := "phase: Pending"
	if c.chance(75) {
		spec += fmt.Sprintf(", nodeName: n%d", node)
		ips := fmt.Sprintf("podIP: 10.244.%d.%d, podIPs: [{ip: 10.244.%[1]d.%[2]d}", node, 10+i)
		if c.dual {
			ips += fmt.Sprintf(", {ip: \"fd00:10:244:%d::%d\"}", node, 10+i)
		}
		status = "phase: Running, " + ips + "]"
		if hostNetwork {
			status = "phase: Running"
		}
		if !c.plain && c.chance(10) {
			status = "phase: Succeeded"
		}
	}
	c.add("{apiVersion: v1, kind: Pod, metadata: {%s}, spec: {%s}, status: {%s}}", c.metadata(fmt.Sprint("p", i)), spec, status)
}

// addWorkload adds an object with a template, idle at times, with some of its pods.
func (c *randomCluster) addWorkload(i int) {
	kind := []string{"Deployment", "DaemonSet", "StatefulSet"}[c.IntN(3)]
	name, replicas := fmt.Sprint("w", i), c.IntN(3)
	spec, hostNetwork := c.podSpec()
	scale := fmt.Sprintf("replicas: %d, ", replicas)
	if kind == "DaemonSet" {
		scale, replicas = "", c.IntN(c.nodes+1)
	}
	c.add("{apiVersion: apps/v1, kind: %s, metadata: {%s}, spec: {%sselector: {matchLabels: {app: %s}}, template: {metadata: {labels: {app: %[4]s}}, spec: {%[5]s}}}}",
		kind, c.metadata(name), scale, name, spec)
	for r := range min(replicas, c.nodes) {
		where, status := fmt.Sprintf(", nodeName: n%d", r), fmt.Sprintf("phase: Running, podIP: 10.244.%d.%d", r, 50+i)
		if c.chance(25) && kind != "DaemonSet" {
			where, status = "", "phase: Pending"
		} else if hostNetwork {
			status = "phase: Running"
		}
		c.add("{apiVersion: v1, kind: Pod, metadata: {%s}, spec: {%s%s}, status: {%s}}",
			c.metadata(fmt.Sprintf("%s-%d", name, r), "labels: {app: "+name+"}", fmt.Sprintf("ownerReferences: [{apiVersion: apps/v1, kind: %s, name: %s, uid: %[2]s, controller: true}]", kind, name)), spec, where, status)
	}
}

// objects parses the cluster's objects, and the configuration of a data plane beside them.
func (c *randomCluster) objects(t *testing.T) []*manifest.Object {
	t.Helper()
	in, err := manifest.Parse("cluster.yaml", []byte(strings.Join(c.texts, "\n---\n")), source.Scheme())
	if err != nil {
		t.Fatalf("%v in\n%s", err, strings.Join(c.texts, "\n---\n"))
	}
	return in.Objects
}

func (c *randomCluster) bare(t *testing.T) []runtime.Object {
	t.Helper()
	return source.Bare(c.objects(t))
}

// settingsWith are those of a configuration with some fields.
func settingsWith(t *testing.T, fields string) *extract.Settings {
	t.Helper()
	config, err := configv1alpha1.Load([]byte("apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\n" + fields))
	if err != nil {
		t.Fatal(err)
	}
	s, err := extract.NewSettings(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
