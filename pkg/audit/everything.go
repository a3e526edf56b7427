package audit

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Everything judges all objects as what exists, and returns what is wrong, the worst first. Of two that clash the younger
// one is the offender, by its creationTimestamp, and where that is equal by its name; what a controller has made is as old
// as the controller, so that a pod that is replaced does not become the offender. What the template of a controller has
// wrong is told of the controller alone, with the nodes where its pods are; pods that clash on their nodes and whose
// template does not are told each.
//
// What was admitted once is found all the same, and nothing is marked as standing. tell, if it is not nil, is called after
// each object. Settings and the error are those of New.
func Everything(settings *extract.Settings, objects []runtime.Object, now time.Time, tell func(judged, all int)) ([]check.Finding, error) {
	j, err := New(settings, nil, objects, now)
	existing := j.byAge(objects)
	var findings []check.Finding
	for _, object := range objects {
		if node, ok := object.(*corev1.Node); ok {
			findings = append(findings, extract.BadReservations(node)...)
		}
	}
	var everyone ledger.Ledger
	for _, e := range existing {
		everyone.Replace(e.owner(), withForm(&everyone, e.owner().Ref, e.claims()))
	}
	j.limits.everyone = everyone.Snapshot()
	for i, e := range existing {
		findings = append(findings, j.exists(e)...)
		if tell != nil {
			tell(i+1, len(existing))
		}
	}
	held := j.ledger.Snapshot()
	findings = slices.DeleteFunc(findings, func(f check.Finding) bool { // that the two meet is said of the younger
		return f.Code == check.InNodePorts && held.IsNodePort(f.Claim.Port)
	})
	findings = toldOnce(findings, existing, held)
	for i := range findings {
		findings[i].Standing = false
	}
	slices.SortFunc(findings, func(a, b check.Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), a.Compare(b))
	})
	return check.Fold(slices.CompactFunc(findings, isSame)), err // two forms of one object may have the same wrong
}

// exists returns the findings about an object that is there.
func (j *Judge) exists(e entity) []check.Finding {
	in := check.Input{Service: e.service, Workload: e.workload}
	if e.stored {
		in.OldService = e.service // the API server has taken it: what matters is whether it would again
	}
	if e.isResting() {
		j.add(e.subject)
		return nil
	}
	findings := j.ask(in, e.subject)
	j.add(e.subject)
	return findings
}

// entity is an object that exists.
type entity struct {
	subject
	created time.Time // its own
	since   time.Time // that of the topmost controller that is known
	chain   []ports.Ref
	stored  bool // read back from an API server
}

// isResting reports whether an object is something that a controller keeps and does not want to run: a ReplicaSet of a
// revision that is gone, a Job that has ended. What it would want is nobody's concern.
func (e entity) isResting() bool {
	if e.workload == nil || e.workload.Owner.Controller == nil {
		return false
	}
	claims := e.workload.Claims
	return len(claims) > 0 && !slices.ContainsFunc(claims, func(c ports.Claim) bool { return !c.Idle })
}

// idle is 1 for a workload that wants no pods: it holds nothing, so that whoever has what it would want has it first.
func (e entity) idle() int {
	if e.workload.IsIdle() {
		return 1
	}
	return 0
}

// planned is 1 for an object that nobody has created yet: a manifest beside what exists.
func (e entity) planned() int {
	if e.since.IsZero() {
		return 1
	}
	return 0
}

// byAge reads objects and sorts them by their age, what controllers have made after these, then what is not created yet, and what is
// idle last.
func (j *Judge) byAge(objects []runtime.Object) []entity {
	var all []entity
	var owners ledger.Ledger
	named := map[ports.Ref]bool{}
	for _, object := range objects {
		if pod, ok := object.(*corev1.Pod); ok && isOfNoConcern(pod) {
			continue
		}
		s, ok := j.read(object)
		if !ok {
			continue
		}
		e := entity{subject: s, stored: isStored(object)}
		if !e.stored {
			s.validate(object)
			s.name(named)
			named[s.owner().Ref] = true
		}
		if m, err := meta.Accessor(object); err == nil {
			e.created = m.GetCreationTimestamp().Time
		}
		if e.workload != nil {
			owners.Replace(e.owner(), nil)
		}
		all = append(all, e)
	}
	created := make(map[ports.Ref]time.Time, len(all))
	for _, e := range all {
		if other, isForm := created[e.owner().Ref]; !isForm || e.created.Before(other) {
			created[e.owner().Ref] = e.created
		}
	}
	known := owners.Snapshot()
	for i := range all {
		e := &all[i]
		owner := e.owner()
		e.chain = known.Chain(&owner)
		for _, ref := range e.chain {
			if since, ok := created[ref]; ok {
				e.since = since
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entity) int {
		return cmp.Or(cmp.Compare(a.idle(), b.idle()), cmp.Compare(a.planned(), b.planned()), a.since.Compare(b.since), a.root().Compare(b.root()), cmp.Compare(len(a.chain), len(b.chain)),
			a.created.Compare(b.created), a.owner().Compare(b.owner().Ref),
			slices.CompareFunc(a.claims(), b.claims(), ports.Claim.Compare))
	})
	return all
}

// isOfNoConcern reports whether nothing is asked about a pod: it has ended, or it names no port of its node, as nearly all
// pods of a large cluster do not.
func isOfNoConcern(pod *corev1.Pod) bool {
	return extract.IsFinished(pod) || !pod.Spec.HostNetwork && len(pod.Annotations) == 0 && !extract.MayClaim(pod)
}

func (e entity) root() ports.Ref { return e.chain[len(e.chain)-1] }

// dedupKey is what makes the finding about a pod that of its template.
type dedupKey struct {
	object ports.Ref
	code   check.Code
	number string
	value  string
	holder ports.Ref
}

// dedupKeys returns the keys of a finding, taken for one about object: one for each holder.
func dedupKeys(f check.Finding, object ports.Ref) []dedupKey {
	key := dedupKey{object: object, code: f.Code, number: f.Claim.PortProtocol(), value: f.Key()}
	if f.Code == check.WorkloadsMeet {
		key.code = check.Held // what a template meets on some of its nodes a pod meets on its own
	}
	if f.Holder == nil {
		return []dedupKey{key}
	}
	var keys []dedupKey
	for _, h := range f.Holders() {
		key.holder = h.Ref
		keys = append(keys, key)
	}
	return keys
}

// toldOnce leaves out what the topmost controller is found to have wrong too, and no less. The nodes where its pods are found are
// added to what is told of it.
func toldOnce(findings []check.Finding, existing []entity, held *ledger.Snapshot) []check.Finding {
	places := make(map[dedupKey]int, len(findings))
	chains := map[ports.Ref][]ports.Ref{}
	for i, f := range findings {
		for _, key := range dedupKeys(f, f.Object) {
			if _, again := places[key]; !again {
				places[key] = i
			}
		}
		chains[f.Object] = nil
	}
	for _, e := range existing {
		if _, found := chains[e.owner().Ref]; found {
			owner := e.owner()
			chains[owner.Ref] = held.Chain(&owner)
		}
	}
	var told []check.Finding
	nodes := map[int][]string{} // to add, by place
	keep := make([]bool, len(findings))
	for i, f := range findings {
		keep[i] = true
		for _, controller := range slices.Backward(chains[f.Object]) {
			if controller == f.Object {
				break
			}
			place, all := 0, true // that of the holder who is named first
			for _, key := range slices.Backward(dedupKeys(f, controller)) {
				found, ok := places[key]
				place, all = found, all && ok
			}
			if all && findings[place].Severity >= f.Severity {
				nodes[place], keep[i] = append(nodes[place], f.Nodes...), false
				break
			}
		}
	}
	for i, f := range findings {
		if more := nodes[i]; len(more) > 0 {
			f.Nodes = slices.Compact(slices.Sorted(slices.Values(append(more, f.Nodes...))))
		}
		if keep[i] {
			told = append(told, f)
		}
	}
	return told
}
