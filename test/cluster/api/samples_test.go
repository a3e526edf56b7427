package api

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
)

// testSamples applies what users are shown, as they would. What the API server then has is what Default makes of the
// same file: a pool in a file means the same as in a cluster.
func (s *server) testSamples(t *testing.T) {
	files := append(glob(t, samples), glob(t, "testdata/*.yaml")...)
	for _, file := range files {
		u := load(t, file)
		s.apply(t, u)
		local, stored := typed(t, u.GetKind()), typed(t, u.GetKind())
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, local); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		local.Default()
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(u), stored); err != nil {
			t.Fatal(err)
		}
		ignore := cmpopts.IgnoreTypes(metav1.ObjectMeta{}, metav1.TypeMeta{}, v1alpha1.PortPoolStatus{}, v1alpha1.PortPolicyStatus{}, v1alpha1.PortClaimStatus{})
		if diff := cmp.Diff(local, stored, ignore); diff != "" {
			t.Errorf("%s (-Default +API server):\n%s", file, diff)
		}
		if err := s.Delete(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("defaults", s.testDefaults)
}

// testDefaults: what nobody says is filled in, and never changes within this version.
func (s *server) testDefaults(t *testing.T) {
	for _, c := range []struct{ kind, spec, want string }{
		{"PortPool", `{ranges: [{port: 1}], namespaceSelector: {}}`,
			`{ranges: [{port: 1}], namespaceSelector: {}, for: NodePorts, priority: 500, sharing: Exclusive, state: Active, enforcement: Audit,
			  allocation: {mode: Auto, strategy: Hashed, reuseDelay: 10m}}`},
		{"PortPool", `{ranges: [{port: 1}], namespaceSelector: {}, allocation: {mode: Explicit}}`,
			`{ranges: [{port: 1}], namespaceSelector: {}, for: NodePorts, priority: 500, sharing: Exclusive, state: Active, enforcement: Audit,
			  allocation: {mode: Explicit, strategy: Hashed, reuseDelay: 10m}}`},
		{"PortPool", `{ranges: [{port: 1}], namespaceSelector: {}, priority: 0, allocation: {reuseDelay: 0s}}`,
			`{ranges: [{port: 1}], namespaceSelector: {}, for: NodePorts, priority: 0, sharing: Exclusive, state: Active, enforcement: Audit,
			  allocation: {mode: Auto, strategy: Hashed, reuseDelay: 0s}}`},
		{"PortPolicy", `{namespaceSelector: {}, nodePorts: {}, hostPorts: {}}`,
			`{namespaceSelector: {}, enforcement: Audit, externalIPs: Allowed,
			  nodePorts: {mode: Allowed, explicitRequests: Allowed, loadBalancerNodePorts: Allowed},
			  hostPorts: {mode: Allowed, hostNetwork: Allowed, nodePortRange: Forbidden}}`},
		{"PortPolicy", `{namespaceSelector: {}, reserved: [{name: a, ports: [{port: 1}], nodeSelector: {}}]}`,
			`{namespaceSelector: {}, enforcement: Audit, externalIPs: Allowed, reserved: [{name: a, ports: [{port: 1}], nodeSelector: {}}]}`},
	} {
		u := full(t, c.kind)
		u.Object["spec"] = parse(t, c.spec)
		if err := s.tryStore(t, u, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(parse(t, c.want), u.Object["spec"]); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.kind, c.spec, diff)
		}
	}
}

type defaulter interface {
	client.Object
	Default()
}

// typed returns an empty object of a kind.
func typed(t *testing.T, kind string) defaulter {
	t.Helper()
	switch kind {
	case "PortPool":
		return &v1alpha1.PortPool{}
	case "PortPolicy":
		return &v1alpha1.PortPolicy{}
	case "PortClaim":
		return &v1alpha1.PortClaim{}
	}
	t.Fatalf("no type for the kind %s", kind)
	return nil
}

// testSpellings: whatever the API server accepts can be read by our types. One object that could not would keep every
// reader of its kind from starting.
func (s *server) testSpellings(t *testing.T) {
	for _, c := range []struct {
		kind, path string
		accepted   []string
		refused    []string
	}{
		{"PortPool", "spec.allocation.reuseDelay",
			[]string{`0s`, `90s`, `10m`, `24h`, `24h0m0s`, `1440m`, `1h30m`, `5s5s`, `86400s`, `null`},
			[]string{`1d`, `1w`, `PT10M`, `-5m`, `+5m`, `1.5h`, `1ms`, `500us`, `10`, `"10"`, `""`, `m`, `24h1s`, `99999h`, `86401s`, `10 m`, `10M`, `0`, `1h30m0s0s`}},
		{"PortPool", "spec.priority", []string{`0`, `1000`, `null`, `1e2`, `5.0`}, []string{`-1`, `1001`, `"5"`, `5.5`, `4294967297`}},
		{"PortPool", "spec.ranges[1].endPort", []string{`30900`, `65535`, `null`}, []string{`0`, `65536`, `-1`, `4295000000`, `"30199"`, `https`}},
		{"PortPool", "spec.namespaceSelector", []string{`{}`, `{matchLabels: null}`, `{matchExpressions: []}`}, []string{`null`, `[]`, `""`, `all`, `{matchLabels: {}}`, `{matchLabels: {team: null}}`}},
		{"PortPool", "spec.namespaceSelector.matchLabels",
			[]string{`{a: b}`, `{a: ""}`, `{example.com/a: b.c_d-e}`, `null`},
			[]string{`{a: 1}`, `{a: true}`, `{a: null}`, `{"a b": c}`, `{"": c}`, `{a: -b}`, `{a: "b c"}`, `{a/b/c: d}`, `{/a: b}`, `{a/: b}`, `{a: [b]}`}},
		{"PortPool", "spec.namespaceSelector.matchExpressions[0]",
			[]string{`{key: a, operator: Exists}`, `{key: a, operator: DoesNotExist, values: []}`, `{key: a, operator: In, values: [""]}`},
			[]string{`{key: a, operator: in, values: [b]}`, `{key: a, operator: Gt, values: ["1"]}`, `{key: a}`, `{key: "", operator: Exists}`, `{operator: Exists}`,
				`{key: a, operator: In}`, `{key: a, operator: NotIn, values: []}`, `{key: a, operator: Exists, values: [b]}`, `{key: a, operator: In, values: [1]}`, `{key: a, operator: In, values: [null]}`}},
		{"PortPolicy", "spec.exceptions[0].expiresAt",
			[]string{`"2027-01-31T00:00:00Z"`, `"2027-01-31T23:59:59.999999999+05:30"`, `"2028-02-29T00:00:00-08:00"`, `2027-01-31T00:00:00Z`, `null`},
			[]string{`"2027-01-31"`, `"2027-01-31T00:00:00"`, `"2027-01-31t00:00:00z"`, `"2027-01-31 00:00:00Z"`, `"2027-02-30T00:00:00Z"`, `"2027-02-29T00:00:00Z"`, `"2027-01-31T24:00:00Z"`,
				`"2027-01-31T00:60:00Z"`, `"2027-01-31T00:00:60Z"`, `"2027-01-31T00:00:00+24:00"`, `"2027-01-31T00:00:00,5Z"`, `1801353600`, `""`, `"soon"`, `"12027-01-31T00:00:00Z"`, `"0000-00-00T00:00:00Z"`}},
		{"PortPolicy", "spec.hostPorts.allowed[0].hostIPs",
			[]string{`["127.0.0.1"]`, `["::"]`, `["2001:DB8::1"]`, `["0.0.0.0", "::1"]`},
			[]string{`[localhost]`, `["10.0.0.0/8"]`, `["fe80::1%eth0"]`, `["::ffff:10.0.0.1"]`, `["010.0.0.1"]`, `[""]`, `[]`, `["1.2.3"]`}},
		{"PortPolicy", "spec.hostPorts.allowed[0].protocols", []string{`[TCP]`, `[UDP, SCTP, TCP]`, `null`}, []string{`[tcp]`, `[TCP, TCP]`, `[]`, `[ICMP]`, `TCP`}},
	} {
		for want, values := range map[bool][]string{true: c.accepted, false: c.refused} {
			for _, value := range values {
				u := full(t, c.kind)
				set(t, u.Object, c.path, parse(t, value))
				err := s.tryStore(t, u, nil)
				if got := err == nil; got != want {
					t.Errorf("%s: %s is %s: accepted is %v, want %v: %v", c.kind, c.path, value, got, want, err)
				}
				if err != nil {
					continue
				}
				text, err := u.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				into := typed(t, c.kind)
				if err := json.Unmarshal(text, into); err != nil {
					t.Errorf("%s: %s is %s, which is accepted and cannot be read: %v", c.kind, c.path, value, err)
				}
				selectorsCompile(t, into)
			}
		}
	}
}

func selectorsCompile(t *testing.T, object client.Object) {
	t.Helper()
	pool, ok := object.(*v1alpha1.PortPool)
	if !ok {
		return
	}
	for _, s := range []*v1alpha1.LabelSelector{pool.Spec.NamespaceSelector, pool.Spec.ServiceSelector} {
		if _, err := s.AsSelector(); err != nil {
			t.Errorf("%+v is accepted and no selector: %v", s, err)
		}
	}
}
