package policies

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/alone"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// testTypes: the API server takes all policies, and its type checker has nothing to say.
func (c *cluster) testTypes(t *testing.T, made *vap.Policies) {
	for _, o := range made.Objects {
		p, ok := o.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		if !ok {
			continue
		}
		poll.Within(t, typeChecked, func(context.Context) error {
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			if p.Status.TypeChecking == nil || p.Status.ObservedGeneration != p.Generation {
				return fmt.Errorf("%s is not checked yet", p.Name)
			}
			return nil
		})
		for _, w := range p.Status.TypeChecking.ExpressionWarnings {
			t.Errorf("%s: %s: %s", p.Name, w.FieldRef, w.Warning)
		}
	}
}

// TestUnseen: what of the restrictions no policy can say is told.
func TestUnseen(t *testing.T) {
	made, err := alone.Source(t, alone.EveryConfig+"enforcement: {PC0503: Deny}\n", alone.EveryRestriction).Validating()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"enforcement.PC0503", "PortPool team-a: allocates nothing", "PortPolicy no-ports: the exception late has ended",
		"PortPolicy no-ports: the exception soon ends at 2100-01-01T00:00:00Z", "PortPolicy pools-only: nodePorts.explicitRequests",
		"PortPolicy pools-only: reserved ports of gpu hold on the nodes gpu=true only",
	} {
		if !slices.ContainsFunc(made.Unseen, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("nothing of %q in %q", want, made.Unseen)
		}
	}
}

// testRules: each rule refuses or warns of what it is about, in these words, and leaves what is beside it alone.
func (c *cluster) testRules(t *testing.T) {
	in := map[string]string{"system": metav1.NamespaceSystem}
	for name, labels := range map[string]map[string]string{
		"free": {}, "none": {"policy": "none"}, "some": {"policy": "some"}, "pools": {"policy": "pools"}, "team": {"policy": "pools", "team": "a"}, "games": {"team": "games"},
	} {
		in[name] = c.namespace(t, labels)
	}
	const (
		pod       = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: %s}}, spec: {%s}}"
		daemonSet = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, updateStrategy: {type: RollingUpdate, rollingUpdate: {maxSurge: %s, maxUnavailable: %s}}, " +
			"template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x, ports: [{containerPort: 80, hostPort: 80}]}]}}}}"
		cronJob = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: j}, spec: {schedule: '0 0 1 1 *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: x, ports: [%s]}]}}}}}}"
		service = "{apiVersion: v1, kind: Service, metadata: {name: s, labels: {tier: gold}}, spec: {%s}}"
	)
	ports := func(list string) string {
		return fmt.Sprintf(pod, "web", "containers: [{name: c, image: x, ports: ["+list+"]}]")
	}
	host := func(list string) string {
		return fmt.Sprintf(pod, "web", "hostNetwork: true, containers: [{name: c, image: x, ports: ["+list+"]}]")
	}
	nodePort := func(list string) string { return fmt.Sprintf(service, "type: NodePort, ports: ["+list+"]") }
	for _, tt := range []struct{ where, object, want string }{
		{"free", ports("{containerPort: 80, hostPort: 80, hostIP: nowhere}"), `denied: spec.containers[0].ports[0].hostIP: "nowhere" is not an IP address: port 80/TCP would never be reachable; write an address of the node, or leave hostIP out for all of its addresses (PC0101)`},
		{"free", ports("{containerPort: 80, hostPort: 80, hostIP: '::ffff:10.0.0.1'}"), ""},
		{"free", ports("{containerPort: 80, hostIP: nowhere}"), ""},
		{"free", ports("{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80, hostIP: 10.0.0.1}"), "denied: spec.containers[0].ports[1].hostPort: 10.0.0.1:80/TCP is already claimed by spec.containers[0].ports[0].hostPort of the same pod; give one of the two another hostPort (PC0102)"},
		{"free", ports("{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1}, {containerPort: 81, hostPort: 80, hostIP: '::ffff:a00:1'}"), "denied: spec.containers[0].ports[1].hostPort: [::ffff:a00:1]:80/TCP is already claimed by spec.containers[0].ports[0].hostPort of the same pod; give one of the two another hostPort (PC0102)"},
		{"free", ports("{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1}, {containerPort: 81, hostPort: 80, hostIP: 10.0.0.2}"), ""},
		{"free", ports("{containerPort: 80, hostPort: 80, hostIP: 0.0.0.0}, {containerPort: 81, hostPort: 80, hostIP: '::'}"), ""},
		{"free", ports("{containerPort: 80, hostPort: 80}, {containerPort: 80, hostPort: 80, protocol: UDP}"), ""},
		{"free", ports("{containerPort: 80, hostPort: 10250}"), "denied: spec.containers[0].ports[0].hostPort: 10250/TCP belongs to kubelet, a daemon of every node; choose another hostPort, or expose the pod by a Service (PC0302)"},
		{"free", ports("{containerPort: 80, hostPort: 10250, protocol: UDP}"), ""},
		{"free", ports("{containerPort: 80, hostPort: 10249, hostIP: 10.0.0.1}"), ""},
		{"free", ports("{containerPort: 80, hostPort: 9100, hostIP: 10.0.0.1}"), ""},
		{"free", ports("{containerPort: 80, hostPort: 9100, hostIP: 'fd00::1'}"), "denied: spec.containers[0].ports[0].hostPort: 9100/TCP belongs to six, a daemon of every node; choose another hostPort, or expose the pod by a Service (PC0302)"},
		{"system", strings.Replace(host("{containerPort: 10250}"), "name: c", "name: kubelet", 1), ""},
		{"free", strings.Replace(host("{containerPort: 10250}"), "name: c", "name: kubelet", 1), "denied: spec.containers[0].ports[0].hostPort: 10250/TCP belongs to kubelet, a daemon of every node; let the process listen on another port, or leave the host network (PC0302)"},
		{"free", ports("{containerPort: 80, hostPort: 30062}"), "spec.containers[0].ports[0].hostPort: 30062 is inside the node port range 30000-32767: any Service may be allocated it, and the two would conflict; choose a hostPort outside it (PC0303)"},
		{"free", host("{containerPort: 30062}"), "spec.containers[0].ports[0].hostPort: 30062 is inside the node port range 30000-32767: any Service may be allocated it, and the two would conflict; let the process listen on a port outside it (PC0303)"},
		{"free", fmt.Sprintf(cronJob, "{containerPort: 80, hostPort: 40100}"), "spec.jobTemplate.spec.template.spec.containers[0].ports[0].hostPort: 40100 is among the ports 32768-60999 that outgoing connections of the nodes use, and may be in use; choose a hostPort elsewhere, or reserve it by net.ipv4.ip_local_reserved_ports on every node (PC0304)"},
		{"free", fmt.Sprintf(cronJob, "{containerPort: 80, hostPort: 40001}"), ""},
		{"free", fmt.Sprintf(daemonSet, "1", "0"), "denied: spec.updateStrategy.rollingUpdate.maxSurge: with a surge the new pod waits on each node for 80/TCP, which the old one holds until the new one is ready; set maxSurge to 0 and maxUnavailable to 1, or give up the hostPort (PC0403)"},
		{"free", fmt.Sprintf(daemonSet, "0", "1"), ""},
		{"free", fmt.Sprintf(pod, "web", "containers: [{name: c, image: x}], initContainers: [{name: i, image: x, restartPolicy: Always, ports: [{containerPort: 80, hostPort: 80}]}]"), "spec.initContainers[0].ports[0].hostPort: 80/TCP of a sidecar is reserved on the node, but the kubelet hands CNI those of the main containers only; move the port to a main container, or use the host network (PC0504)"},
		{"free", ports("{containerPort: 80, hostPort: 7001}"), "denied: spec.containers[0].ports[0].hostPort: 7001 belongs to PortPool games (namespaces team in (games)); choose a number that belongs to no PortPool (PC0307)"},
		{"games", ports("{containerPort: 80, hostPort: 7001}"), ""},
		{"none", ports("{containerPort: 80, hostPort: 80}"), "denied: spec.containers[0].ports[0].hostPort: PortPolicy no-ports allows pods of namespace $none no host ports, and this is 80/TCP; remove hostPort, and expose the pod by a Service; ask the platform team (PC0311)"},
		{"none", host(""), "denied: spec.hostNetwork: PortPolicy no-ports allows pods of namespace $none no host network; remove hostNetwork, and expose the pod by a Service; ask the platform team (PC0311)"},
		{"none", strings.Replace(ports("{containerPort: 80, hostPort: 80}"), "app: web", "app: edge", 1), ""},
		{"none", strings.Replace(ports("{containerPort: 80, hostPort: 80}"), "app: web", "app: soon", 1), ""},
		{"none", strings.Replace(ports("{containerPort: 80, hostPort: 80}"), "app: web", "app: late", 1), "denied: spec.containers[0].ports[0].hostPort: PortPolicy no-ports allows pods of namespace $none no host ports, and this is 80/TCP; remove hostPort, and expose the pod by a Service; ask the platform team (PC0311)"},
		{"some", ports("{containerPort: 80, hostPort: 8081}"), ""},
		{"some", ports("{containerPort: 80, hostPort: 9000, hostIP: 10.0.0.1}"), ""},
		{"some", ports("{containerPort: 80, hostPort: 9001}"), ""},
		{"some", ports("{containerPort: 80, hostPort: 9000}"), "denied: spec.containers[0].ports[0].hostPort: 9000/TCP is not among the host ports that PortPolicy some-ports allows: 8080-8089/TCP, 9000 on 127.0.0.1,10.0.0.1, 9001 on 0.0.0.0,:: and 1 more; choose a hostPort among these (PC0311)"},
		{"some", ports("{containerPort: 80, hostPort: 8081, protocol: UDP}"), "denied: spec.containers[0].ports[0].hostPort: 8081/UDP is not among the host ports that PortPolicy some-ports allows: 8080-8089/TCP, 9000 on 127.0.0.1,10.0.0.1, 9001 on 0.0.0.0,:: and 1 more; choose a hostPort among these (PC0311)"},
		{"pools", ports("{containerPort: 80, hostPort: 8701}"), "denied: spec.containers[0].ports[0].hostPort: 8701/TCP is reserved for backup on every node by PortPolicy pools-only (the backup agent); choose another hostPort, or expose the pod by a Service (PC0312)"},
		{"pools", ports("{containerPort: 80, hostPort: 8701, hostIP: 'fd00::1'}"), ""},
		{"pools", ports("{containerPort: 80, hostPort: 8800}"), ""},
		{"free", nodePort("{port: 80, nodePort: 80}"), "denied: spec.ports[0].nodePort: 80 is outside the node port range 30000-32767; choose a port inside it, or leave nodePort out to get one (PC0301)"},
		{"free", nodePort("{port: 80}"), ""},
		{"free", nodePort("{port: 80, nodePort: 31999, protocol: UDP}"), "denied: spec.ports[0].nodePort: 31999/UDP belongs to agent, a daemon of every node; choose another nodePort, or leave it out to get a free one (PC0302)"},
		{"free", nodePort("{port: 80, nodePort: 31998}"), ""},
		{"free", fmt.Sprintf(service, "type: ExternalName, externalName: a.example, ports: [{port: 80, nodePort: 30001}]"), "spec.ports[0].nodePort: 30001 is set, but an ExternalName Service has no node ports, and the API server drops it silently; remove nodePort from the manifest (PC0104)"},
		{"free", nodePort("{port: 80, nodePort: 30100}"), "denied: spec.ports[0].nodePort: 30100 belongs to PortPool team-a (namespaces team=a); if you named none, create the Service again to get another, or choose a number that belongs to no PortPool (PC0307)"},
		{"free", nodePort("{port: 80, nodePort: 30300}"), "spec.ports[0].nodePort: 30300 belongs to PortPool draining, which is draining and gives no new numbers; if you named none, create the Service again to get another, or choose a number that belongs to no PortPool (PC0307)"},
		{"team", nodePort("{port: 80, nodePort: 30100}"), ""},
		{"team", nodePort("{port: 80, nodePort: 30400}"), ""},
		{"team", nodePort("{port: 80, nodePort: 30500}"), "denied: spec.ports[0].nodePort: 30500 is of no PortPool that serves this Service, and PortPolicy pools-only allows no other; choose a number of PortPool gold, or leave nodePort out to get one (PC0310)"},
		{"pools", nodePort("{port: 80}"), "denied: spec.ports[0].nodePort: no PortPool gives this Service a nodePort, and PortPolicy pools-only allows no other; have a PortPool select namespace $pools (PC0310)"},
		{"none", nodePort("{port: 80}"), "denied: spec.ports[0].nodePort: PortPolicy no-ports allows Services of namespace $none no nodePort; make the type ClusterIP, or expose it by an Ingress or a Gateway; ask the platform team (PC0310)"},
		{"some", nodePort("{port: 80, nodePort: 30200}"), "denied: spec.ports[0].nodePort: 30200 is not in 30100-30109, which is what PortPolicy some-ports allows; choose a number of these (PC0310)"},
		{"some", fmt.Sprintf(service, "type: LoadBalancer, ports: [{port: 80}]"), "denied: spec.allocateLoadBalancerNodePorts: PortPolicy some-ports allows load balancers of namespace $some no node ports; set it to false (PC0310)"},
	} {
		a := c.dryRun(t.Context(), objects.One(t, in[tt.where], tt.object))
		got := strings.Join(a.Warnings, "\n")
		if a.Denied != "" {
			got = "denied: " + a.Denied
		}
		for name, is := range in {
			tt.want = strings.ReplaceAll(tt.want, "$"+name, is)
		}
		if a.Other != nil || got != tt.want {
			t.Errorf("%s: %s: %v\n got %s\nwant %s", tt.where, tt.object, a.Other, got, tt.want)
		}
	}
}
