package pools

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// runCommand runs a program with the commands of this package.
func runCommand(t *testing.T, stdin string, args ...string) clitest.Outcome {
	t.Helper()
	return clitest.Run(t, stdin, args, Command("development"))
}

// town is two teams and somebody else.
func town() string {
	return clitest.Joined(clitest.Namespace("shop", "payments"), clitest.Namespace("pay", "payments"), clitest.Namespace("web", "Web_1"), clitest.Namespace("default", ""),
		clitest.NodePorts("shop/a", 30100, 31100), clitest.NodePorts("pay/b", 30102), clitest.NodePorts("web/c", 30101), clitest.NodePorts("default/d", 30000, 29999))
}

const townSuggested = `# Pools from what Services hold today. Every number in use lies in the pool that selects its Service, and enforcement Audit
# refuses nothing. Apply them, look at ` + "`portcullis pool status`" + `, and change enforcement to Deny pool by pool.
# 29999 lies outside the node port range 30000-32767 and can be in no pool: it is held by default/d.
---
# 1 Service in 1 namespace holds 1 number; 10 of this pool are free.
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata:
  name: web-1
spec:
  ranges:
  - port: 30101 # web/c
  - {port: 31101, endPort: 31110} # room
  namespaceSelector:
    matchLabels: {"team": "Web_1"}
  sharing: Exclusive
  enforcement: Audit
---
# 2 Services in 2 namespaces hold 3 numbers; 10 of this pool are free.
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata:
  name: payments
spec:
  ranges:
  - port: 30100 # shop/a
  - {port: 30102, endPort: 30112} # 1 of 11 in use: pay/b
  - port: 31100 # shop/a
  namespaceSelector:
    matchLabels: {"team": "payments"}
  sharing: Exclusive
  enforcement: Audit
---
# The rest of 30000-32767, for every namespace that no other pool serves, and for those whose own pool is full.
# They hold 1 number of it today. What other pools have of these numbers is theirs.
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata:
  name: everybody
spec:
  ranges:
  - {port: 30000, endPort: 32767}
  namespaceSelector: {} # every namespace
  priority: 1000 # after all others
  sharing: Shared
  enforcement: Audit
`

// trial is a call of the command, how it ends, and all that it says; or if it is bad usage, a part of what is wrong.
type trial struct {
	args string
	exit int
	says string
}

func (c trial) run(t *testing.T) {
	t.Helper()
	o := runCommand(t, "", append([]string{"pool"}, strings.Fields(c.args)...)...)
	said := o.Stdout
	if c.exit == cli.ExitUsage && strings.Contains(o.Stderr, c.says) {
		said = c.says
	}
	if diff := cmp.Diff(c.says, said); diff != "" || o.Exit != c.exit {
		t.Errorf("%s: exit %d, want %d %s (-want +got):\n%s", c.args, o.Exit, c.exit, o.Stderr, diff)
	}
}

func TestPoolSuggest(t *testing.T) {
	host := "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: games}, spec: {for: HostPorts, ranges: [{port: 7000}], namespaceSelector: {}}}\n"
	clitest.Folder(t, map[string]string{
		"town.yaml": town(), "host.yaml": host, "exists.yaml": clitest.PortPool("payments", "payments", "{port: 30100}", ""),
		"disabled.yaml": clitest.PortPool("payments", "payments", "{port: 30100}", ", state: Disabled"), "broken.yaml": clitest.PortPool("payments", "payments", "{port: 3, endPort: 1}", ""),
	})
	t.Setenv("KUBECONFIG", "/nowhere/at/all")
	for _, c := range []trial{
		{"suggest --by namespace-label team -f town.yaml", 0, townSuggested},
		{"suggest --by namespace-label team -f town.yaml -f host.yaml -f disabled.yaml -o yaml", 0, townSuggested},
		{"suggest -f town.yaml -f exists.yaml", 2, "there are pools for nodePorts already, which would keep their numbers: payments;"},
		{"suggest -f town.yaml -f broken.yaml", 2, "broken.yaml:1: spec.ranges: [0]: 3-1 is not a range of ports"},
		{"suggest --by namespace-label colour -f town.yaml", 2, "no namespace with nodePorts has the label colour: choose another, or --by namespace"},
		{"suggest --by namespace-label -f town.yaml", 2, "--by namespace-label needs the key of the label"},
		{"suggest team -f town.yaml", 2, `"team" is the key of a label with --by namespace-label only`},
		{"suggest --by team -f town.yaml", 2, `--by "team" is not one of namespace, namespace-label`},
		{"suggest --room -1 -f town.yaml", 2, "--room -1 is not a share of what is in use: write 0 to 1000"},
		{"suggest -o table -f town.yaml", 2, `--output "table" is not one of yaml`},
		{"suggest", 2, "there is no kubeconfig that names a cluster: name one with --kubeconfig, or give the objects with -f"},
	} {
		c.run(t)
	}
}

// TestPoolSuggestProperty: whatever Services hold, what is suggested can be read as it is written, is within the bounds of the
// kind, and makes nothing a violation by the rules that the webhook judges by.
func TestPoolSuggestProperty(t *testing.T) {
	source := specimen.New(t)
	settings := mustSettings(t)
	values := []string{"payments", "Web_1", "everybody", "auto", "web-1", "", "1.0", "x.y", "null", strings.Repeat("a", 63)}
	for range specimen.Rounds(60) {
		objects := []string{clitest.Namespace("plain", "")}
		for i, v := range values[:1+source.IntN(len(values))] {
			objects = append(objects, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: n%d, labels: {team: %q}}}\n", i, v))
		}
		taken := map[int]bool{}
		width, step := 1+source.IntN(2000), 1+source.IntN(3)
		for i := range source.IntN(200) {
			var numbers []int
			for range 1 + source.IntN(3) {
				if n := 30000 + source.IntN(width)*step%2768; !taken[n] {
					taken[n] = true
					numbers = append(numbers, n)
				}
			}
			where := []string{"plain", "unseen", fmt.Sprintf("n%d", source.IntN(len(objects)))}[source.IntN(3)]
			if len(numbers) > 0 {
				objects = append(objects, clitest.NodePorts(fmt.Sprintf("%s/s%d", where, i), numbers...))
			}
		}
		state, err := stateOf(settings, parsed(t, clitest.Joined(objects...)))
		if err != nil {
			t.Fatal(err)
		}
		label := []string{"team", "kubernetes.io/metadata.name"}[source.IntN(2)]
		suggested, err := state.suggest(label, source.IntN(300))
		if err != nil {
			if label == "team" && strings.Contains(err.Error(), "no namespace with nodePorts has the label") {
				continue
			}
			t.Fatal(err)
		}
		judgeSuggested(t, settings, state, suggested, label)
	}
}

func judgeSuggested(t *testing.T, settings *extract.Settings, state *state, suggested *report.SuggestedPools, label string) {
	t.Helper()
	var text strings.Builder
	if err := suggested.WriteYAML(&text); err != nil {
		t.Fatal(err)
	}
	var pools []pool.Pool
	names := map[string]bool{}
	for _, object := range parsed(t, text.String()) {
		o, ok := object.Object.(*v1alpha1.PortPool)
		if !ok {
			t.Fatalf("a %T is suggested", object.Object)
		}
		p, err := extract.Pool(o)
		if err != nil || names[o.Name] || len(o.Name) > 63 || strings.Trim(o.Name, "-") != o.Name || o.Name == "auto" || len(o.Spec.Ranges) > pool.MaxRanges || p.Enforcement != pool.Audit {
			t.Fatalf("%s: %v, %d ranges:\n%s", o.Name, err, len(o.Spec.Ranges), text.String())
		}
		names[o.Name] = true
		pools = append(pools, p)
	}
	set := pool.New(pools, settings.Check.NodePortRange)
	for _, m := range set.Members() {
		lost := slices.ContainsFunc(m.Overlaps, func(o pool.Overlap) bool { return !o.Won })
		if len(m.Outside) > 0 || m.Exclusive && lost {
			t.Fatalf("%s has %s outside, and loses %+v:\n%s", m.Name, m.Outside, m.Overlaps, text.String())
		}
	}
	for _, h := range state.census.Holdings() {
		p := set.Place(h.Requester, h.Port)
		_, labelled := h.NamespaceLabels[label]
		if p.Standing != pool.InPool || labelled == (p.Pool.Name == report.EverybodysPool) {
			t.Fatalf("%d of %s is %+v:\n%s", h.Port, h.Ref(), p, text.String())
		}
		if err := set.Judge(h.Requester, h.Port, nil); err != nil {
			t.Fatalf("%s: %v", h.Ref(), err)
		}
	}
}

func mustSettings(t *testing.T) *extract.Settings {
	t.Helper()
	settings, err := cli.ReadSettings("")
	if err != nil {
		t.Fatal(err)
	}
	settings.Check.Reserved = []check.Reserved{}
	return settings
}

func parsed(t *testing.T, text string) []*manifest.Object {
	t.Helper()
	in, err := manifest.Parse("test", []byte(text), source.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	return in.Objects
}

// managed is a cluster with pools: payments is nearly all in use in each way that there is, games is for host ports.
func managed() string {
	claim := func(port int, pool, service, status string) string {
		return fmt.Sprintf("{apiVersion: portcullis.dev/v1alpha1, kind: PortClaim, metadata: {name: np-%d}, spec: {port: %d, pool: %s, service: {namespace: shop, name: %s}, requestedAt: '2026-01-01T00:00:00Z'}, status: {%s}}\n",
			port, port, pool, service, status)
	}
	hostPod := "{apiVersion: v1, kind: Pod, metadata: {name: game, namespace: shop}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 7777, hostPort: 7000, protocol: UDP}, {containerPort: 80, hostPort: 30105}]}]}}\n"
	return clitest.Joined(town(), hostPod,
		clitest.PortPool("payments", "payments", "{port: 30100, endPort: 30109}", ""),
		clitest.PortPool("games", "payments", "{port: 7000, endPort: 7001}", ", for: HostPorts"),
		claim(30100, "payments", "a", "phase: Bound, serviceUID: uid-of-a"), claim(30103, "payments", "gone", "phase: Released, releasedAt: '2026-01-02T00:00:00Z', serviceUID: x"),
		claim(30104, "payments", "coming", "phase: Requested"), claim(31100, "payments", "a", "phase: Bound, serviceUID: uid-of-a"))
}

const managedStatus = `POOL      FOR        STATE   RANGES       TOTAL  ALLOCATED  AVAILABLE  QUARANTINED  FOREIGN  USED%  OUT OF POOL
games     HostPorts  Active  7000-7001    2      1          1          0            0        50     1
payments  NodePorts  Active  30100-30109  10     3          4          1            2        60     1
`

func TestPoolStatus(t *testing.T) {
	clitest.Folder(t, map[string]string{"state.yaml": managed(), "none.yaml": town()})
	t.Setenv("KUBECONFIG", "/nowhere/at/all")
	for _, c := range []trial{
		{"status -f state.yaml", 0, managedStatus},
		{"status -f none.yaml", 0, "no pools\n"},
		{"status games -f state.yaml", 0, strings.Join(strings.SplitAfter(managedStatus, "\n")[:2], "") + `
PORT       USE        HELD BY        SINCE  CLAIM
7000/UDP   Allocated  Pod shop/game  -      -
30105/TCP  OutOfPool  Pod shop/game  -      -
`},

		{"status none -f state.yaml", 2, "there is no PortPool none; portcullis pool status lists all there are"},
		{"status a b -f state.yaml", 2, "accepts at most 1 arg(s), received 2"},
		{"status -o wide -f state.yaml", 2, `--output "wide" is not one of table, json, yaml`},
		{"status", 2, "there is no kubeconfig that names a cluster"},
		{"stat", 2, `unknown command "stat" for "portcullis pool"`},
	} {
		if strings.HasPrefix(c.args, "status games") { // of one pool the columns are narrower
			c.says = strings.NewReplacer("POOL      FOR        STATE   RANGES       TOTAL", "POOL   FOR        STATE   RANGES     TOTAL", "games     HostPorts  Active  7000-7001    2", "games  HostPorts  Active  7000-7001  2").Replace(c.says)
		}
		c.run(t)
	}
}

// TestPoolStatusNumbers: each number of a pool that is not free is told with its holder and its claim, in JSON and in YAML.
func TestPoolStatusNumbers(t *testing.T) {
	clitest.Folder(t, map[string]string{"state.yaml": managed()})
	read := func(form string) (r report.PoolReport) {
		t.Helper()
		o := runCommand(t, "", "pool", "status", "payments", "-f", "state.yaml", "-o", form)
		if err := yaml.Unmarshal([]byte(o.Stdout), &r); err != nil || o.Exit != 0 {
			t.Fatalf("exit %d: %v in %s %s", o.Exit, err, o.Stdout, o.Stderr)
		}
		return r
	}
	r := read("json")
	if diff := cmp.Diff(r, read("yaml")); diff != "" {
		t.Errorf("(-json +yaml):\n%s", diff)
	}
	if r.Kind != "PoolReport" || r.APIVersion != "portcullis.dev/v1alpha1" || len(r.Pools) != 1 {
		t.Fatalf("%+v", r)
	}
	var got []string
	for _, n := range r.Pools[0].Numbers {
		line := fmt.Sprintf("%d %s", n.Port, n.Use)
		if n.Holder != nil {
			line += " by " + n.Holder.String()
		}
		if n.Claim != nil {
			line += fmt.Sprintf(", %s %s for %s since %s", n.Claim.Name, n.Claim.Phase, n.Claim.Service, n.Since)
		}
		got = append(got, line)
	}
	want := []string{
		"30100 Allocated by Service shop/a, np-30100 Bound for shop/a since 2026-01-01T00:00:00Z",
		"30101 Foreign by Service web/c",
		"30102 Allocated by Service pay/b",
		"30103 Quarantined, np-30103 Released for shop/gone since 2026-01-02T00:00:00Z",
		"30104 Allocated, np-30104 Requested for shop/coming since 2026-01-01T00:00:00Z",
		"30105 Foreign by Pod shop/game",
		"31100 OutOfPool by Service shop/a, np-31100 Bound for shop/a since 2026-01-01T00:00:00Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPoolCheck(t *testing.T) {
	everybody := "{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: everybody}, spec: {ranges: [{port: 30000, endPort: 32767}], namespaceSelector: {}, sharing: Shared, priority: 1000}}\n"
	clitest.Folder(t, map[string]string{
		"state.yaml": managed(), "everybody.yaml": everybody, "same.yaml": clitest.PortPool("payments", "payments", "{port: 30100, endPort: 30109}", ""),
		"smaller.yaml": clitest.PortPool("payments", "payments", "{port: 30101, endPort: 30109}", ""), "larger.yaml": clitest.PortPool("payments", "payments", "{port: 30100, endPort: 30119}", ""),
		"new.yaml": clitest.PortPool("edge", "edge", "{port: 30000, endPort: 30109}", ""), "host.yaml": clitest.PortPool("payments", "payments", "{port: 80}", ", for: HostPorts"), "none.yaml": town(),
	})
	t.Setenv("KUBECONFIG", "/nowhere/at/all")
	const (
		head = "POOL      CHANGE   HAS          WILL HAVE\n"
		gone = "spec.ports[0].nodePort: 30100/TCP of Service shop/a will be out of pool: PortPool payments selects the Service and does not have the port; keep 30100 in the pool, or give the Service another port first\n"
	)
	for _, c := range []trial{
		{"check -f same.yaml --state state.yaml", 0, "POOL      CHANGE     HAS          WILL HAVE\npayments  Unchanged  30100-30109  30100-30109\n\n8 ports are held, and none is displaced\n"},
		{"check -f larger.yaml --state state.yaml", 0, head + "payments  Changed  30100-30109  30100-30119\n\n8 ports are held, and none is displaced\n"},
		{"check -f smaller.yaml --state state.yaml", 1, head + "payments  Changed  30100-30109  30101-30109\n\n" + gone + "8 ports are held: 1 will be out of pool or of none, 0 foreign; their holders keep them\n"},
		{"check -f smaller.yaml --shrink --state state.yaml", 1, head + "payments  Changed  30100-30109  30101-30109\n\n" + gone + "8 ports are held: 1 will be out of pool or of none, 0 foreign; their holders keep them\n"},
		{"check --shrink payments=30101-30109 --state state.yaml", 1, head + "payments  Changed  30100-30109  30101-30109\n\n" + gone + "8 ports are held: 1 will be out of pool or of none, 0 foreign; their holders keep them\n"},
		{"check --shrink=payments=30100-30102,30109 --state state.yaml", 0, head + "payments  Changed  30100-30109  30100-30102,30109\n\n8 ports are held, and none is displaced\n"},
		{"check --shrink payments=30100-30102,30109 --state state.yaml", 0, head + "payments  Changed  30100-30109  30100-30102,30109\n\n8 ports are held, and none is displaced\n"},
		{"check --shrink payments=30101-30109 --state state.yaml --state everybody.yaml", 0, head + "payments  Changed  30100-30109  30101-30109\n\n30100 of PortPool payments will be of PortPool everybody, which selects their holders as well\n8 ports are held, and none is displaced\n"},
		{"check --delete payments --state state.yaml", 1, head + "payments  Deleted  30100-30109  -\n\n" +
			"spec.ports[0].nodePort: 30100/TCP of Service shop/a will be of no pool: none selects the Service; have a pool that selects the Service include 30100, if it should have one\n" +
			"spec.ports[0].nodePort: 30102/TCP of Service pay/b will be of no pool: none selects the Service; have a pool that selects the Service include 30102, if it should have one\n" +
			"8 ports are held: 2 will be out of pool or of none, 0 foreign; their holders keep them\n"},
		{"check -f new.yaml --state state.yaml", 1, "POOL  CHANGE  HAS  WILL HAVE\nedge  New     -    30000-30099\n\n" +
			"spec.ports[0].nodePort: 30000/TCP of Service default/d will be foreign: PortPool edge reserves it for others; leave 30000 out of PortPool edge, or give the Service another port first\n" +
			"spec.ranges: PortPool edge names 30100-30109, which PortPool payments has; take the numbers out of one of the two\n" +
			"8 ports are held: 0 will be out of pool or of none, 1 foreign; their holders keep them\n"},

		{"check -f larger.yaml --shrink --state state.yaml", 2, "PortPool payments would gain 30110-30119: correct its ranges, or omit --shrink"},
		{"check -f new.yaml --shrink --state state.yaml", 2, "PortPool edge would gain 30000-30109"},
		{"check --shrink payments=30109-30110 --state state.yaml", 2, "--shrink payments=30109-30110: PortPool payments does not have 30110; it has 30100-30109"},
		{"check --shrink=x --state state.yaml", 2, `invalid argument "x" for "--shrink" flag: want POOL=RANGES`},
		{"check --shrink payments= --state state.yaml", 2, `--shrink "payments=": want POOL=RANGES`},
		{"check --shrink payments=x --state state.yaml", 2, `--shrink "payments=x": want POOL=RANGES`},
		{"check --shrink other=30100 --state state.yaml", 2, "there is no PortPool other to shrink"},
		{"check --delete other --state state.yaml", 2, "there is no PortPool other to delete"},
		{"check -f host.yaml --state state.yaml", 2, "spec.for of PortPool payments is NodePorts and cannot be changed to HostPorts: create another pool"},
		{"check -f none.yaml --state state.yaml", 2, "there is no PortPool (portcullis.dev/v1alpha1) in none.yaml"},
		{"check payments=30100 --state state.yaml", 2, `"payments=30100" is no flag`},
		{"check --shrink --state state.yaml", 2, "nothing to check: name pools with -f, --delete, or --shrink POOL=RANGES"},
		{"check -f - --state -", 2, "standard input cannot be both"},
		{"check --delete payments", 2, "there is no kubeconfig that names a cluster"},
	} {
		c.run(t)
	}
	o := runCommand(t, "", "pool", "check", "-f", "smaller.yaml", "-f", "new.yaml", "--state", "state.yaml", "-o", "json")
	var r report.PoolCheckReport
	if err := yaml.UnmarshalStrict([]byte(o.Stdout), &r); err != nil || o.Exit != cli.ExitFindings {
		t.Fatalf("exit %d, %v: %s%s", o.Exit, err, o.Stdout, o.Stderr)
	}
	var got []string
	for _, d := range r.Displaced {
		got = append(got, fmt.Sprintf("%d %s/%s %v %v", d.Port, d.Holder.Namespace, d.Holder.Name, d.Before, d.After))
	}
	want := []string{"30000 default/d {Unpooled } {InForeign edge}", "30100 shop/a {InPool payments} {InForeign edge}"}
	if diff := cmp.Diff(want, got); diff != "" || r.Kind != "PoolCheckReport" || r.Summary != (report.PoolCheckSummary{Held: 8, Displaced: 2, Foreign: 2}) {
		t.Errorf("%+v (-want +got):\n%s", r.Summary, diff)
	}
}

// TestPoolLive: a cluster is read with read-only rights, and one that does not know the kinds, or refuses, is told plainly.
func TestPoolLive(t *testing.T) {
	lists := map[string][]string{}
	for text := range strings.SplitSeq(managed(), clitest.And) {
		var o struct{ Kind string }
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		asJSON, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		lists[strings.ToLower(o.Kind)+"s"] = append(lists[strings.ToLower(o.Kind)+"s"], string(asJSON))
	}
	var methods []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		methods = append(methods, r.Method)
		w.Header().Set("Content-Type", "application/json")
		resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		isOurs := strings.HasPrefix(r.URL.Path, "/apis/portcullis.dev/v1alpha1/")
		switch token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); {
		case isOurs && token == "bare":
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`)
		case (isOurs || resource == "pods") && token == "some":
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}`)
		default:
			_, _ = fmt.Fprintf(w, `{"metadata": {}, "items": [%s]}`, strings.Join(lists[resource], ","))
		}
	}))
	defer server.Close()
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	flags := " --insecure-skip-tls-verify --server " + server.URL + " --token "
	bare := slices.DeleteFunc(strings.Split(managed(), clitest.And), func(text string) bool { return strings.Contains(text, "portcullis.dev") })
	clitest.Folder(t, map[string]string{"new.yaml": clitest.PortPool("edge", "edge", "{port: 32000}", ""), "bare.yaml": clitest.Joined(bare...)})
	fromFiles := runCommand(t, "", "pool", "suggest", "-f", "bare.yaml").Stdout
	for _, c := range []trial{
		{"status" + flags + "all", 0, managedStatus},
		{"suggest" + flags + "bare", 0, fromFiles},
		{"status" + flags + "bare", 2, "the cluster does not know the kind PortPool: install it with kubectl apply -k config/crd, or give the objects in files"},
		{"check --delete a" + flags + "bare", 2, "the cluster does not know the kind PortPool"},
		{"check -f new.yaml" + flags + "bare", 0, "POOL  CHANGE  HAS  WILL HAVE\nedge  New     -    32000\n\n8 ports are held, and none is displaced\n"},
		{"status" + flags + "some", 2, "you may not list pods, portpools, portclaims in all namespaces: ask for a ClusterRole with the verb list on namespaces, services and pods, and for a ClusterRoleBinding to portcullis-ports-view"},
		{"suggest" + flags + "all", 2, "there are pools for nodePorts already, which would keep their numbers: payments;"},
	} {
		c.run(t)
	}
	if slices.ContainsFunc(methods, func(m string) bool { return m != http.MethodGet }) {
		t.Errorf("something was written: %q", methods)
	}
}
