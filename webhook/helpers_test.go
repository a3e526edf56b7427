package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	jsonpatch "gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// cluster is a Cluster whose state the test writes.
type cluster struct {
	extract.NodeList // nil: the nodes are not known
	ledger, evidence ledger.Ledger
	families         check.Families
	incomplete       bool
	pools            []pool.Pool
	policies         []check.Policy
	claims           map[uint16]*v1alpha1.PortClaim
	labels           map[string]map[string]string // of namespaces

	stored map[ports.Ref]*observe.Seen // what the API server has, where that is not what the ledger shows; nil: nothing
	shown  map[ports.Ref]*observe.Seen // what holds has put into the ledger
	reads  []ports.Ref                 // from the API server
	fails  error                       // of a read
	mu     sync.Mutex

	judging func() // called when an object is judged
	reading func() // called when an object has been read, before the answer comes
}

// Shown implements Cluster.
func (c *cluster) Shown(_ context.Context, ref ports.Ref) *observe.Seen { return c.shown[ref] }

// Read implements Cluster: the API server has what the watch shows, unless the test says otherwise.
func (c *cluster) Read(_ context.Context, ref ports.Ref) (*observe.Seen, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads = append(c.reads, ref)
	seen, ok := c.stored[ref]
	if !ok && c.fails == nil {
		seen = c.shown[ref]
	}
	if c.reading != nil {
		c.reading()
	}
	return seen, c.fails
}

func (c *cluster) Snapshot() *ledger.Snapshot { return c.ledger.Snapshot() }
func (c *cluster) Evidence() *ledger.Snapshot { return c.evidence.Snapshot() }
func (c *cluster) Families() check.Families {
	if c.judging != nil {
		c.judging()
	}
	return c.families
}
func (c *cluster) ServiceRanges() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
}
func (c *cluster) IsComplete() bool { return !c.incomplete }

func (c *cluster) Pools() *pool.Set                                   { return pool.New(c.pools, ports.Range{}) }
func (c *cluster) Policies() []check.Policy                           { return c.policies }
func (c *cluster) Claim(port uint16) *v1alpha1.PortClaim              { return c.claims[port] }
func (c *cluster) NamespaceLabels(namespace string) map[string]string { return c.labels[namespace] }

func (c *cluster) Node(name string) *corev1.Node {
	i := slices.IndexFunc(c.NodeList, func(n *corev1.Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return c.NodeList[i]
}

func (c *cluster) Claimed(namespace string) []uint16 {
	var list []uint16
	for _, port := range slices.Sorted(maps.Keys(c.claims)) {
		if c.claims[port].Spec.Service.Namespace == namespace {
			list = append(list, port)
		}
	}
	return list
}

// bench is the webhook's handlers on a bench: their cluster and their clock are the test's.
type bench struct {
	*Handlers
	cluster  *cluster
	registry *prometheus.Registry
	clock    time.Time
	waits    atomic.Int32 // for what is in flight
}

func newBench(t testing.TB, config string) *bench {
	t.Helper()
	b := &bench{cluster: &cluster{families: check.Families{IPv4: true}, shown: map[ports.Ref]*observe.Seen{}}, registry: prometheus.NewRegistry(), clock: time.Unix(0, 0)}
	b.Handlers = New(b.cluster, nil, settingsOf(t, config), manifest.Scheme(), NewMetrics(b.registry), func() time.Time { return b.clock })
	b.wait = func(context.Context, time.Duration) bool { b.waits.Add(1); return true }
	return b
}

func settingsOf(t testing.TB, config string) *extract.Settings {
	t.Helper()
	if !strings.Contains(config, "dataplane:") {
		config += "dataplane: {serviceProxy: iptables, hostPort: portmap-iptables}\n"
	}
	config = "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\n" + config
	loaded, err := configv1alpha1.Load([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := extract.NewSettings(loaded)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) { b.clock = b.clock.Add(d) }

// holds puts objects into the cluster.
func (b *bench) holds(objects ...runtime.Object) *bench {
	for _, object := range objects {
		if o, ok := object.(*corev1.Node); ok {
			b.cluster.NodeList = append(b.cluster.NodeList, o)
			b.cluster.ledger.ReplaceNode(o.Name, nil)
			continue
		}
		seen := b.seen(object)
		b.cluster.ledger.Replace(seen.Owner, seen.Claims)
		if pod, ok := object.(*corev1.Pod); ok {
			b.cluster.evidence.Replace(seen.Owner, extract.Pod(pod, b.cluster, nil).Probed)
		}
		b.cluster.shown[seen.Owner.Ref] = &seen
	}
	return b
}

// seen is an object as the watch shows it, with its uid and resourceVersion.
func (b *bench) seen(object runtime.Object) observe.Seen {
	var owner ports.Owner
	var claims []ports.Claim
	switch o := object.(type) {
	case *corev1.Service:
		s := extract.Service(o, b.settings.NodePorts)
		owner, claims = s.Owner, s.Claims
	case *corev1.Pod:
		w := extract.Pod(o, b.cluster, nil)
		owner, claims = w.Owner, w.Claims
	default:
		w, _ := extract.Workload(o, b.cluster, nil)
		owner, claims = w.Owner, w.Claims
	}
	meta := object.(client.Object)
	version, _ := strconv.ParseUint(meta.GetResourceVersion(), 10, 64)
	return observe.Seen{Object: meta, Owner: owner, Claims: claims, UID: meta.GetUID(), Version: version}
}

// stores puts objects into the API server; the watch has not shown them yet.
func (b *bench) stores(objects ...runtime.Object) *bench {
	for _, object := range objects {
		seen := b.seen(object)
		b.cluster.answer(seen.Owner.Ref, &seen)
	}
	return b
}

// deletes takes an object out of the API server; the watch has not shown that yet.
func (b *bench) deletes(object runtime.Object) { b.cluster.answer(b.seen(object).Owner.Ref, nil) }

func (c *cluster) answer(ref ports.Ref, seen *observe.Seen) {
	if c.stored == nil {
		c.stored = map[ports.Ref]*observe.Seen{}
	}
	c.stored[ref] = seen
}

// forgets drops what is in flight of an object.
func (b *bench) forgets(ref ports.Ref) {
	b.deciding.Lock()
	defer b.deciding.Unlock()
	b.flight.deleteWrites(ref, func(write) bool { return true })
}

// ask sends a request through a handler and returns the answer as it goes out.
func (b *bench) ask(t testing.TB, path string, req admissionv1.AdmissionRequest) admission.Response {
	t.Helper()
	r := admission.Request{AdmissionRequest: req}
	response := b.Hooks()[path].Handle(t.Context(), r)
	if err := response.Complete(r); err != nil {
		t.Fatal(err)
	}
	return response
}

// decideOn returns the decision about a request, whose findings are values and no sentences yet.
func (b *bench) decideOn(t testing.TB, path string, req admissionv1.AdmissionRequest) decision {
	t.Helper()
	answer := map[string]func(context.Context, admission.Request) decision{
		hooks.PathMutatePods: b.mutatePod, hooks.PathMutateServices: b.mutateService, hooks.PathValidatePods: b.validatePod,
		hooks.PathValidateServices: b.validateService, hooks.PathValidateWorkload: b.validateWorkload, hooks.PathValidateScale: b.validateScale, hooks.PathValidateBindings: b.validateBinding,
	}[path]
	return answer(t.Context(), admission.Request{AdmissionRequest: req})
}

// outcome is a decision as tests write it: the verdict, then each finding as its code, field and holder. A finding that
// was the case before the change is marked by "before".
func outcome(d decision) string {
	switch {
	case d.malformed != nil:
		return "malformed"
	case d.verdict == check.CouldNotTell && !d.busy:
		return "uncertain"
	}
	verdict := d.verdict.String()
	if d.busy {
		verdict = "busy"
	}
	var list []string
	for _, f := range d.findings {
		text := string(f.Code) + " " + f.Field
		if f.Holder != nil {
			text += " by " + f.Holder.Ref.String()
		}
		for _, h := range f.Others {
			text += " + " + h.Ref.String()
		}
		if f.Standing {
			text += " before"
		}
		list = append(list, text)
	}
	return strings.TrimSuffix(verdict+": "+strings.Join(list, "; "), ": ")
}

// patched is what patches write, as "/path=value", sorted.
func patched(patches []jsonpatch.JsonPatchOperation) string {
	var list []string
	for _, p := range patches {
		list = append(list, fmt.Sprintf("%s=%v", p.Path, p.Value))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func request(kind string, operation admissionv1.Operation, object, old any) admissionv1.AdmissionRequest {
	resource := map[string]schema.GroupVersionResource{
		"Service": {Version: "v1", Resource: "services"}, "Pod": {Version: "v1", Resource: "pods"},
		"ReplicationController": {Version: "v1", Resource: "replicationcontrollers"}, "Binding": {Version: "v1", Resource: "bindings"},
		"Deployment":  {Group: "apps", Version: "v1", Resource: "deployments"},
		"StatefulSet": {Group: "apps", Version: "v1", Resource: "statefulsets"},
		"DaemonSet":   {Group: "apps", Version: "v1", Resource: "daemonsets"},
		"ReplicaSet":  {Group: "apps", Version: "v1", Resource: "replicasets"},
		"Job":         {Group: "batch", Version: "v1", Resource: "jobs"},
		"CronJob":     {Group: "batch", Version: "v1", Resource: "cronjobs"},
		"ConfigMap":   {Version: "v1", Resource: "configmaps"},
	}[kind]
	r := admissionv1.AdmissionRequest{
		UID: "1", Operation: operation, Namespace: "default", Kind: metav1.GroupVersionKind{Group: resource.Group, Version: resource.Version, Kind: kind},
		Resource: metav1.GroupVersionResource(resource), Object: runtime.RawExtension{Raw: raw(object)},
	}
	if old != nil {
		r.OldObject = runtime.RawExtension{Raw: raw(old)}
	}
	return r
}

// creates, updates and dryRun make requests about an object.
func creates(kind string, object any) admissionv1.AdmissionRequest {
	return request(kind, admissionv1.Create, object, nil)
}

func updates(kind string, object, old any) admissionv1.AdmissionRequest {
	return request(kind, admissionv1.Update, object, old)
}

func dryRun(req admissionv1.AdmissionRequest) admissionv1.AdmissionRequest {
	req.DryRun = new(true)
	return req
}

func raw(object any) []byte {
	if text, isText := object.(string); isText {
		return []byte(text)
	}
	data, err := json.Marshal(object)
	if err != nil {
		panic(err) // an object that the test made itself
	}
	return data
}

func code(r admission.Response) int32 {
	if r.Result == nil {
		return http.StatusOK
	}
	return r.Result.Code
}

// with edits an object.
func with[T any](object *T, edits ...func(*T)) *T {
	for _, edit := range edits {
		edit(object)
	}
	return object
}

// nodePortService has a port for each nodePort; 0 leaves it out. The ports are p0, p1 and so on, from 80 upward.
func nodePortService(name string, nodePorts ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	s.Spec.Type = corev1.ServiceTypeNodePort
	for i, n := range nodePorts {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Protocol: corev1.ProtocolTCP, Port: int32(80 + i), NodePort: n})
	}
	return s
}

// Edits of Services.

func serviceType(t corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = t }
}

func loadBalancer(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }
func local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}
func unallocated(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(false) }

func healthCheck(nodePort int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.HealthCheckNodePort = nodePort }
}

// shared gives entry i the port of entry 0, over another protocol.
func shared(i int, protocol corev1.Protocol) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports[i].Port, s.Spec.Ports[i].Protocol = s.Spec.Ports[0].Port, protocol
	}
}

func portName(i int, name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports[i].Name = name }
}

func overProtocol(i int, protocol corev1.Protocol) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports[i].Protocol = protocol }
}

func inNamespace(namespace string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Namespace = namespace }
}

func labelled(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Labels = map[string]string{key: value} }
}

func families(list ...corev1.IPFamily) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilies = list }
}

// unnamed leaves the name to the API server.
func unnamed(s *corev1.Service) { s.GenerateName, s.Name = s.Name+"-", "" }

// hostPortPod has one container with one hostPort over TCP.
func hostPortPod(name string, port int32) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: port, Protocol: corev1.ProtocolTCP}}}}
	return p
}

// Edits of pods.

func onNode(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }
func hostNetwork(p *corev1.Pod)            { p.Spec.HostNetwork = true }

// probed gives the container a probe of a port.
func probed(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		tcp := &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}
		p.Spec.Containers[0].Ports, p.Spec.Containers[0].LivenessProbe = nil, &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: tcp}}
	}
}

// requiresNode pins a pod to a node as the DaemonSet controller does.
func requiresNode(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		field := corev1.NodeSelectorRequirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{name}}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{field}}},
		}}}
	}
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[key] = value
	}
}

func hostIP(ip string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].HostIP = ip }
}

func protocol(name corev1.Protocol) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].Protocol = name }
}

func portCalled(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].Name = name }
}

func controlledBy(kind, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, Controller: new(true)}}
	}
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
}

func admissionRequest(req admissionv1.AdmissionRequest) admission.Request {
	return admission.Request{AdmissionRequest: req}
}
