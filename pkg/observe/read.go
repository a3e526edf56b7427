package observe

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

const (
	maxReads = 16              // at once
	readTime = 1 * time.Second // for one of them, the wait for its turn included
)

// reads shares what is read from the API server: everybody who asks for one object while it is being read gets the same
// answer. That answer may be of the time before the last of them asked, by at most readTime.
type reads struct {
	shared singleflight.Group
	slots  chan struct{}
}

func newReads() reads { return reads{slots: make(chan struct{}, maxReads)} }

// Read returns an object as the API server has it at this moment, nil if there is none. Objects that claim no ports have
// no claims. It takes a second at most.
func (o *Observer) Read(ctx context.Context, ref ports.Ref) (*Seen, error) {
	if ref.Name == "" || len(content.IsPathSegmentName(ref.Name)) > 0 {
		return nil, nil // no object is called that
	}
	done := o.reads.shared.DoChan(ref.APIVersion+" "+ref.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime) // others wait for it, too
		defer cancel()
		select {
		case o.reads.slots <- struct{}{}:
			defer func() { <-o.reads.slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return o.readFrom(ctx, o.options.Live, ref)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("reading %s: %w", ref, ctx.Err())
	case result := <-done:
		if result.Err != nil {
			return nil, fmt.Errorf("reading %s: %w", ref, result.Err)
		}
		return result.Val.(*Seen), nil
	}
}

// Shown returns an object as the watch shows it, nil if it shows none.
func (o *Observer) Shown(ctx context.Context, ref ports.Ref) *Seen {
	seen, err := o.readFrom(ctx, o.cache, ref)
	if err != nil {
		return nil
	}
	return seen
}

func (o *Observer) readFrom(ctx context.Context, from client.Reader, ref ports.Ref) (*Seen, error) {
	object, err := o.options.Scheme.New(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
	if err != nil {
		return nil, err
	}
	into, ok := object.(client.Object)
	if !ok {
		return nil, fmt.Errorf("%T is no object", object)
	}
	err = from.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, into)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h, ok := o.holdingOf(into)
	if !ok {
		return nil, fmt.Errorf("%s claims no ports", ref.Kind)
	}
	seen := h.seen(false)
	return &seen, nil
}
