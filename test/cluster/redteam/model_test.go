package redteam

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The pool few, as forbidden has it.
const firstOfFew, ofFew, limitOfFew = 31000, 30, 2

func isOfFew(number int64) bool { return number >= firstOfFew && number < firstOfFew+ofFew }

// yard is a namespace of the search.
type yard struct {
	name, namespace string
	labels          map[string]string
}

func yards() []yard {
	return []yard{{"none-1", "", noPorts()}, {"none-2", "", noPorts()}, {"few", "", few()}, {"plain", "", nil}}
}

// broken returns which of the stored objects of a namespace break a rule. It knows the rules from forbidden and victim, and reads
// nothing but what is stored.
func (y yard) broken(stored []*unstructured.Unstructured) []string {
	var broken []string
	numbers := map[int64]bool{}
	for _, o := range stored {
		say := func(format string, args ...any) {
			broken = append(broken, fmt.Sprintf("%s %s/%s (%s): %s", o.GetKind(), y.namespace, o.GetName(), y.name, fmt.Sprintf(format, args...)))
		}
		if o.GetKind() == "Service" {
			brokenService(o, y.name, say, numbers)
		} else {
			brokenPods(o, y.name, say)
		}
	}
	if len(numbers) > limitOfFew {
		broken = append(broken, fmt.Sprintf("%s has %v of the pool, and %d are the most", y.name, slices.Sorted(maps.Keys(numbers)), limitOfFew))
	}
	return broken
}

func brokenService(o *unstructured.Unstructured, where string, say func(string, ...any), numbers map[int64]bool) {
	list, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	excepted, tenants := o.GetLabels()["edge"] == "yes", strings.HasPrefix(where, "none")
	health, _, _ := unstructured.NestedInt64(o.Object, "spec", "healthCheckNodePort")
	held := []int64{health}
	external, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "externalIPs")
	for _, entry := range list {
		p, _ := entry.(raw)
		number, _ := p["nodePort"].(int64)
		held = append(held, number)
		for _, ip := range external {
			if isNode(ip) && p["port"] == int64(9100) {
				say("port 9100 at %s is the exporter's", ip)
			}
		}
	}
	for _, number := range held {
		switch {
		case number == 0:
		case tenants && !excepted:
			say("node port %d", number)
		case isOfFew(number) && where != "few":
			say("node port %d of a pool of others", number)
		case isOfFew(number):
			numbers[number] = true
		}
	}
	for _, ip := range external {
		if isNode(ip) && tenants && !excepted {
			say("external IP %s of a node", ip)
		}
		if ip == "10.96.7.7" {
			say("external IP %s, which is another Service's", ip)
		}
	}
}

// isNode reports whether an external IP is a node's, also in the spelling that the API server still takes.
func isNode(ip string) bool { return ip == "10.0.0.1" || ip == "10.0.0.2" || ip == "010.000.000.001" }

func brokenPods(o *unstructured.Unstructured, where string, say func(string, ...any)) {
	spec, labels, isIdle := podSpecOf(o)
	excepted, tenants := labels["edge"] == "yes", strings.HasPrefix(where, "none")
	if _, selects := spec["nodeSelector"]; selects && o.GetKind() == "DaemonSet" {
		isIdle = true // there is no such node, and it has no pod
	}
	hostNetwork, _ := spec["hostNetwork"].(bool)
	if hostNetwork && tenants && !excepted {
		say("host network")
	}
	for _, list := range []string{"containers", "initContainers"} {
		containers, _ := spec[list].([]any)
		for _, entry := range containers {
			c, _ := entry.(raw)
			isShort := list == "initContainers" && c["restartPolicy"] != "Always"
			portList, _ := c["ports"].([]any)
			for _, entry := range portList {
				p, _ := entry.(raw)
				number, _ := p["hostPort"].(int64)
				if number == 0 {
					continue
				}
				ip, _ := p["hostIP"].(string)
				protocol, _ := p["protocol"].(string)
				isTCP := protocol == "" || protocol == "TCP"
				isIPv4 := ip == "" || strings.Contains(ip, ".")
				switch {
				case tenants && !excepted:
					say("host port %d", number)
				case isShort:
				case number == 9100:
					say("host port 9100 is the exporter's")
				case number == 10250 && isTCP:
					say("host port 10250 is the kubelet's")
				case number == 30800 && isTCP && isIPv4 && !isIdle:
					say("host port 30800 is the victim's node port")
				}
			}
		}
	}
}

// podSpecOf returns the pod spec and the labels of the pods, and whether there are to be no pods.
func podSpecOf(o *unstructured.Unstructured) (spec raw, labels map[string]string, isIdle bool) {
	number := func(path ...string) int64 {
		n, found, _ := unstructured.NestedInt64(o.Object, path...)
		if !found {
			return 1
		}
		return n
	}
	flag := func(path ...string) bool { b, _, _ := unstructured.NestedBool(o.Object, path...); return b }
	template := []string{"spec", "template"}
	switch o.GetKind() {
	case "Pod":
		spec, _, _ = unstructured.NestedMap(o.Object, "spec")
		return spec, o.GetLabels(), false
	case "CronJob":
		template = []string{"spec", "jobTemplate", "spec", "template"}
		isIdle = flag("spec", "suspend") || number("spec", "jobTemplate", "spec", "parallelism") == 0
	case "Job":
		isIdle = flag("spec", "suspend") || number("spec", "parallelism") == 0
	default:
		isIdle = number("spec", "replicas") == 0
	}
	spec, _, _ = unstructured.NestedMap(o.Object, append(slices.Clone(template), "spec")...)
	labels, _, _ = unstructured.NestedStringMap(o.Object, append(slices.Clone(template), "metadata", "labels")...)
	return spec, labels, isIdle
}
