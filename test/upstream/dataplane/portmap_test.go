//go:build linux

package dataplane

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/portmap"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// The real portmap, built from its own module, adds the pods of random worlds one by one in a network namespace; our
// rendering is loaded into another one. What the kernel's own tools then say of both must be the same.

func TestPortmapIPTables(t *testing.T) {
	t.Parallel()
	netns.Need(t, "ip", "iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")
	portmapDifferential(t, "iptables", iptablesPortmap)
}

func TestPortmapNFTables(t *testing.T) {
	t.Parallel()
	netns.Need(t, "ip", "nft")
	portmapDifferential(t, "nftables", nftablesPortmap)
}

// portmapCompare tells the difference between what stands in a namespace, where the real portmap was, and what we say
// of the world; "" if there is none.
type portmapCompare func(ctx context.Context, theirs, ours *netns.Namespace, w *rules.World) (string, error)

func portmapDifferential(t *testing.T, backend string, compare portmapCompare) {
	dir := binaries.For(t, binaries.Portmap)
	difference := func(ctx context.Context, w *rules.World) (string, error) {
		theirs, err := netns.Open(ctx)
		if err != nil {
			return "", err
		}
		defer theirs.Close()
		ours, err := netns.Open(ctx)
		if err != nil {
			return "", err
		}
		defer ours.Close()
		if err := addPods(ctx, theirs, dir, backend, w); err != nil {
			return "", err
		}
		return compare(ctx, theirs, ours, w)
	}

	source := specimen.New(t)
	tally := Tally{features: podFeatures()}
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(8) // most of the time is spent in waiting for the kernel
	worlds := 300
	if seed.Soaking() {
		worlds = 1500
	}
	for range worlds {
		seed := source.Uint64()
		w := drawPods(seed)
		tally.Add(w)
		g.Go(func() error {
			found, err := difference(ctx, w)
			switch {
			case err != nil:
				return fmt.Errorf("world %d: %w", seed, err)
			case found == "":
				return nil
			}
			w, found := shrinkPods(ctx, w, found, difference)
			return fmt.Errorf("world %d, made small: %+v\npods %s\n%s", seed, w.Portmap, describePods(w), found)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	tally.Check(t, 20)
}

// shrinkPods takes from a world what it can be without and still show a difference.
func shrinkPods(ctx context.Context, w *rules.World, found string, difference func(context.Context, *rules.World) (string, error)) (*rules.World, string) {
	for smaller := true; smaller; {
		smaller = false
		for _, candidate := range smallerPods(w) {
			if d, err := difference(ctx, candidate); err == nil && d != "" {
				w, found, smaller = candidate, d, true
				break
			}
		}
	}
	return w, found
}

func describePods(w *rules.World) string {
	var b strings.Builder
	for _, p := range w.Pods {
		fmt.Fprintf(&b, "%s %v %v\n", p.SandboxID, p.Addresses, p.Mappings)
	}
	return b.String()
}

// addPods runs the plugin as a container runtime does, behind another one that has given the pod its addresses.
func addPods(ctx context.Context, n *netns.Namespace, portmap, backend string, w *rules.World) error {
	if backend == "iptables" {
		for f, tool := range xtablesTools() {
			if _, err := n.Output(ctx, nil, text.Restore(rules.Install(before(f)), rules.XTables, f), tool+"-restore"); err != nil {
				return err
			}
		}
	}
	for _, p := range w.Pods {
		config, err := json.Marshal(netConf(w.Portmap, backend, p))
		if err != nil {
			return err
		}
		env := []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=" + p.SandboxID, "CNI_NETNS=/var/run/netns/pod", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin"}
		if _, err := n.Output(ctx, env, string(config), portmap); err != nil {
			return err
		}
	}
	return nil
}

type object = map[string]any

// netConf is what the plugin reads: its own configuration, what the runtime adds, and the result so far.
func netConf(c rules.Portmap, backend string, p *rules.Pod) object {
	conf := object{
		"cniVersion": "1.0.0", "name": c.Network, "type": "portmap", "backend": backend, "snat": !c.NoSNAT, "masqAll": c.MasqueradeAll,
	}
	if c.ExternalSetMark == "" {
		conf["markMasqBit"] = c.MarkBit
	} else if backend == "iptables" {
		conf["externalSetMarkChain"] = c.ExternalSetMark
	}
	mappings := []object{}
	for _, m := range p.Mappings {
		mapping := object{"hostPort": m.HostPort, "containerPort": m.ContainerPort, "protocol": strings.ToLower(m.Protocol.String())}
		if m.HostIP.IsValid() {
			mapping["hostIP"] = m.HostIP.String()
		}
		mappings = append(mappings, mapping)
	}
	conf["runtimeConfig"] = object{"portMappings": mappings}
	// The bridge's own addresses are in the result too, first, and are not the pod's.
	ips := []object{{"address": "10.244.9.1/24", "interface": 0}, {"address": "fd00:9::1/64", "interface": 0}}
	for _, a := range p.Addresses {
		ips = append(ips, object{"address": a.String(), "interface": 1})
	}
	conf["prevResult"] = object{
		"cniVersion": "1.0.0",
		"interfaces": []object{{"name": "cni0"}, {"name": "eth0", "sandbox": "/var/run/netns/pod"}},
		"ips":        ips,
	}
	return conf
}

// iptablesPortmap compares, for both families, the listing of portmap's rules with that of ours when they are loaded,
// and with what we print without any kernel; and reads it.
func iptablesPortmap(ctx context.Context, theirs, ours *netns.Namespace, w *rules.World) (string, error) {
	for f, tool := range xtablesTools() {
		rendered := rules.Install(before(f), portmap.IPTables(w, f))
		if _, err := ours.Output(ctx, nil, text.Restore(rendered, rules.XTables, f), tool+"-restore"); err != nil {
			return "", err
		}
		want, err := theirs.Output(ctx, nil, "", tool+"-save")
		if err != nil {
			return "", err
		}
		loaded, err := ours.Output(ctx, nil, "", tool+"-save")
		if err != nil {
			return "", err
		}
		printed := text.Save(rendered, rules.XTables, f)
		read, err := text.ParseSave(want, rules.XTablesLegacy, rules.IPv4) // the listing says better
		if err != nil {
			return "", fmt.Errorf("%w, in\n%s", err, want)
		}
		for what, got := range map[string]string{"loaded": loaded, "printed": printed, "read": text.Save(read, rules.XTables, f)} {
			if diff := cmp.Diff(listingLines(want), listingLines(got)); diff != "" {
				return fmt.Sprintf("%s, -portmap +%s:\n%s", f, what, diff), nil
			}
		}
	}
	return "", nil
}

func xtablesTools() map[rules.Family]string {
	return map[rules.Family]string{rules.IPv4: "iptables", rules.IPv6: "ip6tables"}
}

// before is what stands before portmap comes: the chain that it may be told to use, and in the chains that everybody
// writes to a rule, before which or behind which it puts its own.
func before(f rules.Family) rules.Fragment {
	out := rules.Fragment{Tables: []*rules.Table{{Tool: rules.XTables, Family: f, Name: "nat", Chains: []*rules.Chain{{Name: externalMark}}}}}
	for _, chain := range []string{"PREROUTING", "OUTPUT", "POSTROUTING"} {
		rule := &rules.Rule{Do: []rules.Stmt{rules.Comment{Text: "was here before"}, rules.Jump{Chain: externalMark}}}
		out.Jumps = append(out.Jumps, rules.Into{Tool: rules.XTables, Family: f, Table: "nat", Chain: chain, Rule: rule})
	}
	return out
}

// listingLines are those of a listing that do not tell the time.
func listingLines(listing string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(listing), "\n"), func(line string) bool { return strings.HasPrefix(line, "#") })
}

// nftablesPortmap compares what nft says of both namespaces, but for its handles and the order of chains, which is that
// of their creation.
func nftablesPortmap(ctx context.Context, theirs, ours *netns.Namespace, w *rules.World) (string, error) {
	rendered := rules.Install(portmap.NFTables(w, rules.IPv4), portmap.NFTables(w, rules.IPv6))
	if _, err := ours.Output(ctx, nil, text.NFT(rendered), "nft", "-f", "-"); err != nil {
		return "", err
	}
	var listed [2][]string
	for i, n := range []*netns.Namespace{theirs, ours} {
		out, err := n.Output(ctx, nil, "", "nft", "-j", "list", "ruleset")
		if err != nil {
			return "", err
		}
		if listed[i], err = nftObjects(out); err != nil {
			return "", err
		}
	}
	if diff := cmp.Diff(listed[0], listed[1]); diff != "" {
		return "-portmap +ours:\n" + diff, nil
	}
	return "", nil
}

// nftObjects returns what a listing in JSON has, one line each: tables and chains sorted, rules in their order within
// their chains.
func nftObjects(listing string) ([]string, error) {
	var list struct{ Nftables []map[string]object }
	if err := json.Unmarshal([]byte(listing), &list); err != nil {
		return nil, err
	}
	var out []string
	for _, item := range list.Nftables {
		for kind, o := range item {
			if kind == "metainfo" {
				continue
			}
			delete(o, "handle")
			line, err := json.Marshal(o)
			if err != nil {
				return nil, err
			}
			out = append(out, fmt.Sprintf("%s %v %v %v %s", kind, o["family"], o["table"], o["chain"], line))
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return strings.Compare(beforeBrace(a), beforeBrace(b)) })
	return out, nil
}

// beforeBrace is by what objects are sorted: chains by all of them, rules by their chain only.
func beforeBrace(line string) string {
	if strings.HasPrefix(line, "rule ") {
		line, _, _ = strings.Cut(line, "{")
	}
	return line
}
