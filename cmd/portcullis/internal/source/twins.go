package source

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// twin is an object of which another form stands in the input before it.
type twin struct {
	first, later *manifest.Object
}

// once leaves out objects that stand in the input several times, where it is plain which of them counts. Kinds that no port
// depends on are left as they are.
func once(objects []*manifest.Object) ([]*manifest.Object, []twin) {
	places := map[report.Object][]int{} // of the forms that are kept
	kept := make([]*manifest.Object, 0, len(objects))
	for _, object := range objects {
		if !matters(object.Object) || IsNameless(object.Object) {
			kept = append(kept, object)
			continue
		}
		name := Named(object)
		at, later := replaced(kept, places[name], object)
		switch {
		case later: // than itself: another form counts
		case len(at) > 0:
			kept[at[0]] = object
			for _, i := range at[1:] {
				kept[i] = nil
			}
			places[name] = slices.DeleteFunc(places[name], func(i int) bool { return kept[i] == nil })
		default:
			places[name] = append(places[name], len(kept))
			kept = append(kept, object)
		}
	}
	var twice []twin
	for i, object := range kept {
		if object == nil || !matters(object.Object) || IsNameless(object.Object) {
			continue
		}
		if first := places[Named(object)][0]; first < i {
			twice = append(twice, twin{kept[first], object})
		}
	}
	return slices.DeleteFunc(kept, func(o *manifest.Object) bool { return o == nil }), twice
}

// replaced returns the places of the forms of an object than which it is newer; later reports that one of them is the same, or newer.
func replaced(kept []*manifest.Object, forms []int, object *manifest.Object) (older []int, later bool) {
	for _, i := range forms[max(0, len(forms)-maxForms):] {
		switch newer, same := compareForms(kept[i].Object, object.Object); {
		case newer:
			older = append(older, i)
		case same:
			return nil, true
		}
	}
	return older, false
}

// maxForms bounds with how many forms of one object another is compared: those of a kustomization are few.
const maxForms = 16

// compareForms reports whether two objects of one name are the same object, or forms of one of which it is plain which is the newer,
// and whether that is b.
func compareForms(a, b runtime.Object) (newer, same bool) {
	x, errA := meta.Accessor(a)
	y, errB := meta.Accessor(b)
	if errA != nil || errB != nil {
		return false, false
	}
	if order, err := resourceversion.CompareResourceVersion(x.GetResourceVersion(), y.GetResourceVersion()); err == nil && order != 0 {
		return order < 0, true
	}
	return false, equality.Semantic.DeepEqual(unmanaged(a), unmanaged(b))
}

// unmanaged returns an object without what kubectl leaves out if it is not asked for.
func unmanaged(object runtime.Object) runtime.Object {
	m, err := meta.Accessor(object)
	if err != nil || m.GetManagedFields() == nil {
		return object
	}
	object = object.DeepCopyObject()
	if m, err = meta.Accessor(object); err == nil {
		m.SetManagedFields(nil)
	}
	return object
}

// latest returns the objects with the later one of two forms alone, as applying them in turn would leave them, for what
// exists and is there once.
func (in *Input) latest() []*manifest.Object {
	gone := map[*manifest.Object]bool{}
	latest := map[report.Object]*manifest.Object{}
	for _, t := range in.twice {
		name := Named(t.later)
		gone[t.first], gone[latest[name]] = true, true
		latest[name] = t.later
	}
	return slices.DeleteFunc(slices.Clone(in.Objects), func(o *manifest.Object) bool { return gone[o] })
}

// Forms returns the objects with every form of what claims ports, as each holds what it claims, and of everything else the later
// one of two forms alone.
func (in *Input) Forms() []*manifest.Object {
	kept := map[*manifest.Object]bool{}
	for _, o := range in.latest() {
		kept[o] = true
	}
	return slices.DeleteFunc(slices.Clone(in.Objects), func(o *manifest.Object) bool { return !kept[o] && !ClaimsPorts(o.Object) })
}

// isLatest is for where the later one counts, whatever it is.
func isLatest(*manifest.Object) bool { return true }

// IsNoForm reports whether of two forms of an object the later one alone counts, where Forms are judged.
func IsNoForm(o *manifest.Object) bool { return !ClaimsPorts(o.Object) }

// IsNever is for where every form counts.
func IsNever(*manifest.Object) bool { return false }

// TwinFindings returns the objects that stand in the input in two forms as findings about the later one. isTaken reports whether that one
// alone counts.
func (in *Input) TwinFindings(isTaken func(*manifest.Object) bool) []Located {
	var all []Located
	for _, t := range in.twice {
		named := check.Case("")
		if isTaken(t.later) {
			named = check.FormTaken
		}
		position := t.first.Position()
		if t.first.Path == t.later.Path {
			position = fmt.Sprintf("line %d", t.first.Line)
		}
		f := finding(check.NameTwice, named, refOf(t.later), "metadata.name", check.Duplicate{Position: position})
		all = append(all, Located{f, report.Source{Path: t.later.Path, Line: t.later.LineOf(f.Field)}})
	}
	return all
}

// TellTwins prints what exists in two forms.
func TellTwins(p *cli.Progress, in *Input, isTaken func(*manifest.Object) bool) {
	for _, f := range in.TwinFindings(isTaken) {
		p.Println(f.Line())
	}
}
