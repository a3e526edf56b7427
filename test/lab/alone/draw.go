package alone

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
)

// OneOf draws one of a list.
func OneOf[T any](s specimen.Source, list ...T) T { return list[s.IntN(len(list))] }

// Draw makes an object of any kind that is judged. Most of them the API server would take.
func Draw(s specimen.Source, namespace string) client.Object {
	var o client.Object
	switch s.IntN(15) {
	case 0:
		o = &appsv1.Deployment{}
	case 1:
		o = &appsv1.StatefulSet{}
	case 2, 3:
		o = &appsv1.DaemonSet{}
	case 4:
		o = &appsv1.ReplicaSet{}
	case 5:
		o = &corev1.ReplicationController{}
	case 6:
		o = &batchv1.Job{}
	case 7:
		o = &batchv1.CronJob{}
	case 8, 9:
		o = &corev1.Pod{}
	default:
		o = &corev1.Service{}
	}
	o.SetNamespace(namespace)
	o.SetName(fmt.Sprintf("o%d", s.IntN(1000000)))
	if _, isService := o.(*corev1.Service); !isService && s.IntN(6) == 0 {
		if s.IntN(2) == 0 {
			o.SetAnnotations(map[string]string{ByController: "yes"}) // else somebody else says so
		}
		o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: "1", Controller: new(true)}})
	}
	fill(s, o)
	return o
}

// ByController is the annotation of an object that a test has the controller manager make.
const ByController = "example.com/by-controller"

// Redraw is another version of an object.
func Redraw(s specimen.Source, o client.Object) client.Object {
	now := o.DeepCopyObject().(client.Object)
	switch s.IntN(4) {
	case 0: // something else is changed
		now.SetAnnotations(map[string]string{"changed": "yes", ByController: o.GetAnnotations()[ByController]})
	case 1: // a part of it
		if template := Template(now); template != nil {
			template.Spec.Containers = append(template.Spec.Containers, containers(s, "more", 1, template.Spec.HostNetwork)...)
			break
		}
		fill(s, now)
	default:
		fill(s, now)
	}
	return now
}

// fill gives an object new ports.
func fill(s specimen.Source, o client.Object) {
	if svc, ok := o.(*corev1.Service); ok {
		fillService(s, svc)
		return
	}
	template := corev1.PodTemplateSpec{}
	template.Labels = map[string]string{"app": OneOf(s, "web", "web", "edge", "late", "soon")}
	fillPod(s, &template.Spec)
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"sel": "x"}}
	template.Labels["sel"] = "x"
	switch o := o.(type) {
	case *corev1.Pod:
		o.Labels, o.Spec = template.Labels, template.Spec
		for _, list := range [][]corev1.Container{o.Spec.InitContainers, o.Spec.Containers} {
			for i := range list {
				for j := range list[i].Ports {
					if p := &list[i].Ports[j]; o.Spec.HostNetwork {
						p.HostPort = p.ContainerPort // as the API server does before anybody is asked
					}
				}
			}
		}
	case *appsv1.Deployment:
		o.Spec.Selector, o.Spec.Template = selector, template
	case *appsv1.StatefulSet:
		o.Spec.Selector, o.Spec.Template, o.Spec.ServiceName = selector, template, "x"
	case *appsv1.DaemonSet:
		o.Spec.Selector, o.Spec.Template = selector, template
		o.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: OneOf(s, appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType)}
		if surge := OneOf(s, "", "1", "10%", "0"); surge != "" && o.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
			of, unavailable := intstr.Parse(surge), intstr.FromInt32(0)
			if surge == "0" {
				unavailable = intstr.FromInt32(1)
			}
			o.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: &of, MaxUnavailable: &unavailable}
		}
	case *appsv1.ReplicaSet:
		o.Spec.Selector, o.Spec.Template = selector, template
	case *corev1.ReplicationController:
		o.Spec.Selector, o.Spec.Template = selector.MatchLabels, &template
	case *batchv1.Job:
		o.Spec.Template = template
		o.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	case *batchv1.CronJob:
		o.Spec.Schedule, o.Spec.JobTemplate.Spec.Template = "0 0 1 1 *", template
		o.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
}

// Template is the pod template of an object; nil: it has none that can be changed.
func Template(o client.Object) *corev1.PodTemplateSpec {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	default:
		return nil
	}
}

func fillPod(s specimen.Source, spec *corev1.PodSpec) {
	spec.HostNetwork = s.IntN(4) == 0
	spec.Containers = containers(s, "c", 1+s.IntN(2), spec.HostNetwork)
	spec.InitContainers = containers(s, "i", s.IntN(3), spec.HostNetwork)
	for i := range spec.InitContainers {
		if s.IntN(2) == 0 {
			spec.InitContainers[i].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
	}
	if s.IntN(8) == 0 {
		spec.Containers[0].Name = OneOf(s, "kubelet", "proxy", "six")
	}
}

// hostIPs: nothing, wildcards, one address in many spellings, and none.
func hostIPs() []string {
	return []string{"", "", "", "", "", "", "", "", "10.0.0.1", "10.0.0.1", "10.0.0.2", "127.0.0.1", "10.0.0.1", "10.0.0.2", "127.0.0.1", "::1", "0.0.0.0", "::", "0:0::0", "10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "::FFFF:a00:1", "0:0:0:0:0:ffff:10.0.0.1", "10.0.0.2",
		"127.0.0.1", "::ffff:0.0.0.0", "::1", "0::1", "fd00::1", "FD00:0::1", "fe80::1%eth0", "nonsense", "10.0.0.01", "1.2.3", "::ffff:300.0.0.1", "::ffff::1", "a\"b"}
}

func containers(s specimen.Source, name string, n int, hostNetwork bool) []corev1.Container {
	var list []corev1.Container
	for i := range n {
		c := corev1.Container{Name: fmt.Sprintf("%s%d", name, i), Image: "x", ImagePullPolicy: corev1.PullIfNotPresent, TerminationMessagePolicy: corev1.TerminationMessageReadFile}
		for range s.IntN(4) {
			p := corev1.ContainerPort{ContainerPort: OneOf[int32](s, 80, 81, 8080, 8085, 9000, 7001, 30500, 30062), Protocol: OneOf(s, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP)}
			if s.IntN(4) > 0 {
				p.HostPort, p.HostIP = OneOf[int32](s, 80, 8080, 8085, 8085, 9000, 9001, 9100, 10249, 10250, 7001, 8705, 30500, 30062, 31999, 40001, 45000), OneOf(s, hostIPs()...)
			}
			if hostNetwork && p.HostPort != 0 {
				p.ContainerPort = p.HostPort
			}
			c.Ports = append(c.Ports, p)
		}
		list = append(list, c)
	}
	return list
}

func fillService(s specimen.Source, svc *corev1.Service) {
	svc.Labels = map[string]string{"app": OneOf(s, "web", "web", "edge", "late", "soon"), "tier": OneOf(s, "gold", "none")}
	was := svc.Spec
	svc.Spec = corev1.ServiceSpec{Type: OneOf(s, corev1.ServiceTypeNodePort, corev1.ServiceTypeNodePort, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)}
	if svc.ResourceVersion != "" { // a type that is changed and an address that is kept do not go together
		svc.Spec.Type, svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.IPFamilies = was.Type, was.ClusterIP, was.ClusterIPs, was.IPFamilies
	}
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if s.IntN(3) == 0 {
			svc.Spec.AllocateLoadBalancerNodePorts = new(false)
		}
		if s.IntN(2) == 0 {
			svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			svc.Spec.HealthCheckNodePort = was.HealthCheckNodePort
			if was.HealthCheckNodePort == 0 && s.IntN(2) == 0 {
				svc.Spec.HealthCheckNodePort = OneOf[int32](s, 30100, 30120, 30301, 32000)
			}
		}
	case corev1.ServiceTypeExternalName:
		svc.Spec.ExternalName = "example.org"
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeClusterIP:
	}
	numbers := []int32{0, 30102, 30104, 30107, 30150, 30302, 30305, 30402, 30404, 31999, 31998, 32001, 32003, 80, 29999, 41000}
	if svc.ResourceVersion != "" {
		numbers = append(numbers, 30106, 30108)
	}
	for i := range 1 + s.IntN(3) {
		p := corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(80 + i), Protocol: OneOf(s, corev1.ProtocolTCP, corev1.ProtocolUDP), NodePort: OneOf(s, numbers...)}
		if svc.Spec.Type == corev1.ServiceTypeExternalName && p.NodePort == 80 {
			p.NodePort = 0
		}
		if j := slices.IndexFunc(was.Ports, func(o corev1.ServicePort) bool { return o.Name == p.Name }); j >= 0 && p.NodePort == 0 {
			p.NodePort = was.Ports[j].NodePort // which the API server would put back
		}
		svc.Spec.Ports = append(svc.Spec.Ports, p)
	}
	// No two new numbers are neighbours: one above another could be made up on a dry run.
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		isBelow := func(o corev1.ServicePort) bool { return o.NodePort == p.NodePort-1 }
		isBeside := p.NodePort-1 == svc.Spec.HealthCheckNodePort || p.NodePort == svc.Spec.HealthCheckNodePort-1
		if p.NodePort != 0 && (isBeside || slices.ContainsFunc(svc.Spec.Ports, isBelow)) {
			p.NodePort = 30110
		}
	}
	if svc.ResourceVersion != "" && s.IntN(2) == 0 && len(was.Ports) > 0 {
		svc.Spec.Ports = slices.Clone(was.Ports)
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "again", Port: 99, Protocol: other(was.Ports[0].Protocol), NodePort: was.Ports[0].NodePort})
	}
}

func other(p corev1.Protocol) corev1.Protocol {
	if p == corev1.ProtocolTCP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}
