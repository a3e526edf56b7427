//go:build linux

package dataplane

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/rules"
	"github.com/portcullis-k8s/portcullis/pkg/rules/kubeproxy"
	"github.com/portcullis-k8s/portcullis/pkg/rules/portmap"
	"github.com/portcullis-k8s/portcullis/pkg/rules/text"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// What is printed loads into an empty namespace as it is, the kernel's own tools list it as we print it, and what they
// list is read as what was meant.

func TestListingsOfIPTables(t *testing.T) {
	t.Parallel()
	netns.Need(t, "ip", "iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore")
	readDifferential(t, func(ctx context.Context, n *netns.Namespace, w *rules.World) (string, error) {
		w.Proxy.Counters = false // they would have to be there first
		for _, f := range both() {
			want := rules.Install(portmap.IPTables(w, f), kubeproxy.IPTables(w, f))
			tool := xtablesTools()[f]
			if _, err := n.Output(ctx, nil, text.Restore(want, rules.XTables, f), tool+"-restore"); err != nil {
				return "", err
			}
			listing, err := n.Output(ctx, nil, "", tool+"-save")
			if err != nil {
				return "", err
			}
			printed := text.Save(want, rules.XTables, f)
			if diff := gocmp.Diff(listingLines(listing), listingLines(printed)); diff != "" {
				return "-kernel +printed:\n" + diff, nil
			}
			read, err := text.ParseSave(listing, rules.XTablesLegacy, rules.IPv4) // the listing says better
			if err != nil {
				return "", err
			}
			if again := text.Save(read, rules.XTables, f); again != printed {
				return "-printed +read:\n" + gocmp.Diff(printed, again), nil
			}
		}
		return "", nil
	})
}

func TestListingsOfNFTables(t *testing.T) {
	t.Parallel()
	netns.Need(t, "ip", "nft", "iptables-restore")
	readDifferential(t, func(ctx context.Context, n *netns.Namespace, w *rules.World) (string, error) {
		var all []rules.Fragment
		for _, f := range both() {
			all = append(all, kubeproxy.NFTables(w, f), portmap.NFTables(w, f))
		}
		want := rules.Install(all...)
		if _, err := n.Output(ctx, nil, text.NFT(want), "nft", "-f", "-"); err != nil {
			return "", err
		}
		// The tables of iptables are in nft's listing too, and left out.
		other := text.Restore(rules.Install(portmap.IPTables(w, rules.IPv4)), rules.XTables, rules.IPv4)
		if _, err := n.Output(ctx, nil, other, "iptables-restore"); err != nil {
			return "", err
		}
		listing, err := n.Output(ctx, nil, "", "nft", "-j", "list", "ruleset")
		if err != nil {
			return "", err
		}
		read, err := text.ParseNFTJSON(listing)
		if err != nil {
			return "", err
		}
		asListed(want)
		asListed(read)
		if !reflect.DeepEqual(want, read) {
			return "-meant +read:\n" + gocmp.Diff(want, read, gocmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				gocmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), gocmp.Comparer(func(a, b netip.Prefix) bool { return a == b })), nil
		}
		return "", nil
	})
}

// readDifferential gives random worlds, of Services and of pods with host ports, and namespaces to a function that
// tells a difference.
func readDifferential(t *testing.T, difference func(context.Context, *netns.Namespace, *rules.World) (string, error)) {
	source := specimen.New(t)
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(4)
	for range specimen.Rounds(100) {
		seed := source.Uint64()
		w := Draw(seed, Normal()).World()
		if pods := drawPods(seed); pods.Portmap.ExternalSetMark == "" {
			w.Pods, w.Portmap = pods.Pods, pods.Portmap
		}
		g.Go(func() error {
			n, err := netns.Open(ctx)
			if err != nil {
				return err
			}
			defer n.Close()
			found, err := difference(ctx, n, w)
			switch {
			case err != nil:
				return fmt.Errorf("world %d: %w", seed, err)
			case found != "":
				return fmt.Errorf("world %d: %s", seed, found)
			default:
				return nil
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// asListed takes from a ruleset what nft's listing does not tell, and brings what has no order into one.
func asListed(r *rules.Ruleset) {
	for _, t := range r.Tables {
		t.Comment = ""
		for _, c := range t.Chains {
			c.Comment = ""
			if c.Base != nil {
				c.Base.Seq = 0
			}
			for i, rule := range c.Rules {
				c.Rules[i] = &rules.Rule{Do: listedStatements(rule.Do)}
			}
		}
		for _, s := range t.Sets {
			if len(s.Elems) == 0 {
				s.Elems = nil
			}
			for i := range s.Elems {
				s.Elems[i].Origin = rules.Origin{}
			}
			slices.SortFunc(s.Elems, func(a, b rules.Elem) int { return cmp.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)) })
		}
		slices.SortFunc(t.Chains, func(a, b *rules.Chain) int { return cmp.Compare(a.Name, b.Name) })
		slices.SortFunc(t.Sets, func(a, b *rules.Set) int { return cmp.Compare(a.Name, b.Name) })
	}
	r.Tables = slices.DeleteFunc(r.Tables, func(t *rules.Table) bool { return len(t.Chains) == 0 })
	slices.SortFunc(r.Tables, func(a, b *rules.Table) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), strings.Compare(a.Name, b.Name))
	})
}

// listedStatements puts the comment last, and networks as few as they can be, which is what the kernel keeps of them.
func listedStatements(do []rules.Stmt) []rules.Stmt {
	var out, comment []rules.Stmt
	for _, s := range do {
		switch s := s.(type) {
		case rules.Comment:
			comment = append(comment, s)
		case rules.Addr:
			s.In = fewest(s.In)
			out = append(out, s)
		default:
			out = append(out, s)
		}
	}
	return append(out, comment...)
}

// fewest joins networks until none lies in another one and no two are the halves of one.
func fewest(in []netip.Prefix) []netip.Prefix {
	in = slices.Clone(in)
	for joined := true; joined; {
		joined = false
		slices.SortFunc(in, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
		for i := 1; i < len(in) && !joined; i++ {
			a, b := in[i-1], in[i]
			wider := netip.PrefixFrom(a.Addr(), max(a.Bits()-1, 0)).Masked()
			switch {
			case a.Overlaps(b):
				in, joined = slices.Delete(in, i, i+1), true
			case a.Bits() == b.Bits() && wider.Contains(b.Addr()):
				in, joined = slices.Replace(in, i-1, i+1, wider), true
			}
		}
	}
	return in
}
