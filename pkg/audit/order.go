package audit

import (
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// InAnyOrder takes from the findings about inputs, which a Judge made of one after the other, what would not be found in another
// order: that a host port is one that a Service may be given, where a later input is a Service that has it. The conflict of
// the two says so.
func InAnyOrder(found [][]check.Finding) {
	type place struct {
		object ports.Ref
		field  string
	}
	taken := map[place]bool{}
	for _, findings := range found {
		for _, f := range findings {
			if f.Code == check.Held && f.Claim.Kind.InNodePortBook() {
				taken[place{f.Holder.Ref, f.Holder.Field}] = true
			}
		}
	}
	for i := range found {
		found[i] = slices.DeleteFunc(found[i], func(f check.Finding) bool {
			return f.Code == check.InNodePorts && taken[place{f.Object, f.Field}]
		})
	}
}
