package pools

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

const (
	churnFirst, churnLast = 30400, 30459 // two pools, half each
	churners              = 4
)

// testChurn: Services come, go and change, with a replica and without; requests fail half-way. When it is quiet every number
// that is held has one claim, bound to its holder, and no other claim is left.
func testChurn(t *testing.T, w *world) {
	rounds, s := seed.Rounds(60, 2000), seed.Of(t)
	w.pool(t, "churn-a", "30400-30429", 0)
	w.pool(t, "churn-b", "30430-30459", time.Second)
	r := w.run(t, settings{lifetime: 3 * time.Second})
	wrong := w.watchDeletions(t)
	var working sync.WaitGroup
	for i := range churners {
		c := &churner{world: w, random: rand.New(rand.NewPCG(s, uint64(i))), namespace: w.namespace(t, nil)}
		working.Go(func() {
			for range rounds {
				if err := c.round(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	working.Wait()
	poll.Until(t, w.inStep)
	for _, text := range wrong() {
		t.Error(text)
	}
	got := r.transitions(t)
	t.Logf("transitions: %v", got)
	for _, to := range []string{"imported", "bound", "released", "deleted"} {
		if got[to] == 0 {
			t.Errorf("no claim was %s: the churn shows nothing", to)
		}
	}
}

// churner makes random changes in a namespace of its own.
type churner struct {
	*world
	random    *rand.Rand
	namespace string
}

// round makes one change. Only errors that a client never meets are returned.
func (c *churner) round(ctx context.Context) error {
	name := fmt.Sprint("s", c.random.IntN(6))
	number := int32(churnFirst + c.random.IntN(churnLast-churnFirst+1))
	var svc corev1.Service
	err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, &svc)
	switch exists := err == nil; {
	case err != nil && !apierrors.IsNotFound(err):
		return err
	case exists && c.random.IntN(2) == 0:
		return expected(c.Delete(ctx, &svc))
	case exists:
		if booked, err := c.book(ctx, number, named(c.namespace, name)); err != nil || !booked {
			return err
		}
		svc.Spec.Ports[0].NodePort = number
		return expected(c.Update(ctx, &svc))
	case c.random.IntN(4) == 0: // without a replica
		return expected(c.Create(ctx, serviceOf(c.namespace, name, number)))
	case c.random.IntN(4) == 0:
		booked, err := c.book(ctx, number, v1alpha1.ClaimingService{Namespace: c.namespace, GenerateName: "g-"})
		if err != nil || !booked {
			return err
		}
		generated := serviceOf(c.namespace, "g-", number)
		if err := expected(c.Create(ctx, generated)); err != nil || generated.UID == "" || c.random.IntN(2) == 0 {
			return err
		}
		return expected(c.Delete(ctx, generated))
	}
	booked, err := c.book(ctx, number, named(c.namespace, name))
	if err != nil || !booked || c.random.IntN(4) == 0 {
		return err // the request fails after the webhook
	}
	return expected(c.Create(ctx, serviceOf(c.namespace, name, number)))
}

// book claims a number as the webhook does, and reports whether it is the Service's.
func (c *churner) book(ctx context.Context, number int32, of v1alpha1.ClaimingService) (bool, error) {
	err := c.Create(ctx, claimOf(number, "churn-a", of))
	if !apierrors.IsAlreadyExists(err) {
		return err == nil, err
	}
	claim, err := c.claim(ctx, number)
	if err != nil || claim == nil {
		return false, err
	}
	its := claim.Spec.Service.Namespace == of.Namespace && of.Name != "" && claim.Spec.Service.Name == of.Name
	if !its {
		return false, nil
	}
	claim.Status = v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimRequested, RequestedAgainAt: new(metav1.Now())}
	err = c.Status().Update(ctx, claim)
	return err == nil, expected(err)
}

// expected drops the errors that a client meets: a number that is taken, an object that has changed or gone.
func expected(err error) error {
	if apierrors.IsInvalid(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// inStep returns what is out of step between the Services and the claims.
func (w *world) inStep(ctx context.Context) error {
	var services corev1.ServiceList
	var claims v1alpha1.PortClaimList
	if err := w.List(ctx, &services); err != nil {
		return err
	}
	if err := w.List(ctx, &claims); err != nil {
		return err
	}
	byNumber := map[int32]*v1alpha1.PortClaim{}
	for i := range claims.Items {
		byNumber[claims.Items[i].Spec.Port] = &claims.Items[i]
	}
	for i := range services.Items {
		svc := &services.Items[i]
		for _, p := range svc.Spec.Ports {
			if p.NodePort < churnFirst || p.NodePort > churnLast {
				continue
			}
			if err := isBound(byNumber[p.NodePort], p.NodePort, svc); err != nil {
				return err
			}
			delete(byNumber, p.NodePort)
		}
	}
	for number, claim := range byNumber {
		return fmt.Errorf("%d is claimed and not held: %+v, %+v", number, claim.Spec, claim.Status)
	}
	return nil
}

// watchDeletions looks at each claim that is deleted, and returns a function that says which should not have been: a
// claim that was bound, unless another Service held the number.
func (w *world) watchDeletions(t *testing.T) func() []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	watching, err := client.NewWithWatch(w.RESTConfig(), client.Options{Scheme: w.Types})
	if err != nil {
		t.Fatal(err)
	}
	events, err := watching.Watch(ctx, &v1alpha1.PortClaimList{})
	if err != nil {
		t.Fatal(err)
	}
	var wrong []string
	var reading sync.WaitGroup
	reading.Go(func() {
		for e := range events.ResultChan() {
			claim, ok := e.Object.(*v1alpha1.PortClaim)
			if !ok || e.Type != watch.Deleted || claim.Status.Phase != v1alpha1.ClaimBound {
				continue
			}
			var svc corev1.Service
			key := client.ObjectKey{Namespace: claim.Spec.Service.Namespace, Name: claim.Spec.Service.Name}
			if err := w.Get(ctx, key, &svc); err != nil || string(svc.UID) != claim.Status.ServiceUID {
				continue
			}
			if slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == claim.Spec.Port }) {
				wrong = append(wrong, fmt.Sprintf("the claim of %d was deleted while Service %s held it: %+v", claim.Spec.Port, key, claim.Status))
			}
		}
	})
	return func() []string {
		events.Stop()
		reading.Wait()
		cancel()
		return wrong
	}
}
