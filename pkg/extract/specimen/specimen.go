// Package specimen draws random Kubernetes objects for property tests. New returns the Source of a test, whose seed
// pkg/seed decides, and Draw fills an object of any type from it. Rounds is how many objects a test draws.
//
// Any field may be set. Those that matter to ports are set often and from few values, valid and invalid, so that objects
// conflict.
package specimen

import (
	"math/rand/v2"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// Source is where specimens come from.
type Source struct{ *rand.Rand }

// New returns the source of a test: its seed is seed.Of's.
func New(t testing.TB) Source {
	t.Helper()
	return Source{seed.Rand(t)}
}

// FromSeed returns the source that a seed stands for.
func FromSeed(s uint64) Source { return Source{seed.From(s)} }

// Rounds returns how many specimens a test looks at: normal, or fifty times as many when soaking.
func Rounds(normal int) int { return seed.Rounds(normal, normal*50) }

// Draw returns a random T.
func Draw[T any](s Source) *T {
	object := new(T)
	s.fill(reflect.ValueOf(object).Elem(), "")
	return object
}

// fill sets v, which is found in a field of the given name.
func (s Source) fill(v reflect.Value, field string) {
	switch v.Kind() {
	case reflect.Struct:
		s.fillStruct(v)
	case reflect.Pointer:
		if s.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			s.fill(v.Elem(), field)
		}
	case reflect.Slice:
		if n := s.IntN(4); n > 0 && v.Type().Elem().Kind() != reflect.Uint8 { // bytes are raw JSON, or nobody reads them
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				s.fill(v.Index(i), field)
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range s.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			s.fill(key, "Key")
			s.fill(value, "Value")
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		words := wordsOf(v.Type(), field)
		v.SetString(words[s.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(s.IntN(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		numbers := numbersOf(field)
		v.SetInt(numbers[s.IntN(len(numbers))])
	default: // nothing here is of another kind and matters
	}
}

func (s Source) fillStruct(v reflect.Value) {
	if v.Type() == reflect.TypeFor[intstr.IntOrString]() {
		v.Set(reflect.ValueOf([]intstr.IntOrString{{}, intstr.FromInt32(8080), intstr.FromString("http"), intstr.FromInt32(-1)}[s.IntN(4)]))
		return
	}
	for i := range v.NumField() {
		if f := v.Field(i); f.CanSet() { // the fields of quantities and times cannot
			s.fill(f, v.Type().Field(i).Name)
		}
	}
}

// numbersOf: ports that are equal, free, at the ends, and none at all.
func numbersOf(field string) []int64 {
	switch field {
	case "Replicas", "Parallelism":
		return []int64{0, 0, 1, 3}
	default:
		return []int64{0, 0, 0, 22, 80, 80, 80, 8080, 30080, 30081, 65535, 65536, -1, 1 << 30}
	}
}

// wordsOf are what a string may be, by its type or else by the name of its field.
func wordsOf(t reflect.Type, field string) []string {
	switch t {
	case reflect.TypeFor[corev1.Protocol]():
		return []string{"", "TCP", "TCP", "TCP", "UDP", "SCTP", "tcp"}
	case reflect.TypeFor[corev1.ServiceType]():
		return []string{"", "ClusterIP", "NodePort", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName", "Nonsense"}
	case reflect.TypeFor[corev1.ServiceExternalTrafficPolicy]():
		return []string{"", "Local", "Cluster"}
	case reflect.TypeFor[corev1.LoadBalancerIPMode]():
		return []string{"VIP", "Proxy", ""}
	case reflect.TypeFor[corev1.IPFamily]():
		return []string{"IPv4", "IPv4", "IPv6", ""}
	case reflect.TypeFor[corev1.PodPhase]():
		return []string{"", "Pending", "Running", "Running", "Succeeded", "Failed"}
	case reflect.TypeFor[corev1.ContainerRestartPolicy]():
		return []string{"Always", "Always", "Never", ""}
	case reflect.TypeFor[corev1.TaintEffect]():
		return []string{"NoSchedule", "NoExecute", "PreferNoSchedule", ""}
	case reflect.TypeFor[corev1.TolerationOperator]():
		return []string{"", "Equal", "Exists", "Exists"}
	case reflect.TypeFor[corev1.NodeSelectorOperator]():
		return []string{"In", "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}
	case reflect.TypeFor[corev1.NodeAddressType]():
		return []string{"InternalIP", "ExternalIP", "Hostname"}
	case reflect.TypeFor[corev1.ConditionStatus]():
		return []string{"True", "False", "Unknown"}
	}
	switch field {
	case "HostIP", "ExternalIPs", "IP", "Address", "ClusterIP", "ClusterIPs":
		return []string{"", "", "0.0.0.0", "::", "10.0.0.1", "10.0.0.1", "10.0.0.2", "127.0.0.1", "::1", "fd00::1", "0:0::1", "::ffff:10.0.0.1", "fe80::1%eth0", "None", "nonsense"}
	case "PodCIDR", "PodCIDRs", "CIDRs":
		return []string{"", "10.244.0.0/24", "fd00:10::/64", "::ffff:10.0.0.0/104", "nonsense"}
	case "Kind":
		return []string{"ReplicaSet", "ReplicaSet", "DaemonSet", "Deployment", "Node", "GameServer"}
	case "Key":
		return []string{"zone", "zone", "metadata.name", "node.kubernetes.io/not-ready", "pod-template-hash", "svccontroller.k3s.cattle.io/svcname",
			"svccontroller.k3s.cattle.io/svcnamespace", "kubernetes.io/config.mirror",
			"portcullis.dev/reserved-ports"}
	case "Value", "Values":
		return []string{"a", "a", "b", "n1", "1", ""}
	case "Type":
		return []string{"Complete", "Failed", "SuccessCriteriaMet", ""}
	default:
		return []string{"", "a", "b", "n1", "web-a"}
	}
}
