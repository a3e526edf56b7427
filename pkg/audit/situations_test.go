package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// A situation is what exists, and what is to be applied, in lines: one object each, separated by "; ".
//
//	KIND [NAMESPACE/]NAME [KEY=VALUE …]
//
// The keys of a Node are labels=KEY:VALUE,… and taint=KEY; of a Service type, ports=PORT[:NODEPORT][/PROTOCOL],…, ip=EXTERNALIP,
// asks=ADDRESS (of a load balancer), at=CLUSTERIP and class; of a pod or an object with a template replicas, node=NODENAME,
// host=HOSTNAME, field=NODENAME (by affinity), select=KEY:VALUE, net=host, ports=[IP@]PORT[>CONTAINERPORT][/PROTOCOL],…, init=PORT,
// probe=PORT[@HOST], container=NAME, strategy, tolerate=all, volume=CLAIM, of=KIND/NAME (its controller) and label=KEY:VALUE (of
// the pods); of a PersistentVolume claim and host. A namespace that is not named is "a"; a name that ends in - is a generateName.

// situation is one row. want are the errors and warnings, as "error PC0202 Deployment/web < DaemonSet/edge [+ …]", sorted.
type situation struct {
	why          string
	state, input string
	want         []string
}

func TestSituations(t *testing.T) {
	rows := slices.Concat(certain(), crowded(), undeclared(), ofServices(), quiet())
	for _, s := range rows {
		state, input := parsed(t, s.state), parsed(t, s.input)
		j, err := New(settings(t), state, input, time.Unix(0, 0))
		if err != nil {
			t.Errorf("%s: %v", s.why, err)
			continue
		}
		got := []string{}
		for _, findings := range j.All(input, nil) {
			for _, f := range findings {
				if f.Severity > check.Info && !f.Standing && f.Code != check.RolloutStalls {
					got = append(got, line(f))
				}
			}
		}
		slices.Sort(got)
		if diff := gocmp.Diff(append([]string{}, s.want...), got); diff != "" {
			t.Errorf("%s\nstate %s\ninput %s\n(-want +got):\n%s", s.why, s.state, s.input, diff)
		}
	}
	t.Logf("%d situations, %d of them must be silent", len(rows), len(quiet()))
}

func line(f check.Finding) string {
	text := fmt.Sprintf("%s %s %s/%s", f.Severity, f.Code, f.Object.Kind, f.Object.Name)
	for i, h := range f.Holders() {
		text += map[bool]string{true: " < ", false: " + "}[i == 0] + h.Kind + "/" + h.Name
	}
	return text
}

const three = "Node n1 labels=zone:a; Node n2 labels=zone:a; Node n3 labels=zone:b"

// certain are of workloads of which it is certain on which nodes they run.
func certain() []situation {
	return []situation{
		{"by nodeName and by hostname", three, "Deployment one node=n1 ports=80; Deployment two host=n1 ports=80", []string{"error PC0202 Deployment/two < Deployment/one"}},
		{"by hostname twice", three, "Deployment one host=n1 ports=80; StatefulSet two host=n1 ports=80", []string{"error PC0202 StatefulSet/two < Deployment/one"}},
		{"by hostname and by field", three, "Deployment one host=n1 ports=80; StatefulSet two field=n1 ports=80", []string{"error PC0202 StatefulSet/two < Deployment/one"}},
		{"without Nodes", "", "Deployment one host=n1 ports=80; Deployment two host=n1 ports=80", []string{"error PC0202 Deployment/two < Deployment/one"}},
		{"a pod by nodeName and a workload by hostname, without Nodes", "", "Pod one node=n1 ports=80; Deployment two host=n1 ports=80", []string{"error PC0201 Pod/one < Deployment/two"}},
		{"a workload by hostname and a pod by nodeName, without Nodes", "", "Deployment two host=n1 ports=80; Pod one node=n1 ports=80", []string{"error PC0201 Pod/one < Deployment/two"}},
		{"two pods by hostname", three, "Pod one host=n1 ports=80; Pod two host=n1 ports=80", []string{"error PC0201 Pod/two < Pod/one"}},
		{"two pods by field, without Nodes", "", "Pod one field=n1 ports=80; Pod two field=n1 ports=80", []string{"error PC0201 Pod/two < Pod/one"}},
		{"on the host network", three, "Deployment osd-0 host=n2 net=host ports=6800; Deployment osd-1 host=n2 net=host ports=6800", []string{"error PC0202 Deployment/osd-1 < Deployment/osd-0"}},
		{"a DaemonSet and then a StatefulSet", three, "DaemonSet node net=host ports=9808; StatefulSet controller net=host ports=9808", []string{"error PC0202 StatefulSet/controller < DaemonSet/node"}},
		{"a StatefulSet and then a DaemonSet", three, "StatefulSet controller net=host ports=9808; DaemonSet node net=host ports=9808", []string{"error PC0202 DaemonSet/node < StatefulSet/controller"}},
		{"and without Nodes", "", "StatefulSet controller net=host ports=9808; DaemonSet node net=host ports=9808", []string{"error PC0202 DaemonSet/node < StatefulSet/controller"}},
		{"a DaemonSet of a zone and one of all", three, "DaemonSet zonal select=zone:a ports=80; DaemonSet all ports=80", []string{"error PC0202 DaemonSet/all < DaemonSet/zonal"}},
		{"one of all and one of a zone", three, "DaemonSet all ports=80; DaemonSet zonal select=zone:a ports=80", []string{"error PC0202 DaemonSet/zonal < DaemonSet/all"}},
		{"a Job that has no node left", three + "; DaemonSet all ports=80", "Job once ports=80", []string{"error PC0202 Job/once < DaemonSet/all"}},
		{"a CronJob whose nodes are taken", three, "CronJob nightly ports=80; DaemonSet all ports=80", []string{"error PC0202 DaemonSet/all < CronJob/nightly"}},
		{"a new pod where a DaemonSet is", three + "; DaemonSet all ports=80", "Pod one node=n2 ports=80", []string{"error PC0201 Pod/one < DaemonSet/all"}},
		{"a pod that has no node left", three + "; DaemonSet all ports=80", "Pod one ports=80", []string{"error PC0202 Pod/one < DaemonSet/all"}},
		{"three Services of one nodePort", "", "Service one type=NodePort ports=80:30080; Service two type=NodePort ports=80:30080; Service three type=NodePort ports=80:30080",
			[]string{"error PC0201 Service/three < Service/one + Service/two", "error PC0201 Service/two < Service/one"}},
		{"three pods of one host port", three, "Pod one node=n1 ports=80; Pod two node=n1 ports=80; Pod three node=n1 ports=80",
			[]string{"error PC0201 Pod/three < Pod/one + Pod/two", "error PC0201 Pod/two < Pod/one"}},
		{"two Services of one generateName", "", "Service web- type=NodePort ports=80:30080; Service web- type=NodePort ports=81:30080", []string{"error PC0201 Service/web-* (2) < Service/web-*"}},
		{"two pods of one generateName", "", "Pod job- node=n1 ports=80; Pod job- node=n1 ports=80", []string{"error PC0201 Pod/job-* (2) < Pod/job-*"}},
		{"a third", "", "Pod job- node=n1 ports=80; Pod job- node=n2 ports=80; Pod job- node=n2 ports=80", []string{"error PC0201 Pod/job-* (3) < Pod/job-* (2)"}},
		{"the scheduler's port on the control plane", three + "; Node cp labels=node-role.kubernetes.io/control-plane:x", "DaemonSet agent net=host ports=10259", []string{"error PC0302 DaemonSet/agent < node daemon/kube-scheduler"}},
		{"the API server's, where no Node tells", "", "Deployment api ports=6443", []string{"error PC0302 Deployment/api < node daemon/kube-apiserver"}},
		{"two Services of one nodePort", "", "Service one type=NodePort ports=80:30080; Service two type=NodePort ports=80:30080/UDP", []string{"error PC0201 Service/two < Service/one"}},
		{"a workload on the port of a Service", "Service one type=NodePort ports=80:30080", "Deployment two ports=30080", []string{"error PC0201 Deployment/two < Service/one"}},
		{"a Service on the port of a workload", three + "; DaemonSet one ports=30080", "Service two type=NodePort ports=80:30080", []string{"error PC0201 Service/two < DaemonSet/one"}},
		{"the volume pins both", three + "; PersistentVolume v claim=data host=n1", "Deployment one volume=data ports=80; Deployment two host=n1 ports=80", []string{"error PC0202 Deployment/two < Deployment/one"}},
	}
}

// crowded are of workloads that several others, or nodes too few, keep from running.
func crowded() []situation {
	const exporters = "Deployment x1 host=n1 net=host ports=9926; Deployment x2 host=n2 net=host ports=9926; Deployment x3 host=n3 net=host ports=9926"
	return []situation{
		{"three that fill all nodes are one finding", three + "; " + exporters, "Deployment mgr net=host ports=9926", []string{"error PC0202 Deployment/mgr < Deployment/x1 + Deployment/x2 + Deployment/x3"}},
		{"the last of three that fill them", three + "; Deployment x1 host=n1 net=host ports=9926; Deployment x2 host=n2 net=host ports=9926", "Deployment mgr net=host ports=9926 strategy=Recreate; Deployment x3 host=n3 net=host ports=9926",
			[]string{"error PC0202 Deployment/mgr < Deployment/x1 + Deployment/x2 + Deployment/x3"}},
		{"more replicas than nodes, and another one, in one order", "Node n1; Node n2", "Deployment a replicas=3 ports=8080; StatefulSet b replicas=1 ports=8080",
			[]string{"warning PC0202 StatefulSet/b < Deployment/a", "warning PC0401 Deployment/a"}},
		{"and in the other", "Node n1; Node n2", "StatefulSet b replicas=1 ports=8080; Deployment a replicas=3 ports=8080",
			[]string{"warning PC0202 Deployment/a < StatefulSet/b", "warning PC0401 Deployment/a"}},
		{"a pinned one on the nodes of another, in one order", "Node n1; Node n2", "Deployment a node=n1 ports=8080; StatefulSet b replicas=2 ports=8080",
			[]string{"warning PC0202 StatefulSet/b < Deployment/a", "warning PC0401 StatefulSet/b"}},
		{"and in the other ", "Node n1; Node n2", "StatefulSet b replicas=2 ports=8080; Deployment a node=n1 ports=8080",
			[]string{"warning PC0202 Deployment/a < StatefulSet/b", "warning PC0401 StatefulSet/b"}},
		{"one node for both, in one order", "", "DaemonSet one node=w1 ports=8080; Deployment two node=w1 ports=8080", []string{"error PC0202 Deployment/two < DaemonSet/one"}},
		{"and in the other  ", "", "Deployment two node=w1 ports=8080; DaemonSet one node=w1 ports=8080", []string{"error PC0202 DaemonSet/one < Deployment/two"}},
		{"a number that a Service has for another protocol", "", "StatefulSet w ports=30080; Service s type=NodePort ports=80:30080/UDP", nil},
		{"and before", "", "Service s type=NodePort ports=80:30080/UDP; StatefulSet w ports=30080", nil},
		{"a DaemonSet in place of a Deployment that still runs", three + "; Deployment web ports=80; Pod web-x node=n1 ports=80 of=Deployment/web", "DaemonSet edge ports=80", []string{"warning PC0202 DaemonSet/edge < Deployment/web"}},
		{"one whose pods are not there yet", three + "; Deployment web ports=80", "DaemonSet edge ports=80", []string{"warning PC0202 DaemonSet/edge < Deployment/web"}},
		{"two of three are a warning", three + "; Deployment x1 host=n1 ports=80; Deployment x2 host=n2 ports=80", "Deployment web ports=80 strategy=Recreate", []string{"warning PC0202 Deployment/web < Deployment/x1 + Deployment/x2"}},
		{"static pods of one manifest", three + "; Pod proxy-n1 node=n1 net=host ports=8081; Pod proxy-n2 node=n2 net=host ports=8081; Pod proxy-n3 node=n3 net=host ports=8081", "DaemonSet speaker net=host ports=8081", []string{"error PC0202 DaemonSet/speaker < Pod/proxy-n1 + Pod/proxy-n2 + Pod/proxy-n3"}},
		{"and a nodePort", three + "; Pod proxy-n1 node=n1 net=host ports=30081; Pod proxy-n2 node=n2 net=host ports=30081", "Service web type=NodePort ports=80:30081", []string{"error PC0201 Service/web < Pod/proxy-n1 + Pod/proxy-n2"}},
		{"a DaemonSet where bare pods are", three + "; Pod one node=n1 ports=80; Pod two node=n2 ports=80", "DaemonSet all ports=80", []string{"warning PC0202 DaemonSet/all < Pod/one + Pod/two"}},
		{"two of two on three nodes", three, "Deployment one replicas=2 ports=80 strategy=Recreate; Deployment two replicas=2 ports=80 strategy=Recreate", []string{"warning PC0202 Deployment/two < Deployment/one"}},
		{"two whose nodes are not the same", three, "Deployment one replicas=2 select=zone:a ports=80 strategy=Recreate; Deployment two replicas=2 ports=80 strategy=Recreate", []string{"warning PC0202 Deployment/two < Deployment/one"}},
		{"in the other order", three, "Deployment two replicas=2 ports=80 strategy=Recreate; Deployment one replicas=2 select=zone:a ports=80 strategy=Recreate", []string{"warning PC0202 Deployment/one < Deployment/two"}},
		{"more replicas than nodes", three, "Deployment web replicas=4 ports=80", []string{"warning PC0401 Deployment/web"}},
		{"a node where a Deployment may come", three + "; Deployment web ports=80", "StatefulSet db host=n1 ports=80", []string{"warning PC0202 StatefulSet/db < Deployment/web"}},
		{"and the other way round", three + "; StatefulSet db host=n1 ports=80", "Deployment web ports=80", []string{"warning PC0202 Deployment/web < StatefulSet/db"}},
		{"pods of two controllers", three + "; DaemonSet zonal select=zone:a ports=80; Deployment x host=n3 ports=80", "StatefulSet web ports=80", []string{"error PC0202 StatefulSet/web < DaemonSet/zonal + Deployment/x"}},
	}
}

// undeclared are of ports that no port entry declares.
func undeclared() []situation {
	return []situation{
		{"two probes on one node", three, "Deployment one host=n1 net=host probe=9808; Deployment two host=n1 net=host probe=9808", []string{"warning PC0205 Deployment/two < Deployment/one"}},
		{"a probe on a declared port of others", three + "; DaemonSet node net=host ports=9808", "Deployment one net=host probe=9808", []string{"warning PC0205 Deployment/one < DaemonSet/node"}},
		{"a declared port where others are probed", three + "; DaemonSet node net=host probe=9808", "DaemonSet two ports=9808", []string{"warning PC0205 DaemonSet/two < DaemonSet/node"}},
		{"a nodePort where others are probed", three + "; DaemonSet node net=host probe=30081", "Service web type=NodePort ports=80:30081", []string{"warning PC0205 Service/web < DaemonSet/node"}},
		{"a probe on a nodePort", "Service web type=NodePort ports=80:30081", "Deployment one net=host probe=30081", []string{"warning PC0205 Deployment/one < Service/web"}},
		{"an init container of the host network", three + "; DaemonSet node net=host ports=80", "Deployment one net=host init=80", []string{"warning PC0205 Deployment/one < DaemonSet/node"}},
		{"k3s: a second load balancer for a port", three + "; " + klipper, "Service two type=LoadBalancer ports=80", []string{"warning PC0205 Service/two < Service/traefik"}},
		{"k3s: a hostPort on the load balancer's port", three + "; " + klipper, "DaemonSet edge ports=80", []string{"error PC0202 DaemonSet/edge < Service/traefik"}},
		{"k3s: a load balancer for a port that pods have", three + "; " + klipper + "; DaemonSet edge ports=443", "Service two type=LoadBalancer ports=443", []string{"warning PC0205 Service/two < DaemonSet/edge"}},
		{"k3s: two new ones", three + "; " + klipper, "Service two type=LoadBalancer ports=81; Service three type=LoadBalancer ports=81", []string{"warning PC0205 Service/three < Service/two"}},
		{"MetalLB: one address, one port", "Service one type=LoadBalancer asks=192.0.2.9 ports=80", "Service two type=LoadBalancer asks=192.0.2.9 ports=80", []string{"warning PC0205 Service/two < Service/one"}},
		{"a node's address that is asked for, and a hostPort there", "Node n1 address=192.0.2.1; Pod p node=n1 ports=80", "Service two type=LoadBalancer asks=192.0.2.1 ports=80", []string{"warning PC0205 Service/two < Pod/p"}},
	}
}

const klipper = "Service kube-system/traefik type=LoadBalancer ports=80; DaemonSet kube-system/svclb-traefik ports=80 label=svccontroller.k3s.cattle.io/svcname:traefik,svccontroller.k3s.cattle.io/svcnamespace:kube-system"

func ofServices() []situation {
	return []situation{
		{"the kubelet's port", "", "DaemonSet agent net=host ports=10250", []string{"error PC0302 DaemonSet/agent < node daemon/kubelet"}},
		{"outside the range", "", "Service web type=NodePort ports=80:20080", []string{"error PC0301 Service/web"}},
		{"an external IP that is another's cluster IP", "Service db at=10.96.0.9 ports=5432", "Service web ip=10.96.0.9 ports=80", []string{"error PC0204 Service/web < Service/db"}},
		{"one external IP twice", "Service db ip=192.0.2.9 ports=80", "Service web ip=192.0.2.9 ports=80", []string{"error PC0201 Service/web < Service/db"}},
		{"a DaemonSet with a surge", three, "DaemonSet edge surge=1 ports=80", []string{"error PC0403 DaemonSet/edge"}},
		{"a hostPort in the node port range", "", "Deployment web ports=31000", []string{"warning PC0303 Deployment/web"}},
	}
}

// quiet are those about which nothing may be said.
func quiet() []situation {
	silent := func(why, state, input string) situation { return situation{why, state, input, nil} }
	return []situation{
		silent("one that is scaled to nothing, beside one of the state", three+"; Deployment one host=n1 ports=80", "Deployment two host=n1 ports=80 replicas=0"),
		silent("one that is scaled to nothing, before one with its port", three, "Deployment one host=n1 ports=80 replicas=0; Deployment two host=n1 ports=80"),
		silent("one that is scaled to nothing, after one with its port", three, "Deployment two host=n1 ports=80; Deployment one host=n1 ports=80 replicas=0"),
		silent("two hosts", three, "Deployment one host=n1 ports=80; Deployment two host=n2 ports=80"),
		silent("two hosts, without Nodes", "", "Deployment one host=n1 ports=80; Deployment two host=n2 ports=80"),
		silent("two nodes by name", three, "Pod one node=n1 ports=80; Pod two node=n2 ports=80"),
		silent("two protocols", three, "Deployment one host=n1 ports=53; Deployment two host=n1 ports=53/UDP"),
		silent("two addresses", three, "Deployment one host=n1 ports=10.0.0.1@80; Deployment two host=n1 ports=10.0.0.2@80"),
		silent("two containers' ports on one pod network", three, "Deployment one host=n1 ports=8080>80; Deployment two host=n1 ports=8081>80"),
		silent("an update of itself", three+"; Deployment one host=n1 ports=80", "Deployment one host=n1 ports=80"),
		silent("its own pods", three+"; Deployment one host=n1 ports=80; Pod one-x node=n1 ports=80 of=Deployment/one", "Deployment one host=n1 ports=80,81"),
		silent("a DaemonSet's own pods", three+"; DaemonSet all ports=80; Pod all-x node=n1 ports=80 of=DaemonSet/all", "DaemonSet all ports=80"),
		silent("a new pod of a DaemonSet beside its old one", three+"; DaemonSet all ports=80; Pod all-x node=n1 ports=80 of=DaemonSet/all", "Pod all-y field=n1 ports=80 of=DaemonSet/all"),
		silent("DaemonSets of two zones", three, "DaemonSet one select=zone:a ports=80; DaemonSet two select=zone:b ports=80"),
		silent("DaemonSets by selector, without Nodes", "", "DaemonSet one select=zone:a ports=80; DaemonSet two select=zone:b ports=80"),
		silent("a DaemonSet on a taint that the other does not tolerate", three+"; Node cp labels=cp:x taint=cp", "DaemonSet one select=cp:x tolerate=all ports=80; DaemonSet two ports=80"),
		silent("two Deployments that fit", three, "Deployment one replicas=2 ports=80; Deployment two replicas=1 ports=80"),
		silent("two that need not share their nodes", three, "Deployment one select=zone:a ports=80; Deployment two select=zone:b ports=80"),
		silent("two Deployments, without Nodes", "", "Deployment one ports=80; Deployment two ports=80"),
		silent("a Deployment and a pod that has a choice", three+"; Deployment one host=n1 ports=80", "Pod two ports=80"),
		silent("a pod that is finished", three+"; Pod one node=n1 ports=80 phase=Succeeded", "Deployment two host=n1 ports=80"),
		silent("a Deployment whose pod runs elsewhere", three+"; Deployment one ports=80; Pod one-x node=n3 ports=80 of=Deployment/one", "StatefulSet two host=n1 ports=80"),
		silent("two Jobs", three, "Job one ports=80; Job two ports=80"),
		silent("a Job and a Deployment", three+"; Job one ports=80", "Deployment two ports=80"),
		silent("a container port without the host network", three+"; DaemonSet one ports=80", "Deployment two ports=81>80"),
		silent("probes on two nodes", three, "Deployment one host=n1 net=host probe=9808; Deployment two host=n2 net=host probe=9808"),
		silent("probes on two ports", three, "Deployment one host=n1 net=host probe=9808; Deployment two host=n1 net=host probe=9809"),
		silent("a probe on the pod network", three+"; DaemonSet node net=host ports=9808", "Deployment two probe=9808"),
		silent("a probe of another host", three+"; DaemonSet node net=host ports=9808", "Deployment two net=host probe=9808@127.0.0.1"),
		silent("a probe on the pod's own port", three+"; DaemonSet node net=host ports=80", "Deployment two net=host ports=9808 probe=9808"),
		silent("a probe and a hostPort on loopback", three+"; Pod node node=n1 net=host probe=9808", "Pod two node=n1 ports=127.0.0.1@9808"),
		silent("a probe on a port for UDP", three+"; DaemonSet node net=host ports=9808/UDP", "Deployment two net=host probe=9808"),
		silent("a probe where the other has a choice", three+"; Deployment one net=host probe=9808", "Deployment two net=host probe=9808"),
		silent("an init container of the pod network", three+"; DaemonSet node ports=80", "Deployment one init=80"),
		silent("what an init container has had", three+"; DaemonSet node net=host init=80", "Deployment one ports=80 strategy=Recreate"),
		silent("two load balancers without ServiceLB", "", "Service one type=LoadBalancer ports=80; Service two type=LoadBalancer ports=80"),
		silent("k3s: the load balancer's own DaemonSet", three+"; Service kube-system/traefik type=LoadBalancer ports=80", strings.Split(klipper, "; ")[1]),
		silent("k3s: another port", three+"; "+klipper, "Service two type=LoadBalancer ports=81"),
		silent("k3s: another protocol", three+"; "+klipper, "Service two type=LoadBalancer ports=80/UDP"),
		silent("k3s: another class", three+"; "+klipper, "Service two type=LoadBalancer class=metallb ports=80"),
		silent("k3s: a ClusterIP", three+"; "+klipper, "Service two type=ClusterIP ports=80"),
		silent("somebody's DaemonSet with k3s' label", three+"; DaemonSet svclb-x ports=81 label=svccontroller.k3s.cattle.io/svcname:x", "Service one type=LoadBalancer ports=80; Service two type=LoadBalancer ports=80"),
		silent("MetalLB: one address, two ports", "Service one type=LoadBalancer asks=192.0.2.9 ports=80", "Service two type=LoadBalancer asks=192.0.2.9 ports=81"),
		silent("MetalLB: two addresses", "Service one type=LoadBalancer asks=192.0.2.9 ports=80", "Service two type=LoadBalancer asks=192.0.2.8 ports=80"),
		silent("one nodePort for TCP and UDP", "", "Service dns type=NodePort ports=53:30053,53:30053/UDP"),
		silent("a ClusterIP's port and a hostPort", three+"; DaemonSet one ports=80", "Service two type=ClusterIP ports=80"),
		silent("an external IP that no node has", three+"; DaemonSet one ports=80", "Service two ip=192.0.2.9 ports=80"),
		silent("the kubelet's port for UDP", "", "DaemonSet agent net=host ports=10250/UDP"),
		silent("the kubelet's port inside a pod", "", "DaemonSet agent ports=8080>10250"),
		silent("kube-proxy itself", "", "DaemonSet kube-system/kube-proxy net=host ports=10256 container=kube-proxy"),
		silent("a volume of another node", three+"; PersistentVolume v claim=data host=n1; Deployment one host=n2 ports=80", "StatefulSet two volume=data ports=80"),
		silent("a Deployment that may stand beside its old pod", three, "Deployment web replicas=2 ports=80"),
		silent("a hosted control plane", three, "Deployment tenant ports=6443"),
		silent("the scheduler's port beside the control plane", three+"; Node cp labels=node-role.kubernetes.io/control-plane:x taint=cp", "DaemonSet agent net=host ports=10259"),
		silent("the scheduler itself", three+"; Node cp labels=node-role.kubernetes.io/control-plane:x", "Pod kube-system/kube-scheduler-cp node=cp net=host ports=10259 container=kube-scheduler"),
		silent("two pods of one generateName on two nodes", "", "Pod job- node=n1 ports=80; Pod job- node=n2 ports=80"),
		silent("a CronJob that is there makes room", three+"; CronJob nightly ports=80", "DaemonSet all ports=80"),
		silent("two namespaces, two ports", three+"; DaemonSet b/one ports=80", "DaemonSet two ports=81"),
	}
}

// parsed reads the objects of a situation.
func parsed(t *testing.T, text string) []runtime.Object {
	t.Helper()
	var all []string
	for object := range strings.SplitSeq(text, ";") {
		if words := strings.Fields(object); len(words) > 0 {
			all = append(all, written(t, words))
		}
	}
	if all == nil {
		return nil
	}
	return objects(t, all...)
}

// written returns an object of a situation as YAML.
func written(t *testing.T, words []string) string {
	t.Helper()
	kind := words[0]
	namespace, name, ok := strings.Cut(words[1], "/")
	if !ok {
		namespace, name = "a", words[1]
	}
	is := map[string]string{}
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		is[key] = value
	}
	meta := fmt.Sprintf("name: %s, namespace: %s", name, namespace)
	if strings.HasSuffix(name, "-") {
		meta = fmt.Sprintf("generateName: %s, namespace: %s", name, namespace)
	}
	switch kind {
	case "Node":
		labels := "kubernetes.io/hostname: " + name
		if is["labels"] != "" {
			labels += ", " + pairs(is["labels"])
		}
		var spec, status string
		if is["taint"] != "" {
			spec = "taints: [{key: " + is["taint"] + ", effect: NoSchedule}]"
		}
		if is["address"] != "" {
			status = "addresses: [{type: InternalIP, address: " + is["address"] + "}]"
		}
		return fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s, labels: {%s}}, spec: {%s}, status: {%s}}", name, labels, spec, status)
	case "PersistentVolume":
		return fmt.Sprintf("{apiVersion: v1, kind: PersistentVolume, metadata: {name: %s}, spec: {claimRef: {namespace: a, name: %s}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%s]}]}]}}}}",
			name, is["claim"], is["host"])
	case "Service":
		return writtenService(meta, is)
	case "Pod":
		if by, controller, ok := strings.Cut(is["of"], "/"); ok {
			meta += fmt.Sprintf(", uid: %s, ownerReferences: [{apiVersion: apps/v1, kind: %s, name: %s, uid: u, controller: true}]", name, by, controller)
		}
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {%s}, spec: {%s}, status: {phase: '%s'}}", meta, podSpecOf(is), is["phase"])
	}
	pod := fmt.Sprintf("template: {metadata: {labels: {app: %s%s}}, spec: {%s}}", name, strings.TrimSuffix(", "+pairs(is["label"]), ", "), podSpecOf(is))
	spec := fmt.Sprintf("selector: {matchLabels: {app: %s}}, %s", name, pod)
	version := "apps/v1"
	switch {
	case kind == "Job":
		version, spec = "batch/v1", pod
	case kind == "CronJob":
		version, spec = "batch/v1", "schedule: '* * * * *', jobTemplate: {spec: {"+pod+"}}"
	case is["strategy"] != "":
		spec += ", strategy: {type: " + is["strategy"] + "}"
	case is["surge"] != "":
		spec += ", updateStrategy: {rollingUpdate: {maxSurge: " + is["surge"] + ", maxUnavailable: 0}}"
	}
	if is["replicas"] != "" {
		spec += ", replicas: " + is["replicas"]
	}
	return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {%s}, spec: {%s}}", version, kind, meta, spec)
}

func writtenService(meta string, is map[string]string) string {
	var entries []string
	for i, text := range strings.Split(is["ports"], ",") {
		port, protocol, ok := strings.Cut(text, "/")
		if !ok {
			protocol = "TCP"
		}
		port, nodePort, ok := strings.Cut(port, ":")
		if ok {
			nodePort = ", nodePort: " + nodePort
		}
		entries = append(entries, fmt.Sprintf("{name: p%d, port: %s, protocol: %s%s}", i, port, protocol, nodePort))
	}
	spec := "ports: [" + strings.Join(entries, ", ") + "]"
	for key, format := range map[string]string{"type": "type: %s", "ip": "externalIPs: [%s]", "at": "clusterIP: %s", "class": "loadBalancerClass: %s"} {
		if is[key] != "" {
			spec += ", " + fmt.Sprintf(format, is[key])
		}
	}
	if is["asks"] != "" {
		meta += ", annotations: {metallb.io/loadBalancerIPs: " + is["asks"] + "}"
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {%s}, spec: {%s}}", meta, spec)
}

func podSpecOf(is map[string]string) string {
	var spec, entries []string
	for text := range strings.SplitSeq(is["ports"], ",") {
		if text == "" {
			continue
		}
		text, protocol, ok := strings.Cut(text, "/")
		if !ok {
			protocol = "TCP"
		}
		ip, port, ok := strings.Cut(text, "@")
		if !ok {
			ip, port = "", text
		}
		port, container, ok := strings.Cut(port, ">")
		if !ok {
			container = port
		}
		entries = append(entries, fmt.Sprintf("{hostPort: %s, containerPort: %s, protocol: %s, hostIP: '%s'}", port, container, protocol, ip))
	}
	container := cmp.Or(is["container"], "c")
	main := fmt.Sprintf("name: %s, ports: [%s]", container, strings.Join(entries, ", "))
	if port, host, _ := strings.Cut(is["probe"], "@"); port != "" {
		main += fmt.Sprintf(", livenessProbe: {httpGet: {port: %s, host: '%s'}}", port, host)
	}
	spec = append(spec, "containers: [{"+main+"}]")
	required := "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [%s]}]}]}}}"
	for key, format := range map[string]string{
		"node": "nodeName: %s", "host": "nodeSelector: {kubernetes.io/hostname: %s}", "field": required,
		"init": "initContainers: [{name: i, ports: [{containerPort: %[1]s, hostPort: %[1]s}]}]", "volume": "volumes: [{name: v, persistentVolumeClaim: {claimName: %s}}]",
	} {
		if is[key] != "" {
			spec = append(spec, fmt.Sprintf(format, is[key]))
		}
	}
	if is["select"] != "" {
		spec = append(spec, "nodeSelector: {"+pairs(is["select"])+"}")
	}
	if is["net"] != "" {
		spec = append(spec, "hostNetwork: true")
	}
	if is["tolerate"] != "" {
		spec = append(spec, "tolerations: [{operator: Exists}]")
	}
	return strings.Join(spec, ", ")
}

// pairs turns "a:b,c:d" into "a: 'b', c: 'd'".
func pairs(text string) string {
	var all []string
	for pair := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(pair, ":"); ok {
			all = append(all, key+": '"+value+"'")
		}
	}
	return strings.Join(all, ", ")
}
