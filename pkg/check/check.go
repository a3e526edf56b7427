// Package check is the catalogue of checks, the same for the webhook, the command line and the audit.
//
// Check takes an Input: a Service or a Workload as plain values, its old version if there is one, a ledger.Snapshot of
// what others hold, pools, policies and Settings. It runs the checks one after the other and returns Findings, sorted: a
// Code, a Severity, the field, the holder. What the old version had already is marked as Standing. Settings.Enforce says
// what one finding does to a request, and Settings.Judge gives the Verdict over all of them. A Seeker is for placement:
// it says what keeps one pod from which node.
//
// A Code that can mean several things has Cases. Catalogue lists all codes, and docs/codes has a page for each.
//
// Package check does no I/O and knows no Kubernetes types: pkg/extract makes its values of objects, pkg/explain adds who
// gets the packets of a conflict, and pkg/report puts findings into words.
package check

import (
	"net/netip"
	"slices"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Input is one object to judge: a Service or a Workload, and its old version if the change is an update. A claim without an owner
// is the object's.
type Input struct {
	Service, OldService   *Service
	Workload, OldWorkload *Workload
	Held                  *ledger.Snapshot // what the object's own owner holds in it never counts against it; nil: nobody holds anything
	Evidence              *ledger.Snapshot // what others listen on without declaring it, to judge by their probes; nil: not known
	Settings              *Settings        // nil: the zero Settings, by which nothing is known of the cluster's configuration
	Families              Families         // of the cluster's pods
	ServiceRanges         []netip.Prefix   // from which cluster IPs are given; none: not known

	Pools      *Pools                              // nil: there are none
	Policies   []Policy                            // all of the cluster: those that do not select Namespace say nothing
	Namespace  map[string]string                   // the labels of the object's namespace; nil: those of Pools.Who
	NodeLabels func(node string) map[string]string // nil: not known
	Bound      bool                                // it is asked about a pod that is bound to its node: who may have ports was asked when it was created
	Now        time.Time                           // by which exceptions of policies end; zero: none does
	Checks     Set                                 // which checks; zero: all
	// Nowhere reports whether no node that there is suits the pods of a holder, by what they say of nodes. nil: not known.
	Nowhere func(holder ports.Ref) bool
	// Inherits says whether a controller excuses what Workload does: nil leaves it to what the ledger knows of controllers.
	Inherits *bool
	// Offered is what Check adds each number to that it offers instead of a held one (Finding.Instead), so that it offers
	// none twice. What is in it is not offered. nil: it offers nothing.
	Offered map[uint16]bool
	// Together reports whether a holder is to come with the object, as the other objects of a lint are: of two that take each
	// other's nodes either is then in the wrong. nil: all holders are there already, and keep the nodes that they have.
	Together func(holder ports.Ref) bool
}

// Families is which address families there are. None of them means that it is not known.
type Families struct {
	IPv4, IPv6 bool
}

// Or returns the families that either has.
func (f Families) Or(o Families) Families { return Families{f.IPv4 || o.IPv4, f.IPv6 || o.IPv6} }

// subject is what a check looks at: one version of the object.
type subject struct {
	service   *Service
	previous  *Service // the version before, for checks of the change itself
	workload  *Workload
	before    *Workload            // as previous
	comes     func(ports.Ref) bool // see Input.Together
	held      *ledger.Snapshot
	evidence  *ledger.Snapshot
	settings  *Settings
	families  Families
	ranges    []netip.Prefix
	pools     *Pools
	policies  []Policy
	namespace map[string]string
	labelsOf  func(node string) map[string]string
	now       time.Time
	nowhere   func(holder ports.Ref) bool
	met       []meeting             // who holds what a pod or template wants
	taken     taken                 // where that leaves no room
	templates map[ports.Ref]sockets // what the holders that were met claim themselves
}

// check finds what is wrong with a subject, in any order.
type check func(subject) []Finding

// Set names the checks to run.
type Set uint8

// The sets.
const (
	All        Set = iota
	OfRange        // whether nodePorts lie in the node port range
	OfPolicies     // what Input.Policies say
)

func (set Set) checks() []check {
	switch set {
	case OfRange:
		return []check{outsideRange}
	case OfPolicies:
		return []check{policies}
	case All:
	}
	return []check{
		hostIPs,
		socketsTwice,
		selfClashes,
		nodePortsWithoutUse,
		held,
		foreignIPs,
		workloadsMeet,
		undeclaredMeet,
		outsideRange,
		daemonSockets,
		hostPortsInNodePorts,
		portsInEphemeral,
		numbersInDynamicBand,
		rollouts,
		stricterThere,
		wrongCases,
		invalid,
		healthCheckChanges,
		numberChanges,
		createRefuses,
		oneMergeKeys,
		neverMapped,
		targetPortNames,
		endpointsApart,
		trafficPolicyChanges,
		hostAddresses,
		undeclaredSockets,
		foreignNumbers,
		poolLimits,
		policies,
		hostPortRequests,
	}
}

// Check runs every check on the object and returns the findings, sorted. What the old version had already, and
// what a controller that stands in the ledger with the same claims brings, is marked as standing.
func Check(in Input) []Finding {
	in.complete()
	templates := map[ports.Ref]sockets{}
	now := subject{
		service: in.Service, previous: in.OldService, workload: in.Workload, before: in.OldWorkload,
		comes: in.Together, held: in.Held, evidence: in.Evidence, settings: in.Settings, families: in.Families, ranges: in.ServiceRanges, templates: templates,
		pools: in.Pools, policies: in.Policies, namespace: in.Namespace, labelsOf: in.NodeLabels, now: in.Now, nowhere: in.Nowhere,
	}
	if in.Evidence != nil {
		if owners, _, _ := in.Evidence.Size(); owners == 0 {
			now.evidence = nil // nothing to look through
		}
	}
	if in.Namespace == nil && in.Pools != nil {
		now.namespace = in.Pools.Who.NamespaceLabels
	}
	findings := in.Checks.find(now)
	if len(findings) == 0 {
		return nil
	}
	if in.OldService != nil || in.OldWorkload != nil {
		stood := map[identity]bool{}
		then := now
		then.service, then.workload = in.OldService, in.OldWorkload
		if in.Pools != nil { // which select by labels
			before := *in.Pools
			before.Who.Labels = then.labels()
			then.pools = &before
		}
		for _, f := range in.Checks.find(then) {
			stood[f.identity()] = true
		}
		becomesActive := in.OldWorkload.IsIdle() && !in.Workload.IsIdle()
		for i := range findings {
			f := &findings[i]
			// Whoever took a port while the object wanted no pods has it.
			f.Standing = stood[f.identity()] && !(becomesActive && (f.Code == Held || f.Code == WorkloadsMeet))
		}
	}
	if in.Workload != nil && in.inherits() {
		for i := range findings {
			findings[i].Standing = true
		}
	}
	findings = in.Settings.saidOnce(unique(findings))
	if in.Service != nil && in.Offered != nil {
		now.offer(findings, in.Offered)
	}
	return findings
}

// complete fills in what can be derived where it is left out. It changes no object of the caller.
func (in *Input) complete() {
	if in.Settings == nil {
		in.Settings = &Settings{}
	}
	if in.Held == nil {
		in.Held = new(ledger.Ledger).Snapshot()
	}
	if in.Pools != nil && in.Pools.Set == nil {
		in.Pools = nil
	}
	for _, svc := range []**Service{&in.Service, &in.OldService} {
		if *svc != nil && (lacksOwner((*svc).Claims) || lacksOwner((*svc).Asked)) {
			owned := **svc
			owned.Claims, owned.Asked = ownedBy(&owned.Owner, owned.Claims), ownedBy(&owned.Owner, owned.Asked)
			*svc = &owned
		}
	}
	for _, w := range []**Workload{&in.Workload, &in.OldWorkload} {
		if *w != nil && (lacksOwner((*w).Claims) || lacksOwner((*w).Probed)) {
			owned := **w
			owned.Claims, owned.Probed = ownedBy(&owned.Owner, owned.Claims), ownedBy(&owned.Owner, owned.Probed)
			*w = &owned
		}
	}
}

func lacksOwner(claims []ports.Claim) bool {
	return slices.ContainsFunc(claims, func(c ports.Claim) bool { return c.Owner == nil })
}

func ownedBy(owner *ports.Owner, claims []ports.Claim) []ports.Claim {
	owned := slices.Clone(claims)
	for i := range owned {
		if owned[i].Owner == nil {
			owned[i].Owner = owner
		}
	}
	return owned
}

// find returns the findings of all checks of a set.
func (set Set) find(s subject) []Finding {
	var findings []Finding
	if set == All {
		s.meetHolders()
	}
	for _, q := range set.checks() {
		findings = append(findings, q(s)...)
	}
	for i := range findings {
		f := &findings[i]
		f.Severity = SeverityOf(f.Code, f.Case)
		// Two that take turns may want one port, as blue and green do. Who begins to want pods is judged then.
		if f.Idle = s.workload.IsIdle() && (f.Code == Held || f.Code == WorkloadsMeet); f.Idle {
			f.Severity = Info
		}
	}
	slices.SortFunc(findings, Finding.Compare)
	return withoutRepeats(findings)
}

// withoutRepeats leaves out that an undeclared port meets a holder who is met by what he holds as well.
func withoutRepeats(findings []Finding) []Finding {
	if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == UndeclaredMeet }) {
		return findings
	}
	type meeting struct {
		number string
		holder ports.Ref
	}
	met := map[meeting]bool{}
	for _, f := range findings {
		if f.Code == Held || f.Code == WorkloadsMeet {
			for _, h := range f.Holders() {
				met[meeting{f.Claim.PortProtocol(), h.Ref}] = true
			}
		}
	}
	return slices.DeleteFunc(findings, func(f Finding) bool {
		return f.Code == UndeclaredMeet && met[meeting{f.Claim.PortProtocol(), f.Holder.Ref}]
	})
}

// meetHolders finds out who holds what the workload wants.
func (s *subject) meetHolders() {
	s.met = s.meetings()
	s.taken = takenBy(s.met)
	s.taken.falsely = s.falselyTaken()
}

// inherits reports whether what the workload does is to be marked as its controller's.
func (in Input) inherits() bool {
	if in.Inherits != nil {
		return *in.Inherits
	}
	return isInherited(in.Workload, in.Held)
}

// isInherited reports whether one of w's controllers is in the ledger, active, with claims, and with all that w makes: the
// template was the place to refuse, and what already runs must be replaceable.
func isInherited(w *Workload, snapshot *ledger.Snapshot) bool {
	chain := snapshot.Chain(&w.Owner)
	for _, controller := range chain[1:] {
		_, claims, ok := snapshot.Owner(controller)
		covers := len(claims) > 0 || len(w.Unparsed) > 0 // one without claims covers nothing, except for hostIPs that claim nothing
		if ok && covers && CoversActively(claims, w.Claims) {
			return true
		}
	}
	return false
}

// IsIdle reports whether w wants no pods: it is scaled to nothing, suspended or finished.
func (w *Workload) IsIdle() bool { return w != nil && len(w.Claims) > 0 && w.Claims[0].Idle }

// CoversActively is Covers, and that had are claims of an object that wants pods.
func CoversActively(had, wanted []ports.Claim) bool {
	isIdle := len(had) > 0 && had[0].Idle
	return !isIdle && Covers(had, wanted)
}

// Covers reports whether had includes every socket of wanted, kinds and containers aside: a template of the host
// network has no hostPort yet and its pod has, and a pod may have got its hostIP by default.
func Covers(had, wanted []ports.Claim) bool {
	all, lasting := socketsOf(had), socketsOf(slices.DeleteFunc(slices.Clone(had), func(h ports.Claim) bool { return h.InitOnly }))
	return !slices.ContainsFunc(wanted, func(w ports.Claim) bool {
		by := lasting // a port that is held for a moment is no reason to hold it for long
		if w.InitOnly {
			by = all
		}
		_, ok := by.covering(w.Socket)
		return !ok
	})
}
