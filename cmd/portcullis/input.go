package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	builtin "k8s.io/client-go/kubernetes/scheme"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// reading are the flags of the commands that read files.
type reading struct {
	exclude []string
	unnamed string // namespace of objects that name none; "": default
}

func (r *reading) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&r.exclude, "exclude", nil, "leave out what `GLOB` matches of the files, as a line of "+manifest.IgnoreFile+" does; may be repeated")
}

// input is what was read of files, or of a cluster.
type input struct {
	manifest.Input
	twice   []twin // what stands there in two forms
	ofFiles bool
}

// twin is an object of which another form stands in the input before it.
type twin struct {
	first, later *manifest.Object
}

// read reads the objects of paths. Of an object that stands there several times the newest resourceVersion is taken, and
// equal ones once. The error is about the paths; what cannot be read is in the input.
func (r *reading) read(paths []string, s streams, p *progress) (*input, error) {
	in, err := manifest.Read(paths, manifest.Options{
		Stdin: s.in, Scheme: kinds(), Exclude: r.exclude, Tell: func(now manifest.Progress) {
			p.say(fmt.Sprintf("reading file %s of %s, %s MB so far", grouped(now.Files), grouped(now.All), grouped(int(now.Bytes/1e6))))
		},
	})
	if err != nil {
		return nil, err
	}
	for _, skipped := range in.Skipped {
		if skipped.Line == 0 { // documents that are no objects are counted
			p.println("skipped " + skipped.String())
		}
	}
	if r.unnamed != "" {
		for _, o := range in.Objects {
			if m, err := meta.Accessor(o.Object); err == nil && m.GetNamespace() == "" && !isClusterScoped(o.Object) {
				m.SetNamespace(r.unnamed)
			}
		}
	}
	out := &input{Input: in, ofFiles: true}
	out.Objects, out.twice = once(in.Objects)
	return out, nil
}

// once leaves out objects that stand in the input several times, where it is plain which of them counts. Kinds that no port
// depends on are left as they are.
func once(objects []*manifest.Object) ([]*manifest.Object, []twin) {
	places := map[report.Object][]int{} // of the forms that are kept
	kept := make([]*manifest.Object, 0, len(objects))
	for _, object := range objects {
		if !matters(object.Object) || isNameless(object.Object) {
			kept = append(kept, object)
			continue
		}
		name := named(object)
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
		if object == nil || !matters(object.Object) || isNameless(object.Object) {
			continue
		}
		if first := places[named(object)][0]; first < i {
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

// readWhole is read for a command that makes nothing of a part: its error is about everything that is not read.
func (r *reading) readWhole(paths []string, s streams, p *progress) ([]*manifest.Object, error) {
	in, err := r.read(paths, s, p)
	if err != nil {
		return nil, err
	}
	for _, f := range in.unread() {
		err = errors.Join(err, errors.New(f.line()))
	}
	tellTwins(p, in, isLatest)
	tellTooWide(p, in.Objects)
	return in.latest(), err
}

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
func (in *input) latest() []*manifest.Object {
	gone := map[*manifest.Object]bool{}
	latest := map[report.Object]*manifest.Object{}
	for _, t := range in.twice {
		name := named(t.later)
		gone[t.first], gone[latest[name]] = true, true
		latest[name] = t.later
	}
	return slices.DeleteFunc(slices.Clone(in.Objects), func(o *manifest.Object) bool { return gone[o] })
}

// forms returns the objects with every form of what claims ports, as each holds what it claims, and of everything else the later
// one of two forms alone.
func (in *input) forms() []*manifest.Object {
	kept := map[*manifest.Object]bool{}
	for _, o := range in.latest() {
		kept[o] = true
	}
	return slices.DeleteFunc(slices.Clone(in.Objects), func(o *manifest.Object) bool { return !kept[o] && !claimsPorts(o.Object) })
}

// isLatest, isNoForm and isNever are what twins are told by, where latest, forms and all objects count.
func isLatest(*manifest.Object) bool { return true }

func isNoForm(o *manifest.Object) bool { return !claimsPorts(o.Object) }

func isNever(*manifest.Object) bool { return false }

// located is a finding and where it is shown.
type located struct {
	check.Finding
	source report.Source
}

// unread returns what was not read, as findings: files and documents, and fields of objects by which ports are judged.
func (in *input) unread() []located {
	all := in.unreadFiles()
	for _, o := range in.Objects {
		for _, f := range unreadOf(o) {
			if f.Severity == check.Error {
				all = append(all, located{f, report.Source{Path: o.Path, Line: o.LineOf(f.Field)}})
			}
		}
	}
	return all
}

// unreadFiles returns the files and documents that were not read, as findings.
func (in *input) unreadFiles() []located {
	var all []located
	for _, err := range in.Unread {
		all = append(all, located{finding(check.Unread, "", ports.Ref{}, "", check.Unreadable{Err: err.Err}), report.Source{Path: err.Path, Line: err.Line}})
	}
	return all
}

// unreadOf returns what was not read of an object as findings.
func unreadOf(o *manifest.Object) []check.Finding {
	var all []check.Finding
	for _, m := range o.Misfits {
		code, named := check.FieldUnread, check.Case("")
		switch {
		case m.Known != "" && matters(o.Object):
			code = check.FieldWrongCase
		case m.Known != "":
			continue
		case !matters(o.Object):
			named = check.NoMatterOfPorts
		case isUntyped(o.Object):
			named = check.WholeObject
		case claimsPorts(o.Object) && isPortNumber(m.Field):
			code, named = check.PortInvalid, check.NotANumber
		}
		var detail check.Detail = check.Unreadable{Err: m.Err}
		if code == check.FieldWrongCase {
			detail = check.Text{Known: m.Known}
		}
		all = append(all, finding(code, named, refOf(o), m.Field, detail))
	}
	return all
}

// isPortNumber reports whether a field is one that a port's number stands in.
func isPortNumber(field string) bool {
	switch field[strings.LastIndex(field, ".")+1:] {
	case "port", "nodePort", "targetPort", "containerPort", "hostPort", "healthCheckNodePort":
		return true
	default:
		return false
	}
}

// isMissed reports whether a finding is only about what was not read of an object, which is a finding of its own.
func isMissed(o *manifest.Object, f check.Finding) bool {
	return f.Code == check.PortInvalid && slices.ContainsFunc(o.Misfits, func(m manifest.Misfit) bool {
		field := m.Field
		if m.Known != "" {
			field = field[:strings.LastIndex(field, ".")+1] + m.Known
		}
		return f.Field == field
	})
}

// twins returns the objects that stand in the input in two forms as findings about the later one. isTaken reports whether that one
// alone counts.
func (in *input) twins(isTaken func(*manifest.Object) bool) []located {
	var all []located
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
		all = append(all, located{f, report.Source{Path: t.later.Path, Line: t.later.LineOf(f.Field)}})
	}
	return all
}

func finding(code check.Code, named check.Case, object ports.Ref, field string, detail check.Detail) check.Finding {
	return check.Finding{Code: code, Case: named, Severity: check.SeverityOf(code, named), Object: object, Field: field, Detail: detail}
}

// refOf names an object as reports do.
func refOf(o *manifest.Object) ports.Ref {
	name := named(o)
	return ports.Ref{APIVersion: name.APIVersion, Kind: name.Kind, Namespace: name.Namespace, Name: name.Name}
}

// existing returns the objects for a command that makes no findings. It prints what was not read, what stands there
// twice, and of which kinds nothing is known. incomplete ends the command with exitFindings once it has said what it can; err is that there is nothing.
func (in *input) existing(p *progress) (objects []*manifest.Object, incomplete, err error) {
	incomplete, err = in.tell(p, isLatest)
	return in.latest(), incomplete, err
}

// existingForms is existing with every form of what claims ports.
func (in *input) existingForms(p *progress) (objects []*manifest.Object, incomplete, err error) {
	incomplete, err = in.tell(p, isNoForm)
	return in.forms(), incomplete, err
}

func (in *input) tell(p *progress, isTaken func(*manifest.Object) bool) (incomplete, err error) {
	unread := in.unread()
	for _, f := range unread {
		p.println(f.line())
	}
	tellTwins(p, in, isTaken)
	if in.ofFiles {
		tellTooWide(p, in.Objects)
		if c := in.counts(); len(c.NotJudged) > 0 {
			p.println(c.Unjudged())
		}
	}
	if len(unread) > 0 {
		incomplete = &findingsError{n: len(unread)}
	}
	return incomplete, in.nothingRead()
}

// line is a finding in one line, on the terminal of who runs a command.
func (l located) line() string {
	if l.source.Path == "" { // of a cluster
		return fmt.Sprintf("%s: %s", l.Object, report.Sentence(l.Finding))
	}
	return report.NewLintReport().Add(l.Finding, l.source).String()
}

// counts returns how many objects are judged, and what is not.
func (in *input) counts() *report.Inputs {
	c := report.NewInputs()
	c.Skipped, c.Unread = len(in.Skipped), len(in.Unread)
	for _, o := range in.Objects {
		gvk := o.Object.GetObjectKind().GroupVersionKind()
		switch {
		case claimsPorts(o.Object):
			c.Judged++
		case isKnown(o.Object, gvk):
			c.WithoutPorts++
		default:
			c.CountNotJudged(gvk.GroupVersion().String(), gvk.Kind)
		}
	}
	return c
}

// countsWith returns the counts of inputs, and what is not judged, not read or skipped of the state too.
func (in *input) countsWith(state *input) *report.Inputs {
	c, of := in.counts(), state.counts()
	c.Skipped, c.Unread = c.Skipped+of.Skipped, c.Unread+of.Unread
	for _, k := range of.NotJudged {
		for range k.Count {
			c.CountNotJudged(k.APIVersion, k.Kind)
		}
	}
	return c
}

// ofTheFiles returns the counts of files, for a report that tells nothing of a cluster's.
func (in *input) ofTheFiles() *report.Inputs {
	if !in.ofFiles {
		return nil
	}
	return in.counts()
}

// isKnown reports whether an object is of a kind that is known to claim no ports: one of ours, or of Kubernetes itself in
// any version that is not that of a workload.
func isKnown(object runtime.Object, kind schema.GroupVersionKind) bool {
	switch kind.Group {
	case v1alpha1.Group, "config.portcullis.dev", "apiextensions.k8s.io", "apiregistration.k8s.io":
		return true
	}
	if !isUntyped(object) {
		return true
	}
	for _, version := range builtin.Scheme.VersionsForGroupKind(kind.GroupKind()) {
		made, err := builtin.Scheme.New(version.WithKind(kind.Kind))
		return err == nil && !claimsPorts(made)
	}
	return false
}

func isUntyped(object runtime.Object) bool {
	_, untyped := object.(*unstructured.Unstructured)
	return untyped
}

// matters reports whether ports are judged by objects of this kind.
func matters(object runtime.Object) bool {
	switch object.(type) {
	case *discoveryv1.EndpointSlice:
		return true
	case *corev1.Endpoints: //nolint:staticcheck // clusters still have them
		return true
	default:
		return claimsPorts(object) || isClusterScoped(object)
	}
}

// nothingRead is an error if there is no object in the files, with the reasons as far as they are known.
func (in *input) nothingRead() error {
	if len(in.Objects) > 0 || !in.ofFiles {
		return nil
	}
	const few = 3
	parts := []string{"nothing could be judged: no Kubernetes object could be read"}
	reasons := slices.Clone(in.Skipped)
	slices.SortStableFunc(reasons, func(a, b manifest.Skipped) int { return cmp.Compare(a.Path, b.Path) })
	for i, s := range reasons {
		if i == few {
			parts = append(parts, fmt.Sprintf("and %d more", len(reasons)-few))
			break
		}
		parts = append(parts, s.String())
	}
	return errors.New(strings.Join(parts, "; "))
}
