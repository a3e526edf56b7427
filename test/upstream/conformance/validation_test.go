package conformance

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	v1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestPortsAsValidated: of random Services, pods and pod templates, each that the API server's own validation refuses for a
// port, after its own defaults, lint reports at the same field; and what lint says that no API server accepts is refused at
// that field.
func TestPortsAsValidated(t *testing.T) {
	seed.Each(t, nil, func(t *testing.T, s uint64) {
		v := newValidated(t, specimen.FromSeed(s))
		for range seed.Rounds(2000, 20000) {
			v.f.cases++
			v.round(t)
		}
		v.f.check(t)
		for _, what := range []string{refusedForPort, acceptedPorts} {
			if n := v.f.seen[what]; n < v.f.cases/4 {
				t.Errorf("%s: %d in %d cases prove little", what, n, v.f.cases)
			}
		}
	})
}

// What becomes of the ports of random objects.
const (
	refusedForPort = "refused for a port"
	acceptedPorts  = "not refused for a port"
)

type validated struct {
	portFiles
	settings *extract.Settings
	f        *features
	wrong    int
}

func newValidated(t *testing.T, source specimen.Source) *validated {
	t.Helper()
	config, err := configv1alpha1.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &validated{portFiles: portFiles{places{source}}}
	if v.settings, err = extract.NewSettings(config); err != nil {
		t.Fatal(err)
	}
	v.f = newFeatures("Service", "Pod", "Deployment", refusedForPort, acceptedPorts,
		string(check.PortInvalid), string(check.NumberMissing), string(check.QuotedNumber), string(check.BadPortName), string(check.BadServicePortName),
		string(check.NameMissing), string(check.UnknownProtocol), string(check.BadAppProtocol), string(check.NoPorts),
		string(check.PortNameTwice), string(check.HostPortDiffers), string(check.SocketTwice), string(check.ServiceSelfClash), string(check.NodePortWithoutUse), string(check.WrongCase))
	return v
}

// round draws an object and compares the answers.
func (v *validated) round(t *testing.T) {
	t.Helper()
	switch v.IntN(3) {
	case 0:
		svc := v.service()
		v.compare(t, "Service", svc, "", v.validateService(t, svc))
	case 1:
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: v.pod()}
		v.compare(t, "Pod", pod, "", v.validatePod(t, pod))
	default:
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"}}
		d.Spec.Template.Spec = v.pod()
		v.compare(t, "Deployment", d, "spec.template.", v.validateTemplate(t, &d.Spec.Template))
	}
}

// ofPorts are the fields that say something about a port.
var ofPorts = regexp.MustCompile(`^spec\.ports(\[|$)|^spec\.healthCheckNodePort$|\.ports\[\d+\]|\.(httpGet|tcpSocket|grpc)\.port$`)

// compare holds what lint finds to what the API server refuses. prefix is where the object has its pod.
func (v *validated) compare(t *testing.T, kind string, object runtime.Object, prefix string, refused field.ErrorList) {
	t.Helper()
	v.f.saw(kind, true)
	judge, err := audit.New(v.settings, nil, []runtime.Object{object}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	findings := judge.Judge(object)
	forPort := false
	for _, e := range refused {
		if !ofPorts.MatchString(e.Field) {
			continue
		}
		forPort = true
		if !slices.ContainsFunc(findings, func(f check.Finding) bool { return isAt(f, prefix, e) }) {
			v.wrongly(t, object, "the API server says %v, we find %+v", e, findings)
		}
	}
	v.f.saw(refusedForPort, forPort)
	v.f.saw(acceptedPorts, !forPort)
	for _, f := range findings {
		isOurs := slices.Contains([]check.Code{check.PortInvalid, check.PortNameTwice, check.HostPortDiffers}, f.Code)
		if isOurs && !isOfAllocator(f) && !slices.ContainsFunc(refused, func(e *field.Error) bool { return prefix+e.Field == f.Field }) {
			v.wrongly(t, object, "we find %+v, the API server says %v", f, refused)
		}
		for _, name := range []string{string(f.Code), string(f.Case)} {
			if slices.Contains(v.f.names, name) {
				v.f.saw(name, true)
			}
		}
	}
}

// isAt reports whether a finding is about the field that is refused. The finding has the cause where the API server refuses
// what follows from it: a default that another field of the port gives, ports that an ExternalName in the wrong case needs
// not have, and a port twice, which it says of the whole port, and of two of which one is not a port at all.
func isAt(f check.Finding, prefix string, refused *field.Error) bool {
	path := prefix + refused.Field
	from := strings.NewReplacer(".hostPort", ".containerPort", ".targetPort", ".port").Replace(path)
	port := regexp.MustCompile(`^.*\.ports\[\d+\]`).FindString(path)
	switch {
	case f.Field == path:
		return true
	case refused.Type == field.ErrorTypeDuplicate:
		return strings.HasPrefix(f.Field, port)
	case path == "spec.ports":
		return f.Code == check.WrongCase && f.Field == "spec.type"
	default:
		return f.Field == from && f.Key() == fmt.Sprint(refused.BadValue)
	}
}

// isOfAllocator reports whether a number is refused by the API server's allocator, not by its validation.
func isOfAllocator(f check.Finding) bool {
	return f.Code == check.PortInvalid && strings.HasSuffix(f.Field, ".nodePort")
}

// wrongly reports a disagreement. A few of them are enough to see what is wrong.
func (v *validated) wrongly(t *testing.T, object runtime.Object, format string, args ...any) {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("%s\n%s", text, fmt.Sprintf(format, args...))
	if v.wrong++; v.wrong == 5 {
		t.FailNow()
	}
}

func (v *validated) validateService(t *testing.T, svc *corev1.Service) field.ErrorList {
	t.Helper()
	svc = svc.DeepCopy()
	v1defaults.SetObjectDefaults_Service(svc)
	var internal core.Service
	if err := v1defaults.Convert_v1_Service_To_core_Service(svc, &internal, nil); err != nil {
		t.Fatal(err)
	}
	if ip := internal.Spec.ClusterIP; ip != "" { // as the registry does
		internal.Spec.ClusterIPs = []string{ip}
	}
	return validation.ValidateServiceCreate(&internal)
}

func (v *validated) validatePod(t *testing.T, pod *corev1.Pod) field.ErrorList {
	t.Helper()
	pod = pod.DeepCopy()
	v1defaults.SetObjectDefaults_Pod(pod)
	var internal core.Pod
	if err := v1defaults.Convert_v1_Pod_To_core_Pod(pod, &internal, nil); err != nil {
		t.Fatal(err)
	}
	return validation.ValidatePodCreate(&internal, validation.PodValidationOptions{ResourceIsPod: true})
}

func (v *validated) validateTemplate(t *testing.T, template *corev1.PodTemplateSpec) field.ErrorList {
	t.Helper()
	made := &corev1.PodTemplate{Template: *template.DeepCopy()}
	v1defaults.SetObjectDefaults_PodTemplate(made)
	var internal core.PodTemplate
	if err := v1defaults.Convert_v1_PodTemplate_To_core_PodTemplate(made, &internal, nil); err != nil {
		t.Fatal(err)
	}
	return validation.ValidatePodTemplateSpec(&internal.Template, nil, validation.PodValidationOptions{})
}
