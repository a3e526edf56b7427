package redteam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
)

// mirror is what the webhook sees of the API server: a cache that lags behind, reads of what is stored, and PortClaims.
type mirror struct {
	informertest.FakeInformers
	live    client.Reader
	claims  client.Client
	version uint64
	shown   map[ref]client.Object
	pending []func()
	strip   func(any) (any, error)
	booked  map[string]time.Time // PortClaims, and when each was made
}

func newMirror(t *testing.T, m *memory) *mirror {
	t.Helper()
	scheme := manifest.Scheme()
	must(t, v1alpha1.AddToScheme(scheme))
	c := &mirror{shown: map[ref]client.Object{}, strip: observe.CacheOptions().DefaultTransform, booked: map[string]time.Time{}}
	c.Scheme = scheme
	c.live = reader(func(r ref) client.Object { return m.objects[r] })
	c.claims = interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.PortClaim{}).Build(), interceptor.Funcs{
		Create: func(ctx context.Context, to client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			o.SetCreationTimestamp(metav1.Now())
			err := to.Create(ctx, o, opts...)
			if err == nil {
				c.booked[o.GetName()] = time.Now()
				c.event(nil, o)
			}
			return err
		},
		SubResourceUpdate: func(ctx context.Context, to client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			err := to.SubResource(sub).Update(ctx, o, opts...)
			if err == nil {
				c.event(o, o)
			}
			return err
		},
		Update: func(ctx context.Context, to client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			err := to.Update(ctx, o, opts...)
			if err == nil {
				c.event(o, o)
			}
			return err
		},
	})
	return c
}

// observe starts what keeps the ledger.
func (c *mirror) observe(t *testing.T, observer *observe.Observer) {
	t.Helper()
	go func() { _ = observer.Start(t.Context()) }()
	for !observer.IsComplete() {
		time.Sleep(time.Millisecond)
	}
}

// setUp creates what the administrator has set up.
func (m *memory) setUp(t *testing.T) {
	t.Helper()
	for _, o := range slices.Concat(objects.Parse(t, "", victim), objects.Parse(t, "", forbidden)) {
		switch x := o.(type) {
		case *corev1.Service:
			x.Namespace = "victim"
			made, err := decoded(corev1.SchemeGroupVersion.WithKind("Service"), marshal(x))
			must(t, err)
			must(t, m.create(made, false))
			continue
		case *corev1.Node:
			x.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0." + x.Name[1:]}}
		case *corev1.Namespace:
		default:
			typed, err := m.Scheme.New(o.GetObjectKind().GroupVersionKind())
			must(t, err)
			must(t, json.Unmarshal(marshal(o), typed))
			typed.(interface{ Default() }).Default()
			o = typed.(client.Object)
		}
		m.event(nil, o)
	}
	m.show(true)
}

func (m *memory) addNamespace(name string, labels map[string]string) {
	m.event(nil, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
}

// event tells the observer of a change.
func (c *mirror) event(old, o client.Object) {
	of := o
	if o == nil {
		of = old
	}
	informer, err := c.FakeInformerFor(context.Background(), of)
	if err != nil {
		panic(err)
	}
	switch {
	case o == nil:
		informer.Delete(old)
	case old == nil:
		informer.Add(o)
	default:
		informer.Update(old, o)
	}
}

// watch has a change shown later, in the order of the changes.
func (c *mirror) watch(old, o client.Object) {
	stripped := func(o client.Object) client.Object {
		if o == nil {
			return nil
		}
		copied, err := c.strip(o.DeepCopyObject())
		if err != nil {
			panic(err)
		}
		return copied.(client.Object)
	}
	old, o = stripped(old), stripped(o)
	c.pending = append(c.pending, func() {
		if old != nil {
			delete(c.shown, refOf(old))
		}
		if o != nil {
			c.shown[refOf(o)] = o
		}
		c.event(old, o)
	})
}

// show shows what is pending, or all of it but the newest.
func (c *mirror) show(all bool) {
	n := len(c.pending)
	if !all {
		n = max(0, n-2)
	}
	for _, do := range c.pending[:n] {
		do()
	}
	c.pending = c.pending[n:]
}

// settleClaims does what the replica that leads does: a number of the pool few that a stored Service has is bound to it, and one
// that none has for a minute is free.
func (m *memory) settleClaims() {
	ctx := context.Background()
	for number := int32(firstOfFew); number < firstOfFew+ofFew; number++ {
		holder, isHeld := m.held[number]
		name := v1alpha1.ClaimName(number)
		made, isClaimed := m.booked[name]
		claim := &v1alpha1.PortClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PortClaimSpec{Port: number, Pool: "few"}}
		switch {
		case !isClaimed && isHeld && holder.namespace == "few":
			claim.Spec.Service = v1alpha1.ClaimingService{Namespace: holder.namespace, Name: holder.name}
			if err := m.claims.Create(ctx, claim); err != nil {
				panic(err)
			}
		case !isClaimed:
			continue
		}
		if err := m.claims.Get(ctx, client.ObjectKey{Name: name}, claim); err != nil {
			panic(err)
		}
		of := claim.Spec.Service
		switch {
		case isHeld && (of.Name != holder.name || of.Namespace != holder.namespace): // which had no name, or is another's
			claim.Spec.Service = v1alpha1.ClaimingService{Namespace: holder.namespace, Name: holder.name}
			if err := m.claims.Update(ctx, claim); err != nil {
				panic(err)
			}
		case isHeld && claim.Status.Phase != v1alpha1.ClaimBound:
			claim.Status.Phase = v1alpha1.ClaimBound
			if err := m.claims.Status().Update(ctx, claim); err != nil {
				panic(err)
			}
		case !isHeld && time.Since(made) > time.Minute:
			if err := m.claims.Delete(ctx, claim); err != nil {
				panic(err)
			}
			delete(m.booked, name)
			m.event(claim, nil)
		}
	}
}

// Get implements cache.Cache.
func (c *mirror) Get(ctx context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	return reader(func(r ref) client.Object { return c.shown[r] }).Get(ctx, key, into)
}

// List implements cache.Cache: the observer lists DaemonSets.
func (c *mirror) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	list, is := into.(*appsv1.DaemonSetList)
	if !is {
		return fmt.Errorf("%T is not listed", into)
	}
	for _, o := range c.shown {
		if d, is := o.(*appsv1.DaemonSet); is {
			list.Items = append(list.Items, *d)
		}
	}
	return nil
}

// reader reads single objects.
type reader func(ref) client.Object

// Get implements client.Reader.
func (r reader) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	kind := reflect.TypeOf(into).Elem().Name()
	o := r(ref{kind, key.Namespace, key.Name})
	if o == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: strings.ToLower(kind) + "s"}, key.Name)
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(o.DeepCopyObject()).Elem())
	return nil
}

// List implements client.Reader: nobody lists.
func (reader) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("nothing is listed")
}
