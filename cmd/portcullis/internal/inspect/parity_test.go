package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/audit"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/webhook"
)

// TestParity asks the commands and the webhook about the same random clusters. These are contradictions, and there must be none:
//
//	ports N and the webhook   what would become of a new nodePort or hostPort is another outcome than that of the request
//	ports N with itself       a hostPort is not refused, and there is no node with it free; a nodePort is not refused, and
//	                          somebody holds it on a node
//	why and ports             a node fits though ports lists a holder of a wanted port there, who is not the pod itself; or one
//	                          does not for a port of which ports lists no holder
//	ports N and why           a new hostPort is free on more nodes than why says, or on fewer while there are no templates
//	why and the pod           a pod that is on a node is said to be elsewhere
//	lint and the webhook      an object on its own, against all others as the state, is judged otherwise than its request
//	lint and audit            a Service or a node has what another one wants, and only one of lint and audit says so
func TestParity(t *testing.T) {
	r := seed.Rand(t)
	p := &parity{T: t}
	for range seed.Rounds(150, 1000) {
		c := drawCluster(r, false)
		p.text = strings.Join(c.texts, "\n---\n")
		p.settings = settingsWith(t, "dataplane: {serviceProxy: iptables, hostPort: portmap-iptables}\n")
		p.objects = c.objects(t)
		h := holdingsOf(p.objects, p.settings)
		free := []int{9200, 2380, 6443}
		for len(free) < 10 {
			free = append(free, 1024+r.IntN(40000))
		}
		for _, number := range slices.Concat(c.numbers, free) {
			p.aboutNumber(h, uint16(number))
		}
		p.aboutPods(h)
		p.aboutObjects()
		if t.Failed() {
			t.Fatal(p.text)
		}
	}
	t.Logf("%v", p.seen)
	for _, what := range []string{"refused", "allowed", "warned", "fits", "held", "on a node", "denied", "met"} {
		if p.seen[what] == 0 {
			t.Errorf("the clusters are too quiet to prove anything: nothing is %s", what)
		}
	}
}

type parity struct {
	*testing.T
	settings *extract.Settings
	objects  []*manifest.Object
	text     string
	seen     map[string]int
}

func (p *parity) count(what string) {
	if p.seen == nil {
		p.seen = map[string]int{}
	}
	p.seen[what]++
}

func (p *parity) aboutNumber(h *holdings, number uint16) {
	p.Helper()
	about, err := h.about(numberOf(number), "", "default", p.objects)
	if err != nil {
		p.Fatal(err)
	}
	for _, n := range about {
		asked := numberOf(number)
		held := h.listed("", "", &asked)
		isHeld := slices.ContainsFunc(held, func(one report.HeldPort) bool { return one.Node != "" && one.Claim.Protocol.String() == n.Protocol })
		for _, wanted := range n.New {
			p.count(wanted.Outcome)
			object := runtime.Object(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "new-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{
				ContainerPort: int32(number), HostPort: int32(number), Protocol: corev1.Protocol(n.Protocol)}}}}}})
			if wanted.Kind == ports.NodePort.String() {
				object = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "new"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{
					Port: int32(number), NodePort: int32(number), Protocol: corev1.Protocol(n.Protocol)}}}}
			}
			denied, warnings := p.request(p.webhook(source.Bare(p.objects)), object) // a new one each time, with nothing in flight
			want := report.PortAllowed
			switch {
			case denied:
				want = report.PortRefused
			case warnings > 0:
				want = report.PortWarned
			}
			if want != wanted.Outcome {
				p.Errorf("ports: a new %s %d/%s is %s, the webhook: %s; %q", wanted.Kind, number, n.Protocol, wanted.Outcome, want, wanted.Messages)
			}
			p.isFreeWhere(h, &wanted, object)
			if wanted.Outcome == report.PortRefused {
				continue
			}
			if wanted.Kind == ports.HostPort.String() && wanted.Nodes > 0 && wanted.Free == 0 {
				p.Errorf("ports: a new hostPort %d/%s is %s, and free nowhere", number, n.Protocol, wanted.Outcome)
			}
			if wanted.Kind == ports.NodePort.String() && isHeld {
				p.Errorf("ports: a new nodePort %d/%s is %s, and held by %v", number, n.Protocol, wanted.Outcome, held)
			}
		}
	}
}

func (p *parity) aboutPods(h *holdings) {
	p.Helper()
	for _, pod := range h.view.pods {
		place := h.placement(pod, p.settings)
		if pod.Spec.NodeName != "" && !extract.IsFinished(pod) {
			if p.count("on a node"); place.Node != pod.Spec.NodeName {
				p.Errorf("why: %s is on %q, not on %s", pod.Name, place.Node, pod.Spec.NodeName)
			}
			continue
		}
		for _, candidate := range place.Nodes {
			for _, wanted := range place.Wanted {
				held := slices.ContainsFunc(h.all(), func(one report.HeldPort) bool {
					isOwn := one.Claim.Owner != nil && one.Claim.Owner.Ref == place.Pod.Ref
					return !isOwn && (one.Node == candidate.Node || one.Node == report.EveryNode) && one.Claim.Overlaps(wanted.Socket)
				})
				inTheWay := slices.ContainsFunc(candidate.Obstacles, func(o report.Obstacle) bool { return o.Wanted.Socket == wanted.Socket })
				p.count(map[bool]string{true: "held", false: "fits"}[inTheWay])
				if held != inTheWay {
					p.Errorf("why: %s of %s is in the way of %s on %s: %t; ports: %t", wanted.PortProtocol(), candidate.Node, pod.Name, candidate.Node, inTheWay, held)
				}
			}
		}
	}
}

// aboutObjects judges each object against all others as the state.
func (p *parity) aboutObjects() {
	p.Helper()
	all := source.Bare(p.objects)
	audited, err := audit.Everything(p.settings, all, time.Unix(1e9, 0), nil)
	if err != nil {
		p.Fatal(err)
	}
	linted := map[string]bool{}
	for i, object := range all {
		others := slices.Concat(all[:i], all[i+1:])
		fresh, ok := object.DeepCopyObject().(client.Object)
		if _, claims := extract.RefOf(object); !ok || !claims {
			continue
		}
		fresh.SetUID("")
		fresh.SetCreationTimestamp(metav1.Time{})
		j, err := audit.New(p.settings, others, []runtime.Object{fresh}, time.Unix(1e9, 0))
		if err != nil {
			p.Fatal(err)
		}
		findings := j.Judge(fresh)
		for _, pair := range pairsOf(findings) {
			linted[pair] = true
		}
		if len(fresh.GetOwnerReferences()) > 0 {
			continue // the webhook asks whether its controller proves to be one
		}
		denied, warnings := p.request(p.webhook(others), fresh)
		says := slices.IndexFunc(findings, func(f check.Finding) bool { return p.settings.Check.Enforce(f) == check.Deny }) >= 0
		warns := slices.IndexFunc(findings, func(f check.Finding) bool { return p.settings.Check.Enforce(f) == check.Warn }) >= 0
		if denied != says || !denied && (warnings > 0) != warns {
			var told []string
			for _, f := range findings {
				told = append(told, report.Sentence(f))
			}
			p.Errorf("lint of %s: denies %t, warns %t; the webhook: %t, %t: %q", fresh.GetName(), says, warns, denied, warnings > 0, told)
		}
		if denied {
			p.count("denied")
		}
	}
	found := map[string]bool{}
	for _, pair := range pairsOf(audited) {
		p.count("met")
		found[pair] = true
	}
	if diff := cmp.Diff(linted, found); diff != "" {
		p.Errorf("who meets (-lint of each +audit):\n%s", diff)
	}
}

// pairsOf names the two of each finding that a Service or a node has what the other wants, in one order. Of two with pods it depends
// on who comes later whether one is told of the other: PC0202 is about the nodes that are left.
func pairsOf(findings []check.Finding) []string {
	var all []string
	for _, f := range findings {
		if f.Code != check.Held && (f.Code != check.WorkloadsMeet || f.Object.Kind == "Pod") { // a pod may have had a node left
			continue
		}
		for _, h := range f.Holders() {
			if !slices.ContainsFunc([]string{f.Object.Kind, h.Kind}, func(kind string) bool { return kind == "Service" || kind == check.NodeKind }) {
				continue
			}
			two := []string{strings.Split(f.Object.Name, "-")[0], strings.Split(h.Name, "-")[0]} // a pod is called after its controller
			slices.Sort(two)
			all = append(all, fmt.Sprintf("%s %s", strings.Join(two, " "), f.Claim.PortProtocol()))
		}
	}
	return all
}

func numberOf(port uint16) number { return number{port: port, protocol: ports.TCP, any: true} }

// request sends the creation of an object through the validating hook; it returns how many warnings there are.
func (p *parity) request(handlers map[string]admission.Handler, object runtime.Object) (denied bool, warnings int) {
	p.Helper()
	path, resource, group := hooks.PathValidateWorkload, "", "apps"
	ref, _ := extract.RefOf(object)
	switch ref.Kind {
	case "Pod":
		path, group = hooks.PathValidatePods, ""
	case "Service":
		path, group = hooks.PathValidateServices, ""
	}
	resource = strings.ToLower(ref.Kind) + "s"
	raw, err := json.Marshal(object)
	if err != nil {
		p.Fatal(err)
	}
	response := handlers[path].Handle(logf.IntoContext(p.Context(), logr.Discard()), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "u", Operation: admissionv1.Create, Namespace: "default", Name: ref.Name, Object: runtime.RawExtension{Raw: raw},
		Kind: metav1.GroupVersionKind{Group: group, Version: "v1", Kind: ref.Kind}, Resource: metav1.GroupVersionResource{Group: group, Version: "v1", Resource: resource},
	}})
	return !response.Allowed, len(response.Warnings)
}

// webhook returns the handlers of a webhook that sees objects.
func (p *parity) webhook(objects []runtime.Object) map[string]admission.Handler {
	c := &stillCluster{shown: map[ports.Ref]*observe.Seen{}}
	for _, object := range objects {
		if node, ok := object.(*corev1.Node); ok {
			c.NodeList = append(c.NodeList, node)
			c.ledger.ReplaceNode(node.Name, extract.NodeAddresses(node))
			owner, claims := extract.Reservation(node)
			c.hold(node, owner, claims)
		}
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Node:
		case *corev1.Service:
			s := extract.Service(o, p.settings.NodePorts)
			c.hold(o, s.Owner, s.Claims)
			c.evidence.Replace(s.Owner, s.Asked)
		case *corev1.Pod:
			var nodes extract.EligibleNodes
			if o.Spec.NodeName == "" {
				nodes = c.NodeList
			}
			w := extract.Pod(o, nodes, p.settings.Check.Trusted)
			c.hold(o, w.Owner, w.Claims)
			c.evidence.Replace(w.Owner, w.Probed)
		case client.Object:
			if w, ok := extract.Workload(o, c.NodeList, p.settings.Check.Trusted); ok {
				c.hold(o, w.Owner, w.Claims)
				c.evidence.Replace(w.Owner, w.Probed)
			}
		}
	}
	handlers := webhook.New(c, nil, p.settings, manifest.Scheme(), webhook.NewMetrics(prometheus.NewRegistry()), func() time.Time { return time.Unix(1e9, 0) })
	return handlers.Hooks()
}

// stillCluster is a cluster in which nothing changes, as the webhook sees it.
type stillCluster struct {
	extract.NodeList
	ledger, evidence ledger.Ledger
	shown            map[ports.Ref]*observe.Seen
}

func (c *stillCluster) hold(object client.Object, owner ports.Owner, claims []ports.Claim) {
	if len(claims) > 0 {
		c.ledger.Replace(owner, claims)
	}
	c.shown[owner.Ref] = &observe.Seen{Object: object, Owner: owner, UID: object.GetUID(), Claims: claims}
}

func (c *stillCluster) Snapshot() *ledger.Snapshot { return c.ledger.Snapshot() }

func (c *stillCluster) Evidence() *ledger.Snapshot { return c.evidence.Snapshot() }

func (c *stillCluster) Shown(_ context.Context, ref ports.Ref) *observe.Seen { return c.shown[ref] }

func (c *stillCluster) Families() check.Families { return extract.ClusterFamilies(c.NodeList, nil) }

func (c *stillCluster) ServiceRanges() []netip.Prefix { return nil }

func (c *stillCluster) IsComplete() bool { return true }

func (c *stillCluster) Pools() *pool.Set { return pool.New(nil, ports.Range{}) }

func (c *stillCluster) Policies() []check.Policy { return nil }

func (c *stillCluster) Claim(uint16) *v1alpha1.PortClaim { return nil }

func (c *stillCluster) Claimed(string) []uint16 { return nil }

func (c *stillCluster) NamespaceLabels(string) map[string]string { return nil }

func (c *stillCluster) Read(_ context.Context, ref ports.Ref) (*observe.Seen, error) {
	return c.shown[ref], nil
}

func (c *stillCluster) Node(name string) *corev1.Node {
	for _, node := range c.NodeList {
		if node.Name == name {
			return node
		}
	}
	return nil
}
