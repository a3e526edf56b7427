// Package install holds the three ways to install Portcullis together, kubectl, kustomize and Helm, and tries them on a
// real API server: the objects that they make are the same, valid, of the least rights, and leave nothing behind.
package install

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var update = flag.Bool("update", false, "write config/install.yaml and the files of the chart")

const (
	config = "../../../config"
	chart  = config + "/chart"
)

// TestGolden holds what is generated to its source: config/install.yaml is config/default, and the files of the chart are
// those parts of config/ that the chart must not type a second time.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		file string
		want []byte
	}{
		{"install.yaml", append([]byte("# Built from config/default by `make generate`.\n"), built(t, "default")...)},
		{"chart/files/crds.yaml", built(t, "crd")},
		{"chart/files/rbac.yaml", built(t, "rbac")},
		{"chart/files/webhook.yaml", built(t, "webhook")},
		{"chart/files/rbac-metrics.yaml", read(t, config+"/components/secure-metrics/role.yaml")},
		{"chart/files/observation.yaml", built(t, "observation")},
	} {
		path := filepath.Join(config, c.file)
		if *update {
			if err := os.WriteFile(path, c.want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(t, path); !bytes.Equal(got, c.want) {
			t.Errorf("config/%s is not what its source makes; run make generate:\n%s", c.file, cmp.Diff(string(c.want), string(got)))
		}
	}
}

// built is what kustomize makes of a folder of config/.
func built(t *testing.T, folder string) []byte {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // as kubectl does: what others need comes first, the hooks come last
	result, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(config, folder))
	if err != nil {
		t.Fatalf("config/%s: %v", folder, err)
	}
	text, err := result.AsYaml()
	if err != nil {
		t.Fatalf("config/%s: %v", folder, err)
	}
	return text
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
