package fake

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	crcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Cache is the cache of a Cluster, of client-go's informers. Its watches can be paused, so that what it shows is outdated. When
// the test ends it checks that nobody has modified what it returned without a copy.
type Cache struct {
	crcache.Cache                        // what is not below is not used
	Lacks         map[reflect.Type]bool  // kinds that the cluster does not have
	Rejects       map[reflect.Type]error // kinds that have neither informer nor indexes, and why
	cluster       *Cluster

	mu      sync.Mutex
	byKind  map[reflect.Type]toolscache.SharedIndexInformer
	indexes map[string]client.IndexerFunc // by kind and field
	flowing chan struct{}                 // closed: watches are not paused
	lent    map[client.Object]client.Object
}

func newCache(t *testing.T, cluster *Cluster) *Cache {
	c := &Cache{
		cluster: cluster, Lacks: map[reflect.Type]bool{}, Rejects: map[reflect.Type]error{}, byKind: map[reflect.Type]toolscache.SharedIndexInformer{},
		indexes: map[string]client.IndexerFunc{}, flowing: make(chan struct{}), lent: map[client.Object]client.Object{},
	}
	close(c.flowing)
	t.Cleanup(func() {
		for object, copied := range c.lent {
			if diff := cmp.Diff(copied, object); diff != "" {
				t.Errorf("an object of the cache was modified:\n%s", diff)
			}
		}
	})
	return c
}

// Pause keeps back what watches show from now on, until Resume.
func (c *Cache) Pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flowing = make(chan struct{})
}

// Resume shows it.
func (c *Cache) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.flowing)
}

// IndexField adds an index.
func (c *Cache) IndexField(_ context.Context, object client.Object, field string, extract client.IndexerFunc) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.Rejects[reflect.TypeOf(object)]; err != nil {
		return err
	}
	c.indexes[fmt.Sprintf("%T %s", object, field)] = extract
	return nil
}

// GetInformer starts the informer of a kind.
func (c *Cache) GetInformer(_ context.Context, object client.Object, _ ...crcache.InformerGetOption) (crcache.Informer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := reflect.TypeOf(object)
	if c.Lacks[kind] {
		return nil, ErrNoKind(kind.Elem().Name())
	}
	if err := c.Rejects[kind]; err != nil {
		return nil, err
	}
	if there := c.byKind[kind]; there != nil {
		return there, nil
	}
	list, err := c.listOf(kind)
	if err != nil {
		return nil, err
	}
	informer := toolscache.NewSharedIndexInformer(feed{c, list}, object, 0, toolscache.Indexers{})
	c.byKind[kind] = informer
	go informer.RunWithContext(c.cluster.T.Context())
	return informer, nil
}

func (c *Cache) listOf(kind reflect.Type) (client.ObjectList, error) {
	gvks, _, err := c.cluster.Scheme().ObjectKinds(reflect.New(kind.Elem()).Interface().(runtime.Object))
	if err != nil {
		return nil, err
	}
	list, err := c.cluster.Scheme().New(gvks[0].GroupVersion().WithKind(gvks[0].Kind + "List"))
	if err != nil {
		return nil, err
	}
	return list.(client.ObjectList), nil
}

// feed lists and watches a kind for its informer.
type feed struct {
	c    *Cache
	list client.ObjectList
}

func (feed) IsWatchListSemanticsUnSupported() bool { return true }

func (f feed) List(metav1.ListOptions) (runtime.Object, error) {
	list := f.list.DeepCopyObject().(client.ObjectList)
	return list, f.c.cluster.Stored.List(f.c.cluster.T.Context(), list)
}

func (f feed) Watch(metav1.ListOptions) (watch.Interface, error) {
	w, err := f.c.cluster.Stored.Watch(f.c.cluster.T.Context(), f.list)
	if err != nil {
		return nil, err
	}
	p := paused{Interface: w, events: make(chan watch.Event)}
	go p.run(f.c)
	return p, nil
}

// paused is a watch that can be paused.
type paused struct {
	watch.Interface
	events chan watch.Event
}

func (p paused) ResultChan() <-chan watch.Event { return p.events }

func (p paused) run(c *Cache) {
	defer close(p.events)
	done := c.cluster.T.Context().Done()
	for e := range p.Interface.ResultChan() {
		c.mu.Lock()
		flowing := c.flowing
		c.mu.Unlock()
		select {
		case <-flowing:
		case <-done:
			return
		}
		select {
		case p.events <- e:
		case <-done:
			return
		}
	}
}

// all returns what is cached of a kind.
func (c *Cache) all(kind reflect.Type) ([]client.Object, error) {
	c.mu.Lock()
	informer := c.byKind[kind]
	c.mu.Unlock()
	if c.Lacks[kind] {
		return nil, ErrNoKind(kind.Elem().Name())
	}
	if informer == nil {
		return nil, fmt.Errorf("%s is not watched", kind)
	}
	var all []client.Object
	for _, object := range informer.GetStore().List() {
		all = append(all, object.(client.Object))
	}
	slices.SortFunc(all, func(a, b client.Object) int {
		return slices.Compare([]string{a.GetNamespace(), a.GetName()}, []string{b.GetNamespace(), b.GetName()})
	})
	return all, nil
}

// Get reads an object from the cache.
func (c *Cache) Get(ctx context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return c.cluster.call(ctx, "cache-get", object, key.Name, func() error {
		all, err := c.all(reflect.TypeOf(object))
		if err != nil {
			return err
		}
		for _, o := range all {
			if client.ObjectKeyFromObject(o) == key {
				reflect.ValueOf(object).Elem().Set(reflect.ValueOf(o.DeepCopyObject()).Elem())
				return nil
			}
		}
		return apierrors.NewNotFound(schema.GroupResource{Resource: KindOf(object)}, key.Name)
	})
}

// List lists the objects of the cache that an index, a namespace and labels select.
func (c *Cache) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return c.cluster.call(ctx, "cache-list", list, "", func() error { return c.list(list, new(client.ListOptions).ApplyOptions(options)) })
}

func (c *Cache) list(list client.ObjectList, o *client.ListOptions) error {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	all, err := c.all(reflect.PointerTo(reflect.TypeOf(items).Elem().Elem()))
	if err != nil {
		return err
	}
	var found []runtime.Object
	for _, object := range all {
		if o.Namespace != "" && object.GetNamespace() != o.Namespace || o.LabelSelector != nil && !o.LabelSelector.Matches(labels.Set(object.GetLabels())) {
			continue
		}
		if ok, err := c.matchesFields(object, o); err != nil {
			return err
		} else if !ok {
			continue
		}
		if o.UnsafeDisableDeepCopy == nil || !*o.UnsafeDisableDeepCopy {
			object = object.DeepCopyObject().(client.Object)
		} else {
			c.lend(object)
		}
		found = append(found, object)
	}
	return meta.SetList(list, found)
}

func (c *Cache) matchesFields(object client.Object, o *client.ListOptions) (bool, error) {
	if o.FieldSelector == nil {
		return true, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range o.FieldSelector.Requirements() {
		extract := c.indexes[fmt.Sprintf("%T %s", object, r.Field)]
		if extract == nil {
			return false, fmt.Errorf("%T has no index %s", object, r.Field)
		}
		if !slices.Contains(extract(object), r.Value) {
			return false, nil
		}
	}
	return true, nil
}

func (c *Cache) lend(object client.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lent[object] == nil {
		c.lent[object] = object.DeepCopyObject().(client.Object)
	}
}
