package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/extract/specimen"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
)

// What becomes of random Services.
const (
	stored         = "stored"
	refusedByBoth  = "refused for ports"
	otherReason    = "refused for another reason"
	keptByApply    = "number kept by apply, lost by replace"
	lostByApply    = "number lost by apply too"
	lostAnyway     = "number lost anyway"
	lostByReplace  = "number lost by replace"
	notCreateAgain = "kept but not created again"
	createdAgain   = "created again"

	noPatch               = "kubectl finds no patch for entries of one merge key"
	numbersOfExternalName = "an ExternalName with numbers, not stored"
)

// TestServicesAsTheAPIServer: over the lives of random Services, what a real API server without any hook refuses for
// their ports we refuse, and what it stores we let through; but for the sockets of the nodes' own daemons, of which it
// knows nothing. The ports that get another number are those that we name, and a Service that could not be created
// again is one of which we say so.
func TestServicesAsTheAPIServer(t *testing.T) {
	t.Parallel()
	cp := controlplane.Run(t, controlplane.Options{NodePortRange: nodePortRange})
	leaked := map[int32]bool{}
	mended := []seed.Mended{
		{Seed: 2508143059174462230, Was: "a LoadBalancer without allocated node ports becomes a NodePort Service by PUT: spec.ports[1] got another number, and no finding said so"},
		{Seed: 17659337258646369998, Was: "the test took a misspelled protocol for two entries that kubectl can tell apart"},
	}
	seed.Each(t, mended, func(t *testing.T, s uint64) {
		rounds := seed.Rounds(500, 5000)
		isMended := slices.ContainsFunc(mended, func(m seed.Mended) bool { return m.Seed == s })
		if isMended && !seed.Soaking() {
			rounds = 60
		}
		lives(t, newServiceCases(t, cp, specimen.FromSeed(s), leaked), rounds)
	})
	newServiceCases(t, cp, specimen.FromSeed(seed.Fixed), leaked).externalNames(t) // last: numbers stay taken
}

// lives has Services come, change and go.
func lives(t *testing.T, c *serviceCases, rounds int) {
	t.Helper()
	for range rounds {
		c.f.cases++
		c.create(t)
		for range c.draw.IntN(5) {
			if len(c.live) > 0 {
				c.change(t, pick(c.draw.places, c.live...))
			}
		}
		if len(c.live) > 8 {
			c.end(t, pick(c.draw.places, c.live...))
		}
	}
	for len(c.live) > 0 {
		c.end(t, c.live[0])
	}
	if rounds < 500 {
		return // too few to have drawn everything
	}
	c.f.check(t)
	for _, what := range []string{stored, refusedByBoth} {
		if n := c.f.seen[what]; n < c.f.cases/4 {
			t.Errorf("%s: %d in %d cases prove little", what, n, c.f.cases)
		}
	}
}

// serviceCases are the Services that there are, as the API server and as we see them.
type serviceCases struct {
	client   kubernetes.Interface
	settings *extract.Settings
	ledger   *ledger.Ledger // in step with what the API server stores
	draw     serviceFiles
	f        *features
	live     []*serviceCase
	leaked   map[int32]bool // numbers that the API server holds for nobody
	wrong    int
}

type serviceCase struct {
	stored  *corev1.Service
	applied *corev1.Service // the file that was sent last
}

func newServiceCases(t *testing.T, cp *controlplane.ControlPlane, source specimen.Source, leaked map[int32]bool) *serviceCases {
	t.Helper()
	config, err := configv1alpha1.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	config.NodePortRange = nodePortRange
	c := &serviceCases{ledger: &ledger.Ledger{}, leaked: leaked, draw: serviceFiles{places: places{source}}}
	if c.settings, err = extract.NewSettings(config); err != nil {
		t.Fatal(err)
	}
	if c.client, err = kubernetes.NewForConfig(cp.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	c.f = newFeatures("create", "replace from a file", "replace what is stored", "apply", "change of type",
		"ClusterIP", "headless", "NodePort", "LoadBalancer", "ExternalName", "TCP", "UDP", "SCTP",
		"number written", "number left out", "number outside the range", "number taken", "one number twice", "no nodePorts allocated",
		"healthCheckNodePort", "externalTrafficPolicy Local", "wrong case", "one port, two protocols",
		stored, refusedByBoth, otherReason, lostByReplace, lostAnyway, keptByApply, lostByApply, notCreateAgain, createdAgain, noPatch, numbersOfExternalName,
		string(check.ServiceSelfClash), string(check.NodePortWithoutUse), string(check.WrongCase), string(check.HealthCheckFixed),
		string(check.Held), string(check.OutsideRange))
	return c
}

// wrongly reports a disagreement. A few of them are enough to see what is wrong.
func (c *serviceCases) wrongly(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Errorf(format, args...)
	if c.wrong++; c.wrong == 5 {
		t.FailNow()
	}
}

func (c *serviceCases) create(t *testing.T) {
	t.Helper()
	c.f.saw("create", true)
	c.draw.taken = c.taken()
	file := c.draw.file(fmt.Sprintf("s%d", c.f.cases))
	findings := c.judge(file, nil)
	dryRun := c.dryRun(nil, file)
	got, err := c.client.CoreV1().Services("default").Create(t.Context(), file, metav1.CreateOptions{DryRun: dryRun})
	c.compare(t, "create", nil, file, findings, err)
	if err == nil && dryRun == nil {
		c.live = append(c.live, &serviceCase{got, file})
		c.record(got)
	}
}

// change replaces or applies a Service in a changed form.
func (c *serviceCases) change(t *testing.T, s *serviceCase) {
	t.Helper()
	c.draw.taken = c.taken()
	switch c.draw.IntN(3) {
	case 0:
		c.f.saw("replace what is stored", true)
		c.replace(t, s, c.draw.edit(s.stored.DeepCopy()), false)
	case 1:
		c.f.saw("replace from a file", true)
		c.replace(t, s, c.draw.edit(s.applied.DeepCopy()), true)
	default:
		c.f.saw("apply", true)
		c.apply(t, s, c.draw.edit(s.applied.DeepCopy()))
	}
}

func (c *serviceCases) replace(t *testing.T, s *serviceCase, file *corev1.Service, isFile bool) {
	t.Helper()
	findings := c.judge(file, s.stored)
	dryRun := c.dryRun(s.stored, file)
	got, err := c.client.CoreV1().Services("default").Update(t.Context(), file, metav1.UpdateOptions{DryRun: dryRun})
	c.compare(t, "replace", s.stored, file, findings, err)
	if err != nil || dryRun != nil {
		return
	}
	c.compareNumbers(t, s.stored, file, got, findings)
	if s.stored = got; isFile {
		s.applied = file
	}
	c.record(got)
}

// apply does what kubectl apply does without --server-side: a patch of what the new file changes in the old one and in
// what is stored.
func (c *serviceCases) apply(t *testing.T, s *serviceCase, file *corev1.Service) {
	t.Helper()
	meta, err := strategicpatch.NewPatchMetaFromStruct(corev1.Service{})
	if err != nil {
		t.Fatal(err)
	}
	current, merged := asJSON(t, s.stored), &corev1.Service{}
	patch, err := strategicpatch.CreateThreeWayMergePatch(asJSON(t, s.applied), asJSON(t, file), current, meta, true)
	if err == nil {
		var text []byte
		if text, err = strategicpatch.StrategicMergePatchUsingLookupPatchMeta(current, patch, meta); err == nil {
			err = json.Unmarshal(text, merged)
		}
	}
	if err != nil {
		c.f.saw(noPatch, true)
		if !c.haveOneKey(file, s.applied, s.stored) {
			t.Fatalf("apply %s\nafter %s\nover %s\n%v", summary(file), summary(s.applied), summary(s.stored), err)
		}
		return
	}
	findings := c.judge(merged, s.stored)
	dryRun := c.dryRun(s.stored, merged)
	got, err := c.client.CoreV1().Services("default").Patch(t.Context(), file.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{DryRun: dryRun})
	c.compare(t, "apply", s.stored, merged, findings, err)
	if err != nil || dryRun != nil {
		return
	}
	c.compareApplied(t, s, file, got)
	s.stored, s.applied = got, file
	c.record(got)
}

// dryRun keeps the API server from storing an ExternalName with numbers of its own, after which its book is wrong: see
// externalNames.
func (c *serviceCases) dryRun(old, svc *corev1.Service) []string {
	if svc.Spec.Type != corev1.ServiceTypeExternalName {
		return nil
	}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 && (old == nil || hasNoNumbers(old) || writing(old, p.NodePort) == 0) {
			c.f.saw(numbersOfExternalName, true)
			return []string{metav1.DryRunAll}
		}
	}
	return nil
}

// externalNames shows where the API server is wrong: it does not look at the numbers of an
// ExternalName, but takes them for its own when the type changes, and frees them when it is deleted, whoever holds them.
func (c *serviceCases) externalNames(t *testing.T) {
	t.Helper()
	services := c.client.CoreV1().Services("default")
	service := func(name string, kind corev1.ServiceType) *corev1.Service {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
		svc.Spec.Type, svc.Spec.Ports = kind, []corev1.ServicePort{{Port: 80, NodePort: 30099}}
		if kind == corev1.ServiceTypeExternalName {
			svc.Spec.ExternalName = "example.com"
		}
		return svc
	}
	created := func(svc *corev1.Service) *corev1.Service {
		t.Helper()
		got, err := services.Create(t.Context(), svc, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	c.record(created(service("holder", corev1.ServiceTypeNodePort)))
	external, wanted := created(service("external", corev1.ServiceTypeExternalName)), service("external", corev1.ServiceTypeNodePort)
	if _, err := services.Update(t.Context(), wanted, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil || !hasCode(c.judge(wanted, external), check.Held) {
		t.Errorf("an ExternalName becomes a NodePort with a number that is taken: the API server says %v, we find %+v", err, c.judge(wanted, external))
	}
	if err := services.Delete(t.Context(), external.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	second := service("second", corev1.ServiceTypeNodePort)
	if _, err := services.Create(t.Context(), second, metav1.CreateOptions{}); err != nil || !hasCode(c.judge(second, nil), check.Held) {
		t.Errorf("a number that a deleted ExternalName had: the API server says %v, we find %+v", err, c.judge(second, nil))
	}
}

// haveOneKey reports whether we say of one of the Services that entries have one merge key, or one port and protocol, or
// that a protocol is misspelled, so that nobody can tell.
func (c *serviceCases) haveOneKey(services ...*corev1.Service) bool {
	return slices.ContainsFunc(services, func(svc *corev1.Service) bool {
		findings := c.judge(svc, nil)
		return hasCode(findings, check.OneMergeKey) || hasCode(findings, check.ServiceSelfClash) || hasCode(findings, check.WrongCase)
	})
}

// asJSON is a Service as a file has it.
func asJSON(t *testing.T, svc *corev1.Service) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": svc.ObjectMeta, "spec": svc.Spec})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// end deletes a Service and tries to create the same one under another name.
func (c *serviceCases) end(t *testing.T, s *serviceCase) {
	t.Helper()
	c.live = slices.DeleteFunc(c.live, func(other *serviceCase) bool { return other == s })
	services := c.client.CoreV1().Services("default")
	said := hasCode(c.judge(s.stored, s.stored), check.CreateRefuses)
	if err := services.Delete(t.Context(), s.stored.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.ledger.Release(extract.Service(s.stored, c.settings.NodePorts).Owner.Ref)
	again := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: s.stored.Name + "-again"}, Spec: *s.stored.Spec.DeepCopy()}
	if again.Spec.ClusterIP != corev1.ClusterIPNone {
		again.Spec.ClusterIP, again.Spec.ClusterIPs = "", nil
	}
	_, err := services.Create(t.Context(), again, metav1.CreateOptions{})
	c.f.saw(notCreateAgain, err != nil)
	c.f.saw(createdAgain, err == nil)
	if said != (err != nil) {
		c.wrongly(t, "stored %s\ncreated again: %v, we say that a create is refused: %v", summary(s.stored), err, said)
	}
	if err != nil {
		return
	}
	if err := services.Delete(t.Context(), again.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *serviceCases) record(svc *corev1.Service) {
	s := extract.Service(svc, c.settings.NodePorts)
	c.ledger.Replace(s.Owner, s.Claims)
}

// taken are the numbers that Services hold.
func (c *serviceCases) taken() []int32 {
	var taken []int32
	for _, s := range c.live {
		for _, p := range s.stored.Spec.Ports {
			taken = append(taken, p.NodePort)
		}
		taken = append(taken, s.stored.Spec.HealthCheckNodePort)
	}
	return slices.DeleteFunc(taken, func(n int32) bool { return n == 0 })
}

// judge runs every check, as before any number has been chosen.
func (c *serviceCases) judge(svc, old *corev1.Service) []check.Finding {
	in := check.Input{Service: extract.Service(svc, c.settings.NodePorts), Held: c.ledger.Snapshot(), Settings: &c.settings.Check}
	if old != nil {
		in.OldService = extract.Service(old, c.settings.NodePorts)
	}
	return check.Check(in)
}

// compare holds our errors to the API server's answer.
func (c *serviceCases) compare(t *testing.T, how string, old, svc *corev1.Service, findings []check.Finding, err error) {
	t.Helper()
	c.count(old, svc)
	var errs []check.Finding
	for _, f := range findings {
		if f.Severity == check.Error && !f.Standing && f.Code != check.DaemonSocket {
			errs = append(errs, f)
		}
	}
	forPorts, other := reasons(t, err)
	c.f.saw(stored, err == nil)
	c.f.saw(refusedByBoth, forPorts)
	c.f.saw(otherReason, !forPorts && other)
	for _, f := range errs {
		c.f.saw(string(f.Code), forPorts)
	}
	if forPorts && len(errs) == 0 && c.isLeaked(t, err) {
		return
	}
	if err == nil && len(errs) > 0 || forPorts && len(errs) == 0 {
		c.wrongly(t, "%s %s\nover %s\nthe API server says %v\nwe find %+v\nheld: %v", how, summary(svc), summary(old), err, errs, c.taken())
	}
}

// maxLeaked is how many numbers a run may find leaked before it is no accident.
const maxLeaked = 3

// isLeaked reports whether a number is refused as taken that no Service has: the API server's book has lost one, as it may
// when an update is tried again, and frees it some minutes later (kube-apiserver's repair loop). A Service of its own that
// asks for the number proves it.
func (c *serviceCases) isLeaked(t *testing.T, refusal error) bool {
	t.Helper()
	m := regexp.MustCompile(`Invalid value: (\d+): provided port is already allocated`).FindStringSubmatch(refusal.Error())
	if m == nil {
		return false
	}
	number, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil || slices.Contains(c.taken(), int32(number)) {
		return false
	}
	probe := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 1, NodePort: int32(number)}},
	}}
	services := c.client.CoreV1().Services("default")
	if _, err := services.Create(t.Context(), probe, metav1.CreateOptions{}); err == nil {
		if err := services.Delete(t.Context(), probe.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		return false
	}
	t.Logf("the API server has leaked %d: %v", number, refusal)
	if c.leaked[int32(number)] = true; len(c.leaked) > maxLeaked {
		t.Errorf("%d numbers are leaked: that is no accident", len(c.leaked))
	}
	return true
}

// reasons reports whether the API server refuses for ports, and whether for anything else. A taken health check number
// and the like are internal errors, which only say so in words.
func reasons(t *testing.T, err error) (forPorts, other bool) {
	t.Helper()
	if err == nil {
		return false, false
	}
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		t.Fatal(err)
	}
	status := answer.Status()
	if status.Details == nil || !apierrors.IsInvalid(err) {
		if text := strings.ToLower(status.Message); !strings.Contains(text, "nodeport") {
			t.Fatal(err)
		}
		return true, false
	}
	for _, cause := range status.Details.Causes {
		isName := strings.HasSuffix(cause.Field, ".name")
		isOfPorts := strings.HasPrefix(cause.Field, "spec.ports[") && !isName || cause.Field == "spec.healthCheckNodePort"
		isOfCase := cause.Type == metav1.CauseTypeFieldValueNotSupported
		forPorts = forPorts || isOfPorts || isOfCase
		other = other || !isOfPorts && !isOfCase
	}
	return forPorts, other
}

func (c *serviceCases) count(old, svc *corev1.Service) {
	spec := &svc.Spec
	c.f.saw("change of type", old != nil && old.Spec.Type != spec.Type)
	c.f.saw("headless", spec.ClusterIP == corev1.ClusterIPNone)
	for _, kind := range []string{"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"} {
		c.f.saw(kind, string(spec.Type) == kind)
	}
	c.f.saw("no nodePorts allocated", spec.AllocateLoadBalancerNodePorts != nil && !*spec.AllocateLoadBalancerNodePorts)
	c.f.saw("healthCheckNodePort", spec.HealthCheckNodePort != 0)
	c.f.saw("externalTrafficPolicy Local", spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal)
	c.f.saw("wrong case", len(extract.Service(svc, c.settings.NodePorts).Misspelled) > 0)
	held := c.taken()
	numbers, ports := map[int32]bool{}, map[int32]bool{}
	for _, p := range spec.Ports {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
			c.f.saw(string(protocol), p.Protocol == protocol)
		}
		c.f.saw("number left out", p.NodePort == 0)
		c.f.saw("number written", p.NodePort != 0)
		c.f.saw("number outside the range", p.NodePort != 0 && (p.NodePort < 30000 || p.NodePort > 30099))
		c.f.saw("number taken", old == nil && slices.Contains(held, p.NodePort))
		c.f.saw("one number twice", p.NodePort != 0 && numbers[p.NodePort])
		c.f.saw("one port, two protocols", ports[p.Port])
		numbers[p.NodePort], ports[p.Port] = true, true
	}
}

// compareNumbers holds what we say of ports that get another number to what a replacement did. A number that the file
// gives to another entry was moved by the file, not by the API server, unless entries shared it.
func (c *serviceCases) compareNumbers(t *testing.T, old, file, got *corev1.Service, findings []check.Finding) {
	t.Helper()
	changes := numberChanges(findings)
	for i, p := range file.Spec.Ports {
		now := got.Spec.Ports[i].NodePort
		f, said := changes[i]
		c.f.saw(lostByReplace, said && f.Case == check.LostByReplace)
		c.f.saw(lostAnyway, said && f.Case == check.LostAnyway)
		if said && int(now) == int(f.Detail.(check.LostPort).NodePort) {
			c.wrongly(t, "replace %s\nover %s\ngives %s\nspec.ports[%d] keeps its number, we find %+v", summary(file), summary(old), summary(got), i, f)
		}
		for _, was := range old.Spec.Ports {
			isSame := was.Port == p.Port && was.Protocol == got.Spec.Ports[i].Protocol || was.Name == p.Name
			moved := p.NodePort == 0 && was.NodePort != 0 && now != 0 && now != was.NodePort && writing(file, was.NodePort) < writing(old, was.NodePort)
			if isSame && moved && !said {
				c.wrongly(t, "replace %s\nover %s\ngives %s\nspec.ports[%d] gets another number, we find %+v", summary(file), summary(old), summary(got), i, findings)
			}
		}
	}
}

// writing counts the entries that have a number.
func writing(svc *corev1.Service, number int32) int {
	n := 0
	for _, p := range svc.Spec.Ports {
		if p.NodePort == number {
			n++
		}
	}
	return n
}

// numberChanges are the findings of that code by the index of the port entry.
func numberChanges(findings []check.Finding) map[int]check.Finding {
	changes := map[int]check.Finding{}
	for _, f := range findings {
		var i int
		if _, err := fmt.Sscanf(f.Field, "spec.ports[%d].", &i); f.Code == check.NumberChanges && err == nil {
			changes[i] = f
		}
	}
	return changes
}

// compareApplied holds what we say of a file that leaves numbers out to what applying it did. Where two entries have
// one merge key, which is a finding of its own, nobody can tell; and what the file before had written is taken back by
// leaving it out.
func (c *serviceCases) compareApplied(t *testing.T, s *serviceCase, file, got *corev1.Service) {
	t.Helper()
	findings := c.judge(file, s.stored)
	if c.haveOneKey(file, s.applied, s.stored) {
		return
	}
	for i, f := range numberChanges(findings) {
		kept := slices.ContainsFunc(got.Spec.Ports, func(p corev1.ServicePort) bool {
			return p.Port == file.Spec.Ports[i].Port && fmt.Sprint(p.NodePort) == f.Key()
		})
		wrote := slices.ContainsFunc(s.applied.Spec.Ports, func(p corev1.ServicePort) bool {
			return p.Port == file.Spec.Ports[i].Port && p.NodePort != 0
		})
		switch {
		case f.Case == check.LostByReplace && wrote:
		case kept != (f.Case == check.LostByReplace):
			c.wrongly(t, "apply %s\nafter %s\nover %s\ngives %s\nspec.ports[%d] keeps its number: %v, we find %+v",
				summary(file), summary(s.applied), summary(s.stored), summary(got), i, kept, f)
		default:
			c.f.saw(keptByApply, kept)
			c.f.saw(lostByApply, !kept)
		}
	}
}
