//go:build linux

package netns

import (
	"net"
	"os"
	"strings"
	"testing"
)

// TestNamespace: what is done in a namespace is done there, by programs and by sockets, and nowhere else.
func TestNamespace(t *testing.T) {
	Need(t, "ip")
	a, b := New(t), New(t)
	a.Run(t, "", "ip", "link", "add", "pc0", "type", "veth", "peer", "name", "pc1", "netns", b.Path())
	if got := a.Run(t, "", "ip", "-o", "link"); !strings.Contains(got, "pc0@") || strings.Contains(got, "pc1:") {
		t.Errorf("one has\n%s", got)
	}
	if got := b.Run(t, "", "ip", "-o", "link"); !strings.Contains(got, "pc1@") || strings.Contains(got, "pc0:") {
		t.Errorf("the other has\n%s", got)
	}
	if links, err := os.ReadFile("/proc/self/net/dev"); err != nil || strings.Contains(string(links), "pc0") {
		t.Errorf("outside: %v\n%s", err, links)
	}
	// Two sockets of one address: they cannot be in one namespace.
	for _, n := range []*Namespace{a, b} {
		err := n.Do(func() error {
			l, err := net.Listen("tcp", "127.0.0.1:30007")
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestRunSaysWhatFailed(t *testing.T) {
	Need(t, "ip")
	_, err := New(t).Output(t.Context(), nil, "", "ip", "link", "show", "nosuch")
	if err == nil || !strings.Contains(err.Error(), `ip link show nosuch: exit status 1`) || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
}

// TestMissing: the reasons for which tests cannot be done are told.
func TestMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		if got := Missing(); !strings.HasPrefix(got, "needs root") {
			t.Error(got)
		}
		return
	}
	if got := Missing("ip"); got != "" {
		t.Error(got)
	}
	if got := Missing("ip", "no-such-program"); !strings.HasPrefix(got, "needs the program no-such-program") {
		t.Error(got)
	}
}
