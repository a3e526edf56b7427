// Package redteam tries to get around the webhook: as a tenant, who has the ClusterRole edit in namespaces of its own and
// nothing else, against policies, pools and holders of others. Each row is one attempt, and what must become of it.
package redteam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// What an administrator has set up: a namespace of somebody else with ports of its own, and what is forbidden to tenants.
const (
	victim = `
{apiVersion: v1, kind: Namespace, metadata: {name: victim}}
---
{apiVersion: v1, kind: Service, metadata: {name: shop, namespace: victim}, spec: {type: NodePort, clusterIP: 10.96.7.7, ports: [{port: 80, nodePort: 30800}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}}
`
	forbidden = `
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: no-ports}
spec:
  namespaceSelector: {matchLabels: {ports: none}}
  enforcement: Deny
  hostPorts: {mode: Forbidden, hostNetwork: Forbidden}
  nodePorts: {mode: Forbidden}
  externalIPs: NodeAddressesForbidden
  exceptions:
  - {name: edge, objectSelector: {matchLabels: {edge: "yes"}}, reason: told to}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: exporter}
spec:
  namespaceSelector: {}
  enforcement: Deny
  reserved: [{name: exporter, ports: [{port: 9100}], nodeSelector: {}}]
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: hosts}
spec: {for: HostPorts, ranges: [{port: 7000, endPort: 7009}], namespaceSelector: {matchLabels: {hosts: one}}, enforcement: Deny, limits: {perNamespace: 1}}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: web}
spec: {ranges: [{port: 31500, endPort: 31509}], namespaceSelector: {}, serviceSelector: {matchLabels: {tier: web}}, enforcement: Deny}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: few}
spec: {ranges: [{port: 31000, endPort: 31009}], namespaceSelector: {matchLabels: {pool: few}}, enforcement: Deny, limits: {perNamespace: 2}, allocation: {reuseDelay: 1h}}
`
)

// world is a cluster with a tenant in it.
type world struct {
	t      *testing.T
	admin  client.Client
	tenant client.Client
}

// TestTenant are the attempts of somebody who may write what he likes into namespaces of his own.
func TestTenant(t *testing.T) {
	w := newWorld(t, rig.Run(t, rig.Options{}))
	for _, a := range attempts() {
		t.Run(a.id+" "+a.name, func(t *testing.T) {
			ns := w.namespace(t, a.labels)
			got := finding.Answer(a.do(&place{World: &world{t, w.admin, w.tenant}, Namespace: ns}))
			w.clear(t, ns)
			if got = strings.ReplaceAll(got, ns, "HERE"); got != a.want {
				t.Errorf("got  %s\nwant %s", got, a.want)
			}
		})
	}
}

// newWorld sets the tenant into a cluster in which the webhook keeps to the policies.
func newWorld(t *testing.T, r *rig.Rig) *world {
	t.Helper()
	w := &world{t, newClient(t, r.RESTConfig(), ""), newClient(t, r.RESTConfig(), "tenant")}
	for _, o := range objects.Parse(t, "", victim) {
		w.must(w.admin.Create(t.Context(), o))
		if node, ok := o.(*corev1.Node); ok {
			node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0." + node.Name[1:]}}
			w.must(w.admin.Status().Update(t.Context(), node))
		}
	}
	for _, o := range objects.Parse(t, "", forbidden) {
		w.must(w.admin.Create(t.Context(), o))
	}
	poll.Until(t, func(ctx context.Context) error { // the webhook keeps to the policies
		ns := w.namespace(t, map[string]string{"ports": "none"})
		return w.isDenied(w.tenant.Create(ctx, objects.One(t, ns, pod("probe", "", "hostPort: 9000")), client.DryRunAll))
	})
	return w
}

// clear removes what an attempt has left, so that nothing is held for the next one.
func (w *world) clear(t *testing.T, namespace string) {
	t.Helper()
	for _, kind := range []client.Object{&corev1.Pod{}, &appsv1.Deployment{}, &appsv1.ReplicaSet{}, &batchv1.Job{}} {
		w.must(w.admin.DeleteAllOf(t.Context(), kind, client.InNamespace(namespace), client.GracePeriodSeconds(0)))
	}
	services := &corev1.ServiceList{}
	w.must(w.admin.List(t.Context(), services, client.InNamespace(namespace)))
	for i := range services.Items {
		w.must(w.admin.Delete(t.Context(), &services.Items[i]))
	}
}

// place is a namespace of the tenant's.
type place struct {
	World     *world
	Namespace string
}

// attempt is one way to get what is forbidden.
type attempt struct {
	id, name string // the id is that of docs/security.md
	labels   map[string]string
	do       func(*place) error
	want     string
}

func noPorts() map[string]string { return map[string]string{"ports": "none"} }

func attempts() []attempt {
	const lb = "{svccontroller.k3s.cattle.io/svcname: shop, svccontroller.k3s.cattle.io/svcnamespace: victim}"
	const noHostPort, noNetwork, taken = "422 Invalid PC0311", "422 Invalid PC0311", "422 Invalid PC0201 Service victim/shop"
	create := func(text string) func(*place) error { return func(p *place) error { return p.create(text) } }
	all := []attempt{
		{"P1", "a pod that says it is of k3s' load balancer, on the host network", noPorts(), create("{apiVersion: v1, kind: Pod, metadata: {name: p, labels: " + lb + "}, spec: {hostNetwork: true, containers: [{name: c, image: i}]}}"), noNetwork},
		{"P1", "a DaemonSet that says so", noPorts(), create("{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d, labels: " + lb + "}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {hostNetwork: true, containers: [{name: c, image: i}]}}}}"), noNetwork},
		{"P2", "a pod that names a Service of its own as its controller", noPorts(), func(p *place) error {
			return p.ownedBy("v1", "Service", "{apiVersion: v1, kind: Service, metadata: {name: own}, spec: {ports: [{port: 80}], externalIPs: [192.0.2.1]}}", pod("p", "", "hostPort: 80"))
		}, noHostPort},
		{"P2", "a pod that names a ConfigMap as its controller", noPorts(), func(p *place) error {
			return p.ownedBy("v1", "ConfigMap", "{apiVersion: v1, kind: ConfigMap, metadata: {name: own}}", pod("p", "", "hostPort: 80"))
		}, noHostPort},
		{"P2", "a pod that names an idle ReplicaSet without the port", noPorts(), func(p *place) error {
			return p.ownedBy("apps/v1", "ReplicaSet", objects.Workload("ReplicaSet", "own", "replicas: 0, ", objects.Containers("containerPort: 80")), pod("p", "", "hostPort: 80"))
		}, noHostPort},
		{"P2", "a pod on the host network that names a ReplicaSet that is not", noPorts(), func(p *place) error {
			return p.ownedBy("apps/v1", "ReplicaSet", objects.Workload("ReplicaSet", "own", "", objects.Containers("containerPort: 80")), "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostNetwork: true, containers: [{name: c, image: i}]}}")
		}, noNetwork},
		{"P2", "a Job that names a Deployment of another uid", noPorts(), create("{apiVersion: batch/v1, kind: Job, metadata: {name: j, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: d, uid: u, controller: true}]}, spec: {template: {spec: {restartPolicy: Never, " + objects.Containers("containerPort: 80, hostPort: 80") + "}}}}"), noHostPort},
		{"P3", "a stranger's nodePort, as of k3s' load balancer", nil, create("{apiVersion: v1, kind: Pod, metadata: {name: p, labels: " + lb + "}, spec: {" + objects.Containers("containerPort: 80, hostPort: 30800") + "}}"), taken},
		{"P4", "an external IP of a node", noPorts(), create("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}], externalIPs: [10.0.0.1]}}"), "422 Invalid PC0315"},
		{"P4", "an external IP of a node, on a reserved port", nil, create("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 9100}], externalIPs: [10.0.0.1]}}"), "422 Invalid PC0312"},
		{"P4", "an external IP of a node, by an update", noPorts(), func(p *place) error {
			s := p.made("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}], externalIPs: [192.0.2.1]}}")
			return p.patch(s, types.JSONPatchType, `[{"op": "add", "path": "/spec/externalIPs/-", "value": "10.0.0.2"}]`)
		}, "422 Invalid PC0315"},
		{"P4", "an external IP that is another Service's cluster IP", nil, create("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 8443}], externalIPs: [10.96.7.7]}}"), "422 Invalid PC0204 Service victim/shop"},
		{"P4", "an external IP that may become a Service's cluster IP", nil, create("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 8443}], externalIPs: [10.96.9.9]}}"), "422 Invalid PC0204"},
		{"P4", "the same by an update of a ClusterIP Service", nil, func(p *place) error {
			s := p.made("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 8443}]}}")
			return p.patch(s, types.MergePatchType, `{"spec": {"externalIPs": ["10.96.7.7"]}}`)
		}, "422 Invalid PC0204 Service victim/shop"},
		{"F1", "numbers of others, kept by a create that fails", nil, func(p *place) error {
			p.made(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30801}]"))
			if err := p.create(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30802}]")); err == nil {
				return errors.New("the name was free")
			}
			return p.World.admin.Create(p.World.t.Context(), objects.One(p.World.t, "victim", objects.Service("free", "type: NodePort, ports: [{port: 80, nodePort: 30802}]")))
		}, "ok"},
		{"F2", "its own claims, hidden by a create that fails", nil, func(p *place) error {
			p.made(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30803}]"))
			_ = p.create(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30804}]")) // the name is taken
			return p.create(pod("p", "", "hostPort: 30803"))
		}, "422 Invalid PC0201 Service HERE/a"},
		{"F3", "idle first", nil, func(p *place) error {
			d := p.made(objects.Workload("Deployment", "d", "replicas: 0, ", objects.Containers("containerPort: 80, hostPort: 30805")))
			p.World.must(p.World.admin.Create(p.World.t.Context(), objects.One(p.World.t, "victim", objects.Service("later", "type: NodePort, ports: [{port: 80, nodePort: 30805}]"))))
			return p.World.tenant.SubResource("scale").Update(p.World.t.Context(), d, client.WithSubResourceBody(&autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: p.Namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 2}}))
		}, "422 Invalid PC0201 Service victim/later"},
		{"F4", "a pod that says it is a mirror pod", noPorts(), create("{apiVersion: v1, kind: Pod, metadata: {name: p, annotations: {kubernetes.io/config.mirror: x}}, spec: {nodeName: n1, " + objects.Containers("containerPort: 80, hostPort: 80") + "}}"), noHostPort},
		{"F6", "a pool, drained past its limit", map[string]string{"pool": "few"}, func(p *place) error {
			for i := range 5 {
				name := fmt.Sprintf("s%d", i)
				if err := p.create(objects.Service(name, "type: NodePort, ports: [{port: 80}]")); err != nil {
					if i < 2 {
						return fmt.Errorf("number %d: %w", i, err)
					}
					return err
				}
				p.World.must(p.World.tenant.Delete(p.World.t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.Namespace}}))
				time.Sleep(time.Second) // so that it is seen to be gone
			}
			return nil
		}, "422 Invalid PC0309"},
		{"F8", "an exception's label, taken away afterwards", noPorts(), func(p *place) error {
			s := p.made("{apiVersion: v1, kind: Service, metadata: {name: s, labels: {edge: 'yes'}}, spec: {type: NodePort, ports: [{port: 80}]}}")
			return p.patch(s, types.MergePatchType, `{"metadata": {"labels": {"edge": null}}}`)
		}, "422 Invalid PC0310"},
		{"F9", "a container that is called kubelet", nil, create("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostNetwork: true, containers: [{name: kubelet, image: i, ports: [{containerPort: 10250}]}]}}"), "422 Invalid PC0302"},
	}
	edgeDeployment := "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, edge: 'yes'}}, spec: {" + objects.Containers("containerPort: 80, hostPort: 80") + "}}}}"
	edgeReplicas := strings.Replace(edgeDeployment, "kind: Deployment", "kind: ReplicaSet", 1)
	all = append(all, []attempt{
		{"F8", "an exception's label, taken from a pod afterwards", noPorts(), func(p *place) error {
			return p.patch(p.made(pod("p, labels: {edge: 'yes'}", "", "hostPort: 80")), types.MergePatchType, `{"metadata": {"labels": {"edge": null}}}`)
		}, noHostPort},
		{"F8", "an exception's label, taken from a template afterwards", noPorts(), func(p *place) error {
			return p.patch(p.made(edgeDeployment), types.MergePatchType, `{"spec": {"template": {"metadata": {"labels": {"edge": null}}}}}`)
		}, noHostPort},
		{"F8", "a pod without the label, of a ReplicaSet whose template has it", noPorts(), func(p *place) error {
			return p.ownedBy("apps/v1", "ReplicaSet", edgeReplicas, pod("p", "", "hostPort: 80"))
		}, noHostPort},
		{"F8", "a ReplicaSet without the label, of a Deployment whose template has it", noPorts(), func(p *place) error {
			return p.ownedBy("apps/v1", "Deployment", edgeDeployment, objects.Workload("ReplicaSet", "r", "", objects.Containers("containerPort: 80, hostPort: 80")))
		}, noHostPort},
		{"P2", "a ReplicaSet that names a StatefulSet with the same port, and gets the host network later", noPorts(), func(p *place) error {
			set := p.made("{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: d}, spec: {serviceName: s, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, edge: 'yes'}}, spec: {" + objects.Containers("containerPort: 8080, hostPort: 8080") + "}}}}")
			r := objects.One(p.World.t, p.Namespace, "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: r}, spec: {selector: {matchLabels: {a: c}}, template: {metadata: {labels: {a: c}}, spec: {"+objects.Containers("containerPort: 8080")+"}}}}")
			r.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: set.GetName(), UID: set.GetUID(), Controller: new(true)}})
			p.World.must(p.World.tenant.Create(p.World.t.Context(), r))
			return p.patch(r, types.MergePatchType, `{"spec": {"template": {"spec": {"hostNetwork": true}}}}`)
		}, noNetwork},
		{"F8", "an exception's label, taken from a pod of a ReplicaSet", noPorts(), func(p *place) error {
			own := p.made(edgeReplicas)
			o := objects.One(p.World.t, p.Namespace, pod("p, labels: {a: b, edge: 'yes'}", "", "hostPort: 80"))
			o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: own.GetName(), UID: own.GetUID(), Controller: new(true)}})
			p.World.must(p.World.tenant.Create(p.World.t.Context(), o))
			return p.patch(o, types.MergePatchType, `{"metadata": {"labels": {"edge": null}}}`)
		}, noHostPort},
		{"P4", "a pool's label, taken away afterwards", nil, func(p *place) error {
			s := p.made("{apiVersion: v1, kind: Service, metadata: {name: s, labels: {tier: web}}, spec: {type: NodePort, ports: [{port: 80, nodePort: 31500}]}}")
			return p.patch(s, types.MergePatchType, `{"metadata": {"labels": {"tier": null}}}`)
		}, "422 Invalid PC0307"},
		{"P2", "host ports of a pool past its limit, as of one Deployment", map[string]string{"hosts": "one"}, func(p *place) error {
			d := p.made(objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80, hostPort: 7000")))
			o := objects.One(p.World.t, p.Namespace, pod("p", "", "hostPort: 7001"))
			o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: d.GetName(), UID: d.GetUID(), Controller: new(true)}})
			return p.World.tenant.Create(p.World.t.Context(), o)
		}, "422 Invalid PC0308"},
		{"F11", "more sockets than are looked at", nil, func(p *place) error {
			svc, _ := objects.One(p.World.t, p.Namespace, objects.Service("s", "ports: [{port: 80}]")).(*corev1.Service)
			svc.Spec.Ports = nil
			for i := range 101 {
				svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, fmt.Sprintf("192.0.2.%d", i+1))
				svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(i), Port: int32(1000 + i)})
			}
			return p.World.tenant.Create(p.World.t.Context(), svc)
		}, "503 ServiceUnavailable"},
		{"own", "a node's address with leading zeros", noPorts(), create("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}], externalIPs: [010.000.000.001]}}"), "422 Invalid PC0315"},
		{"own", "a number of others' pool", nil, create(objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 31000}]")), "422 Invalid PC0307"},
		{"own", "the same, by a change of type", nil, func(p *place) error {
			s := p.made(objects.Service("s", "ports: [{port: 80}]"))
			return p.patch(s, types.MergePatchType, `{"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31000}]}}`)
		}, "422 Invalid PC0307"},
		{"own", "more numbers than the limit, by name", map[string]string{"pool": "few"}, create(objects.Service("s", "type: NodePort, ports: [{name: a, port: 80, nodePort: 31001}, {name: b, port: 81, nodePort: 31002}, {name: c, port: 82, nodePort: 31003}]")), "422 Invalid PC0308"},
		{"own", "a health check's number only", noPorts(), create(objects.Service("s", "type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalTrafficPolicy: Local, ports: [{port: 80}]")), "422 Invalid PC0310"},
		{"own", "a plain init container's port", noPorts(), create("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {initContainers: [{name: i, image: i, ports: [{containerPort: 80, hostPort: 80}]}], containers: [{name: c, image: i}]}}"), noHostPort},
		{"own", "a Job that is resumed", nil, func(p *place) error {
			j := p.made("{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {suspend: true, template: {spec: {restartPolicy: Never, " + objects.Containers("containerPort: 80, hostPort: 30806") + "}}}}")
			p.World.must(p.World.admin.Create(p.World.t.Context(), objects.One(p.World.t, "victim", objects.Service("resumed", "type: NodePort, ports: [{port: 80, nodePort: 30806}]"))))
			return p.patch(j, types.MergePatchType, `{"spec": {"suspend": false}}`)
		}, "422 Invalid PC0201 Service victim/resumed"},
		{"own", "the annotation of Portcullis' own dry run", noPorts(), create("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, annotations: {portcullis.dev/probe: 'true'}}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {" + objects.Containers("containerPort: 80, hostPort: 80") + "}}}}"), noHostPort},
		{"own", "ports reserved by an annotation that is for nodes", nil, create("{apiVersion: v1, kind: Service, metadata: {name: s, annotations: {portcullis.dev/reserved-ports: '1-65535'}}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30807}]}}"), "ok"},
		{"own", "a name made by the API server", noPorts(), create("{apiVersion: v1, kind: Pod, metadata: {generateName: p-}, spec: {" + objects.Containers("containerPort: 80, hostPort: 80") + "}}"), noHostPort},
	}...)
	for _, kind := range []string{"Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController", "Job"} {
		all = append(all, attempt{"held", "a " + kind, noPorts(), create(objects.Workload(kind, "w", "", objects.Containers("containerPort: 80, hostPort: 80"))), noHostPort})
	}
	all = append(all, attempt{"held", "a CronJob", noPorts(), create("{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: '0 0 1 1 *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, " + objects.Containers("containerPort: 80, hostPort: 80") + "}}}}}}"), noHostPort})
	for _, spelled := range []string{"0.0.0.0", "::", "::ffff:10.0.0.1", "0:0:0:0:0:0:0:0", "127.0.0.1"} {
		all = append(all, attempt{"held", "the address " + spelled, nil, create(pod("p", "nodeName: n1, ", "hostPort: 30800, hostIP: \""+spelled+"\"")), map[bool]string{true: "ok", false: taken}[spelled == "0:0:0:0:0:0:0:0" || spelled == "::"]})
	}
	for kind, patch := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op": "add", "path": "/spec/template/spec/containers/0/ports/0/hostPort", "value": 80}]`,
		types.MergePatchType:          `{"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]}]}}}}`,
		types.StrategicMergePatchType: `{"spec": {"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}}}}`,
	} {
		all = append(all, attempt{"held", "by a patch, " + string(kind), noPorts(), func(p *place) error {
			return p.patch(p.made(objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80"))), kind, patch)
		}, noHostPort})
	}
	all = append(all, attempt{"held", "by server-side apply", noPorts(), func(p *place) error {
		o := objects.One(p.World.t, p.Namespace, objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80, hostPort: 80")))
		text, err := json.Marshal(o)
		if err != nil {
			return err
		}
		return p.World.tenant.Patch(p.World.t.Context(), o, client.RawPatch(types.ApplyPatchType, text), client.FieldOwner("me"), client.ForceOwnership)
	}, noHostPort})
	return all
}

func pod(name, more, port string) string {
	return objects.Pod(name, more+objects.Containers("containerPort: 80, "+port))
}

func (p *place) create(text string) error {
	return p.World.tenant.Create(p.World.t.Context(), objects.One(p.World.t, p.Namespace, text))
}

// made creates what nobody may object to.
func (p *place) made(text string) client.Object {
	p.World.t.Helper()
	o := objects.One(p.World.t, p.Namespace, text)
	p.World.must(p.World.tenant.Create(p.World.t.Context(), o))
	return o
}

// ownedBy creates an object that names another one, which is created first, as its controller.
func (p *place) ownedBy(version, kind, owner, text string) error {
	own := p.made(owner)
	o := objects.One(p.World.t, p.Namespace, text)
	o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: own.GetName(), UID: own.GetUID(), Controller: new(true)}})
	return p.World.tenant.Create(p.World.t.Context(), o)
}

func (p *place) patch(o client.Object, kind types.PatchType, patch string) error {
	return p.World.tenant.Patch(p.World.t.Context(), o, client.RawPatch(kind, []byte(patch)))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (*world) isDenied(err error) error {
	if err == nil {
		return errors.New("it is let through")
	}
	if got := finding.Answer(err); got != "422 Invalid PC0311" {
		return err
	}
	return nil
}

// namespace makes a namespace in which the tenant has the ClusterRole edit.
func (w *world) namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "tenant-", Labels: labels}}
	w.must(w.admin.Create(t.Context(), ns))
	for _, part := range []string{"edit", "view"} { // of which the controller manager, which is not here, makes the ClusterRole edit
		w.must(w.admin.Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: part, Namespace: ns.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:aggregate-to-" + part},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "tenant"}},
		}))
	}
	poll.Until(t, func(ctx context.Context) error { // the API server knows of the right
		return w.tenant.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe", Namespace: ns.Name}}, client.DryRunAll)
	})
	return ns.Name
}

func newClient(t *testing.T, config *rest.Config, user string) client.Client {
	t.Helper()
	config.WarningHandler = rest.NoWarnings{}
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	}
	scheme := manifest.Scheme()
	if err := errors.Join(rbacv1.AddToScheme(scheme), autoscalingv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCount holds what docs/security.md says of the attempts to how many there are.
func TestCount(t *testing.T) {
	text, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("make %d attempts as a tenant", len(attempts())), fmt.Sprintf("and %d as a stranger", len(forgeries("")))} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/security.md does not say %q", want)
		}
	}
}
