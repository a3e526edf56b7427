package redteam

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
)

// attempt is one way to get what is forbidden.
type attempt struct {
	about, name string
	labels      map[string]string // of the namespace
	do          func(*place) error
	want        string
}

// What becomes of an attempt.
const (
	noHostPort = "422 Invalid PC0311"
	noNetwork  = "422 Invalid PC0311"
	noNodePort = "422 Invalid PC0310"
	noExternal = "422 Invalid PC0315"
	taken      = "422 Invalid PC0201 Service victim/shop"
	invalid    = "422 Invalid" // says the API server
	noRight    = "403 Forbidden"
)

// TestTenant are the attempts of somebody who may write what he likes into namespaces of his own.
func TestTenant(t *testing.T) {
	w := newWorld(t)
	for _, a := range attempts() {
		t.Run(a.about+" "+a.name, func(t *testing.T) {
			p := w.place(t, a.labels)
			if got := strings.ReplaceAll(finding.Answer(a.do(p)), p.Namespace, "HERE"); got != a.want {
				t.Errorf("got  %s\nwant %s", got, a.want)
			}
		})
	}
}

func attempts() []attempt {
	return slices.Concat(ownership(), labels(), externalIPs(), later(), limits(),
		kinds(), ways(), spellings(), policies(), daemons(), foreignPools(), rights(), dryRuns())
}

func creating(text string) func(*place) error { return func(p *place) error { return p.create(text) } }

func (p *place) patch(o client.Object, kind types.PatchType, patch string) error {
	return p.tenant.Patch(p.Context(), o, client.RawPatch(kind, []byte(patch)))
}

// with is the text of an object that has more metadata.
func with(metadata, object string) string {
	return strings.Replace(object, "metadata: {", "metadata: {"+metadata+", ", 1)
}

func service(spec string) string { return objects.Service("s", spec) }

const (
	ofLoadBalancer = "labels: {svccontroller.k3s.cattle.io/svcname: shop, svccontroller.k3s.cattle.io/svcnamespace: victim}"
	port80         = "containerPort: 80, hostPort: 80"
	onHost         = "hostNetwork: true, containers: [{name: c, image: i}]"
)

// ownership are attempts to inherit what is forbidden, or to be taken for somebody else.
func ownership() []attempt {
	own := map[string]string{
		"a Service of its own with an external IP": "{apiVersion: v1, kind: Service, metadata: {name: own}, spec: {ports: [{port: 80}], externalIPs: [192.0.2.1]}}",
		"a ConfigMap":                    "{apiVersion: v1, kind: ConfigMap, metadata: {name: own}}",
		"an idle ReplicaSet":             objects.Workload("ReplicaSet", "own", "replicas: 0, ", objects.Containers("containerPort: 80")),
		"a ReplicaSet without the port":  objects.Workload("ReplicaSet", "own", "", objects.Containers("containerPort: 80")),
		"a Deployment without the port":  objects.Workload("Deployment", "own", "", objects.Containers("containerPort: 80")),
		"a StatefulSet without the port": objects.Workload("StatefulSet", "own", "serviceName: s, ", objects.Containers("containerPort: 80")),
		"a DaemonSet without the port":   objects.Workload("DaemonSet", "own", "", objects.Containers("containerPort: 80")),
		"a Job without the port":         objects.Workload("Job", "own", "", objects.Containers("containerPort: 80")),
		"a suspended Job":                objects.Workload("Job", "own", "suspend: true, ", objects.Containers("containerPort: 80")),
		"a controller without the port":  objects.Workload("ReplicationController", "own", "", objects.Containers("containerPort: 80")),
		"a pod without the port":         objects.Pod("own", objects.Containers("containerPort: 80")),
	}
	brought := map[string]string{
		"a pod":                     pod("p", "", "hostPort: 80"),
		"a pod of the host network": objects.Pod("p", onHost),
		"a ReplicaSet":              objects.Workload("ReplicaSet", "r", "", objects.Containers(port80)),
		"a Job":                     objects.Workload("Job", "j", "", objects.Containers(port80)),
	}
	all := []attempt{
		{"P1", "a pod that says it is of k3s' load balancer, on the host network", noPorts(), creating(with(ofLoadBalancer, objects.Pod("p", onHost))), noNetwork},
		{"P1", "a DaemonSet that says so", noPorts(), creating(with(ofLoadBalancer, objects.Workload("DaemonSet", "d", "", onHost))), noNetwork},
		{"P1", "a Deployment that says so", noPorts(), creating(with(ofLoadBalancer, objects.Workload("Deployment", "d", "", onHost))), noNetwork},
		{"P1", "a pod with a host port that says so", noPorts(), creating(with(ofLoadBalancer, pod("p", "", "hostPort: 80"))), noHostPort},
		{"P2", "a Job that names a Deployment of another uid", noPorts(), func(p *place) error {
			d := p.has(objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80")))
			d.SetUID("u")
			return p.controlled(d, p.object(objects.Workload("Job", "j", "", objects.Containers(port80))))
		}, noHostPort},
		{"P2", "a pod that names a Deployment that there is not", noPorts(), func(p *place) error {
			d := p.object(objects.Workload("Deployment", "nowhere", "", objects.Containers(port80)))
			d.SetUID("u")
			return p.controlled(d, p.object(pod("p", "", "hostPort: 80")))
		}, noHostPort},
		{"P2", "a pod that names a Deployment of another namespace", noPorts(), func(p *place) error {
			p.victimHas(objects.Workload("Deployment", "edge", "", objects.Containers(port80)))
			edge := p.made[len(p.made)-1]
			return p.controlled(edge, p.object(pod("p", "", "hostPort: 80")))
		}, noHostPort},
		{"P2", "a ReplicaSet that names a StatefulSet with the same port, and gets the host network later", noPorts(), func(p *place) error {
			set := p.has(strings.ReplaceAll(edgeOf("StatefulSet", "serviceName: s, "), "80", "8080"))
			r := p.object(objects.Workload("ReplicaSet", "r", "", objects.Containers("containerPort: 8080")))
			must(p.T, p.controlled(set, r))
			return p.patch(r, types.MergePatchType, `{"spec": {"template": {"spec": {"hostNetwork": true}}}}`)
		}, noNetwork},
		{"P2", "host ports of a pool past its limit, as of one Deployment", map[string]string{"hosts": "one"}, func(p *place) error {
			return p.ownedBy(objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80, hostPort: 7000")), pod("p", "", "hostPort: 7001"))
		}, "422 Invalid PC0308"},
		{"P3", "a stranger's nodePort, as of k3s' load balancer", nil, creating(with(ofLoadBalancer, pod("p", "", "hostPort: 30800"))), taken},
		{"P3", "a stranger's nodePort, as of a Deployment of its own that has the same labels", nil, func(p *place) error {
			return p.ownedBy(objects.Workload("Deployment", "shop", "", objects.Containers("containerPort: 80")), pod("shop, labels: {app: shop}", "", "hostPort: 30800"))
		}, taken},
		{"F4", "a pod that says it is a mirror pod", noPorts(), creating(with("annotations: {kubernetes.io/config.mirror: x}", pod("p", "nodeName: n1, ", "hostPort: 80"))), noHostPort},
		{"F4", "a pod that says it is a static pod", noPorts(), creating(with("annotations: {kubernetes.io/config.source: file, kubernetes.io/config.hash: x}", pod("p", "nodeName: n1, ", "hostPort: 80"))), noHostPort},
		{"F4", "a template whose pods are to be mirror pods", noPorts(), creating(strings.Replace(objects.Workload("Deployment", "d", "", objects.Containers(port80)), "labels: {app: d}", "labels: {app: d}, annotations: {kubernetes.io/config.mirror: x}", 1)), invalid},
		{"F9", "a container that is called kubelet", nil, creating(objects.Pod("p", "hostNetwork: true, containers: [{name: kubelet, image: i, ports: [{containerPort: 10250}]}]")), "422 Invalid PC0302"},
		{"F9", "a DaemonSet whose container is called kube-proxy", nil, creating(objects.Workload("DaemonSet", "d", "", "hostNetwork: true, containers: [{name: kube-proxy, image: i, ports: [{containerPort: 10256}]}]")), "422 Invalid PC0302"},
		{"I2", "the annotation of Portcullis' own dry run", noPorts(), creating(with("annotations: {portcullis.dev/probe: 'true'}", objects.Workload("Deployment", "d", "", objects.Containers(port80)))), noHostPort},
	}
	for named, controller := range inOrder(own) {
		for what, object := range inOrder(brought) {
			all = append(all, attempt{"P2", what + " that names " + named + " as its controller", noPorts(), func(p *place) error {
				return p.ownedBy(controller, object)
			}, noHostPort})
		}
	}
	return all
}

// inOrder goes through a table in the order of its names.
func inOrder[V any](table map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, name := range slices.Sorted(maps.Keys(table)) {
			if !yield(name, table[name]) {
				return
			}
		}
	}
}

// edgeOf is a workload whose pods have the label of an exception.
func edgeOf(kind, more string) string {
	return strings.Replace(objects.Workload(kind, "d", more, objects.Containers(port80)), "{labels: {app: d}", "{labels: {app: d, edge: 'yes'}", 1)
}

// labels are attempts to have an exception, or a pool, for a moment.
func labels() []attempt {
	const without, withoutInTemplate = `{"metadata": {"labels": {"edge": null}}}`, `{"spec": {"template": {"metadata": {"labels": {"edge": null}}}}}`
	all := []attempt{
		{"F8", "an exception's label, taken from a Service afterwards", noPorts(), func(p *place) error {
			return p.patch(p.has(with("labels: {edge: 'yes'}", service("type: NodePort, ports: [{port: 80}]"))), types.MergePatchType, without)
		}, noNodePort},
		{"F8", "changed on a Service instead", noPorts(), func(p *place) error {
			return p.patch(p.has(with("labels: {edge: 'yes'}", service("type: NodePort, ports: [{port: 80}]"))), types.JSONPatchType, `[{"op": "replace", "path": "/metadata/labels/edge", "value": "no"}]`)
		}, noNodePort},
		{"F8", "taken from a Service with an external IP afterwards", noPorts(), func(p *place) error {
			return p.patch(p.has(with("labels: {edge: 'yes'}", service("externalIPs: [10.0.0.1], ports: [{port: 81}]"))), types.MergePatchType, without)
		}, noExternal},
		{"F8", "taken from a pod afterwards", noPorts(), func(p *place) error {
			return p.patch(p.has(pod("p, labels: {edge: 'yes'}", "", "hostPort: 80")), types.MergePatchType, without)
		}, noHostPort},
		{"F8", "taken from a pod of the host network afterwards", noPorts(), func(p *place) error {
			return p.patch(p.has(objects.Pod("p, labels: {edge: 'yes'}", onHost)), types.MergePatchType, without)
		}, noNetwork},
		{"F8", "a pod without the label, of a ReplicaSet whose template has it", noPorts(), func(p *place) error {
			return p.ownedBy(edgeOf("ReplicaSet", ""), pod("p", "", "hostPort: 80"))
		}, noHostPort},
		{"F8", "a ReplicaSet without the label, of a Deployment whose template has it", noPorts(), func(p *place) error {
			return p.ownedBy(edgeOf("Deployment", ""), objects.Workload("ReplicaSet", "r", "", objects.Containers(port80)))
		}, noHostPort},
		{"F8", "taken from a pod of a ReplicaSet", noPorts(), func(p *place) error {
			o := p.object(pod("p, labels: {app: d, edge: 'yes'}", "", "hostPort: 80"))
			must(p.T, p.controlled(p.has(edgeOf("ReplicaSet", "")), o))
			return p.patch(o, types.MergePatchType, without)
		}, noHostPort},
		{"F8", "the label on the workload, and not on its pods", noPorts(), creating(with("labels: {edge: 'yes'}", objects.Workload("Deployment", "d", "", objects.Containers(port80)))), noHostPort},
		{"F8", "the label as an annotation", noPorts(), creating(with("annotations: {edge: 'yes'}", pod("p", "", "hostPort: 80"))), noHostPort},
		{"P4", "a pool's label, taken away afterwards", nil, func(p *place) error {
			s := p.has(with("labels: {tier: web}", service("type: NodePort, ports: [{port: 80, nodePort: 31500}]")))
			return p.patch(s, types.MergePatchType, `{"metadata": {"labels": {"tier": null}}}`)
		}, "422 Invalid PC0307"},
	}
	for _, kind := range []string{"Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController"} {
		more := map[string]string{"StatefulSet": "serviceName: s, "}[kind]
		all = append(all, attempt{"F8", "taken from the template of a " + kind + " afterwards", noPorts(), func(p *place) error {
			return p.patch(p.has(edgeOf(kind, more)), types.MergePatchType, withoutInTemplate)
		}, noHostPort})
	}
	return all
}

// externalIPs are attempts to take ports of nodes, or traffic of others, by external IPs.
func externalIPs() []attempt {
	with := func(ip string, port int) string {
		return service(fmt.Sprintf("ports: [{port: %d}], externalIPs: [%q]", port, ip))
	}
	later := func(kind types.PatchType, patch string, port int) func(*place) error {
		return func(p *place) error { return p.patch(p.has(with("192.0.2.1", port)), kind, patch) }
	}
	all := []attempt{
		{"P4", "an external IP of a node", noPorts(), creating(with("10.0.0.1", 80)), noExternal},
		{"P4", "of another node", noPorts(), creating(with("10.0.0.2", 80)), noExternal},
		{"P4", "with leading zeros", noPorts(), creating(with("010.000.000.001", 80)), noExternal},
		{"P4", "beside others", noPorts(), creating(service("ports: [{port: 80}], externalIPs: [192.0.2.1, 192.0.2.2, 10.0.0.1]")), noExternal},
		{"P4", "of a headless Service", noPorts(), creating(service("clusterIP: None, ports: [{port: 80}], externalIPs: [10.0.0.1]")), noExternal},
		{"P4", "of a Service without a selector", noPorts(), creating(service("ports: [{port: 80, targetPort: 8080}], externalIPs: [10.0.0.1]")), noExternal},
		{"P4", "over UDP", noPorts(), creating(service("ports: [{port: 80, protocol: UDP}], externalIPs: [10.0.0.1]")), noExternal},
		{"P4", "of a load balancer without node ports", noPorts(), creating(service("type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}], externalIPs: [10.0.0.1]")), noExternal},
		{"P4", "of a node, on a reserved port", nil, creating(with("10.0.0.1", 9100)), "422 Invalid PC0312"},
		{"P4", "of a node, on the kubelet's port", nil, creating(with("10.0.0.1", 10250)), "422 Invalid PC0302"},
		{"P4", "of a node, on a stranger's nodePort", nil, creating(with("10.0.0.1", 30800)), taken},
		{"P4", "on a port of others' pool of host ports", noPorts(), creating(with("10.0.0.1", 7000)), noExternal},
		{"P4", "by a JSON patch", noPorts(), later(types.JSONPatchType, `[{"op": "add", "path": "/spec/externalIPs/-", "value": "10.0.0.2"}]`, 80), noExternal},
		{"P4", "by a merge patch", noPorts(), later(types.MergePatchType, `{"spec": {"externalIPs": ["10.0.0.2"]}}`, 80), noExternal},
		{"P4", "by a strategic patch", noPorts(), later(types.StrategicMergePatchType, `{"spec": {"externalIPs": ["10.0.0.2"]}}`, 80), noExternal},
		{"P4", "with a reserved port afterwards", nil, func(p *place) error {
			return p.patch(p.has(with("10.0.0.1", 82)), types.JSONPatchType, `[{"op": "replace", "path": "/spec/ports/0/port", "value": 9100}]`)
		}, "422 Invalid PC0312"},
		{"P4", "that is another Service's cluster IP", nil, creating(with("10.96.7.7", 8443)), "422 Invalid PC0204 Service victim/shop"},
		{"P4", "that is another Service's, on its port", nil, creating(with("10.96.7.7", 80)), "422 Invalid PC0204 Service victim/shop"},
		{"P4", "that is the API server's cluster IP", nil, creating(with("10.96.0.1", 443)), "422 Invalid PC0204 Service default/kubernetes"},
		{"P4", "that may become a Service's cluster IP", nil, creating(with("10.96.9.9", 8443)), "422 Invalid PC0204"},
		{"P4", "that is another Service's, by a patch", nil, later(types.MergePatchType, `{"spec": {"externalIPs": ["10.96.7.7"]}}`, 8443), "422 Invalid PC0204 Service victim/shop"},
		{"P4", "of a node mapped into IPv6", noPorts(), creating(with("::ffff:10.0.0.1", 80)), noExternal},
		{"P4", "an external IP that is an address of every node", nil, creating(with("127.0.0.1", 80)), invalid},
		{"P4", "an external IP that is any address", nil, creating(with("0.0.0.0", 80)), invalid},
		{"F10", "the address of a load balancer, by its status", nil, func(p *place) error {
			s, _ := p.has(service("type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]")).(*corev1.Service)
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}
			return p.tenant.Status().Update(p.Context(), s)
		}, noRight},
		{"F10", "a port of a node's address that its load balancer was given", nil, func(p *place) error {
			s, _ := p.has(service("type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 83}]")).(*corev1.Service)
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}
			must(p.T, p.admin.Status().Update(p.Context(), s))
			return p.patch(s, types.JSONPatchType, `[{"op": "replace", "path": "/spec/ports/0/port", "value": 9100}]`)
		}, "422 Invalid PC0312"},
		{"F11", "more sockets than are looked at", nil, func(p *place) error {
			s, _ := p.object(service("ports: [{port: 80}]")).(*corev1.Service)
			s.Spec.Ports = nil
			for i := range 101 {
				s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, fmt.Sprintf("192.0.2.%d", i+1))
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(i), Port: int32(1000 + i)})
			}
			return p.keep(p.tenant, s)
		}, "503 ServiceUnavailable"},
	}
	return all
}

// later are attempts to get a port first, or late.
func later() []attempt {
	activated := func(name, idle string, number int, activate func(*place, client.Object) error) attempt {
		return attempt{"F3", name, nil, func(p *place) error {
			o := p.has(idle)
			p.victimHas(objects.Service("later", fmt.Sprintf("type: NodePort, ports: [{port: 80, nodePort: %d}]", number)))
			return activate(p, o)
		}, "422 Invalid PC0201 Service victim/later"}
	}
	scaled := func(p *place, o client.Object) error {
		return p.tenant.SubResource("scale").Update(p.Context(), o, client.WithSubResourceBody(&autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Namespace: p.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 2},
		}))
	}
	patched := func(patch string) func(*place, client.Object) error {
		return func(p *place, o client.Object) error { return p.patch(o, types.MergePatchType, patch) }
	}
	port := func(number int) string {
		return objects.Containers(fmt.Sprintf("containerPort: 80, hostPort: %d", number))
	}
	all := []attempt{
		{"F1", "numbers of others, kept by a create that fails", nil, func(p *place) error {
			p.has(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30801}]"))
			if err := p.create(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30802}]")); err == nil {
				return errors.New("the name was free")
			}
			return p.victims(objects.Service("free", "type: NodePort, ports: [{port: 80, nodePort: 30802}]"))
		}, "ok"},
		{"F1", "host ports of others, kept by a create that fails", nil, func(p *place) error {
			p.has(pod("a", "", "hostPort: 30840"))
			if err := p.create(pod("a", "nodeName: n1, ", "hostPort: 30841")); err == nil {
				return errors.New("the name was free")
			}
			return p.victims(objects.Service("free", "type: NodePort, ports: [{port: 80, nodePort: 30841}]"))
		}, "ok"},
		{"F2", "its own claims, hidden by a create that fails", nil, func(p *place) error {
			p.has(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30803}]"))
			_ = p.create(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30804}]")) // the name is taken
			return p.create(pod("p", "", "hostPort: 30803"))
		}, "422 Invalid PC0201 Service HERE/a"},
		{"F5", "a node port, kept by a workload that no node suits", nil, func(p *place) error {
			p.has(objects.Workload("Deployment", "d", "", "nodeSelector: {no: node}, "+port(30850)))
			return p.victims(objects.Service("free", "type: NodePort, ports: [{port: 80, nodePort: 30850}]"))
		}, "ok"},
		{"F5", "a node port, kept by a pod of no node", nil, func(p *place) error {
			p.has(objects.Pod("p", "nodeName: nowhere, "+port(30851)))
			return p.victims(objects.Service("free", "type: NodePort, ports: [{port: 80, nodePort: 30851}]"))
		}, "ok"},
		{"F7", "a port that is reserved on nodes which are away", nil, creating(objects.Pod("p", "nodeSelector: {gpu: yes-please}, "+port(9400))), "422 Invalid PC0312"},
		{"F7", "of a DaemonSet", nil, creating(objects.Workload("DaemonSet", "d", "", "nodeSelector: {gpu: yes-please, zone: a}, "+port(9400))), "422 Invalid PC0312"},
		{"F7", "by affinity", nil, creating(objects.Workload("Deployment", "d", "", "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: gpu, operator: In, values: [yes-please]}]}]}}}, "+port(9400))), "422 Invalid PC0312"},
		{"F7", "on nodes that are away and are others", nil, creating(objects.Pod("p", "nodeSelector: {gpu: none}, "+port(9400))), "ok"},
		activated("scaled from nothing", objects.Workload("Deployment", "d", "replicas: 0, ", port(30805)), 30805, scaled),
		activated("a StatefulSet, scaled from nothing", objects.Workload("StatefulSet", "d", "replicas: 0, serviceName: s, ", port(30820)), 30820, scaled),
		activated("a ReplicaSet, scaled from nothing", objects.Workload("ReplicaSet", "d", "replicas: 0, ", port(30821)), 30821, scaled),
		activated("a controller, scaled from nothing", objects.Workload("ReplicationController", "d", "replicas: 0, ", port(30822)), 30822, scaled),
		activated("replicas by a patch", objects.Workload("Deployment", "d", "replicas: 0, ", port(30823)), 30823, patched(`{"spec": {"replicas": 1}}`)),
		activated("replicas left to their default", objects.Workload("Deployment", "d", "replicas: 0, ", port(30824)), 30824, patched(`{"spec": {"replicas": null}}`)),
		activated("a Job that is resumed", objects.Workload("Job", "j", "suspend: true, ", port(30806)), 30806, patched(`{"spec": {"suspend": false}}`)),
		activated("a Job whose parallelism grows from nothing", objects.Workload("Job", "j", "parallelism: 0, ", port(30825)), 30825, patched(`{"spec": {"parallelism": 1}}`)),
		activated("a CronJob that is resumed", cronJob("suspend: true, ", port(30826)), 30826, patched(`{"spec": {"suspend": false}}`)),
	}
	return all
}

func cronJob(more, spec string) string {
	return "{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {" + more + "schedule: '0 0 1 1 *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, " + spec + "}}}}}}"
}

// limits are attempts to have more of a pool than its limit.
func limits() []attempt {
	return []attempt{
		{"F6", "a pool, drained past its limit", few(), func(p *place) error {
			for i := range 3 {
				s := p.object(objects.Service(fmt.Sprintf("s%d", i), "type: NodePort, ports: [{port: 80}]"))
				if err := p.keep(p.tenant, s); err != nil {
					if i < 2 {
						return fmt.Errorf("number %d: %w", i, err)
					}
					return err
				}
				must(p.T, p.tenant.Delete(p.Context(), s))
				time.Sleep(time.Second) // so that it is seen to be gone
			}
			return nil
		}, "422 Invalid PC0309"},
		{"F6", "more numbers than the limit, by name", named(), creating(service("type: NodePort, ports: [{name: a, port: 80, nodePort: 31101}, {name: b, port: 81, nodePort: 31102}, {name: c, port: 82, nodePort: 31103}]")), "422 Invalid PC0308"},
		{"F6", "more numbers than the limit, by default", few(), creating(service("type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81}, {name: c, port: 82}]")), "422 Invalid PC0309"},
		{"F6", "one more number, by a patch", named(), func(p *place) error {
			s := p.has(service("type: NodePort, ports: [{name: a, port: 80, nodePort: 31105}, {name: b, port: 81, nodePort: 31106}]"))
			return p.patch(s, types.JSONPatchType, `[{"op": "add", "path": "/spec/ports/-", "value": {"name": "c", "port": 82, "nodePort": 31107}}]`)
		}, "422 Invalid PC0308"},
		{"F6", "host ports of a pool, by two pods", map[string]string{"hosts": "one"}, func(p *place) error {
			p.has(pod("p", "", "hostPort: 7002"))
			return p.create(pod("q", "", "hostPort: 7003"))
		}, "422 Invalid PC0308"},
	}
}
