//go:build linux

package dataplane

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
	"github.com/portcullis-k8s/portcullis/pkg/rules/walk"
)

// The kernel says which rules a packet matched, to nft monitor trace and xtables-monitor --trace.

// tracing has the kernel tell of new TCP connections and of our datagrams, but not of answers; and of the datagram that
// marks the end of a packet's events.
const tracing = `table inet tracing {
	chain prerouting {
		type filter hook prerouting priority -301
		tcp flags & (syn | ack) == syn meta nftrace set 1
		udp sport 50000-50999 meta nftrace set 1
	}
	chain output {
		type filter hook output priority -301
		udp dport 9 meta nftrace set 1 drop
		tcp flags & (syn | ack) == syn meta nftrace set 1
		udp sport 50000-50999 meta nftrace set 1
	}
}`

// monitor is a program that prints events, and how it prints what is done by a rule.
type monitor struct {
	lines chan string
	rule  *regexp.Regexp
	mark  *regexp.Regexp // the marker, with its source port
}

// watch starts a program in the node and waits until it says what happens.
func (l *lab) watch(t testing.TB, m *monitor, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "stdbuf", append([]string{"-oL", program}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.node.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	m.lines = make(chan string, 1000)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			m.lines <- s.Text()
		}
		close(m.lines)
	}()
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	for range 100 {
		if _, ok := m.until(l.mark(t), 20*time.Millisecond); ok {
			return
		}
	}
	t.Fatalf("%s says nothing", program)
}

// mark sends a marker and returns what tells it from others.
func (l *lab) mark(t testing.TB) (port string) {
	t.Helper()
	err := l.node.Do(func() error {
		c, err := net.Dial("udp", "127.0.0.1:9")
		if err != nil {
			return err
		}
		defer c.Close()
		port = fmt.Sprint(c.LocalAddr().(*net.UDPAddr).Port)
		_, _ = c.Write([]byte{0}) // it is dropped, and the sender told so
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// until returns the lines before the marker; ok is false if it did not come.
func (m *monitor) until(mark string, limit time.Duration) (lines []string, ok bool) {
	timeout := time.After(limit)
	for {
		select {
		case line, open := <-m.lines:
			if !open {
				return lines, false
			}
			if found := m.mark.FindStringSubmatch(line); found != nil && found[1] == mark {
				return lines, true
			}
			lines = append(lines, line)
		case <-timeout:
			return lines, false
		}
	}
}

// steps returns the rules that were matched since the last call, as the monitor names them.
func (l *lab) steps(t testing.TB, m *monitor) []string {
	t.Helper()
	lines, ok := m.until(l.mark(t), 5*time.Second)
	if !ok {
		t.Fatalf("the monitor stopped:\n%s", strings.Join(lines, "\n"))
	}
	var steps []string
	for _, line := range lines {
		if found := m.rule.FindStringSubmatch(line); found != nil && !strings.Contains(line, "tracing") {
			steps = append(steps, strings.Join(found[1:], " "))
		}
	}
	return steps
}

// nftMonitor names rules by family, table, chain, handle, and verdict.
func (l *lab) nftMonitor(t testing.TB) *monitor {
	t.Helper()
	m := &monitor{
		rule: regexp.MustCompile(`^trace id \S+ (ip6? \S+ \S+) (?:unknown )?rule .*handle (\d+) (\(verdict [^)]*\))`),
		mark: regexp.MustCompile(`^trace id \S+ inet tracing output packet: .* udp sport (\d+) udp dport 9 `),
	}
	l.watch(t, m, "nft", "-a", "monitor", "trace")
	return m
}

// xtablesMonitor names rules as iptables-save does.
func (l *lab) xtablesMonitor(t testing.TB) *monitor {
	t.Helper()
	m := &monitor{
		rule: regexp.MustCompile(`^ TRACE: \d+ \S+ \S+:rule:0x[0-9a-fA-F]+:\S+ +(-[46] -t .*)$`),
		mark: regexp.MustCompile(`^PACKET: .* SPORT=(\d+) DPORT=9 `),
	}
	l.watch(t, m, "xtables-monitor", "--trace")
	return m
}

// handles finds rules in the kernel: by "ip nat PREROUTING 0" their handles. They are ours, in our order.
func (l *lab) handles(t testing.TB) map[string]int {
	t.Helper()
	var listing struct {
		NFTables []struct {
			Rule *struct {
				Family, Table, Chain string
				Handle               int
			}
		}
	}
	if err := json.Unmarshal([]byte(l.node.Run(t, "", "nft", "-j", "list", "ruleset")), &listing); err != nil {
		t.Fatal(err)
	}
	handles, next := map[string]int{}, map[string]int{}
	for _, x := range listing.NFTables {
		if r := x.Rule; r != nil {
			chain := fmt.Sprintf("%s %s %s", r.Family, r.Table, r.Chain)
			handles[fmt.Sprintf("%s %d", chain, next[chain])] = r.Handle
			next[chain]++
		}
	}
	return handles
}

// asNFT writes the steps of a path as nftMonitor does.
func asNFT(p walk.Path, handles map[string]int) []string {
	var out []string
	for _, s := range p.Steps {
		chain := fmt.Sprintf("%s %s %s", map[rules.Family]string{rules.IPv4: "ip", rules.IPv6: "ip6"}[s.Table.Family], s.Table.Name, s.Chain.Name)
		out = append(out, fmt.Sprintf("%s %d (verdict %s)", chain, handles[fmt.Sprintf("%s %d", chain, s.Index)], verdict(s.Effect)))
	}
	return out
}

// verdict is the kernel's word for what a rule did.
func verdict(effect rules.Stmt) string {
	switch e := effect.(type) {
	case nil:
		return "continue"
	case rules.Jump:
		return "jump " + e.Chain
	case rules.Goto:
		return "goto " + e.Chain
	case rules.Return:
		return "return"
	case rules.Drop, rules.Reject:
		return "drop"
	default: // translations, too
		return "accept"
	}
}

// asSaved writes the steps of a path as xtablesMonitor does.
func asSaved(p walk.Path) []string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, fmt.Sprintf("-%d -t %s %s", s.Table.Family, s.Table.Name, text.SaveRule(s.Table.Family, s.Chain.Name, s.Rule)))
	}
	return out
}
