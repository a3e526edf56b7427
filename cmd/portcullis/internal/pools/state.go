package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// state is what is known of pools and of who holds numbers, at one moment.
type state struct {
	settings   *extract.Settings
	hasPools   bool // the cluster knows the kind; files always do
	pools      map[string]pool.Pool
	claims     map[uint16]*v1alpha1.PortClaim
	namespaces map[string]map[string]string
	census     pool.Census    // sorted by number, namespace and name
	inputs     *report.Inputs // of the files; nil: of a cluster
	incomplete error          // some of the files were not read: the exit code says so in the end
}

// readState reads the objects of files, or of the cluster if there are none.
func readState(ctx context.Context, flags *cli.ClusterFlags, how *source.FileFlags, files []string, settings *extract.Settings, stdin io.Reader, p *cli.Progress) (*state, error) {
	if len(files) > 0 {
		in, err := how.Read(files, stdin, p)
		if err != nil {
			return nil, err
		}
		objects, incomplete, err := in.Existing(p)
		if err != nil {
			return nil, err
		}
		state, err := stateOf(settings, objects)
		state.incomplete, state.inputs = incomplete, in.FileCounts()
		return state, err
	}
	r, err := source.Connect(flags, p)
	if err != nil {
		return nil, err
	}
	return readCluster(ctx, r, settings, p)
}

func newState(settings *extract.Settings) *state {
	s := &state{
		settings: settings, hasPools: true, pools: map[string]pool.Pool{}, claims: map[uint16]*v1alpha1.PortClaim{},
		namespaces: map[string]map[string]string{},
	}
	for _, r := range settings.Check.Reserved {
		s.census.Occupy(r.Socket.Port)
	}
	return s
}

// stateOf takes what matters out of objects of files.
func stateOf(settings *extract.Settings, objects []*manifest.Object) (*state, error) {
	s := newState(settings)
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

func (s *state) addPool(o *v1alpha1.PortPool) error {
	p, err := extract.Pool(o)
	if err == nil {
		s.pools[o.Name] = p
	}
	return err
}

// readCluster reads what pools are about, page by page.
func readCluster(ctx context.Context, r *source.Reader, settings *extract.Settings, p *cli.Progress) (*state, error) {
	s := newState(settings)
	var refused []string
	note := func(what string, err error) error {
		if apierrors.IsForbidden(err) {
			refused = append(refused, what)
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", what, r.Explain(err))
		}
		return nil
	}
	var namespaceList corev1.NamespaceList
	namespaces, err := source.Each(ctx, r, "namespaces", &namespaceList, func() []corev1.Namespace { return source.TakeItems(&namespaceList.Items) })
	if err := note("namespaces", err); err != nil {
		return nil, err
	}
	for _, ns := range namespaces {
		s.namespaces[ns.Name] = ns.Labels
	}
	var serviceList corev1.ServiceList
	services, err := source.Each(ctx, r, "services", &serviceList, func() []corev1.Service { return source.TakeItems(&serviceList.Items) })
	if err := note("services", err); err != nil {
		return nil, err
	}
	var podList corev1.PodList
	for _, svc := range services {
		source.TellTooWide(p, []*manifest.Object{{Object: svc}})
	}
	pods, err := source.Each(ctx, r, "pods", &podList, func() []corev1.Pod { return source.TakeItems(&podList.Items) })
	if err := note("pods", err); err != nil {
		return nil, err
	}
	if err := s.readOurKinds(ctx, r, note, p); err != nil {
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

// readOurKinds reads pools and claims. A cluster need not know them.
func (s *state) readOurKinds(ctx context.Context, r *source.Reader, note func(string, error) error, p *cli.Progress) error {
	var poolList v1alpha1.PortPoolList
	pools, err := source.Each(ctx, r, "portpools", &poolList, func() []v1alpha1.PortPool { return source.TakeItems(&poolList.Items) })
	if apierrors.IsNotFound(err) {
		s.hasPools = false
		return nil
	}
	if err := note("portpools", err); err != nil {
		return err
	}
	for _, o := range pools {
		if err := s.addPool(o); err != nil {
			p.Println(fmt.Sprintf("PortPool %s has no effect: %v", o.Name, err)) // the API server refuses such
		}
	}
	var claimList v1alpha1.PortClaimList
	claims, err := source.Each(ctx, r, "portclaims", &claimList, func() []v1alpha1.PortClaim { return source.TakeItems(&claimList.Items) })
	if apierrors.IsNotFound(err) {
		return nil
	}
	for _, c := range claims {
		s.claims[uint16(c.Spec.Port)] = c
	}
	return note("portclaims", err)
}

// labels returns the labels of a namespace. The API server gives each a label with its name.
func (s *state) labels(namespace string) map[string]string {
	labels := maps.Clone(s.namespaces[namespace])
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelMetadataName] = namespace
	return labels
}

// hold records who holds numbers, and which are claimed.
func (s *state) hold(services []*corev1.Service, pods []*corev1.Pod) {
	for _, svc := range services {
		extract.Count(&s.census, svc, s.labels)
	}
	for _, pod := range pods {
		extract.Count(&s.census, pod, s.labels)
	}
	for _, claim := range s.claims {
		extract.Count(&s.census, claim, nil)
	}
	s.census.Sort()
}

func (s *state) set() *pool.Set {
	return pool.New(slices.Collect(maps.Values(s.pools)), s.settings.Check.NodePortRange)
}

// numbers tells of each number of a pool that is not free, and of those that are out of it.
func (s *state) numbers(m *pool.Member, out []pool.Outside) []report.PoolNumber {
	uses := map[pool.Use]report.NumberUse{pool.Allocated: report.NumberAllocated, pool.Foreign: report.NumberForeign, pool.Quarantined: report.NumberQuarantined}
	book := s.census.Book(m)
	var all []report.PoolNumber
	for _, r := range m.Effective {
		for i := range r.Size() {
			port := r.First + uint16(i)
			use := book(port)
			if use == pool.Free {
				continue
			}
			holders := s.census.Holders(m.For, port)
			if len(holders) == 0 {
				holders = slices.Concat(s.census.Holders(pool.NodePorts, port), s.census.Holders(pool.HostPorts, port))
			}
			for _, h := range holders {
				all = append(all, s.number(h, uses[use], m.For))
			}
			if len(holders) == 0 {
				all = append(all, s.number(pool.Holding{Port: port}, uses[use], m.For))
			}
		}
	}
	for _, h := range out {
		all = append(all, s.number(h.Holding, report.NumberOutOfPool, m.For))
	}
	return all
}

// number tells of a number that h holds, or nobody: then h has no name.
func (s *state) number(h pool.Holding, use report.NumberUse, field pool.For) report.PoolNumber {
	n := report.PoolNumber{Port: int(h.Port), Use: use}
	if h.Name != "" {
		ref := h.Ref()
		n.Protocol = h.Protocol.String()
		n.Holder = &report.Object{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
	}
	at := h.Since
	if c := s.claims[h.Port]; c != nil && field == pool.NodePorts {
		n.Claim = &report.PoolClaim{
			Name: c.Name, Phase: string(extract.Phase(c)),
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
