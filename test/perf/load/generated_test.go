package load

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestGenerated holds what the benchmark stands on, in a small cluster: the program sees all that is generated, and answers
// the driver, which takes nothing for an allow that is none.
func TestGenerated(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	server, err := Generated{Nodes: 10, PodsPerNode: 3, Services: 20}.Serve(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	handlers, err := rig.NewReplica(t.Context(), t.TempDir(), config, kubeconfig, "--leader-elect=false", "--rebuild-every=10m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(handlers.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := handlers.Start(ctx); err != nil {
		t.Fatal(err)
	}
	const holders = 10*3 + 20
	if owners, err := handlers.Count(ctx, "portcullis_ledger_owners"); err != nil || owners != holders {
		t.Errorf("%v owners, %v, want %d", owners, err, holders)
	}
	address := strings.TrimPrefix(handlers.URL(), "https://")
	load, err := NewDriver(address, reviews(t)).Run(2, 200*time.Millisecond)
	if err != nil || load.Answers == 0 {
		t.Errorf("%+v, %v", load, err)
	}
	taken := nodePortService("taken", firstNodePort)
	_, err = NewDriver(address, []Review{{hooks.PathValidateServices, review(t, "Service", "services", taken)}}).Run(1, 200*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "PC0201") {
		t.Errorf("a number that is taken: %v, want a refusal", err)
	}
}
