package redteam

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
)

// anyKind is an object of a kind that has pods.
func anyKind(kind, spec string) string {
	switch kind {
	case "Pod":
		return objects.Pod("w", spec)
	case "CronJob":
		return cronJob("", spec)
	case "StatefulSet":
		return objects.Workload(kind, "w", "serviceName: s, ", spec)
	default:
		return objects.Workload(kind, "w", "", spec)
	}
}

func podKinds() []string {
	return []string{"Pod", "Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"}
}

// kinds are attempts to have what is forbidden by another kind of object, or by another part of a pod.
func kinds() []attempt {
	var all []attempt
	for _, kind := range podKinds() {
		for name, spec := range inOrder(map[string]string{
			"a host port":                   objects.Containers(port80),
			"a host port over UDP":          objects.Containers(port80 + ", protocol: UDP"),
			"a host port at loopback":       objects.Containers(port80 + ", hostIP: 127.0.0.1"),
			"a host port of a sidecar":      "initContainers: [{name: i, image: i, restartPolicy: Always, ports: [{" + port80 + "}]}], containers: [{name: c, image: i}]",
			"one of a plain init container": "initContainers: [{name: i, image: i, ports: [{" + port80 + "}]}], containers: [{name: c, image: i}]",
			"one of the last container":     "containers: [{name: a, image: i}, {name: b, image: i, ports: [{containerPort: 80}]}, {name: c, image: i, ports: [{containerPort: 81}, {" + port80 + "}]}]",
			"the host network":              onHost,
		}) {
			all = append(all, attempt{"kinds", "a " + kind + " with " + name, noPorts(), creating(anyKind(kind, spec)), noHostPort})
		}
	}
	return append(all,
		attempt{"kinds", "a name that the API server makes", noPorts(), creating("{apiVersion: v1, kind: Pod, metadata: {generateName: p-}, spec: {" + objects.Containers(port80) + "}}"), noHostPort},
		attempt{"kinds", "an ephemeral container with a host port", noPorts(), func(p *place) error {
			o, _ := p.has(objects.Pod("p", "containers: [{name: c, image: i}]")).(*corev1.Pod)
			o.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}}}}
			return p.tenant.SubResource("ephemeralcontainers").Update(p.Context(), o)
		}, noRight},
		attempt{"kinds", "a PodTemplate, of which no pod comes", noPorts(), creating("{apiVersion: v1, kind: PodTemplate, metadata: {name: t}, template: {metadata: {labels: {a: b}}, spec: {" + objects.Containers(port80) + "}}}"), noRight},
		attempt{"kinds", "the host network with container ports that are no host ports", noPorts(), creating(objects.Pod("p", "hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]")), noNetwork},
		attempt{"kinds", "a container port, which is no host port", noPorts(), creating(objects.Pod("p", objects.Containers("containerPort: 80"))), "ok"},
	)
}

// ways are attempts to change what was let through.
func ways() []attempt {
	const before, after = "containerPort: 80", port80
	var all []attempt
	for _, kind := range []string{"Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController", "CronJob"} {
		path := []string{"spec", "template", "spec"}
		if kind == "CronJob" {
			path = []string{"spec", "jobTemplate", "spec", "template", "spec"}
		}
		merge := func(container string) string {
			text := `{"containers": [` + container + `]}`
			for i := range path {
				text = fmt.Sprintf("{%q: %s}", path[len(path)-1-i], text)
			}
			return text
		}
		for name, change := range inOrder(map[string]func(*place, client.Object) error{
			"PUT": func(p *place, o client.Object) error {
				changed := p.object(anyKind(kind, objects.Containers(after)))
				changed.SetResourceVersion(o.GetResourceVersion())
				return p.tenant.Update(p.Context(), changed)
			},
			"a JSON patch": func(p *place, o client.Object) error {
				return p.patch(o, types.JSONPatchType, `[{"op": "add", "path": "/`+strings.Join(path, "/")+`/containers/0/ports/0/hostPort", "value": 80}]`)
			},
			"a merge patch": func(p *place, o client.Object) error {
				return p.patch(o, types.MergePatchType, merge(`{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]}`))
			},
			"a strategic patch": func(p *place, o client.Object) error {
				return p.patch(o, types.StrategicMergePatchType, merge(`{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}`))
			},
			"a merge patch to the host network": func(p *place, o client.Object) error {
				return p.patch(o, types.MergePatchType, strings.Replace(merge(""), `"containers": []`, `"hostNetwork": true`, 1))
			},
			"server-side apply": func(p *place, _ client.Object) error {
				return p.apply(p.object(anyKind(kind, objects.Containers(after))))
			},
		}) {
			all = append(all, attempt{"ways", "a " + kind + " by " + name, noPorts(), func(p *place) error {
				return change(p, p.has(anyKind(kind, objects.Containers(before))))
			}, noHostPort})
		}
	}
	for _, kind := range podKinds() {
		all = append(all, attempt{"ways", "a new " + kind + " by server-side apply", noPorts(), func(p *place) error {
			return p.apply(p.object(anyKind(kind, objects.Containers(after))))
		}, noHostPort})
	}
	return append(all,
		attempt{"ways", "a pod's ports, which stay", noPorts(), func(p *place) error {
			return p.patch(p.has(objects.Pod("p", objects.Containers(before))), types.StrategicMergePatchType, `{"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}}`)
		}, invalid},
		attempt{"ways", "a Job's template, which stays", noPorts(), func(p *place) error {
			return p.patch(p.has(anyKind("Job", objects.Containers(before))), types.StrategicMergePatchType, `{"spec": {"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}}}}`)
		}, invalid},
	)
}

func (p *place) apply(o client.Object) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	p.made = append(p.made, o)
	return p.tenant.Patch(p.Context(), o, client.RawPatch(types.ApplyPatchType, text), client.FieldOwner("me"), client.ForceOwnership)
}

// spellings are attempts on a stranger's nodePort by other addresses, other places and other protocols.
func spellings() []attempt {
	const noAddress = "422 Invalid PC0101"
	var all []attempt
	for ip, want := range inOrder(map[string]string{
		"0.0.0.0": taken, "10.0.0.1": taken, "127.0.0.1": taken, "::ffff:10.0.0.1": taken, "::ffff:0a00:0001": taken, "0:0:0:0:0:ffff:10.0.0.1": taken,
		"": taken, "127.0.0.2": taken,
		"::": "ok", "0:0:0:0:0:0:0:0": "ok", "fd00::1": "ok", // the number is taken over IPv4
		"010.0.0.1": noAddress, "localhost": noAddress, "10.0.0.256": noAddress, "fe80::1%eth0": noAddress,
	}) {
		all = append(all, attempt{"spellings", "the address " + ip, nil, creating(pod("p", "nodeName: n1, ", fmt.Sprintf("hostPort: 30800, hostIP: %q", ip))), want})
	}
	for place, want := range inOrder(map[string]string{
		"": taken, "nodeName: n2, ": taken, "nodeName: nowhere, ": taken, "nodeSelector: {kubernetes.io/hostname: n1}, ": taken,
		"tolerations: [{operator: Exists}], ": taken, "schedulerName: mine, ": taken, "schedulingGates: [{name: later}], ": taken,
		"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]}}}, ": taken,
	}) {
		all = append(all, attempt{"spellings", "the place " + place, nil, creating(pod("p", place, "hostPort: 30800")), want})
	}
	for protocol, want := range inOrder(map[string]string{"UDP": "ok", "SCTP": "ok", "TCP": taken, "tcp": "422 Invalid PC0106"}) {
		all = append(all, attempt{"spellings", "the protocol " + protocol, nil, creating(pod("p", "", "hostPort: 30800, protocol: "+protocol)), want})
	}
	return append(all,
		attempt{"spellings", "the host network", nil, creating(objects.Pod("p", "hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 30800}]}]")), taken},
		attempt{"spellings", "a host port that the pod has at two addresses", nil, creating(objects.Pod("p", "containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 30842, hostIP: 10.0.0.1}, {containerPort: 81, hostPort: 30842, hostIP: '::ffff:10.0.0.1'}]}]")), "422 Invalid PC0102"},
		attempt{"spellings", "the number over UDP, as a nodePort", nil, creating(service("type: NodePort, ports: [{port: 80, nodePort: 30800, protocol: UDP}]")), taken},
		attempt{"spellings", "a number of a load balancer's health check", nil, creating(service("type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30800, ports: [{port: 80}]")), taken},
	)
}

// policies are attempts on what policies say of node ports.
func policies() []attempt {
	all := []attempt{
		{"policies", "a node port", noPorts(), creating(service("type: NodePort, ports: [{port: 80}]")), noNodePort},
		{"policies", "a node port by its number", noPorts(), creating(service("type: NodePort, ports: [{port: 80, nodePort: 30830}]")), noNodePort},
		{"policies", "a load balancer's node port", noPorts(), creating(service("type: LoadBalancer, ports: [{port: 80}]")), noNodePort},
		{"policies", "a load balancer's, by its number only", noPorts(), creating(service("type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80, nodePort: 30831}]")), noNodePort},
		{"policies", "a health check's number only", noPorts(), creating(service("type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalTrafficPolicy: Local, ports: [{port: 80}]")), noNodePort},
		{"policies", "a load balancer without any", noPorts(), creating(service("type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]")), "ok"},
		{"policies", "a class of load balancers that nobody has", noPorts(), creating(service("type: LoadBalancer, loadBalancerClass: example.com/mine, ports: [{port: 80}]")), noNodePort},
		{"policies", "a Service that another proxy serves", noPorts(), creating(with("labels: {service.kubernetes.io/service-proxy-name: mine}", service("type: NodePort, ports: [{port: 80}]"))), noNodePort},
		{"policies", "a Service of another protocol", noPorts(), creating(service("type: NodePort, ports: [{port: 80, protocol: SCTP}]")), noNodePort},
		{"policies", "a host port that the webhook is to choose", noPorts(), creating(with("annotations: {portcullis.dev/host-port.p: auto}", objects.Pod("p", objects.Containers("name: p, containerPort: 80")))), "422 Invalid PC0314"},
		{"policies", "ports reserved by an annotation that is for nodes", nil, creating(with("annotations: {portcullis.dev/reserved-ports: '1-65535'}", service("type: NodePort, ports: [{port: 80, nodePort: 30807}]"))), "ok"},
		{"policies", "the exporter's port", nil, creating(pod("p", "", "hostPort: 9100")), "422 Invalid PC0312"},
		{"policies", "the exporter's port over UDP", nil, creating(pod("p", "", "hostPort: 9100, protocol: UDP")), "422 Invalid PC0312"},
		{"policies", "the exporter's port of the host network", nil, creating(objects.Pod("p", "hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 9100}]}]")), "422 Invalid PC0312"},
		{"policies", "the exporter's port at a node without a name of that kind", nil, creating(pod("p", "nodeSelector: {no: node}, ", "hostPort: 9100")), "422 Invalid PC0312"},
	}
	plain := service("ports: [{port: 80}]")
	for name, change := range inOrder(map[string]func(*place) error{
		"PUT": func(p *place) error {
			s, _ := p.has(plain).(*corev1.Service)
			s.Spec.Type = corev1.ServiceTypeNodePort
			return p.tenant.Update(p.Context(), s)
		},
		"a JSON patch": func(p *place) error {
			return p.patch(p.has(plain), types.JSONPatchType, `[{"op": "replace", "path": "/spec/type", "value": "NodePort"}]`)
		},
		"a merge patch": func(p *place) error {
			return p.patch(p.has(plain), types.MergePatchType, `{"spec": {"type": "LoadBalancer"}}`)
		},
		"a strategic patch": func(p *place) error {
			return p.patch(p.has(plain), types.StrategicMergePatchType, `{"spec": {"type": "NodePort"}}`)
		},
		"server-side apply": func(p *place) error {
			p.has(plain)
			return p.apply(p.object(service("type: NodePort, ports: [{port: 80}]")))
		},
	}) {
		all = append(all, attempt{"policies", "a node port, by " + name, noPorts(), change, noNodePort})
	}
	return all
}

// daemons are attempts on the ports of the nodes' own daemons.
func daemons() []attempt {
	var all []attempt
	config, err := configv1alpha1.Load(nil)
	if err != nil {
		panic(err) // of no file at all
	}
	for _, d := range config.NodeReserved {
		if d.NodeLabel != "" {
			continue // of the control plane, which none of the nodes here is
		}
		for name, text := range inOrder(map[string]string{
			"as a host port":           pod("p", "", fmt.Sprintf("hostPort: %d", d.Port)),
			"on a node's host network": objects.Pod("p", fmt.Sprintf("nodeName: n1, hostNetwork: true, containers: [{name: %s, image: i, ports: [{containerPort: %d}]}]", d.Name, d.Port)),
			"of a DaemonSet":           objects.Workload("DaemonSet", "d", "", objects.Containers(fmt.Sprintf("containerPort: 80, hostPort: %d", d.Port))),
		}) {
			all = append(all, attempt{"daemons", fmt.Sprintf("port %d of %s, %s", d.Port, d.Name, name), nil, creating(text), "422 Invalid PC0302"})
		}
	}
	return all
}

// foreignPools are attempts on pools of others.
func foreignPools() []attempt {
	const foreign = "422 Invalid PC0307"
	return []attempt{
		{"pools", "a number of others' pool", nil, creating(service("type: NodePort, ports: [{port: 80, nodePort: 31000}]")), foreign},
		{"pools", "as a load balancer's", nil, creating(service("type: LoadBalancer, ports: [{port: 80, nodePort: 31000}]")), foreign},
		{"pools", "as a health check's", nil, creating(service("type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31000, ports: [{port: 80}]")), foreign},
		{"pools", "over UDP", nil, creating(service("type: NodePort, ports: [{port: 80, nodePort: 31000, protocol: UDP}]")), foreign},
		{"pools", "beside one that is free", nil, creating(service("type: NodePort, ports: [{name: a, port: 80, nodePort: 30832}, {name: b, port: 81, nodePort: 31000}]")), foreign},
		{"pools", "by a change of type", nil, func(p *place) error {
			return p.patch(p.has(service("ports: [{port: 80}]")), types.MergePatchType, `{"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31000}]}}`)
		}, foreign},
		{"pools", "by a change of the number", nil, func(p *place) error {
			return p.patch(p.has(service("type: NodePort, ports: [{port: 80, nodePort: 30833}]")), types.JSONPatchType, `[{"op": "replace", "path": "/spec/ports/0/nodePort", "value": 31000}]`)
		}, foreign},
		{"pools", "a host port of others' pool", nil, creating(pod("p", "", "hostPort: 7000")), foreign},
		{"pools", "a host port of others' pool, of a DaemonSet", nil, creating(objects.Workload("DaemonSet", "d", "", objects.Containers("containerPort: 80, hostPort: 7001"))), foreign},
		{"pools", "the name of another pool in an annotation", nil, creating(with("annotations: {portcullis.dev/pool: few}", service("type: NodePort, ports: [{port: 80, nodePort: 31000}]"))), foreign},
	}
}

// rights are attempts that RBAC or the API server stops.
func rights() []attempt {
	forbidden := func(name string, do func(*place) error) attempt { return attempt{"rights", name, nil, do, noRight} }
	updated := func(name string, o client.Object, patch string) attempt {
		return forbidden(name, func(p *place) error { return p.patch(o.DeepCopyObject().(client.Object), types.MergePatchType, patch) })
	}
	named := func(name, namespace string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: namespace}
	}
	object := func(version, kind, name string) client.Object {
		return unstructuredOf(raw{"apiVersion": version, "kind": kind, "metadata": raw{"name": name}})
	}
	const ours = "portcullis.dev/v1alpha1"
	return []attempt{
		forbidden("a PortPolicy of its own", func(p *place) error { return p.tenant.Create(p.Context(), object(ours, "PortPolicy", "mine")) }),
		forbidden("a PortPool of its own", func(p *place) error { return p.tenant.Create(p.Context(), object(ours, "PortPool", "mine")) }),
		forbidden("a PortClaim of its own", func(p *place) error { return p.tenant.Create(p.Context(), object(ours, "PortClaim", "31001")) }),
		forbidden("without the PortPolicy", func(p *place) error { return p.tenant.Delete(p.Context(), object(ours, "PortPolicy", "no-ports")) }),
		forbidden("without the PortPool", func(p *place) error { return p.tenant.Delete(p.Context(), object(ours, "PortPool", "few")) }),
		forbidden("without a PortClaim", func(p *place) error { return p.tenant.Delete(p.Context(), object(ours, "PortClaim", "31001")) }),
		updated("an exception in the PortPolicy", object(ours, "PortPolicy", "no-ports"), `{"spec": {"enforcement": "Audit"}}`),
		updated("a larger PortPool", object(ours, "PortPool", "few"), `{"spec": {"limits": {"perNamespace": 100}}}`),
		forbidden("other labels of its namespace", func(p *place) error {
			return p.patch(&corev1.Namespace{ObjectMeta: named(p.Namespace, "")}, types.MergePatchType, `{"metadata": {"labels": {"ports": null}}}`)
		}),
		updated("a webhook configuration", object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "portcullis"), `{"webhooks": []}`),
		updated("the mutating webhook configuration", object("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "portcullis"), `{"webhooks": []}`),
		forbidden("an admission policy", func(p *place) error {
			return p.tenant.Create(p.Context(), object("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "mine"))
		}),
		updated("labels of a node", object("v1", "Node", "n1"), `{"metadata": {"labels": {"a": "b"}}}`),
		updated("reserved ports of a node", object("v1", "Node", "n1"), `{"metadata": {"annotations": {"portcullis.dev/reserved-ports": "1-65535"}}}`),
		forbidden("addresses of a node", func(p *place) error {
			n := &corev1.Node{ObjectMeta: named("n1", "")}
			return p.tenant.Status().Patch(p.Context(), n, client.RawPatch(types.MergePatchType, []byte(`{"status": {"addresses": []}}`)))
		}),
		forbidden("a node of its own", func(p *place) error { return p.tenant.Create(p.Context(), &corev1.Node{ObjectMeta: named("mine", "")}) }),
		forbidden("the authority's key", func(p *place) error {
			return p.tenant.Get(p.Context(), client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis-ca"}, &corev1.Secret{})
		}),
		forbidden("the journal of the replicas", func(p *place) error {
			return p.tenant.Get(p.Context(), client.ObjectKey{Namespace: "portcullis-system", Name: "portcullis-journal"}, &corev1.ConfigMap{})
		}),
		forbidden("a Service of somebody else", func(p *place) error {
			return p.patch(&corev1.Service{ObjectMeta: named("shop", "victim")}, types.MergePatchType, `{"spec": {"type": "ClusterIP"}}`)
		}),
		forbidden("a pod in kube-system", func(p *place) error {
			return p.tenant.Create(p.Context(), objects.One(p.T, "kube-system", pod("p", "", "hostPort: 10250")))
		}),
		forbidden("the status of a pod, so that it seems to have ended", func(p *place) error {
			o := p.has(pod("p", "nodeName: n1, ", "hostPort: 30843"))
			return p.tenant.Status().Patch(p.Context(), o, client.RawPatch(types.MergePatchType, []byte(`{"status": {"phase": "Succeeded"}}`)))
		}),
		forbidden("a pod's node, by binding it", func(p *place) error {
			o := p.has(pod("p", "", "hostPort: 30844"))
			return p.tenant.SubResource("binding").Create(p.Context(), o, &corev1.Binding{ObjectMeta: named("p", p.Namespace), Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}})
		}),
		forbidden("more rights, by a RoleBinding", func(p *place) error {
			return p.tenant.Create(p.Context(), &rbacv1.RoleBinding{ObjectMeta: named("more", p.Namespace), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}})
		}),
		{"rights", "a pod's node, by a change of it", nil, func(p *place) error {
			return p.patch(p.has(pod("p", "nodeName: n1, ", "hostPort: 30845")), types.MergePatchType, `{"spec": {"nodeName": "n2"}}`)
		}, invalid},
		{"rights", "a mirror annotation, afterwards", nil, func(p *place) error {
			return p.patch(p.has(pod("p", "nodeName: n1, ", "hostPort: 30846")), types.MergePatchType, `{"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}`)
		}, invalid},
		{"rights", "a node port outside of the API server's range", nil, creating(service("type: NodePort, ports: [{port: 80, nodePort: 29999}]")), "422 Invalid PC0301"},
	}
}

// dryRuns are attempts to be judged less strictly, or at a higher price.
func dryRuns() []attempt {
	dry := func(text string) func(*place) error {
		return func(p *place) error { return p.tenant.Create(p.Context(), p.object(text), client.DryRunAll) }
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "{name: c%d, image: i}, ", i)
		}
		return b.String()
	}
	annotations := map[string]string{}
	for i := range 3000 {
		annotations[fmt.Sprintf("example.com/a%d", i)] = "x"
	}
	return []attempt{
		{"dry runs", "of a host port", noPorts(), dry(pod("p", "", "hostPort: 80")), noHostPort},
		{"dry runs", "of a node port", noPorts(), dry(service("type: NodePort, ports: [{port: 80, nodePort: 30808}]")), noNodePort},
		{"dry runs", "of a stranger's number", nil, dry(pod("p", "", "hostPort: 30800")), taken},
		{"dry runs", "of others' pool", nil, dry(service("type: NodePort, ports: [{port: 80, nodePort: 31000}]")), "422 Invalid PC0307"},
		{"dry runs", "which hold nothing", nil, func(p *place) error {
			if err := dry(objects.Service("a", "type: NodePort, ports: [{port: 80, nodePort: 30835}]"))(p); err != nil {
				return err
			}
			return p.create(pod("p", "", "hostPort: 30835"))
		}, "ok"},
		{"dry runs", "which use up no limit", few(), func(p *place) error {
			for range 3 {
				if err := dry(service("type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81}]"))(p); err != nil {
					return err
				}
			}
			return p.create(service("type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81}]"))
		}, "ok"},
		{"CEL cost", "a host port behind 2,000 containers", noPorts(), creating(objects.Pod("p", "containers: ["+many(2000)+"{name: c, image: i, ports: [{"+port80+"}]}]")), noHostPort},
		{"CEL cost", "a host port of a template behind 2,000 containers", noPorts(), creating(objects.Workload("Deployment", "d", "", "containers: ["+many(2000)+"{name: c, image: i, ports: [{"+port80+"}]}]")), noHostPort},
		{"CEL cost", "a host port beside 3,000 annotations", noPorts(), func(p *place) error {
			o := p.object(pod("p", "", "hostPort: 80"))
			o.SetAnnotations(maps.Clone(annotations))
			return p.keep(p.tenant, o)
		}, noHostPort},
		{"CEL cost", "a node port of a Service with 1,000 ports", noPorts(), func(p *place) error {
			s, _ := p.object(service("ports: [{port: 80}]")).(*corev1.Service)
			s.Spec.Ports, s.Spec.Type = nil, corev1.ServiceTypeLoadBalancer
			s.Spec.AllocateLoadBalancerNodePorts = new(false)
			for i := range 1000 {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", i), Port: int32(1000 + i)})
			}
			s.Spec.Ports[999].NodePort = 30836
			return p.keep(p.tenant, s)
		}, noNodePort},
		{"CEL cost", "owner references without end", noPorts(), func(p *place) error {
			o := p.object(pod("p", "", "hostPort: 80"))
			var owners []metav1.OwnerReference
			for i := range 1000 {
				owners = append(owners, metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprint("r", i), UID: types.UID(fmt.Sprint(i))})
			}
			o.SetOwnerReferences(owners)
			return p.keep(p.tenant, o)
		}, noHostPort},
	}
}
