package ports

import (
	"cmp"
	"iter"
	"net/netip"
	"strings"
)

// Ref names an object. It is comparable: two equal Refs are one object.
type Ref struct {
	APIVersion string // "v1", "apps/v1"
	Kind       string
	Namespace  string // "" for cluster-scoped objects
	Name       string
}

// String returns "Deployment default/tomcat", or "Node n1" without a namespace.
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Compare orders refs by kind, namespace, name and version.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(strings.Compare(r.Kind, o.Kind), strings.Compare(r.Namespace, o.Namespace),
		strings.Compare(r.Name, o.Name), strings.Compare(r.APIVersion, o.APIVersion))
}

// Owner is an object that claims ports, with the chain of controllers that made it: Pod, ReplicaSet, Deployment.
type Owner struct {
	Ref
	Controller *Owner       // nil: nobody's
	ClusterIPs []netip.Addr // of a Service: at which it is reached inside the cluster
}

// Chain yields the owner's own ref and those of its controllers, nearest first.
func (o *Owner) Chain() iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		for ; o != nil; o = o.Controller {
			if !yield(o.Ref) {
				return
			}
		}
	}
}

// Root returns the last of the chain: the object that a person wrote. Nobody's root is the zero Ref.
func (o *Owner) Root() Ref {
	var root Ref
	for r := range o.Chain() {
		root = r
	}
	return root
}

// ref is o.Ref, or the zero Ref for nobody.
func (o *Owner) ref() Ref {
	if o == nil {
		return Ref{}
	}
	return o.Ref
}

// SameController reports whether a and b are the same object, one made the other, or one controller made both. They never
// conflict: two pods of one Deployment on one port are rollout arithmetic, not a conflict.
func SameController(a, b *Owner) bool {
	for x := range a.Chain() {
		for y := range b.Chain() {
			if x == y {
				return true
			}
		}
	}
	return false
}
