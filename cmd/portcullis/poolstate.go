package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// poolState is what is known of pools and of who holds numbers, at one moment.
type poolState struct {
	settings   *extract.Settings
	hasPools   bool // the cluster knows the kind; files always do
	pools      map[string]pool.Pool
	claims     map[uint16]*v1alpha1.PortClaim
	namespaces map[string]map[string]string
	holdings   []held // sorted by number, namespace and name
	holders    map[pool.For]map[int][]held
	occupied   map[uint16]bool // by ports of pods that are no hostPorts, and by the nodes' daemons
	inputs     *report.Inputs  // of the files; nil: of a cluster
	incomplete error           // some of the files were not read: the exit code says so in the end
}

// held is a number that a Service or a pod has.
type held struct {
	pool.Holding
	ref      ports.Ref
	uid      types.UID
	field    string
	protocol ports.Protocol
	since    time.Time
}

// state reads the objects of files, or of the cluster if there are none.
func (o *reportOptions) state(ctx context.Context, s streams, p *progress, how *reading, files []string, settings *extract.Settings) (*poolState, error) {
	if len(files) > 0 {
		in, err := how.read(files, s, p)
		if err != nil {
			return nil, err
		}
		objects, incomplete, err := in.existing(p)
		if err != nil {
			return nil, err
		}
		state, err := stateOf(settings, objects)
		state.incomplete, state.inputs = incomplete, in.ofTheFiles()
		return state, err
	}
	r, err := o.reader(p)
	if err != nil {
		return nil, err
	}
	return r.poolState(ctx, settings)
}

func newPoolState(settings *extract.Settings) *poolState {
	s := &poolState{
		settings: settings, hasPools: true, pools: map[string]pool.Pool{}, claims: map[uint16]*v1alpha1.PortClaim{},
		namespaces: map[string]map[string]string{}, occupied: map[uint16]bool{},
		holders: map[pool.For]map[int][]held{pool.NodePorts: {}, pool.HostPorts: {}},
	}
	for _, r := range settings.Check.Reserved {
		s.occupied[r.Socket.Port] = true
	}
	return s
}

// stateOf takes what matters out of objects of files.
func stateOf(settings *extract.Settings, objects []*manifest.Object) (*poolState, error) {
	s := newPoolState(settings)
	var services []*corev1.Service
	var pods []*corev1.Pod
	var errs []error
	for _, object := range objects {
		switch o := object.Object.(type) {
		case *v1alpha1.PortPool:
			if err := s.addPool(o); err != nil {
				field, _, _ := strings.Cut(err.Error(), ": ")
				errs = append(errs, &manifest.Error{Path: object.Path, Line: object.LineOf(field), Err: err})
			}
		case *v1alpha1.PortClaim:
			s.claims[uint16(o.Spec.Port)] = o
		case *corev1.Namespace:
			s.namespaces[o.Name] = o.Labels
		case *corev1.Service:
			services = append(services, o)
		case *corev1.Pod:
			pods = append(pods, o)
		}
	}
	s.hold(services, pods)
	return s, errors.Join(errs...)
}

func (s *poolState) addPool(o *v1alpha1.PortPool) error {
	p, err := extract.Pool(o)
	if err == nil {
		s.pools[o.Name] = p
	}
	return err
}

// poolState reads what pools are about, page by page.
func (r *reader) poolState(ctx context.Context, settings *extract.Settings) (*poolState, error) {
	s := newPoolState(settings)
	var refused []string
	note := func(what string, err error) error {
		if apierrors.IsForbidden(err) {
			refused = append(refused, what)
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", what, r.explain(err))
		}
		return nil
	}
	var namespaceList corev1.NamespaceList
	namespaces, err := each(ctx, r, "namespaces", &namespaceList, func() []corev1.Namespace { return takeItems(&namespaceList.Items) })
	if err := note("namespaces", err); err != nil {
		return nil, err
	}
	for _, ns := range namespaces {
		s.namespaces[ns.Name] = ns.Labels
	}
	var serviceList corev1.ServiceList
	services, err := each(ctx, r, "services", &serviceList, func() []corev1.Service { return takeItems(&serviceList.Items) })
	if err := note("services", err); err != nil {
		return nil, err
	}
	var podList corev1.PodList
	for _, svc := range services {
		tellTooWide(r.progress, []*manifest.Object{{Object: svc}})
	}
	pods, err := each(ctx, r, "pods", &podList, func() []corev1.Pod { return takeItems(&podList.Items) })
	if err := note("pods", err); err != nil {
		return nil, err
	}
	if err := r.ourKinds(ctx, s, note); err != nil {
		return nil, err
	}
	if refused != nil {
		list := strings.Join(refused, ", ")
		return nil, fmt.Errorf("you may not list %s in all namespaces: ask for a ClusterRole with the verb list on namespaces, services and pods, and for a ClusterRoleBinding to portcullis-ports-view "+
			"(kubectl auth can-i list %s -A), or for the objects in a file", list, refused[0])
	}
	s.hold(services, pods)
	return s, nil
}

// ourKinds reads pools and claims. A cluster need not know them.
func (r *reader) ourKinds(ctx context.Context, s *poolState, note func(string, error) error) error {
	var poolList v1alpha1.PortPoolList
	pools, err := each(ctx, r, "portpools", &poolList, func() []v1alpha1.PortPool { return takeItems(&poolList.Items) })
	if apierrors.IsNotFound(err) {
		s.hasPools = false
		return nil
	}
	if err := note("portpools", err); err != nil {
		return err
	}
	for _, p := range pools {
		if err := s.addPool(p); err != nil {
			r.progress.println(fmt.Sprintf("PortPool %s has no effect: %v", p.Name, err)) // the API server refuses such
		}
	}
	var claimList v1alpha1.PortClaimList
	claims, err := each(ctx, r, "portclaims", &claimList, func() []v1alpha1.PortClaim { return takeItems(&claimList.Items) })
	if apierrors.IsNotFound(err) {
		return nil
	}
	for _, c := range claims {
		s.claims[uint16(c.Spec.Port)] = c
	}
	return note("portclaims", err)
}

// labels returns the labels of a namespace. The API server gives each a label with its name.
func (s *poolState) labels(namespace string) map[string]string {
	labels := maps.Clone(s.namespaces[namespace])
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelMetadataName] = namespace
	return labels
}

// hold records who holds numbers: each Service and pod each number once. Ports on the host network are only in the way.
func (s *poolState) hold(services []*corev1.Service, pods []*corev1.Pod) {
	for _, svc := range services {
		x := extract.Service(svc, s.settings.NodePorts)
		s.add(pool.NodePorts, x.Owner.Ref, x.Labels, svc.UID, svc.CreationTimestamp.Time, x.Claims, ports.Kind.InNodePortBook)
	}
	for _, pod := range pods {
		x := extract.Pod(pod, nil, nil)
		for _, c := range x.Claims {
			s.occupied[c.Port] = s.occupied[c.Port] || c.Kind != ports.HostPort
		}
		s.add(pool.HostPorts, x.Owner.Ref, x.Labels, pod.UID, since(pod), x.Claims, func(k ports.Kind) bool { return k == ports.HostPort })
	}
	slices.SortFunc(s.holdings, func(a, b held) int { return cmp.Or(cmp.Compare(a.Port, b.Port), a.ref.Compare(b.ref)) })
	for _, h := range s.holdings {
		s.holders[h.For][int(h.Port)] = append(s.holders[h.For][int(h.Port)], h)
	}
}

func (s *poolState) add(field pool.For, ref ports.Ref, labels map[string]string, uid types.UID, since time.Time, claims []ports.Claim, counts func(ports.Kind) bool) {
	who := pool.Requester{For: field, Namespace: ref.Namespace, Name: ref.Name, NamespaceLabels: s.labels(ref.Namespace), Labels: labels}
	known := map[uint16]bool{}
	for _, c := range claims {
		if counts(c.Kind) && !known[c.Port] {
			known[c.Port] = true
			s.holdings = append(s.holdings, held{pool.Holding{Requester: who, Port: c.Port}, ref, uid, c.Field, c.Protocol, since})
		}
	}
}

func (s *poolState) set() *pool.Set {
	return pool.New(slices.Collect(maps.Values(s.pools)), s.settings.Check.NodePortRange)
}

// book tells what the numbers of a pool are used for, as the status of the pool in the cluster counts them.
func (s *poolState) book(m *pool.Member) pool.Book {
	other := pool.HostPorts
	if m.For == pool.HostPorts {
		other = pool.NodePorts
	}
	return func(port uint16) pool.Use {
		if holders := s.holders[m.For][int(port)]; len(holders) > 0 {
			if slices.ContainsFunc(holders, func(h held) bool { return m.Selects(h.Requester) }) {
				return pool.Allocated
			}
			return pool.Foreign
		}
		claim := s.claims[port]
		if m.For == pool.HostPorts {
			claim = nil
		}
		switch {
		case claim != nil && claim.Status.Phase == v1alpha1.ClaimReleased:
			return pool.Quarantined
		case claim != nil && claim.Spec.Pool == m.Name:
			return pool.Allocated // its Service is being created
		case claim != nil, len(s.holders[other][int(port)]) > 0, s.occupied[port]:
			return pool.Foreign
		default:
			return pool.Free
		}
	}
}

// outOfPool returns the numbers that those have whom a pool serves, and that are of no pool which they may use, by the
// pool's name: of the pool that gave a number once, else of the one that gives its holder numbers now.
func (s *poolState) outOfPool(set *pool.Set) map[string][]held {
	byPool := map[string][]held{}
	for _, h := range s.holdings {
		place := set.Place(h.Requester, h.Port)
		if place.Standing == pool.InPool {
			continue
		}
		m := s.gaveOnce(set, h)
		if m == nil && place.Standing == pool.OutOfPool {
			m = place.Pool
		}
		for _, serving := range set.Candidates(h.Requester) {
			if m == nil && serving.Mode == pool.Auto {
				m = serving
			}
		}
		if m != nil {
			byPool[m.Name] = append(byPool[m.Name], h)
		}
	}
	return byPool
}

func (s *poolState) gaveOnce(set *pool.Set, h held) *pool.Member {
	claim := s.claims[h.Port]
	if h.For != pool.NodePorts || claim == nil || claim.Status.ServiceUID != string(h.uid) {
		return nil
	}
	if m, ok := set.Named(claim.Spec.Pool); ok && m.State != pool.Disabled && m.Selects(h.Requester) {
		return m
	}
	return nil
}

// numbers tells of each number of a pool that is not free, and of those that are out of it.
func (s *poolState) numbers(m *pool.Member, out []held) []report.PoolNumber {
	uses := map[pool.Use]report.NumberUse{pool.Allocated: report.NumberAllocated, pool.Foreign: report.NumberForeign, pool.Quarantined: report.NumberQuarantined}
	book := s.book(m)
	var all []report.PoolNumber
	for _, r := range m.Effective {
		for i := range r.Size() {
			port := r.First + uint16(i)
			use := book(port)
			if use == pool.Free {
				continue
			}
			holders := s.holders[m.For][int(port)]
			if len(holders) == 0 {
				holders = slices.Concat(s.holders[pool.NodePorts][int(port)], s.holders[pool.HostPorts][int(port)])
			}
			for _, h := range holders {
				all = append(all, s.number(h, uses[use], m.For))
			}
			if len(holders) == 0 {
				all = append(all, s.number(held{Holding: pool.Holding{Port: port}}, uses[use], m.For))
			}
		}
	}
	for _, h := range out {
		all = append(all, s.number(h, report.NumberOutOfPool, m.For))
	}
	return all
}

func (s *poolState) number(h held, use report.NumberUse, field pool.For) report.PoolNumber {
	n := report.PoolNumber{Port: int(h.Port), Use: use}
	if h.ref != (ports.Ref{}) {
		n.Protocol = h.protocol.String()
		n.Holder = &report.Object{APIVersion: h.ref.APIVersion, Kind: h.ref.Kind, Namespace: h.ref.Namespace, Name: h.ref.Name}
	}
	at := h.since
	if c := s.claims[h.Port]; c != nil && field == pool.NodePorts {
		n.Claim = &report.PoolClaim{
			Name: c.Name, Phase: string(cmp.Or(c.Status.Phase, v1alpha1.ClaimRequested)),
			Service: c.Spec.Service.Namespace + "/" + cmp.Or(c.Spec.Service.Name, c.Spec.Service.GenerateName+"*"),
		}
		at = c.Spec.RequestedAt.Time
		if c.Status.ReleasedAt != nil {
			at = c.Status.ReleasedAt.Time
		}
	}
	if !at.IsZero() {
		n.Since = at.UTC().Format(time.RFC3339)
	}
	return n
}
