package generate

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updatePolicies = flag.Bool("update", false, "write the golden files")

// generate runs the command at a time of its own.
func generate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	root := Command()
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"vap"}, args...))
	root.SilenceErrors, root.SilenceUsage = true, true
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestShippedPolicies holds config/policies to the Go code that it is made by.
func TestShippedPolicies(t *testing.T) {
	const file = "../../../../config/policies/policies.yaml"
	made, err := generate(t)
	if err != nil {
		t.Fatal(err)
	}
	if *updatePolicies {
		if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), made); diff != "" {
		t.Errorf("%s differs from the code (-file +code); run make generate:\n%s", file, diff)
	}
}

func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	policy := file("policy.yaml", "{apiVersion: portcullis.dev/v1alpha1, kind: PortPolicy, metadata: {name: p}, spec: {namespaceSelector: {}, enforcement: Deny, "+
		"hostPorts: {mode: Forbidden}, reserved: [{name: gpu, ports: [{port: 1}], nodeSelector: {matchLabels: {a: b}}}]}}")
	wrong := file("wrong.yaml", "{apiVersion: portcullis.dev/v1alpha1, kind: PortPolicy, metadata: {name: p}, spec: {hostPorts: {mode: Forbidden}}}")
	node := file("node.yaml", "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.0.0.0/24]}}")
	config := file("config.yaml", "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, enforcement: {PC0303: Deny, PC0102: Audit, PC0201: Warn}}")
	for _, tt := range []struct {
		args string
		want string // in the output, or in the error
		not  string
	}{
		{"", "name: portcullis-pods-deny", "MutatingAdmissionPolicy"},
		{"--enforcement Warn", "validationActions:\n  - Warn", "- Deny"},
		{"--enforcement Audit", "validationActions:\n  - Audit", "- Warn"},
		{"--enforcement deny", `error: --enforcement: enforcement "deny" is not one of Deny, Warn, Audit`, ""},
		{"-o xml", `error: --output "xml" is not one of yaml, json`, ""},
		{"-f " + policy, "name: portcullis-policy.p.pods-deny", ""},
		{"-f " + policy, "# - PortPolicy p: reserved ports of gpu hold on the nodes a=b only, and no policy knows on which node a pod will be", ""},
		{"-f " + wrong, "error: PortPolicy p: spec.namespaceSelector: is required; write {} to select all", ""},
		{"--config " + config, "name: portcullis-pods-audit", ""},
		{"--config " + config, "# - enforcement.PC0201 has no effect: only the webhook checks that", ""},
		{"--mutating", "error: --mutating: there is no hostIP to write", ""},
		{"--mutating -f " + node, "''0.0.0.0''", "''::''"},
		{"-o json", `"kind": "List"`, "creationTimestamp"},
	} {
		out, err := generate(t, strings.Fields(tt.args)...)
		if err != nil {
			out = "error: " + err.Error()
		}
		if !strings.Contains(out, tt.want) || tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("generate vap %s: %.3000s\nwant %q and not %q", tt.args, out, tt.want, tt.not)
		}
		if strings.Contains(tt.args, "json") && err == nil && !json.Valid([]byte(out)) {
			t.Errorf("generate vap %s: no JSON", tt.args)
		}
	}
}
