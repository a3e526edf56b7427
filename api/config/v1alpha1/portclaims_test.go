package v1alpha1

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kyaml "sigs.k8s.io/yaml"
)

func mustLoadArgs(t *testing.T, text string) *PortClaimsArgs {
	t.Helper()
	a, err := LoadPortClaimsArgs([]byte(text))
	if err != nil {
		t.Fatalf("LoadPortClaimsArgs(%q): %v", text, err)
	}
	return a
}

func TestPortClaimsArgsGolden(t *testing.T) {
	const golden = "testdata/portclaims.yaml"
	got, err := Marshal(mustLoadArgs(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the default arguments (-%s +now, -update rewrites):\n%s", golden, diff)
	}
	// They are the blocks of the default configuration.
	configuration, err := os.ReadFile("testdata/default.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, blocks, _ := strings.Cut(string(got), "nodeReserved:")
	if !strings.Contains(string(configuration), blocks) {
		t.Errorf("the default arguments are not those of testdata/default.yaml:\n%s", got)
	}
	asJSON, err := kyaml.YAMLToJSON(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mustLoadArgs(t, ""), mustLoadArgs(t, string(asJSON))); diff != "" {
		t.Errorf("marshalled and loaded again (-first +second):\n%s", diff)
	}
}

func TestPortClaimsArgsGood(t *testing.T) {
	want := mustLoadArgs(t, "")
	for _, text := range []string{"{}", "null", `{"kind":"PortClaimsArgs","apiVersion":"config.portcullis.dev/v1alpha1"}`,
		`{"dataplane":{"serviceProxy":"unknown"},"nodeReserved":null}`} {
		if diff := cmp.Diff(want, mustLoadArgs(t, text)); diff != "" {
			t.Errorf("LoadPortClaimsArgs(%q) (-default +got):\n%s", text, diff)
		}
	}
	a := mustLoadArgs(t, `{"dataplane":{"serviceProxy":"nftables"},"nodeReserved":[{"name":"dns","port":53,"hostIP":"169.254.20.10"}]}`)
	if diff := cmp.Diff([]string{PrimaryAddresses}, a.DataPlane.NodePortAddresses); diff != "" {
		t.Errorf("nftables (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]ReservedSocket{{Name: "dns", HostIP: "169.254.20.10", Port: 53, Protocol: "TCP"}}, a.NodeReserved); diff != "" {
		t.Errorf("nodeReserved (-want +got):\n%s", diff)
	}
	if a := mustLoadArgs(t, `{"preferUncontended":true,"policies":true}`); !a.PreferUncontended || !a.Policies || len(a.NodeReserved) == 0 {
		t.Errorf("what is off by default: %+v", a)
	}
	if a := mustLoadArgs(t, `{"nodeReserved":[]}`); len(a.NodeReserved) > 0 {
		t.Errorf("no reserved sockets: %v", a.NodeReserved)
	}
}

func TestPortClaimsArgsBad(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown field", `{"nodePortRange":"1-2"}`, "nodePortRange: unknown field of PortClaimsArgs; correct or remove it"},
		{"unknown nested field", `{"dataplane":{"mode":"x"}}`, "dataplane.mode: unknown field of PortClaimsArgs; correct or remove it"},
		{"wrong case", `{"nodereserved":[]}`, "nodereserved: unknown field of PortClaimsArgs; correct or remove it"},
		{"given twice", `{"kind":"PortClaimsArgs","kind":"PortClaimsArgs"}`, "kind: is given twice; keep one"},
		{"wrong type", `{"dataplane":"iptables"}`, "dataplane: cannot be a string; write fields"},
		{"no JSON", `{`, "unexpected end of JSON input"},
		{"other kind", `{"kind":"NodePortsArgs"}`, `kind: Invalid value: "NodePortsArgs": write PortClaimsArgs`},
		{"other version", `{"apiVersion":"v1"}`, `apiVersion: Invalid value: "v1": write config.portcullis.dev/v1alpha1`},
		{"value", `{"nodeReserved":[{"name":"a","port":0}]}`, "nodeReserved[0].port: Invalid value: 0: write a number from 1 to 65535"},
		{"two values", `{"nodeReserved":[{"name":"a","port":1,"protocol":"x"}],"dataplane":{"hostPort":"y"}}`,
			`[nodeReserved[0].protocol: Invalid value: "x": write one of TCP, UDP, SCTP, dataplane.hostPort: Invalid value: "y": write one of portmap-iptables, portmap-nftables, none, unknown]`},
	} {
		a, err := LoadPortClaimsArgs([]byte(tt.text))
		if err == nil {
			t.Errorf("%s: %+v, want the error %q", tt.name, a, tt.want)
			continue
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func FuzzLoadPortClaimsArgs(f *testing.F) {
	for _, text := range []string{"", "{}", `{"nodeReserved":[{"name":"a","port":1}],"dataplane":{"serviceProxy":"ipvs"}}`, `{"kind":1}`, "[]", `{"a":{"a":`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := LoadPortClaimsArgs(data)
		if err != nil {
			return
		}
		text, err := Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		asJSON, err := kyaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, mustLoadArgs(t, string(asJSON))); diff != "" {
			t.Errorf("marshalled and loaded again (-first +second):\n%s", diff)
		}
	})
}
