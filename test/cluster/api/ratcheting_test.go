package api

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// testRatcheting: an object from before a rule was made can still be edited where the rule does not look. So rules may
// become stricter within this version.
func (s *server) testRatcheting(t *testing.T) {
	var shipped *unstructured.Unstructured
	for _, file := range glob(t, crds) {
		if u := load(t, file); u.GetName() == "portpools.portcullis.dev" {
			shipped = u
		}
	}
	older := shipped.DeepCopy()
	ranges := "spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.ranges"
	set(t, older.Object, ranges+".x-kubernetes-validations", absent{})
	set(t, older.Object, ranges+".maxItems", int64(64))
	s.apply(t, older)

	pool := full(t, "PortPool")
	set(t, pool.Object, "spec.ranges", parse(t, `[{port: 30100, endPort: 30199}, {port: 30150}]`))
	overlaps := func(err error) bool {
		return apierrors.IsInvalid(err) && strings.Contains(err.Error(), "ranges must not overlap")
	}
	poll.Until(t, func(ctx context.Context) error { return s.Create(ctx, pool.DeepCopy(), client.DryRunAll) })
	s.create(t, pool)
	s.apply(t, shipped)
	poll.Until(t, func(ctx context.Context) error {
		another := full(t, "PortPool")
		another.SetName("another")
		set(t, another.Object, "spec.ranges", get(t, pool.Object, "spec.ranges"))
		if err := s.Create(ctx, another, client.DryRunAll); !overlaps(err) {
			return errors.Join(errors.New("the rule is not back yet"), err)
		}
		return nil
	})
	if err := s.Get(t.Context(), client.ObjectKeyFromObject(pool), pool); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, value string
		refused     bool
	}{
		{"metadata.labels", `{touched: "true"}`, false},
		{"spec.state", `Disabled`, false},
		{"spec.limits.perNamespace", `7`, false},
		{"spec.ranges[1].port", `30151`, true},
		{"spec.ranges[1].port", `30900`, false},
	} {
		u := pool.DeepCopy()
		set(t, u.Object, c.path, parse(t, c.value))
		err := s.tryStore(t, u, pool)
		if overlaps(err) != c.refused || !c.refused && err != nil {
			t.Errorf("%s = %s: got %v, want that it is refused: %v", c.path, c.value, err, c.refused)
		}
	}
}
