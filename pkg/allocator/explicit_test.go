package allocator_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/allocator"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// holder is a claim that somebody has on a number.
func holder(kind, namespace, name, field string, scope ports.Scope) ports.Claim {
	return ports.Claim{Kind: ports.NodePort, Field: field, Scope: scope, Owner: &ports.Owner{Ref: ports.Ref{Kind: kind, Namespace: namespace, Name: name}}}
}

func TestExplicit(t *testing.T) {
	const advice = "; choose another number, or leave it out to be given one"
	held := book{
		30007: holder("Service", "default", "tomcat", "spec.ports[0].nodePort", ports.EverywhereScope()),
		30008: holder("Pod", "web", "front", "spec.containers[0].ports[0].hostPort", ports.NodeScope("n1")),
		30009: holder("DaemonSet", "web", "edge", "spec.template.spec.containers[0].ports[0].hostPort", ports.EachScope([]string{"n1", "n2", "n3", "n4", "n5"})),
		30010: holder("DaemonSet", "web", "edge", "", ports.EachScope([]string{"n1", "n2"})),
		30011: holder("Deployment", "web", "api", "spec.template.spec.containers[0].ports[0].hostPort", ports.Scope{}),
		30012: {},
	}
	for _, c := range []struct {
		port   uint16
		within string
		want   string // the error, "" for none
	}{
		{30000, "30000-32767", ""},
		{32767, "30000-32767", ""},
		{65535, "65535", ""},
		{30006, "30000-30005,30006", ""},
		{30007, "30000-32767", "30007 is taken by Service default/tomcat (spec.ports[0].nodePort) on every node" + advice},
		{30008, "30000-32767", "30008 is taken by Pod web/front (spec.containers[0].ports[0].hostPort) on n1" + advice},
		{30009, "30000-32767", "30009 is taken by DaemonSet web/edge (spec.template.spec.containers[0].ports[0].hostPort) on n1, n2, n3 and 2 more nodes" + advice},
		{30010, "30000-32767", "30010 is taken by DaemonSet web/edge (nodePort) on n1, n2" + advice},
		{30011, "30000-32767", "30011 is taken by Deployment web/api (spec.template.spec.containers[0].ports[0].hostPort)" + advice},
		{30012, "30000-32767", "30012 is taken" + advice},
		{29999, "30000-32767", "29999 is outside 30000-32767; choose a number inside, or leave it out to be given one"},
		{80, "30000-30009,31000", "80 is outside 30000-30009,31000; choose a number inside, or leave it out to be given one"},
		{30007, "31000", "30007 is outside 31000; choose a number inside, or leave it out to be given one"}, // told first: no other holder matters
		{0, "1-65535", "0 is outside 1-65535; choose a number inside, or leave it out to be given one"},
		{80, "", "80 cannot be chosen: no range of ports is open for it; leave the number out"},
	} {
		said := ""
		if err := allocator.Explicit(c.port, mustRanges(c.within), held.held); err != nil {
			said = err.Error()
		}
		if said != c.want {
			t.Errorf("%d within %q:\n got %s\nwant %s", c.port, c.within, said, c.want)
		}
	}
	if err := allocator.Explicit(80, mustRanges("80"), nil); err != nil {
		t.Errorf("nobody to ask: %v", err)
	}
}

func TestExplicitErrorsAsTypes(t *testing.T) {
	tomcat := holder("Service", "default", "tomcat", "spec.ports[0].nodePort", ports.EverywhereScope())
	within := mustRanges("30000-32767")
	var isHeld *allocator.HeldError
	err := fmt.Errorf("spec.ports[1].nodePort: %w", allocator.Explicit(30007, within, book{30007: tomcat}.held))
	if !errors.As(err, &isHeld) {
		t.Fatalf("%v is not a *HeldError", err)
	}
	if diff := cmp.Diff(&allocator.HeldError{Port: 30007, Holder: tomcat}, isHeld, cmp.Comparer(func(a, b ports.Address) bool { return a == b })); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	var isOutside *allocator.OutOfRangeError
	err = fmt.Errorf("spec.ports[1].nodePort: %w", allocator.Explicit(80, within, nil))
	if !errors.As(err, &isOutside) {
		t.Fatalf("%v is not an *OutOfRangeError", err)
	}
	if diff := cmp.Diff(&allocator.OutOfRangeError{Port: 80, Ranges: within}, isOutside); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
}
