package ports_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// meetCase is two claims and where they meet: "" for nowhere, "*" for every node or one not known yet, else nodes.
// The nodes are those of the model's world: 10.0.0.N and fd00::N are primary on a, b, c; 192.168.0.1 is a's too.
type meetCase struct {
	why, wanted, held, want string
}

func meetCases() []meetCase {
	return []meetCase{
		{"one book of node ports, whatever the protocol", "nodePort * 30007/TCP @every", "nodePort * 30007/UDP @every", "*"},
		{"one book, whatever the address", "nodePort 0.0.0.0 30007/TCP @every", "nodePort ::,primary 30007/TCP @every", "*"},
		{"one book, even where somebody says one node", "nodePort * 30007/TCP @a", "nodePort * 30007/TCP @b", "*"},
		{"one book, even for a set", "nodePort * 30007/TCP @{a}", "healthCheckNodePort * 30007/TCP @{b}", "*"},
		{"one book, even if undecided", "nodePort * 30007/TCP @?", "healthCheckNodePort * 30007/TCP @?", "*"},
		{"another number", "nodePort * 30007/TCP @every", "nodePort * 30008/TCP @every", ""},
		{"a health check's number is of the book", "healthCheckNodePort * 30046/TCP @every", "nodePort * 30046/UDP @every", "*"},
		{"a hostPort outside the book has protocols", "hostPort * 30007/UDP @a", "nodePort * 30007/TCP @every", ""},

		{"undecided against every node", "hostPort * 30007/TCP @?", "nodePort * 30007/TCP @every", "*"},
		{"undecided against a health check", "hostNetwork * 30046/TCP @?", "healthCheckNodePort * 30046/TCP @every", "*"},
		{"undecided against one node: it may go elsewhere", "hostPort * 80/TCP @?", "hostPort * 80/TCP @a", ""},
		{"undecided against a set: it may go elsewhere", "hostPort * 80/TCP @?", "hostPort * 80/TCP @{a,b,c}", ""},
		{"both undecided", "hostPort * 80/TCP @?", "hostNetwork * 80/TCP @?", ""},
		{"undecided, even if it names an address", "hostPort 10.0.0.1 80/TCP @?", "hostPort 10.0.0.1 80/TCP @a", ""},

		{"one node", "hostPort * 80/TCP @a", "hostPort * 80/TCP @a", "a"},
		{"two nodes", "hostPort * 80/TCP @a", "hostNetwork * 80/TCP @b", ""},
		{"a DaemonSet takes its nodes", "hostPort * 80/TCP @a", "hostNetwork * 80/TCP @{a,b}", "a"},
		{"a DaemonSet leaves the others", "hostNetwork * 80/TCP @c", "hostPort * 80/TCP @{a,b}", ""},
		{"two DaemonSets", "hostPort * 80/TCP @{a,b}", "hostNetwork * 80/TCP @{b,c}", "b"},
		{"a DaemonSet against every node", "hostPort * 30007/TCP @{a,b}", "nodePort * 30007/TCP @every", "a,b"},
		{"a DaemonSet that no node suits", "hostPort * 30007/TCP @{}", "nodePort * 30007/TCP @every", ""},
		{"one node against every node", "hostNetwork * 10249/TCP @a", "hostPort * 10249/TCP @every", "a"},
		{"every node twice", "hostNetwork * 10249/TCP @every", "hostPort * 10249/TCP @every", "*"},

		{"two families", "hostPort 0.0.0.0 80/TCP @a", "hostPort :: 80/TCP @a", ""},
		{"an empty hostIP has both", "hostPort * 80/TCP @a", "hostPort :: 80/TCP @a", "a"},
		{"two addresses", "hostPort 10.0.0.1 80/TCP @a", "hostPort 192.168.0.1 80/TCP @a", ""},
		{"a wildcard and an address", "hostPort 0.0.0.0 80/TCP @a", "hostPort 192.168.0.1 80/TCP @a", "a"},
		{"two spellings", "hostPort ::ffff:10.0.0.1 80/TCP @a", "hostPort 10.0.0.1 80/TCP @a", "a"},
		{"loopback is on every node", "hostPort 127.0.0.1 30007/TCP @a", "nodePort 0.0.0.0 30007/TCP @every", "a"},
		{"loopback without localhost node ports", "hostPort 127.0.0.1 30007/TCP @a", "nodePort *,noloopback 30007/TCP @every", ""},
		{"kube-proxy never serves ::1", "hostPort ::1 30007/TCP @?", "nodePort *,noloopback6 30007/TCP @every", ""},
		{"outside the node port addresses", "hostPort 192.168.0.1 30007/TCP @a", "nodePort 10.0.0.0/24 30007/TCP @every", ""},
		{"inside the node port addresses", "hostPort 10.0.0.1 30007/TCP @a", "nodePort 10.0.0.0/24 30007/TCP @every", "a"},

		{"a wildcard holds the primary address", "hostPort * 30007/TCP @?", "nodePort *,primary 30007/TCP @every", "*"},
		{"the primary address by its name", "hostPort 10.0.0.1 30007/TCP @?", "nodePort *,primary 30007/TCP @every", "a"},
		{"a secondary address", "hostPort 192.168.0.1 30007/TCP @a", "nodePort *,primary 30007/TCP @every", ""},
		{"an address that nobody lists", "hostPort 192.168.0.2 30007/TCP @b", "nodePort *,primary 30007/TCP @every", ""},
		{"another node's primary address", "hostPort 10.0.0.1 30007/TCP @b", "nodePort *,primary 30007/TCP @every", ""},
		{"a primary address in a prefix: nobody knows", "hostPort 10.0.0.0/24 30007/TCP @b", "nodePort *,primary 30007/TCP @every", ""},

		{"two Services on one external IP", "externalIP 203.0.113.9 80/TCP @address", "loadBalancerIP 203.0.113.9 80/TCP @address", "*"},
		{"two external IPs", "externalIP 203.0.113.9 80/TCP @address", "externalIP 203.0.113.10 80/TCP @address", ""},
		{"an external IP of a node, and its pod", "externalIP 10.0.0.1 80/TCP @address", "hostPort * 80/TCP @a", "a"},
		{"an external IP of a node, and another's pod", "externalIP 10.0.0.1 80/TCP @address", "hostPort * 80/TCP @b", ""},
		{"an external IP of nobody", "externalIP 203.0.113.9 30007/TCP @address", "nodePort * 30007/TCP @every", ""},
		{"an external IP of a node, and a node port", "externalIP 10.0.0.2 30007/TCP @address", "nodePort * 30007/TCP @every", "b"},
		{"an external IP that is not the primary address", "externalIP 192.168.0.1 30007/TCP @address", "nodePort *,primary 30007/TCP @every", ""},
		{"an external IP and a pod that may go elsewhere", "hostPort * 80/TCP @?", "loadBalancerIP 10.0.0.1 80/TCP @address", ""},
		{"an external IP and a pod that names it", "hostPort ::ffff:10.0.0.1 80/TCP @?", "loadBalancerIP 10.0.0.1 80/TCP @address", "a"},
		{"an external IP and a pod on a prefix that begins with it", "hostPort 10.0.0.2/31 80/TCP @?", "loadBalancerIP 10.0.0.2 80/TCP @address", ""},
		{"an external IP and a DaemonSet", "loadBalancerIP 10.0.0.1 80/TCP @address", "hostNetwork * 80/TCP @{a,b}", "a"},
		{"an external IP and another protocol", "loadBalancerIP 10.0.0.1 443/UDP @address", "hostPort * 443/TCP @a", ""},

		{"a plain init container", "hostPort,init * 80/TCP @a", "hostPort * 80/TCP @a", ""},
		{"against a plain init container", "hostPort * 80/TCP @a", "hostPort,init * 80/TCP @a", ""},
		{"an idle owner holds nothing", "hostPort * 80/TCP @a", "hostPort,idle * 80/TCP @a", ""},
		{"an idle owner's wish is judged", "hostPort,idle * 30007/TCP @?", "nodePort * 30007/TCP @every", "*"},

		// Scopes that the kinds do not have in a cluster; Meet still answers by the scope.
		{"a node port at an address", "nodePort 10.0.0.1 30007/TCP @address", "hostPort * 30007/TCP @a", "a"},
		{"a health check on one node", "healthCheckNodePort * 30046/TCP @a", "hostPort * 30046/TCP @a", "a"},
		{"a health check at an address", "healthCheckNodePort 10.0.0.2 30046/TCP @address", "hostPort * 30046/TCP @b", "b"},
		{"a hostPort at an address", "hostPort 10.0.0.1 80/TCP @address", "hostPort * 80/TCP @a", "a"},
		{"a process at an address", "hostNetwork 10.0.0.1 80/TCP @address", "hostPort * 80/TCP @b", ""},
		{"an external IP, undecided", "externalIP 10.0.0.1 80/TCP @?", "hostPort * 80/TCP @a", ""},
		{"an external IP on one node", "externalIP 203.0.113.9 80/TCP @a", "hostPort * 80/TCP @a", "a"},
		{"an external IP on a set", "externalIP 203.0.113.9 80/TCP @{a,b}", "hostPort * 80/TCP @b", "b"},
		{"an external IP on every node", "externalIP 203.0.113.9 80/TCP @every", "hostPort * 80/TCP @?", "*"},
		{"a load-balancer IP, undecided", "loadBalancerIP 10.0.0.1 80/TCP @?", "externalIP 10.0.0.1 80/TCP @address", "a"},
		{"a load-balancer IP on one node", "loadBalancerIP 203.0.113.9 80/TCP @a", "hostPort * 80/TCP @b", ""},
		{"a load-balancer IP on a set", "loadBalancerIP 203.0.113.9 80/TCP @{b,c}", "hostPort * 80/TCP @c", "c"},
		{"a load-balancer IP on every node", "loadBalancerIP 203.0.113.9 80/TCP @every", "hostPort * 80/TCP @c", "c"},
		{"ServiceLB on every node, and a hostPort", "serviceLB * 80/TCP @every", "hostPort * 80/TCP @a", "a"},
		{"two Services of ServiceLB", "serviceLB * 80/TCP @every", "serviceLB * 80/TCP @every", "*"},
		{"ServiceLB on some nodes", "serviceLB * 80/TCP @{a,b}", "hostPort * 80/TCP @c", ""},
		{"ServiceLB on one node", "serviceLB * 80/TCP @a", "hostPort 10.0.0.1 80/TCP @a", "a"},
		{"ServiceLB, not on a node yet", "serviceLB * 80/TCP @?", "hostPort * 80/TCP @a", ""},
		{"ServiceLB at an address", "serviceLB 10.0.0.1 80/TCP @address", "hostPort * 80/TCP @a", "a"},
		{"a loopback address cannot be an external IP", "externalIP 127.0.0.1 80/TCP @address", "hostPort * 80/TCP @a", ""},
		{"nor a wildcard", "externalIP * 80/TCP @address", "hostPort * 80/TCP @a", ""},
	}
}

func TestMeet(t *testing.T) {
	for _, c := range meetCases() {
		t.Run(c.why, func(t *testing.T) {
			var nodes []string
			if c.want != "" && c.want != "*" {
				nodes = splitNodes(c.want)
			}
			checkMeet(t, c.wanted, c.held, nodes, c.want != "")
			if mustClaim(c.wanted).Idle || mustClaim(c.held).Idle {
				return // the one rule that is not symmetric
			}
			checkMeet(t, c.held, c.wanted, nodes, c.want != "")
		})
	}
}

// The table knows every kind of claim in every scope, also those that somebody adds tomorrow.
func TestMeetCasesAreComplete(t *testing.T) {
	type pair struct {
		kind  ports.Kind
		scope ports.ScopeKind
	}
	seen := map[pair]bool{}
	for _, c := range meetCases() {
		for _, line := range []string{c.wanted, c.held} {
			claim := mustClaim(line)
			seen[pair{claim.Kind, claim.Scope.Kind}] = true
		}
	}
	kinds, scopes := constants(t, "Kind"), constants(t, "ScopeKind")
	if len(kinds) != len(kindWords()) {
		t.Errorf("claim.go has the kinds %v, claimtext_test.go has words for %d", kinds, len(kindWords()))
	}
	for k, kind := range kinds {
		for s, scope := range scopes {
			if !seen[pair{ports.Kind(k + 1), ports.ScopeKind(s)}] {
				t.Errorf("no case in meetCases has a %s of scope %s", kind, scope)
			}
		}
	}
}

// constants returns the names of claim.go's constants of a type, in order.
func constants(t *testing.T, typeName string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "claim.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, decl := range file.Decls {
		block, ok := decl.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		first, ok := block.Specs[0].(*ast.ValueSpec).Type.(*ast.Ident)
		if !ok || first.Name != typeName {
			continue
		}
		for _, spec := range block.Specs {
			names = append(names, spec.(*ast.ValueSpec).Names[0].Name)
		}
	}
	if len(names) == 0 || slices.Contains(names, "_") {
		t.Fatalf("constants of %s in claim.go: %q", typeName, names)
	}
	return names
}
