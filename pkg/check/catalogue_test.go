package check_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// cases lists the cases of each code, for TestCatalogueIsCovered.
func cases() map[check.Case]check.Code {
	all := map[check.Case]check.Code{}
	for code, named := range map[check.Code][]check.Case{
		check.ServiceSelfClash:   {check.SameNodePortTwice, check.SameNodePortSplit, check.HealthCheckIsOwn, check.SamePortTwice},
		check.NodePortWithoutUse: {check.NodePortIsLeftOver, check.NodePortIsIgnored},
		check.Held:               {check.HolderHasNoNode},
		check.WorkloadsMeet:      {check.EveryNodeTaken, check.SomeNodesTaken, check.TooManyTogether, check.LeavesNoNode, check.MayMeetThere},
		check.ForeignIP:          {check.NotGivenYet},
		check.UndeclaredMeet:     {check.ProbeConnects, check.ProbeOfHolder, check.InitListens, check.AskedFor},
		check.ForeignPool:        {check.NumberOfOthers, check.NumberOfDraining},
		check.PolicyNodePort:     {check.NoNodePorts, check.NumberNotAllowed, check.NumberOfNoPool, check.NumberWritten, check.LoadBalancerNumber},
		check.PolicyHostPort:     {check.NoHostPorts, check.SocketNotAllowed, check.NoHostNetwork, check.InRangeForbidden},
		check.PolicyReserved:     {check.ReservedThere, check.ReservedAll, check.ReservedLater, check.ReservedMaybe},
		check.PolicyExternalIP:   {check.NoExternalIPs, check.NoNodesExternalIP},
		check.ExceptionEnds:      {check.EndsSoon, check.HasEnded},
		check.HostPortRequested:  {check.NoSuchPort, check.OnHostNetwork},
		check.TooFewNodes:        {check.SomePodsWait, check.NoNodeSuits, check.FewerAtOnce},
		check.RolloutStalls:      {check.OneNode, check.NodesAllInUse},
		check.StricterThere:      {check.SchedulerStricter, check.KubeletStricter},
		check.NumberChanges:      {check.LostByReplace, check.LostAnyway},
		check.OneMergeKey:        {check.ServiceEntries, check.ContainerEntries},
		check.TargetPortName:     {check.NotOffered, check.OtherProtocol, check.OfferedTwice},
		check.EndpointsApart:     {check.OtherNamespace, check.OtherPortName},
		check.FamilyMismatch:     {check.FamilyAbsent, check.OneFamilyOnly},
		check.PortInvalid:        {check.NoPorts, check.NameMissing},
		check.FieldUnread:        {check.NoMatterOfPorts, check.WholeObject, check.TooManySockets},
		check.NameTwice:          {check.FormTaken},
	} {
		for _, c := range named {
			all[c] = code
		}
	}
	return all
}

// raisedElsewhere are the codes that need a walk through rules, which pkg/explain raises, that of a choice that fails, which
// is raised by whoever chooses, that of a request beside another one, which the webhook raises, that of an annotation, which
// whoever reads it raises, and those of reading files: their tests show them.
func raisedElsewhere() []check.Code {
	return []check.Code{
		check.Captured, check.PoolExhausted, check.InFlight, check.BadReservation,
		check.FieldWrongCase, check.Unread, check.FieldUnread, check.NameTwice, check.RestrictionInvalid,
	}
}

// TestCatalogueIsCovered shows that no code, and no case of one, is without an example and a guard.
func TestCatalogueIsCovered(t *testing.T) {
	shown := map[check.Case]bool{}
	for code, scenes := range found() {
		if _, ok := check.Lookup(code); !ok {
			t.Errorf("%s is not in the catalogue", code)
		}
		told := false
		for _, s := range scenes {
			for _, f := range s.findings() {
				told = told || f.Code == code
				shown[f.Case] = true
				if c, ok := cases()[f.Case]; f.Case != "" && (!ok || c != f.Code) {
					t.Errorf("%s: case %q is not listed here for it", f.Code, f.Case)
				}
			}
		}
		if !told {
			t.Errorf("%s: no scene shows it", code)
		}
	}
	for _, e := range check.Catalogue() {
		if slices.Contains(raisedElsewhere(), e.Code) {
			continue
		}
		if len(found()[e.Code]) == 0 || len(silent()[e.Code]) == 0 {
			t.Errorf("%s has %d examples and %d guards", e.Code, len(found()[e.Code]), len(silent()[e.Code]))
		}
		for named := range e.Cases {
			if cases()[named] != e.Code {
				t.Errorf("%s: case %q of the catalogue is not listed here", e.Code, named)
			}
		}
	}
	for named, code := range cases() {
		if !shown[named] && !slices.Contains(raisedElsewhere(), code) {
			t.Errorf("no scene shows the case %q", named)
		}
	}
}

func kinds() []string {
	return []string{"Service", "Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"}
}

// impossible gives the reason why a code cannot be found about a kind.
func impossible(code check.Code, kind string) string {
	const (
		noService   = "a Service has no containers"
		noWorkload  = "only a Service has it"
		noRollout   = "nothing rolls it out"
		noSurge     = "only a Deployment's old and new pods stand beside each other on different nodes"
		onlyDaemons = "only a DaemonSet's new pods come to the nodes of the old ones"
	)
	ofServices := []check.Code{
		check.ServiceSelfClash, check.NodePortWithoutUse, check.HealthCheckFixed, check.OutsideRange, check.InDynamicBand, check.OutsideSmaller,
		check.NumberChanges, check.CreateRefuses, check.TargetPortName, check.EndpointsApart, check.TrafficPolicy,
		check.PolicyNodePort, check.PolicyExternalIP, check.ForeignIP,
	}
	ofBoth := []check.Code{check.Held, check.UndeclaredMeet, check.DaemonSocket, check.InEphemeral, check.WrongCase, check.PortInvalid, check.PortNameTwice, check.OneMergeKey, check.ForeignPool, check.PoolLimit, check.PolicyReserved, check.ExceptionEnds}
	isService := kind == "Service"
	switch {
	case slices.Contains(raisedElsewhere(), code):
		return "Check never raises it"
	case slices.Contains(ofServices, code) && !isService:
		return noWorkload
	case isService && !slices.Contains(ofServices, code) && !slices.Contains(ofBoth, code):
		return noService
	case kind == "Pod" && code == check.TooFewNodes:
		return noRollout
	case kind == "DaemonSet" && code == check.TooFewNodes:
		return "a DaemonSet wants no more pods than there are nodes"
	case kind != "Deployment" && code == check.RolloutStalls:
		return noSurge
	case kind != "DaemonSet" && code == check.SurgeInPlace:
		return onlyDaemons
	default:
		return ""
	}
}

// TestCodesByKind goes through every code and every kind of object: each pair is found in some scene, be it one of another
// kind with the kind exchanged, or is declared impossible, and then it is found nowhere.
func TestCodesByKind(t *testing.T) {
	declared := 0
	for _, e := range check.Catalogue() {
		for _, kind := range kinds() {
			reason := impossible(e.Code, kind)
			if reason != "" {
				declared++
			}
			told := slices.ContainsFunc(found()[e.Code], func(s scene) bool { return s.of(kind).tells(e.Code, kind) })
			switch {
			case told && reason != "":
				t.Errorf("%s is found about a %s, though %s", e.Code, kind, reason)
			case !told && reason == "":
				t.Errorf("%s is found about no %s, and no reason is given", e.Code, kind)
			}
		}
	}
	t.Logf("%d pairs of %d are declared impossible", declared, len(check.Catalogue())*len(kinds()))
	if declared == 0 {
		t.Error("no pair is declared impossible: the table says nothing")
	}
}

var headOf = regexp.MustCompile(`^(\w+)( a\S*)( rolls \S+| runs \S+| surges \S+| ends \S+)?`)

// of returns the scene with the object, where it has a pod template or is a pod, of another kind that rolls out as that
// kind does.
func (s scene) of(kind string) scene {
	change := func(line string) string {
		m := headOf.FindStringSubmatch(line)
		if m == nil || m[1] == kind || m[1] == "Service" || kind == "Service" {
			return line
		}
		rollout := ""
		if number := firstNumber(m[3]); m[3] != "" {
			rollout = map[string]string{
				"Deployment": fmt.Sprintf(" rolls %s/1/0", number), "StatefulSet": " runs " + number, "ReplicaSet": " runs " + number,
				"ReplicationController": " runs " + number, "DaemonSet": " surges 0", "Job": " ends " + number, "CronJob": " ends " + number,
			}[kind]
		}
		return kind + m[2] + rollout + line[len(m[0]):]
	}
	s.old, s.now = change(s.old), change(s.now)
	return s
}

func firstNumber(clause string) string {
	words := strings.Fields(clause)
	if len(words) < 2 {
		return ""
	}
	number, _, _ := strings.Cut(words[1], "/")
	return number
}

func (s scene) tells(code check.Code, kind string) bool {
	if !strings.HasPrefix(s.now, kind+" ") {
		return false
	}
	return slices.ContainsFunc(s.findings(), func(f check.Finding) bool { return f.Code == code })
}
