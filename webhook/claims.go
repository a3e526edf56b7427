package webhook

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// Booking is a number of a pool that a Service is to have.
type Booking struct {
	Port     uint16
	Pool     string
	PortName string // of the Service's port, or v1alpha1.HealthCheckPortName
	Service  v1alpha1.ClaimingService
	IsNew    bool   // the Service is being created: whatever is claimed in its name was for one before it
	UID      string // of the Service, if it exists
}

// Claims books numbers where every replica sees it: a PortClaim for each, whose name can be taken only once.
type Claims struct {
	writer client.Client
	live   client.Reader // reads what is stored, and not what was seen of it
	seen   func(port uint16) *v1alpha1.PortClaim
	now    func() time.Time
}

// NewClaims returns claims that are written by writer. live must read from the API server, seen returns the claim of a
// number as it was seen last.
func NewClaims(writer client.Client, live client.Reader, seen func(port uint16) *v1alpha1.PortClaim, now func() time.Time) *Claims {
	return &Claims{writer, live, seen, now}
}

const (
	// claimTime bounds what the mutating hook may take to book: some of its time is left to tell the other replicas.
	claimTime = 1500 * time.Millisecond
	// freshTime is how long a request is so recent that the number need not be asked for again: much shorter than its claim is
	// kept, see RequestLifetime of pkg/controller/claims.
	freshTime = 3 * time.Second
	// claimAttempts bounds how often one claim is tried to write.
	claimAttempts = 4
)

// take books a number, and reports whether the Service has it now; false if it is somebody else's.
func (c *Claims) take(ctx context.Context, b Booking) (bool, error) {
	claim := c.seen(b.Port)
	for range claimAttempts {
		if claim == nil {
			err := c.create(ctx, b)
			if err == nil {
				return true, nil
			}
			if !apierrors.IsAlreadyExists(err) {
				return false, err
			}
			if claim, err = c.read(ctx, b.Port); err != nil {
				return false, err
			}
			continue
		}
		if !isFor(claim, b.Service) {
			stored, err := c.read(ctx, b.Port)
			if err != nil {
				return false, err
			}
			if stored != nil && !isFor(stored, b.Service) {
				return false, nil
			}
			claim = stored
			continue
		}
		if c.isFresh(claim) || !b.IsNew && b.UID != "" && claim.Status.Phase == v1alpha1.ClaimBound && claim.Status.ServiceUID == b.UID {
			return true, nil
		}
		err := c.askAgain(ctx, claim)
		if err == nil {
			return true, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return false, err
		}
		if claim, err = c.read(ctx, b.Port); err != nil {
			return false, err
		}
	}
	return false, nil
}

// read returns the claim of a number as it is stored, or nil.
func (c *Claims) read(ctx context.Context, port uint16) (*v1alpha1.PortClaim, error) {
	var claim v1alpha1.PortClaim
	err := c.live.Get(ctx, client.ObjectKey{Name: v1alpha1.ClaimName(int32(port))}, &claim)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &claim, err
}

func (c *Claims) create(ctx context.Context, b Booking) error {
	claim := &v1alpha1.PortClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClaimName(int32(b.Port))},
		Spec: v1alpha1.PortClaimSpec{
			Port: int32(b.Port), Pool: b.Pool, PortName: b.PortName, Service: b.Service, RequestedAt: metav1.NewTime(c.now()),
		},
	}
	return c.writer.Create(ctx, claim)
}

// isFresh reports whether a number was asked for so recently that nobody takes the request for dead.
func (c *Claims) isFresh(claim *v1alpha1.PortClaim) bool {
	isRequested := extract.Phase(claim) == v1alpha1.ClaimRequested
	return isRequested && c.now().Sub(claim.LastRequested().Time).Abs() < freshTime // the clocks of replicas differ
}

// askAgain takes a number back that was the Service's before, unless somebody has changed the claim meanwhile. The UID of who
// held it last stays: if the Service does not come, the number rests for the pool's reuseDelay all the same.
func (c *Claims) askAgain(ctx context.Context, claim *v1alpha1.PortClaim) error {
	again := claim.DeepCopy()
	again.Status = v1alpha1.PortClaimStatus{Phase: v1alpha1.ClaimRequested, ServiceUID: claim.Status.ServiceUID, RequestedAgainAt: new(metav1.NewTime(c.now()))}
	return c.writer.Status().Update(ctx, again)
}

// isFor reports whether a claim is a Service's. Two that are to be named by the same pattern cannot be told apart.
func isFor(claim *v1alpha1.PortClaim, svc v1alpha1.ClaimingService) bool {
	of := claim.Spec.Service
	if of.Namespace != svc.Namespace {
		return false
	}
	if svc.Name != "" {
		return of.Name == svc.Name
	}
	return of.Name == "" && of.GenerateName == svc.GenerateName
}

// claimingService names a Service in a claim, while it may not have a name yet.
func claimingService(svc *corev1.Service) v1alpha1.ClaimingService {
	of := v1alpha1.ClaimingService{Namespace: svc.Namespace, Name: svc.Name}
	if svc.Name == "" {
		of.GenerateName = svc.GenerateName
	}
	return of
}

// bookAll books numbers one after the other. It returns those that are somebody else's.
func (c *Claims) bookAll(ctx context.Context, bookings []Booking) (lost []uint16, err error) {
	for _, b := range bookings {
		mine, err := c.take(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("claiming nodePort %d: %w", b.Port, err)
		}
		if !mine {
			lost = append(lost, b.Port)
		}
	}
	return lost, nil
}
