package report_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func claim(kind ports.Kind, socket string, scope ports.Scope) ports.Claim {
	return ports.Claim{Socket: ports.MustParseSocket(socket), Kind: kind, Scope: scope}
}

func nodePort(number string) ports.Claim {
	return claim(ports.NodePort, "*:"+number, ports.EverywhereScope())
}

func hostPort(number string) ports.Claim { return claim(ports.HostPort, "*:"+number, ports.Scope{}) }

func by(kind, name, field string, c ports.Claim) *check.Holder {
	return &check.Holder{Ref: ports.Ref{Kind: kind, Namespace: "default", Name: name}, Field: field, Claim: c}
}

const podField = "spec.containers[0].ports[0].hostPort"

// sentences lists what is said for each code and case.
func sentences() []struct {
	finding check.Finding
	want    string
} {
	const (
		template = "spec.template.spec.containers[0].ports[0].hostPort"
		port0    = "spec.ports[0].nodePort"
		port1    = "spec.ports[1].nodePort"
	)
	n1, n5 := []string{"n1"}, []string{"n1", "n2", "n3", "n4", "n5"}
	tomcat := by("Deployment", "tomcat", template, claim(ports.HostPort, "*:9000/TCP", ports.NodeScope("n1")))
	return []struct {
		finding check.Finding
		want    string
	}{
		{check.Finding{Code: check.HostIPInvalid, Field: "spec.containers[0].ports[0].hostIP", Value: "local\nhost", Other: "8080/TCP"},
			`spec.containers[0].ports[0].hostIP: "local\nhost" is no IP address, so that port 8080/TCP would never be reachable; write an address of the node, or leave hostIP out for all of its addresses (PC0101)`},
		{check.Finding{Code: check.SocketTwice, Field: podField, Other: "spec.initContainers[0].ports[0].hostPort", Claim: claim(ports.HostPort, "[::1]:80/TCP", ports.Scope{})},
			podField + ": [::1]:80/TCP is claimed already by spec.initContainers[0].ports[0].hostPort of the same pod; give one of the two another hostPort (PC0102)"},
		{check.Finding{Code: check.SocketTwice, Field: "spec.containers[1].ports[0].containerPort", Other: "spec.containers[0].ports[0].containerPort", Claim: claim(ports.HostNetwork, "*:80/TCP", ports.Scope{})},
			"spec.containers[1].ports[0].containerPort: *:80/TCP is claimed already by spec.containers[0].ports[0].containerPort of the same pod; give one of the two another containerPort (PC0102)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.SameNodePortTwice, Field: port1, Other: port0, Value: "30080/TCP"},
			port1 + ": 30080/TCP is the nodePort of spec.ports[0] already; choose another nodePort, or leave it out to get one (PC0103)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.SameNodePortSplit, Field: port1, Other: port0, Value: "30080"},
			port1 + ": 30080 is the nodePort of spec.ports[0] already, and one number cannot serve two different ports; choose another nodePort, or leave it out to get one (PC0103)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.HealthCheckIsOwn, Field: "spec.healthCheckNodePort", Other: port0, Value: "30080"},
			"spec.healthCheckNodePort: 30080 is the Service's own nodePort too, spec.ports[0].nodePort; choose another healthCheckNodePort, or leave it out to get one (PC0103)"},
		{check.Finding{Code: check.ServiceSelfClash, Case: check.SamePortTwice, Field: "spec.ports[1].port", Other: "spec.ports[0].port", Value: "80/TCP"},
			"spec.ports[1].port: 80/TCP is the port of spec.ports[0] already; remove one of the two, or give it another port or protocol (PC0103)"},
		{check.Finding{Code: check.NodePortWithoutUse, Field: port0, Value: "30080", Other: "ClusterIP"},
			port0 + ": 30080 is set, but a Service of type ClusterIP has no node ports; remove nodePort, or make the type NodePort or LoadBalancer (PC0104)"},
		{check.Finding{Code: check.NodePortWithoutUse, Case: check.NodePortIsLeftOver, Field: port0, Value: "30080", Other: "ClusterIP"},
			port0 + ": 30080 is left over from a type with node ports; the API server drops it now and refuses it next time; remove nodePort from the manifest (PC0104)"},
		{check.Finding{Code: check.InitContainersMeet, Field: "spec.initContainers[1].ports[0].hostPort", Other: "spec.initContainers[0].ports[0].hostPort", Claim: hostPort("80/TCP")},
			"spec.initContainers[1].ports[0].hostPort: *:80/TCP is used by spec.initContainers[0].ports[0].hostPort too, an init container that runs at another time; nothing needs to be done (PC0105)"},
		{check.Finding{Code: check.Held, Field: podField, Claim: hostPort("9000/TCP"), Holder: tomcat, Nodes: n1},
			podField + ": 9000/TCP is held by Deployment default/tomcat (" + template + ") on node n1; choose another hostPort, or expose the pod by a Service (PC0201)"},
		{check.Finding{Code: check.Held, Field: port0, Claim: nodePort("30080/TCP"), Holder: by("Service", "web", port1, nodePort("30080/UDP"))},
			port0 + ": 30080/TCP is held by Service default/web (spec.ports[1].nodePort) on every node, and a node port number belongs to one Service whatever the protocol; choose another nodePort, or leave it out to get a free one (PC0201)"},
		{check.Finding{Code: check.Held, Field: port0, Claim: nodePort("30080/TCP"), Holder: by("Deployment", "a", "", hostPort("30080/TCP"))},
			port0 + ": 30080/TCP is held by Deployment default/a, not on a node yet; choose another nodePort, or leave it out to get a free one (PC0201)"},
		{check.Finding{Code: check.Held, Field: "spec.ports[0].port", Claim: claim(ports.ExternalIP, "192.0.2.1:80/TCP", ports.AddressScope()),
			Holder: by("Service", "web", "spec.ports[0].port", claim(ports.LoadBalancerIP, "192.0.2.1:80/TCP", ports.AddressScope()))},
			"spec.ports[0].port: 80/TCP is held by Service default/web (spec.ports[0].port) at 192.0.2.1; choose another port or address (PC0201)"},
		{check.Finding{Code: check.Held, Standing: true, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("Pod", "a", podField, hostPort("9000/TCP")), Nodes: n5},
			podField + ": 9000/TCP is held by Pod default/a (" + podField + ") on nodes n1, n2, n3 and 2 more; choose another hostPort, or expose the pod by a Service; it stood so before (PC0201)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: tomcat, Nodes: n1, Eligible: 1},
			podField + ": 9000/TCP is held by Deployment default/tomcat (" + template + ") on node n1, every node that it may run on; choose another hostPort (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("DaemonSet", "a", "", hostPort("9000/TCP"))},
			podField + ": 9000/TCP is held by DaemonSet default/a on every node; choose another hostPort, or expose the pod by a Service, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.EveryNodeTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("DaemonSet", "a", "", hostPort("9000/TCP")), Nodes: n1, Eligible: 2},
			podField + ": 9000/TCP is held by DaemonSet default/a on node n1; with others, on every node that it may run on; choose another hostPort, or expose the pod by a Service, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.SomeNodesTaken, Field: podField, Claim: hostPort("9000/TCP"), Holder: by("DaemonSet", "a", "", hostPort("9000/TCP")), Nodes: n5, Eligible: 7},
			podField + ": 9000/TCP is held by DaemonSet default/a on 5 of the 7 nodes that it may run on (n1, n2, n3 and 2 more); choose another hostPort, or expose the pod by a Service, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.WorkloadsMeet, Case: check.SomeNodesTaken, Field: podField, Claim: claim(ports.HostNetwork, "*:9000/TCP", ports.Scope{}), Holder: by("Pod", "a", "", hostPort("9000/TCP")), Nodes: n1},
			podField + ": 9000/TCP is held by Pod default/a on node n1; let the process listen on another port, or leave the host network, or keep the two apart by a nodeSelector (PC0202)"},
		{check.Finding{Code: check.OutsideRange, Field: port0, Claim: nodePort("80/TCP"), Range: ports.MustParseRange("30000-32767")},
			port0 + ": 80 is outside the node port range 30000-32767; choose a number inside it, or leave nodePort out to get one (PC0301)"},
		{check.Finding{Code: check.DaemonSocket, Field: podField, Claim: hostPort("10250/TCP"), Holder: &check.Holder{Ref: ports.Ref{Kind: "node daemon", Name: "kubelet"}}},
			podField + ": 10250/TCP belongs to kubelet, a daemon of every node; choose another hostPort, or expose the pod by a Service (PC0302)"},
	}
}

func TestSentences(t *testing.T) {
	told := map[check.Code]map[check.Case]bool{}
	for _, s := range sentences() {
		if told[s.finding.Code] == nil {
			told[s.finding.Code] = map[check.Case]bool{}
		}
		told[s.finding.Code][s.finding.Case] = true
		if got := report.Sentence(s.finding); got != s.want {
			t.Errorf("%s %q\ngot  %s\nwant %s", s.finding.Code, s.finding.Case, got, s.want)
		}
		if got := report.Message(s.finding); s.finding.Field+": "+got != s.want {
			t.Errorf("%s %q without its field: %s", s.finding.Code, s.finding.Case, got)
		}
	}
	for _, e := range check.Catalogue() {
		if told[e.Code] == nil {
			t.Errorf("%s has no sentence here", e.Code)
		}
		for named := range e.Cases {
			if !told[e.Code][named] {
				t.Errorf("%s %q has no sentence here", e.Code, named)
			}
		}
	}
}

// TestSentencesOfMonsters: however long names are, and whatever is in them, a sentence is one line of valid text that
// fits and ends with the code.
func TestSentencesOfMonsters(t *testing.T) {
	long := strings.Repeat("a", 253)
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("%s%d", long, i))
	}
	for _, name := range []string{long, strings.Repeat("€", 300), "a\nb\r\tc\x1b[31m", "\xff\xfe", strings.Repeat("\xf0", 400), "a\u2028b", "%s%d", ""} {
		for _, s := range sentences() {
			for _, standing := range []bool{false, true} {
				f := s.finding
				f.Standing, f.Value = standing, name
				if f.Nodes != nil {
					f.Nodes = append([]string{name}, many...)
				}
				if f.Code == check.NodePortWithoutUse || f.Code == check.HostIPInvalid {
					f.Other = name
				}
				if f.Holder != nil {
					h := *f.Holder
					h.Namespace, h.Name = name, name
					f.Holder = &h
				}
				checkLine(t, f, report.Sentence(f))
			}
		}
	}
}

func checkLine(t *testing.T, f check.Finding, line string) {
	t.Helper()
	switch {
	case !utf8.ValidString(line):
		t.Errorf("%s: not valid UTF-8: %q", f.Code, line)
	case utf8.RuneCountInString(line) > report.MaxSentence:
		t.Errorf("%s: %d characters: %s", f.Code, utf8.RuneCountInString(line), line)
	case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' }):
		t.Errorf("%s: not one line of text: %q", f.Code, line)
	case !strings.HasSuffix(line, "("+string(f.Code)+")"):
		t.Errorf("%s: the code is not at the end: %s", f.Code, line)
	case !strings.HasPrefix(line, f.Field+": "):
		t.Errorf("%s: the field is not at the start: %s", f.Code, line)
	}
}
