package scheduling

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
)

// byNumber is the index of Services by the numbers that they claim: "30062/TCP".
const byNumber = "portcullis.dev/by-number"

// services knows what Services hold. It asks the informer's own store, which is complete before the first pod is
// scheduled, so that there is nothing to keep in step.
type services struct {
	indexer   cache.Indexer
	nodePorts extract.NodePortAddresses

	// The events that wake a pod come by another informer, kube-scheduler's dynamic one, which may be ahead of this store:
	// the pod would be refused by a Service that is gone, and nothing would wake it again. So what such an event told is
	// kept until the store has caught up.
	mutex sync.Mutex
	ahead map[types.UID]*corev1.Service // nil: deleted
}

func newServices(informer cache.SharedIndexInformer, nodePorts extract.NodePortAddresses) (*services, error) {
	s := &services{indexer: informer.GetIndexer(), nodePorts: nodePorts, ahead: map[types.UID]*corev1.Service{}}
	if _, ok := s.indexer.GetIndexers()[byNumber]; !ok { // another profile may have added it
		if err := informer.AddIndexers(cache.Indexers{byNumber: numbersOf}); err != nil {
			return nil, fmt.Errorf("indexing Services: %w", err)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(before, now any) { s.caughtUp(before, now) },
		DeleteFunc: func(object any) { s.caughtUp(object, nil) },
	})
	return s, err
}

// numbersOf lists the numbers that a Service claims, on whichever addresses.
func numbersOf(object any) ([]string, error) {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	numbers := map[string]bool{}
	for _, c := range extract.Service(svc, extract.NodePortAddresses{}).Claims {
		numbers[c.PortProtocol()] = true
	}
	return slices.Collect(maps.Keys(numbers)), nil
}

// holders returns a ledger of the Services that claim a number which w wants.
func (s *services) holders(w *check.Workload) (*ledger.Snapshot, error) {
	var held ledger.Ledger
	for _, wanted := range w.Claims {
		found, err := s.indexer.ByIndex(byNumber, wanted.PortProtocol())
		if err != nil {
			return nil, err
		}
		for _, object := range found {
			svc, ok := object.(*corev1.Service)
			if !ok {
				continue
			}
			if svc = s.newest(svc); svc != nil {
				claims := extract.Service(svc, s.nodePorts)
				held.Replace(claims.Owner, claims.Claims)
			}
		}
	}
	return held.Snapshot(), nil
}

// newest returns a Service of the store as the events told of it; nil if it is gone.
func (s *services) newest(stored *corev1.Service) *corev1.Service {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if ahead, ok := s.ahead[stored.UID]; ok {
		return ahead
	}
	return stored
}

// tell keeps what an event says of a Service, if the store does not say so yet; now is nil for one that was deleted.
func (s *services) tell(before, now *corev1.Service) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	object, exists, err := s.indexer.GetByKey(cache.MetaObjectToName(before).String())
	stored, ok := object.(*corev1.Service)
	if err != nil || !exists || !ok || stored.UID != before.UID {
		return
	}
	known, told := s.ahead[before.UID]
	switch {
	case now == nil:
		s.ahead[before.UID] = nil
	case told && (known == nil || !isOlder(known, now)), !isOlder(stored, now):
	default:
		s.ahead[before.UID] = now
	}
}

// caughtUp drops what the store now knows itself.
func (s *services) caughtUp(before, now any) {
	if tombstone, ok := before.(cache.DeletedFinalStateUnknown); ok {
		before = tombstone.Obj
	}
	old, ok := before.(*corev1.Service)
	if !ok {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	stored, ok := now.(*corev1.Service)
	ahead, told := s.ahead[old.UID]
	if !ok || stored.UID != old.UID || told && ahead != nil && !isOlder(stored, ahead) {
		delete(s.ahead, old.UID)
	}
}

// isOlder reports whether a is an older version of one object than b. What cannot be compared is not.
func isOlder(a, b *corev1.Service) bool {
	c, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && c < 0
}
