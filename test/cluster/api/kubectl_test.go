package api

import (
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// testKubectl: what people see.
func (s *server) testKubectl(t *testing.T) {
	kubectl := s.kubectl(t)
	for _, kind := range slices.Sorted(maps.Keys(kinds())) {
		s.create(t, full(t, kind))
	}
	t.Run("columns", func(t *testing.T) {
		for _, c := range []struct{ args, want string }{
			{"get portpools", `
NAME   FOR         STATE      ENFORCEMENT   PRIORITY   USED%   ACCEPTED   AGE
full   NodePorts   Draining   Deny          100        40      True       1s`},
			{"get ppool -o wide", `
NAME   FOR         STATE      ENFORCEMENT   PRIORITY   USED%   ACCEPTED   AGE   OVERLAP
full   NodePorts   Draining   Deny          100        40      True       1s`},
			{"get portpolicies", `
NAME   ENFORCEMENT   NAMESPACES   VIOLATIONS   ACCEPTED   AGE
full   Warn          41           7            True       1s`},
			{"get portclaims", `
NAME       PORT    POOL            NAMESPACE   SERVICE    PHASE      AGE
np-30100   30100   team-payments   payments    gw-x7k2p   Released   1s`},
		} {
			if diff := cmp.Diff(strings.TrimSpace(c.want), aged(kubectl(strings.Fields(c.args)...))); diff != "" {
				t.Errorf("kubectl %s (-want +got):\n%s", c.args, diff)
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		for name, want := range map[string]string{
			"portpool": "portpool.portcullis.dev/full", "portpools": "portpool.portcullis.dev/full", "ppool": "portpool.portcullis.dev/full",
			"portpolicy": "portpolicy.portcullis.dev/full", "portpolicies": "portpolicy.portcullis.dev/full", "ppol": "portpolicy.portcullis.dev/full",
			"portclaim": "portclaim.portcullis.dev/np-30100", "portclaims": "portclaim.portcullis.dev/np-30100", "pclaim": "portclaim.portcullis.dev/np-30100",
			"ports": "portclaim.portcullis.dev/np-30100\nportpolicy.portcullis.dev/full\nportpool.portcullis.dev/full",
		} {
			if got := kubectl("get", name, "-o", "name"); got != want {
				t.Errorf("kubectl get %s: got %s, want %s", name, got, want)
			}
		}
	})
	t.Run("explain", func(t *testing.T) {
		for _, c := range []struct{ path, want string }{
			{"portpool", "PortPool is a set of port numbers and who gets them"},
			{"portpool.spec.ranges", "ranges are the numbers of the pool"},
			{"portpool.spec.namespaceSelector.matchExpressions.operator", "ENUM: In NotIn Exists DoesNotExist"},
			{"ppol.spec.exceptions", "exceptions are whom the policy leaves alone"},
			{"pclaim.status.phase", "phase is how far it got"},
		} {
			if got := strings.Join(strings.Fields(kubectl("explain", c.path)), " "); !strings.Contains(got, c.want) {
				t.Errorf("kubectl explain %s does not say %q:\n%s", c.path, c.want, got)
			}
		}
	})
	t.Run("kustomize", func(t *testing.T) {
		if got := strings.Count(kubectl("kustomize", "../../../config/crd"), "\nkind: CustomResourceDefinition"); got != len(kinds()) {
			t.Errorf("config/crd has %d definitions, want %d", got, len(kinds()))
		}
	})
	t.Run("a typing error", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "bad.yaml")
		write(t, file, strings.Replace(read(t, "testdata/portpool.yaml"), "perNamespace:", "perNamespaec:", 1))
		if got := s.kubectlFails(t, "apply", "-f", file, "--dry-run=server"); !strings.Contains(got, `unknown field "spec.limits.perNamespaec"`) {
			t.Errorf("got %s", got)
		}
	})
}

// aged writes every age as 1s, and no space at the end of a line.
func aged(table string) string {
	table = regexp.MustCompile(` \d+[sm]\w*`).ReplaceAllString(table, " 1s")
	return regexp.MustCompile(`(?m) +$`).ReplaceAllString(table, "")
}

func (s *server) kubectl(t *testing.T) func(args ...string) string {
	t.Helper()
	command := s.command(t)
	return func(args ...string) string {
		t.Helper()
		out, err := command(args...).CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
}

func (s *server) kubectlFails(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.command(t)(args...).CombinedOutput()
	if err == nil {
		t.Fatalf("kubectl %s: got %s, want that it fails", strings.Join(args, " "), out)
	}
	return string(out)
}

func (s *server) command(t *testing.T) func(args ...string) *exec.Cmd {
	t.Helper()
	programs := binaries.For(t, binaries.Kubectl)
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := s.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) *exec.Cmd {
		args = append([]string{"--kubeconfig", kubeconfig, "--cache-dir", filepath.Join(dir, "cache")}, args...)
		return exec.CommandContext(t.Context(), programs, args...)
	}
}
