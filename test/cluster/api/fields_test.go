package api

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestTable: each field has a row, each row a field, and the versions of a row differ in that field and are to behave
// differently.
func TestTable(t *testing.T) {
	shown := map[string][]string{}
	check := func(v versions, want [2]string) {
		shown[v.kind] = append(shown[v.kind], v.field)
		differing, err := v.differing()
		if diff := cmp.Diff([]string{v.field}, differing); err != nil || diff != "" {
			t.Errorf("%s: the versions %s and %s do not differ in it alone (-want +got):\n%s%v", v, v.a, v.b, diff, err)
		}
		if want[0] == want[1] {
			t.Errorf("%s: %s and %s are both to lead to %q", v, v.a, v.b, want[0])
		}
	}
	for _, r := range lintRows() {
		check(r.versions, r.want)
	}
	for _, r := range webhookRows() {
		check(r.versions, r.want)
	}
	for kind, object := range map[string]any{"PortPool": v1alpha1.PortPool{}, "PortPolicy": v1alpha1.PortPolicy{}, "PortClaim": v1alpha1.PortClaim{}} {
		slices.Sort(shown[kind])
		if diff := cmp.Diff(SpecFields(object), slices.Compact(shown[kind])); diff != "" {
			t.Errorf("the fields of %s (-) and those that have a row (+):\n%s", kind, diff)
		}
	}
}

// nodeName is the only node's, which is of team a.
const nodeName = "n1"

// TestFields: every row holds.
func TestEachFieldChangesAnOutcome(t *testing.T) {
	// Whoever has no pool gets a number far from those of the places.
	r := rig.Run(t, rig.Options{
		Config:  "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nallocateFrom: 32500-32699\n",
		Kubelet: kubelet.Options{Nodes: []kubelet.Node{{Name: nodeName, Labels: map[string]string{"team": "a"}}}},
	})
	t.Run("lint", func(t *testing.T) {
		t.Parallel()
		for i, row := range lintRows() {
			t.Run(row.name(i), func(t *testing.T) {
				t.Parallel()
				row.compare(t, r.Webhook.Program())
			})
		}
	})
	t.Run("webhook", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, r)
		rows := webhookRows()
		places := placesOf(rows)
		c.furnish(t, rows, places)
		for i, row := range rows {
			t.Run(row.name(i), func(t *testing.T) {
				t.Parallel()
				compare(t, row.versions, places[i], row.want, func(p place) string { return row.comes(situation{t, c, row.versions, p}) })
			})
		}
	})
}
