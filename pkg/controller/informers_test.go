package controller

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
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// informers is a cache of a bench by client-go's informers. Its watches can be paused, so that what it shows is old.
// When the test ends it checks that nobody has written to what it hands out without a copy.
type informers struct {
	cache.Cache // what is not below is not used
	b           *bench
	lacks       map[reflect.Type]bool  // kinds that the cluster does not have
	refuses     map[reflect.Type]error // of which no informer can be had

	mu      sync.Mutex
	byKind  map[reflect.Type]toolscache.SharedIndexInformer
	indexes map[string]client.IndexerFunc // by kind and field
	flowing chan struct{}                 // closed: watches are not paused
	lent    map[client.Object]client.Object
}

func newInformers(t *testing.T, b *bench) *informers {
	i := &informers{
		b: b, lacks: map[reflect.Type]bool{}, refuses: map[reflect.Type]error{}, byKind: map[reflect.Type]toolscache.SharedIndexInformer{},
		indexes: map[string]client.IndexerFunc{}, flowing: make(chan struct{}), lent: map[client.Object]client.Object{},
	}
	close(i.flowing)
	t.Cleanup(func() {
		for object, copied := range i.lent {
			if diff := cmp.Diff(copied, object); diff != "" {
				t.Errorf("an object of the cache was written to:\n%s", diff)
			}
		}
	})
	return i
}

// pause lets nothing more come through watches until resume.
func (i *informers) pause() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.flowing = make(chan struct{})
}

func (i *informers) resume() {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.flowing)
}

func (i *informers) IndexField(_ context.Context, object client.Object, field string, extract client.IndexerFunc) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.indexes[fmt.Sprintf("%T %s", object, field)] = extract
	return nil
}

func (i *informers) GetInformer(_ context.Context, object client.Object, _ ...cache.InformerGetOption) (cache.Informer, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	kind := reflect.TypeOf(object)
	if i.lacks[kind] {
		return nil, errNoKind(kind.Elem().Name())
	}
	if err := i.refuses[kind]; err != nil {
		return nil, err
	}
	if there := i.byKind[kind]; there != nil {
		return there, nil
	}
	list, err := i.listOf(kind)
	if err != nil {
		return nil, err
	}
	informer := toolscache.NewSharedIndexInformer(feed{i, list}, object, 0, toolscache.Indexers{})
	i.byKind[kind] = informer
	go informer.RunWithContext(i.b.t.Context())
	return informer, nil
}

func (i *informers) listOf(kind reflect.Type) (client.ObjectList, error) {
	gvks, _, err := i.b.Scheme().ObjectKinds(reflect.New(kind.Elem()).Interface().(runtime.Object))
	if err != nil {
		return nil, err
	}
	list, err := i.b.Scheme().New(gvks[0].GroupVersion().WithKind(gvks[0].Kind + "List"))
	if err != nil {
		return nil, err
	}
	return list.(client.ObjectList), nil
}

// feed lists and watches a kind for its informer.
type feed struct {
	i    *informers
	list client.ObjectList
}

func (feed) IsWatchListSemanticsUnSupported() bool { return true }

func (f feed) List(metav1.ListOptions) (runtime.Object, error) {
	list := f.list.DeepCopyObject().(client.ObjectList)
	return list, f.i.b.stored.List(f.i.b.t.Context(), list)
}

func (f feed) Watch(metav1.ListOptions) (watch.Interface, error) {
	w, err := f.i.b.stored.Watch(f.i.b.t.Context(), f.list)
	if err != nil {
		return nil, err
	}
	p := paused{Interface: w, events: make(chan watch.Event)}
	go p.run(f.i)
	return p, nil
}

// paused is a watch that can be paused.
type paused struct {
	watch.Interface
	events chan watch.Event
}

func (p paused) ResultChan() <-chan watch.Event { return p.events }

func (p paused) run(i *informers) {
	defer close(p.events)
	done := i.b.t.Context().Done()
	for e := range p.Interface.ResultChan() {
		i.mu.Lock()
		flowing := i.flowing
		i.mu.Unlock()
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
func (i *informers) all(kind reflect.Type) ([]client.Object, error) {
	i.mu.Lock()
	informer := i.byKind[kind]
	i.mu.Unlock()
	if i.lacks[kind] {
		return nil, errNoKind(kind.Elem().Name())
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

func (i *informers) Get(ctx context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return i.b.call(ctx, "cache-get", object, key.Name, func() error {
		all, err := i.all(reflect.TypeOf(object))
		if err != nil {
			return err
		}
		for _, o := range all {
			if client.ObjectKeyFromObject(o) == key {
				reflect.ValueOf(object).Elem().Set(reflect.ValueOf(o.DeepCopyObject()).Elem())
				return nil
			}
		}
		return apierrors.NewNotFound(schema.GroupResource{Resource: kindOf(object)}, key.Name)
	})
}

func (i *informers) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return i.b.call(ctx, "cache-list", list, "", func() error { return i.list(list, new(client.ListOptions).ApplyOptions(options)) })
}

func (i *informers) list(list client.ObjectList, o *client.ListOptions) error {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	all, err := i.all(reflect.PointerTo(reflect.TypeOf(items).Elem().Elem()))
	if err != nil {
		return err
	}
	var found []runtime.Object
	for _, object := range all {
		if o.Namespace != "" && object.GetNamespace() != o.Namespace || o.LabelSelector != nil && !o.LabelSelector.Matches(labels.Set(object.GetLabels())) {
			continue
		}
		if ok, err := i.matchesFields(object, o); err != nil {
			return err
		} else if !ok {
			continue
		}
		if o.UnsafeDisableDeepCopy == nil || !*o.UnsafeDisableDeepCopy {
			object = object.DeepCopyObject().(client.Object)
		} else {
			i.lend(object)
		}
		found = append(found, object)
	}
	return meta.SetList(list, found)
}

func (i *informers) matchesFields(object client.Object, o *client.ListOptions) (bool, error) {
	if o.FieldSelector == nil {
		return true, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range o.FieldSelector.Requirements() {
		extract := i.indexes[fmt.Sprintf("%T %s", object, r.Field)]
		if extract == nil {
			return false, fmt.Errorf("%T has no index %s", object, r.Field)
		}
		if !slices.Contains(extract(object), r.Value) {
			return false, nil
		}
	}
	return true, nil
}

func (i *informers) lend(object client.Object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lent[object] == nil {
		i.lent[object] = object.DeepCopyObject().(client.Object)
	}
}
