package claims

import (
	"errors"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
)

// at returns a moment of a test's day.
func at(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0) }

// claim is of number 30100 for Service ns/web, asked for at second 0.
func claim(change ...func(*v1alpha1.PortClaim)) *v1alpha1.PortClaim {
	c := &v1alpha1.PortClaim{Spec: v1alpha1.PortClaimSpec{
		Port: 30100, Pool: "p", Service: v1alpha1.ClaimingService{Namespace: "ns", Name: "web"}, RequestedAt: metav1.NewTime(at(0)),
	}}
	for _, f := range change {
		f(c)
	}
	return c
}

func phase(p v1alpha1.ClaimPhase, uid string) func(*v1alpha1.PortClaim) {
	return func(c *v1alpha1.PortClaim) { c.Status.Phase, c.Status.ServiceUID = p, uid }
}

func releasedAtSecond(s int) func(*v1alpha1.PortClaim) {
	return func(c *v1alpha1.PortClaim) {
		c.Status.Phase, c.Status.ReleasedAt = v1alpha1.ClaimReleased, new(metav1.NewTime(at(s)))
	}
}

func saying(reason, message string) func(*v1alpha1.PortClaim) {
	return func(c *v1alpha1.PortClaim) {
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionBound, Reason: reason, Message: message}}
	}
}

func generated(c *v1alpha1.PortClaim) { c.Spec.Service.Name, c.Spec.Service.GenerateName = "", "web-" }

func TestDecide(t *testing.T) {
	const lifetime = 60 * time.Second
	again := func(seconds int) func(*v1alpha1.PortClaim) {
		return func(c *v1alpha1.PortClaim) { c.Status.RequestedAgainAt = new(metav1.NewTime(at(seconds))) }
	}
	has := facts{own: fake.Service("web", "1", 30100), holds: true}
	gone, without := facts{}, facts{own: fake.Service("web", "1")}
	stolen := facts{other: fake.Service("thief", "2", 30100)}
	inService := saying(v1alpha1.ReasonInService, "Service ns/web has 30100")
	heldByThief := saying(v1alpha1.ReasonHeldByAnother, "30100 is held by Service ns/thief; leave nodePort out of Service ns/web to get a free number")
	bound := phase(v1alpha1.ClaimBound, "1")
	for _, c := range []struct {
		name   string
		claim  *v1alpha1.PortClaim
		facts  facts
		second int
		delay  time.Duration
		want   string // the step, the reason, when to look again
	}{
		{"asked for, comes", claim(), has, 1, 0, "bind InService"},
		{"asked for, comes late", claim(), has, 1000, 0, "bind InService"},
		{"asked for, not there yet", claim(), gone, 1, 0, "keep 59s"},
		{"asked for, not there at the last moment", claim(), gone, 59, 0, "keep 1s"},
		{"asked for, never came", claim(), gone, 60, 0, "remove"},
		{"asked for by an update, never came", claim(), without, 60, 0, "remove"},
		{"the phase spelled out", claim(phase(v1alpha1.ClaimRequested, "")), gone, 60, 0, "remove"},
		{"asked for again", claim(again(50)), gone, 60, 0, "keep 50s"},
		{"asked for again, never came", claim(again(50)), gone, 110, 0, "remove"},
		{"asked for again, was a Service's, not there yet", claim(again(50), phase(v1alpha1.ClaimRequested, "1")), gone, 60, time.Hour, "keep 50s"},
		{"asked for again, was a Service's, never came", claim(again(50), phase(v1alpha1.ClaimRequested, "1")), gone, 110, time.Hour, "release ServiceGone"},
		{"asked for again, was a Service's that gave it up", claim(again(50), phase(v1alpha1.ClaimRequested, "1")), without, 110, time.Hour, "release PortGivenUp"},
		{"asked for again, was a Service's, another has it", claim(again(50), phase(v1alpha1.ClaimRequested, "1"), heldByThief), stolen, 110, time.Hour, "remove"},
		{"by a name to be made, comes", claim(generated), facts{own: fake.Service("web-x1", "1", 30100), holds: true}, 1, 0, "bind InService"},
		{"asked for, another has it", claim(), stolen, 1, 0, "explain HeldByAnother 59s"},
		{"asked for, another has it, said", claim(heldByThief), stolen, 2, 0, "keep 58s"},
		{"asked for, another had it", claim(heldByThief), gone, 2, 0, "explain AwaitingService 58s"},
		{"asked for, another has it, never came", claim(heldByThief), stolen, 60, 0, "remove"},
		{"another has it, and so has its own", claim(), facts{has.own, true, stolen.other}, 1, 0, "bind InService"},
		{"bound", claim(bound, inService), has, 1, 0, "keep"},
		{"bound, an older condition", claim(bound, saying(v1alpha1.ReasonInService, "")), has, 1, 0, "bind InService"},
		{"bound, no name yet", claim(bound, generated, inService), facts{own: fake.Service("web-x1", "1", 30100), holds: true}, 1, 0, "bind InService"},
		{"bound to one before", claim(phase(v1alpha1.ClaimBound, "0"), inService), has, 1, 0, "bind InService"},
		{"bound, gone", claim(bound, inService), gone, 1, 0, "release ServiceGone"},
		{"bound, given up", claim(bound, inService), without, 1, time.Hour, "release PortGivenUp"},
		{"bound, another has it", claim(bound, inService), stolen, 1, time.Hour, "remove"},
		{"released", claim(releasedAtSecond(10)), gone, 11, 30 * time.Second, "keep 30s"},
		{"released, one second left", claim(releasedAtSecond(10)), gone, 40, 30 * time.Second, "keep 1s"},
		{"released, over", claim(releasedAtSecond(10)), gone, 41, 30 * time.Second, "remove"},
		{"released, no delay", claim(releasedAtSecond(10)), gone, 11, 0, "keep 1s"},
		{"released, no delay, over", claim(releasedAtSecond(10)), gone, 12, 0, "remove"},
		{"released, back", claim(releasedAtSecond(10)), has, 100, time.Hour, "bind InService"},
		{"released, another has it", claim(releasedAtSecond(10)), stolen, 11, time.Hour, "remove"},
	} {
		d := decide(c.claim, c.facts, at(c.second), c.claim.LastRequested().Add(lifetime), c.delay)
		got := []string{"keep", "bind", "release", "remove", "explain"}[d.step]
		if d.reason != "" && d.step != keep {
			got += " " + d.reason
		}
		if d.requeueAfter > 0 {
			got += " " + d.requeueAfter.String()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestIsFor(t *testing.T) {
	made := fake.Service("web-x1", "1")
	made.GenerateName = "web-"
	elsewhere := fake.Service("web", "1")
	elsewhere.Namespace = "other"
	for _, c := range []struct {
		name  string
		claim *v1alpha1.PortClaim
		svc   *corev1.Service
		want  bool
	}{
		{"its name", claim(), fake.Service("web", "1"), true},
		{"another name", claim(), fake.Service("web2", "1"), false},
		{"another namespace", claim(), elsewhere, false},
		{"its pattern", claim(generated), made, true},
		{"a name without a pattern", claim(generated), fake.Service("web-x1", "1"), false},
		{"a pattern where the name is known", claim(), made, false},
	} {
		if got := isFor(c.claim, c.svc); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestIsAbsent shows that only the API server's own word counts.
func TestIsAbsent(t *testing.T) {
	services := schema.GroupResource{Resource: "services"}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"not found", apierrors.NewNotFound(services, "web"), true},
		{"another one is not found", apierrors.NewNotFound(services, "web2"), false},
		{"a proxy's 404", apierrors.NewGenericServerResponse(http.StatusNotFound, "get", services, "web", "404 page not found", 0, true), false},
		{"unavailable", apierrors.NewServiceUnavailable("etcd"), false},
		{"forbidden", apierrors.NewForbidden(services, "web", errors.New("no")), false},
		{"no connection", errors.New("connection refused"), false},
		{"no error", nil, false},
	} {
		if got := isAbsent(c.err, "web"); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestNamesOfNumbers(t *testing.T) {
	svc := fake.Service("web", "1", 30100, 0, 30101)
	svc.Spec.Ports[0].Name, svc.Spec.Ports[2].Protocol = "dns", corev1.ProtocolUDP
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "dns-udp", NodePort: 30100, Protocol: corev1.ProtocolUDP})
	svc.Spec.HealthCheckNodePort = 30102
	if got := newClaim(svc, 30100, "p", at(0)).Spec.PortName; got != "dns" {
		t.Errorf("the port is named by %q, want the first entry that has it", got)
	}
	svc.Spec.Ports = []corev1.ServicePort{{NodePort: -1}, {NodePort: 65536}}
	svc.Spec.HealthCheckNodePort = 0
	if got := nodePorts(svc); got != nil {
		t.Errorf("ports that are none: %v", got)
	}
}
