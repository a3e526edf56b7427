package conformance

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
)

// caseLabel marks the nodes of one case. Every template selects its nodes by it, so that the cases do not
// see each other.
const caseLabel = "case"

// wish is what a case has for certain, so that none of it is missing among sixty; the rest is random.
type wish int

const (
	noNodeForScheduler wish = iota // by a conflict that is none
	rollingOnAllNodes
	daemonsBesideOld
	moreThanNodes
	allTaken
	plainInit
	nothingToRun
	defaults
	recreate
	sidecar
	endedPods
	daemons
	anything
)

// wishOf is that of the i-th case: three of each, and then anything.
func wishOf(i int) wish {
	if i < 3*int(anything) {
		return wish(i % int(anything))
	}
	return anything
}

// isPlaced reports whether a wish needs all nodes of its case. Without a port that keeps others away, nobody asks us how
// many nodes there are.
func (w wish) isPlaced() bool { return w <= plainInit }

// rollouts draws workloads with a host port, the nodes for them and what holds ports there already.
type rollouts struct{ places }

// rolloutCase is one workload with its own nodes.
type rolloutCase struct {
	name    string
	object  client.Object // a Deployment, a DaemonSet or a StatefulSet
	nodes   []kubelet.Node
	holders []client.Object // pods on their nodes, or a DaemonSet, of others

	eligible int
	outlook  outlook
	first    bool // its first rollout has finished
	progress progress
}

func (p rollouts) rolloutCase(name string, w wish) *rolloutCase {
	c := &rolloutCase{name: name}
	for i := range 1 + p.IntN(5) {
		n := kubelet.Node{Name: fmt.Sprintf("%s-n%d", name, i), Labels: map[string]string{caseLabel: name, "tier": pick(p.places, "edge", "edge", "edge", "core")}}
		n.Labels["holder"] = pick(p.places, "yes", "no", "no")
		if p.IntN(6) == 0 {
			n.Taints = []corev1.Taint{{Key: "dedicated", Value: "gpu", Effect: pick(p.places, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)}}
		}
		c.nodes = append(c.nodes, n)
	}
	template := p.template(name, w)
	switch kind := p.IntN(10); {
	case w == daemonsBesideOld || w == anything && kind < 4:
		c.object = &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: selects(name), Template: template, UpdateStrategy: p.daemonStrategy(w)}}
	case w == rollingOnAllNodes || w == defaults || w == recreate || kind < 8:
		c.object = &appsv1.Deployment{Spec: appsv1.DeploymentSpec{
			Replicas: p.replicas(c, &template.Spec, w), Selector: selects(name), Template: template, Strategy: p.deploymentStrategy(w),
		}}
	default:
		c.object = &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{
			Replicas: p.replicas(c, &template.Spec, w), Selector: selects(name), Template: template,
			PodManagementPolicy: pick(p.places, "", appsv1.ParallelPodManagement),
		}}
	}
	c.object.SetName(name)
	c.object.SetNamespace("default")
	c.holders = p.holders(c, &template.Spec, w)
	return c
}

func selects(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func (p rollouts) template(name string, w wish) corev1.PodTemplateSpec {
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}}
	spec := &template.Spec
	spec.HostNetwork = p.IntN(4) == 0
	spec.Containers = []corev1.Container{{Name: "main", Image: "example"}}
	carrier := &spec.Containers[0]
	if w == plainInit { // whose port keeps nobody away
		spec.InitContainers = []corev1.Container{{Name: "init", Image: "example"}}
		carrier = &spec.InitContainers[0]
	}
	if w == sidecar {
		always := corev1.ContainerRestartPolicyAlways
		spec.InitContainers = []corev1.Container{{Name: "side", Image: "example", RestartPolicy: &always}}
		carrier = &spec.InitContainers[0]
	}
	for i := range 1 + p.IntN(2) {
		port := corev1.ContainerPort{ContainerPort: 8080 + int32(i), HostPort: 8080 + int32(i), Protocol: p.protocol()}
		if spec.HostNetwork && p.IntN(2) == 0 {
			port.HostPort = 0 // the API server fills it in, but not in the template
		}
		port.HostIP = p.hostIP()
		carrier.Ports = append(carrier.Ports, port)
	}
	if w == noNodeForScheduler {
		carrier.Ports[0].HostIP = "0.0.0.0"
	}
	p.place(spec, name, w)
	return template
}

func (p rollouts) protocol() corev1.Protocol {
	return pick(p.places, "", corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

// hostIP leaves out ::, which the scheduler takes for an address like any other, so that pods run which cannot work.
func (p rollouts) hostIP() string {
	return pick(p.places, "", "", "", "", "0.0.0.0", "127.0.0.1", "::1")
}

// place selects the nodes of the case, or a part of them.
func (p rollouts) place(spec *corev1.PodSpec, name string, w wish) {
	labels := map[string]string{caseLabel: name}
	if p.IntN(3) == 0 && !w.isPlaced() {
		labels["tier"] = "edge"
	}
	if p.IntN(2) == 0 {
		spec.NodeSelector = labels
	} else {
		term := corev1.NodeSelectorTerm{}
		for _, key := range []string{caseLabel, "tier"} {
			if value, ok := labels[key]; ok {
				term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}})
			}
		}
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}},
		}}
	}
	if p.IntN(2) == 0 || w.isPlaced() {
		spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	}
}

// replicas draws about as many as there are nodes for them.
func (p rollouts) replicas(c *rolloutCase, spec *corev1.PodSpec, w wish) *int32 {
	suit := 0
	for _, n := range c.nodes {
		isTainted := len(n.Taints) > 0 && len(spec.Tolerations) == 0
		if !isTainted && (!selectsTier(spec) || n.Labels["tier"] == "edge") {
			suit++
		}
	}
	few := int32(max(0, suit+pick(p.places, -2, -1, -1, -1, 0, 0, 0, 1)))
	switch {
	case w == nothingToRun:
		few = 0
	case w == rollingOnAllNodes:
		few = int32(suit)
	case w == moreThanNodes:
		few = int32(suit) + 1
	case p.IntN(6) == 0 || w == noNodeForScheduler:
		few = 1
	}
	return &few
}

func selectsTier(spec *corev1.PodSpec) bool {
	return spec.NodeSelector["tier"] != "" || spec.Affinity != nil &&
		len(spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchExpressions) == 2
}

func (p rollouts) deploymentStrategy(w wish) appsv1.DeploymentStrategy {
	surge, unavailable := p.amount(), p.amount()
	switch {
	case w == defaults:
		return appsv1.DeploymentStrategy{}
	case w == recreate:
		return appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	case w == rollingOnAllNodes:
		surge, unavailable = intstr.FromString("34%"), intstr.FromInt32(0)
	case isNone(surge) && isNone(unavailable):
		unavailable = intstr.FromInt32(1) // the API server wants one of them
	}
	return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}}
}

func (p rollouts) daemonStrategy(w wish) appsv1.DaemonSetUpdateStrategy {
	strategy := appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{}}
	none, some := intstr.FromInt32(0), pick(p.places, intstr.FromInt32(1), intstr.FromInt32(2), intstr.FromString("10%"), intstr.FromString("50%"))
	switch {
	case w == daemonsBesideOld:
		strategy.RollingUpdate.MaxUnavailable, strategy.RollingUpdate.MaxSurge = &none, &some
	case p.IntN(2) == 0:
		strategy.RollingUpdate.MaxUnavailable = &some
	default:
		return appsv1.DaemonSetUpdateStrategy{}
	}
	return strategy
}

func (p rollouts) amount() intstr.IntOrString {
	return pick(p.places, intstr.FromInt32(0), intstr.FromInt32(0), intstr.FromInt32(1), intstr.FromInt32(2),
		intstr.FromString("0%"), intstr.FromString("10%"), intstr.FromString("25%"), intstr.FromString("34%"), intstr.FromString("100%"))
}

func isNone(n intstr.IntOrString) bool {
	return n == intstr.FromInt32(0) || n == intstr.FromString("0%")
}

// holders draws who may have the port already: nobody, bare pods on some nodes, or a DaemonSet on those marked for it.
func (p rollouts) holders(c *rolloutCase, spec *corev1.PodSpec, w wish) []client.Object {
	port := ownPorts(spec)[0]
	port.HostPort = port.ContainerPort
	switch {
	case w == allTaken:
	case w == noNodeForScheduler:
		port.HostIP = "::1" // which is no conflict
	case p.IntN(5) == 0:
		port.ContainerPort, port.HostPort = 9999, 9999
	case p.IntN(5) == 0:
		port.Protocol = p.protocol()
	case p.IntN(3) == 0:
		port.HostIP = p.hostIP()
	}
	holder := corev1.PodSpec{
		Containers:  []corev1.Container{{Name: "main", Image: "example", Ports: []corev1.ContainerPort{port}}},
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
	}
	switch who := p.IntN(5); {
	case w == rollingOnAllNodes || w == daemonsBesideOld || w == moreThanNodes:
		return nil
	case w == noNodeForScheduler || w == allTaken || w == plainInit || w == endedPods || w != daemons && who > 2:
		return p.podHolders(c, holder, w)
	case w == daemons || who == 0:
		return []client.Object{daemonHolder(c, holder)}
	default:
		return nil
	}
}

func daemonHolder(c *rolloutCase, spec corev1.PodSpec) client.Object {
	name := c.name + "-holder"
	spec.NodeSelector = map[string]string{caseLabel: c.name, "holder": "yes"}
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: appsv1.DaemonSetSpec{
		Selector: selects(name), Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: spec},
	}}
}

// podHolders are pods on the first few nodes. Some of them end before the workload comes.
func (p rollouts) podHolders(c *rolloutCase, spec corev1.PodSpec, w wish) []client.Object {
	count := 1 + p.IntN(len(c.nodes))
	if w.isPlaced() {
		count = len(c.nodes)
	}
	var list []client.Object
	for i := range count {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-holder-%d", c.name, i), Namespace: "default"}, Spec: *spec.DeepCopy()}
		if pod.Spec.NodeName = c.nodes[i].Name; w == endedPods && i%2 == 0 {
			pod.Labels = map[string]string{"ends": "yes"}
		}
		list = append(list, pod)
	}
	return list
}

func ownPorts(spec *corev1.PodSpec) []corev1.ContainerPort {
	if len(spec.InitContainers) > 0 {
		return spec.InitContainers[0].Ports
	}
	return spec.Containers[0].Ports
}

// templateOf is the template of a workload of the kinds that are drawn.
func templateOf(object client.Object) *corev1.PodTemplateSpec {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	default:
		panic(fmt.Sprintf("%T is not drawn", object))
	}
}
