package extract_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func TestNodeAddresses(t *testing.T) {
	for _, c := range []struct{ addresses, want string }{
		{"[]", "[]"},
		{"[{type: ExternalIP, address: 203.0.113.1}, {type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: 'fd00::1'}]", "[10.0.0.1 fd00::1 203.0.113.1]"},
		{"[{type: InternalIP, address: 10.0.0.2}, {type: InternalIP, address: 10.0.0.1}]", "[10.0.0.2 10.0.0.1]"},
		{"[{type: InternalIP, address: '::ffff:10.0.0.1'}, {type: ExternalIP, address: 10.0.0.1}]", "[10.0.0.1]"},
		{"[{type: Hostname, address: n1}, {type: InternalDNS, address: 10.0.0.1}, {type: InternalIP, address: nonsense}, {type: InternalIP, address: ''}]", "[]"},
	} {
		node := &corev1.Node{Status: corev1.NodeStatus{Addresses: *mustRead[[]corev1.NodeAddress](c.addresses)}}
		if got := fmt.Sprint(extract.NodeAddresses(node)); got != c.want {
			t.Errorf("%s: %s, want %s", c.addresses, got, c.want)
		}
	}
}

func TestClusterFamilies(t *testing.T) {
	const (
		none    = "{}"
		cidr4   = "{spec: {podCIDR: 10.244.0.0/24, podCIDRs: [10.244.0.0/24]}, status: {addresses: [{type: InternalIP, address: 'fd00::1'}]}}"
		cidr6   = "{spec: {podCIDR: 'fd01::/64'}}"
		both    = "{spec: {podCIDRs: [10.244.0.0/24, 'fd01::/64']}}"
		address = "{status: {addresses: [{type: ExternalIP, address: 203.0.113.1}, {type: InternalIP, address: 'fd00::1'}]}}"
		mapped  = "{spec: {podCIDR: '::ffff:10.0.0.0/104'}}"
		bad     = "{spec: {podCIDR: nonsense}}"
		service = "{spec: {cidrs: [10.96.0.0/12]}}"
	)
	v4, v6 := check.Families{IPv4: true}, check.Families{IPv6: true}
	for _, c := range []struct {
		why   string
		nodes []string
		cidrs []string
		want  check.Families
	}{
		{"nothing is known yet", nil, nil, check.Families{}},
		{"pod CIDRs are first", []string{cidr4, address}, []string{service}, v4},
		{"of all nodes", []string{cidr4, cidr6}, nil, check.Families{IPv4: true, IPv6: true}},
		{"of one node", []string{none, both}, nil, check.Families{IPv4: true, IPv6: true}},
		{"else internal addresses", []string{none, address}, []string{service}, v6},
		{"else the ServiceCIDRs", []string{none, bad}, []string{service}, v4},
		{"4-in-6", []string{mapped}, nil, v4},
	} {
		var nodes []*corev1.Node
		for _, n := range c.nodes {
			nodes = append(nodes, mustRead[corev1.Node](n))
		}
		var cidrs []*networkingv1.ServiceCIDR
		for _, s := range c.cidrs {
			cidrs = append(cidrs, mustRead[networkingv1.ServiceCIDR](s))
		}
		for range 2 {
			if got := extract.ClusterFamilies(nodes, cidrs); got != c.want {
				t.Errorf("%s: %+v, want %+v", c.why, got, c.want)
			}
			slices.Reverse(nodes)
		}
	}
}

func TestNodeList(t *testing.T) {
	if got := extract.NodeList(nil).Eligible(placement("{}")); got != nil {
		t.Errorf("no list: %q, want nil", got)
	}
	if diff := cmp.Diff([]string{}, extract.NodeList{}.Eligible(placement("{}"))); diff != "" {
		t.Errorf("an empty list (-want +got):\n%s", diff)
	}
	twice := append(threeNodes(), threeNodes()...)
	if diff := cmp.Diff([]string{"n1", "n2"}, twice.Eligible(placement("{}"))); diff != "" {
		t.Errorf("each node twice (-want +got):\n%s", diff)
	}
}

func TestReservedPorts(t *testing.T) {
	for _, c := range []struct{ annotation, want, wrong string }{
		{"", "[]", ""},
		{"9100/TCP,80/TCP", "[*:9100/TCP *:80/TCP]", ""},
		{" 53/UDP ,, 53/SCTP,", "[*:53/UDP *:53/SCTP]", ""},
		{"9100", "[]", `"9100" is not PORT/PROTOCOL, like 9100/TCP`},
		{"0/TCP,80/tcp,80/TCP,[::1]:80/TCP", "[*:80/TCP]", `"0/TCP" is not PORT/PROTOCOL, like 9100/TCP` + "\n" +
			`"80/tcp" is not PORT/PROTOCOL, like 9100/TCP` + "\n" + `"[::1]:80/TCP" is not PORT/PROTOCOL, like 9100/TCP`},
	} {
		node := &corev1.Node{}
		node.Annotations = map[string]string{extract.ReservedPortsAnnotation: c.annotation}
		got, err := extract.ReservedPorts(node)
		wrong := ""
		if err != nil {
			wrong = err.Error()
		}
		if fmt.Sprint(got) != c.want || wrong != c.wrong {
			t.Errorf("%q: %s, %s; want %s, %s", c.annotation, got, wrong, c.want, c.wrong)
		}
		node.Name = "n1"
		_, claims := extract.Reservation(node)
		var held []ports.Socket
		for _, c := range claims {
			held = append(held, c.Socket)
			if on, _ := c.Scope.Node(); on != "n1" || c.Owner.Ref != extract.NodeRef("n1") {
				t.Errorf("%q: %+v", wrong, c)
			}
		}
		var values []string
		for _, f := range extract.BadReservations(node) {
			values = append(values, f.Detail.(check.Unreadable).Err.Error())
		}
		if !slices.Equal(held, got) || strings.Join(values, "\n") != wrong {
			t.Errorf("%q is held as %v, and reported as %q", c.annotation, held, values)
		}
	}
}

func FuzzReservedPorts(f *testing.F) {
	for _, text := range []string{"", "9100/TCP,80/TCP", ",/,-,99999/TCP", "[::]:1/UDP", "*:1/TCP"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, annotation string) {
		node := &corev1.Node{}
		node.Annotations = map[string]string{extract.ReservedPortsAnnotation: annotation}
		reserved, _ := extract.ReservedPorts(node)
		for _, s := range reserved {
			if s.Address != ports.AllAddresses() || s.Port == 0 {
				t.Errorf("%q reserves %s", annotation, s)
			}
		}
	})
}
