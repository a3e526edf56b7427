// Package certificates keeps the webhook's TLS certificates, with nothing else installed: a certificate authority in a
// Secret, a serving certificate in the memory of each replica, and the CA bundle in the webhook configurations. Every
// replica runs Start of its Controller, and the leader runs Lead as well:
//
//	Start, every replica                        Lead, the leader
//	read the Secret                             publish the bundle and paths of the Secret
//	issue a serving certificate, accept paths   wait until API servers and replicas know them
//	confirm the next path in the Secret         write the next step into the Secret
//
// The order makes a replacement safe: the next authority is published before it signs, and the next path is accepted by
// every replica before it is published. pkg/certificate says what the steps are; this package reads and writes the
// objects. The paths are those at which the API server calls the webhook; they may have a secret segment.
package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
)

const fieldOwner = client.FieldOwner("portcullis-controller")

// Controller keeps the certificates of one replica. It is a manager's Runnable, and its Lead is a task of the leader.
type Controller struct {
	// Reader reads from the API server: a cache may hold the authority before the last.
	Reader client.Reader
	Writer client.Client
	Secret client.ObjectKey
	// Configuration is the name of the webhook configurations.
	Configuration string
	// Names are the DNS names and addresses at which the API server calls the replicas.
	Names []string
	// AuthorityLifetime and Lifetime are how long an authority and a serving certificate last.
	AuthorityLifetime, Lifetime time.Duration
	Expiry                      *prometheus.GaugeVec // by certificate: ca, serving; may be nil
	Now                         func() time.Time
	// SecretPath has the leader keep a secret segment in the paths of the webhook configurations. Only the Secret decides
	// what a replica accepts, so that replicas with and without SecretPath accept the same during a rollout.
	SecretPath bool
	// Service leads to the replicas. Replica is how its endpoints name this one: by pod and by address.
	Service client.ObjectKey
	Replica []string

	known atomic.Pointer[known]
}

// known is what this replica has read last, and the certificate that it has issued from it.
type known struct {
	store   *certificate.Store
	serving *tls.Certificate
}

// NewExpiryMetric makes the metric for Controller.Expiry and registers it.
func NewExpiryMetric(registry prometheus.Registerer) *prometheus.GaugeVec {
	m := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "portcullis_certificate_expiry_timestamp_seconds",
		Help: "When the certificate (serving, or the ca that signs it) expires; both are replaced in the last third of their lives.",
	}, []string{"certificate"})
	registry.MustRegister(m)
	return m
}

// NeedLeaderElection is false: every replica has a certificate.
func (c *Controller) NeedLeaderElection() bool { return false }

// Serving is a tls.Config.GetCertificate.
func (c *Controller) Serving(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k := c.known.Load()
	if k == nil {
		return nil, errors.New("there is no certificate yet")
	}
	return k.serving, nil
}

// Roots are the authorities that the API server is to trust; nil while there is no certificate.
func (c *Controller) Roots() *x509.CertPool {
	k := c.known.Load()
	if k == nil {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.store.Bundle())
	return roots
}

// Accepts reports whether this replica serves a path with the segment; "" is the plain path.
func (c *Controller) Accepts(segment string) bool {
	k := c.known.Load()
	return k != nil && k.store.Prefixes.Accepts(segment)
}

// Start keeps this replica's certificate until ctx ends. The first replica creates the authority.
func (c *Controller) Start(ctx context.Context) error {
	var reporter periodic.ErrorReporter
	for {
		err := c.follow(ctx)
		reporter.Report(ctx, err, "Following the certificate authority", "secret", c.Secret.String())
		wait := c.interval()
		if c.known.Load() == nil {
			wait = 200 * time.Millisecond
		}
		if !periodic.Sleep(ctx, wait) {
			return nil
		}
	}
}

// interval is how often a replica reads the Secret.
func (c *Controller) interval() time.Duration {
	return min(max(min(c.AuthorityLifetime, c.Lifetime)/60, time.Second), 10*time.Second)
}

// follow reads the authorities and holds a certificate of the one that signs.
func (c *Controller) follow(ctx context.Context) error {
	store, secret, err := c.read(ctx)
	switch {
	case apierrors.IsNotFound(err):
		store, err = c.create(ctx)
	case err != nil && c.known.Load() != nil:
		return errors.Join(err, c.adopt(c.known.Load().store)) // its certificate may be about to expire
	}
	if err != nil {
		return err
	}
	if err := c.adopt(store); err != nil || secret == nil {
		return err
	}
	return c.confirm(ctx, store, secret)
}

// confirm records in the Secret that this replica accepts the next path.
func (c *Controller) confirm(ctx context.Context, store *certificate.Store, secret *corev1.Secret) (err error) {
	next := *store
	next.Prefixes = store.Prefixes.See(c.Replica...)
	if len(next.Prefixes.Seen) == len(store.Prefixes.Seen) {
		return nil
	}
	if secret.Data, err = next.Data(); err != nil {
		return err
	}
	if err := c.Writer.Update(ctx, secret, fieldOwner); err != nil && !apierrors.IsConflict(err) { // another replica was first
		return fmt.Errorf("writing that the next path is accepted: %w", err)
	}
	return nil
}

// read returns the authorities and the Secret that holds them. A Secret that cannot be parsed is returned with the error.
func (c *Controller) read(ctx context.Context) (*certificate.Store, *corev1.Secret, error) {
	secret := &corev1.Secret{}
	if err := c.Reader.Get(ctx, c.Secret, secret); err != nil {
		return nil, nil, err
	}
	store, err := certificate.Parse(secret.Data)
	if err != nil {
		return nil, secret, fmt.Errorf("the Secret %s is not what Portcullis writes: %w", c.Secret, err)
	}
	return store, secret, nil
}

// create creates the Secret. If it existed before, and somebody has deleted it, it has the same authorities again.
func (c *Controller) create(ctx context.Context) (*certificate.Store, error) {
	store, err := c.lastKnown()
	if err != nil {
		return nil, err
	}
	data, err := store.Data()
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: c.Secret.Namespace, Name: c.Secret.Name,
		Labels: map[string]string{"app.kubernetes.io/name": "portcullis", "app.kubernetes.io/part-of": "portcullis"},
	}, Data: data}
	return store, c.Writer.Create(ctx, secret, fieldOwner)
}

// lastKnown returns the authorities that this replica has read last, or new ones.
func (c *Controller) lastKnown() (*certificate.Store, error) {
	if k := c.known.Load(); k != nil {
		return k.store, nil
	}
	return certificate.NewStore(c.Now(), c.AuthorityLifetime)
}

// adopt keeps store, and issues a certificate if the one in memory is of another authority or in the last third of its life.
func (c *Controller) adopt(store *certificate.Store) error {
	now, k := c.Now(), c.known.Load()
	signer := store.Current.Certificate
	if k == nil || !k.store.Current.Certificate.Equal(signer) ||
		k.serving.Leaf.NotAfter.Sub(now) < c.Lifetime/3 && k.serving.Leaf.NotAfter.Before(signer.NotAfter) {
		serving, err := store.Current.Issue(now, c.Lifetime, c.Names...)
		if err != nil {
			return err
		}
		k = &known{serving: serving}
	}
	c.known.Store(&known{store: store, serving: k.serving})
	if c.Expiry != nil {
		c.Expiry.WithLabelValues("ca").Set(float64(signer.NotAfter.Unix()))
		c.Expiry.WithLabelValues("serving").Set(float64(k.serving.Leaf.NotAfter.Unix()))
	}
	return nil
}
