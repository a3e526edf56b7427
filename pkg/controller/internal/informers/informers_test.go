package informers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/fake"
)

// TestDeleted: a deletion is the same whether the watch has seen it or not.
func TestDeleted(t *testing.T) {
	var got []string
	h := Changed(func(before, after *corev1.Service) { got = append(got, before.Name); _ = after })
	h.OnDelete(fake.Service("seen", "1"))
	h.OnDelete(toolscache.DeletedFinalStateUnknown{Obj: fake.Service("missed", "1")})
	if diff := cmp.Diff([]string{"seen", "missed"}, got); diff != "" {
		t.Error(diff)
	}
}
