package report_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/explain"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// TestPortSituationWords: of which packets it is told, and what becomes of them.
func TestPortSituationWords(t *testing.T) {
	svc, pod := ports.Ref{Kind: "Service", Namespace: "default", Name: "a"}, ports.Ref{Kind: "Pod", Namespace: "default", Name: "web"}
	gets := func(who ports.Ref) []report.PacketEnd { return []report.PacketEnd{{Of: "from outside", Who: who}} }
	loses := func(verdict string, by ports.Ref) []report.PacketEnd {
		return []report.PacketEnd{{Of: "from outside", Verdict: verdict, By: by}}
	}
	own, named := []string{"192.0.2.1"}, []string{"203.0.113.5"}
	for _, c := range []struct {
		nodes, own, named []string
		all               bool
		ends, otherwise   []report.PacketEnd
		want              string
	}{
		{[]string{"n1"}, own, nil, true, gets(svc), gets(svc), "Packets for 80/TCP on node n1:\n  from outside: Service default/a\n"},
		{[]string{"n1"}, own, named, true, gets(svc), gets(svc), "Packets for 80/TCP on node n1:\n  from outside: Service default/a\n"},
		{[]string{"n1"}, own, nil, false, gets(pod), gets(pod), "Packets to 192.0.2.1:80/TCP on node n1:\n  from outside: Pod default/web\n"},
		{[]string{"n1"}, nil, named, true, gets(svc), gets(pod), "Packets to 203.0.113.5:80/TCP on node n1:\n  from outside: Service default/a if it has endpoints; else Pod default/web\n"},
		{[]string{"n1", "n2"}, nil, []string{"203.0.113.5", "2001:db8::5"}, false, gets(svc), gets(svc), "Packets to 203.0.113.5:80/TCP and [2001:db8::5]:80/TCP on nodes n1, n2:\n  from outside: Service default/a\n"},
		{[]string{"n1", "n2"}, []string{"192.0.2.1", "192.0.2.2"}, nil, false, gets(svc), gets(svc), "Packets to port 80/TCP of the nodes' own IPv4 addresses on nodes n1, n2:\n  from outside: Service default/a\n"},
		{[]string{"n1", "n2"}, []string{"192.0.2.1", "192.0.2.2"}, named, false, gets(svc), gets(svc), "Packets to port 80/TCP of the nodes' own IPv4 addresses and 203.0.113.5 on nodes n1, n2:\n  from outside: Service default/a\n"},
		{[]string{"n1"}, own, nil, true, gets(svc), loses(report.PacketsRejected, svc), "Packets for 80/TCP on node n1:\n  from outside: Service default/a if it has endpoints; else nobody: rejected by Service default/a\n"},
		{[]string{"n1"}, own, nil, true, loses(report.PacketsDropped, svc), loses(report.PacketsDropped, svc), "Packets for 80/TCP on node n1:\n  from outside: nobody: dropped by Service default/a\n"},
		{[]string{"n1"}, own, nil, true, loses(report.PacketsDropped, ports.Ref{}), loses(report.PacketsDropped, ports.Ref{}), "Packets for 80/TCP on node n1:\n  from outside: nobody: dropped\n"},
		{[]string{"n1"}, nil, named, true, loses(report.PacketsForwarded, ports.Ref{}), loses(report.PacketsForwarded, ports.Ref{}), "Packets to 203.0.113.5:80/TCP on node n1:\n  from outside: nobody: it is not an address of the node\n"},
		{[]string{"n1"}, own, nil, true, gets(ports.Ref{}), gets(ports.Ref{}), "Packets for 80/TCP on node n1:\n  from outside: nobody, unless a process of the node listens\n"},
	} {
		w := report.PortWalk{Port: 80, Protocol: ports.TCP, Nodes: c.nodes, All: c.all, Ends: c.ends, Otherwise: c.otherwise}
		w.AddDestination(addresses(c.own), true)
		w.AddDestination(addresses(c.named), false)
		got := table(t, report.PortNumber{Port: 80, Protocol: "TCP", Situations: []report.PortSituation{
			report.NewPortSituation(w, func(ref ports.Ref) ports.Ref { return ref })}})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func addresses(texts []string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func table(t *testing.T, n report.PortNumber) string {
	t.Helper()
	l := report.NewPortList(nil)
	l.About = []report.PortNumber{n}
	var b strings.Builder
	if err := l.WriteTable(&b, time.Time{}, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPortWantedWords: what would become of who wants a number, and where it is free.
func TestPortWantedWords(t *testing.T) {
	room := check.Room{Nodes: []string{"n1", "n2"}}
	taken := check.Room{Nodes: []string{"n1", "n2"}, Taken: []string{"n1"}, Holders: []ports.Ref{{Kind: "Service", Namespace: "default", Name: "db"}}}
	taint := []check.Exclusion{{Rule: check.ByTaint, Value: "dedicated=db:NoSchedule"}}
	for _, c := range []struct {
		room     check.Room
		excluded []check.Exclusion
		want     string
	}{
		{room, nil, "A new hostPort 80/TCP: allowed, and free on all 2 nodes\n"},
		{room, taint, "A new hostPort 80/TCP: allowed, and free on all 2 eligible nodes (n3: taint dedicated=db:NoSchedule is not tolerated)\n"},
		{check.Room{}, nil, "A new hostPort 80/TCP: allowed\n"},
		{check.Room{}, taint, "A new hostPort 80/TCP: allowed, but no node is eligible (n3: taint dedicated=db:NoSchedule is not tolerated)\n"},
		{taken, nil, "A new hostPort 80/TCP: allowed, but free on 1 of 2 nodes only: held by Service default/db\n"},
		{taken, taint, "A new hostPort 80/TCP: allowed, but free on 1 of 2 eligible nodes only: held by Service default/db (n3: taint dedicated=db:NoSchedule is not tolerated)\n"},
	} {
		wanted := report.NewPortWanted(ports.HostPort, nil, c.room, &check.Settings{})
		if c.excluded != nil {
			wanted.AddExcluded("n3", c.excluded)
		}
		if diff := cmp.Diff(c.want, table(t, report.PortNumber{Port: 80, Protocol: "TCP", New: []report.PortWanted{wanted}})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestUnknownComponents(t *testing.T) {
	for want, components := range map[string][]explain.Component{
		"nothing tells what maps host ports; set dataplane.hostPort (portmap-iptables, portmap-nftables or none) in the configuration (--config)": {explain.HostPortComponent},
		"nothing tells what serves node ports and maps host ports; set dataplane.serviceProxy (iptables, nftables, ipvs, userspace or none) and dataplane.hostPort (portmap-iptables, portmap-nftables or none) in the configuration (--config)": {
			explain.HostPortComponent, explain.ProxyComponent},
	} {
		if got := report.UnknownComponents(components); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestPortWantedDoesNotExist: what would become of an object that nobody has made yet is told as such.
func TestPortWantedDoesNotExist(t *testing.T) {
	object, pod := ports.Ref{Kind: "Service", Namespace: "default", Name: "new-"}, ports.Ref{Kind: "Pod", Namespace: "default", Name: "web"}
	for _, c := range []struct {
		winners []check.Winner
		flips   bool
		want    string
	}{
		{[]check.Winner{{Of: "from outside", Who: object}, {Of: "from pods", Who: object}}, false, "; the new Service would get all packets; "},
		{[]check.Winner{{Of: "from outside", Who: pod}}, false, "; the Pod would get all packets; "},
		{[]check.Winner{{Of: "from outside", Who: pod}, {Of: "over loopback", Who: object}, {Of: "from pods", Who: pod}}, false, "; the new Service would get the packets over loopback, the Pod all others; "},
		{nil, true, "; which of the two would get the packets depends on whether "},
	} {
		claim := ports.Claim{Socket: ports.Socket{Protocol: ports.TCP, Port: 30062}, Kind: ports.NodePort, Scope: ports.EverywhereScope(), Owner: &ports.Owner{Ref: object}}
		held := ports.Claim{Socket: claim.Socket, Kind: ports.HostPort, Scope: ports.EachScope([]string{"n1"}), Owner: &ports.Owner{Ref: pod}}
		f := check.Finding{Code: check.Held, Severity: check.SeverityOf(check.Held, ""), Object: object, Field: "spec.ports[0].nodePort", Claim: claim, Nodes: []string{"n1"},
			Holder: &check.Holder{Ref: pod, Claim: held, Field: "spec.containers[0].ports[0].hostPort"}, Packets: &check.Packets{Winners: c.winners, OrderDependent: c.flips}}
		got := report.NewPortWanted(ports.NodePort, []check.Finding{f}, check.Room{}, &check.Settings{}).Messages
		if len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
		if now := report.Message(f); strings.Contains(now, "new Service") || strings.Contains(now, "would") {
			t.Errorf("of one that is to come now: %q", now)
		}
	}
}
