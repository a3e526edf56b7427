package controller

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
)

// Certificates are self-made: an authority in a Secret, that the leader replaces in time and tells the API server of, and
// a serving certificate in the memory of each replica. Every replica runs it; Lead is for a Leader.
type Certificates struct {
	// Reader reads the API server itself: what is cached may be the authority before the last.
	Reader client.Reader
	Writer client.Client
	Secret client.ObjectKey
	// Configuration is the name of the webhook configurations.
	Configuration string
	// Names are the DNS names and addresses that the API server calls the replicas.
	Names []string
	// AuthorityLifetime and Lifetime are how long an authority and a serving certificate last.
	AuthorityLifetime, Lifetime time.Duration
	Expiry                      *prometheus.GaugeVec // by certificate: ca, serving; nil for nowhere
	Now                         func() time.Time

	known atomic.Pointer[known]
}

// known is the authorities that this replica has seen last, and its certificate by them.
type known struct {
	store   *certificate.Store
	serving *tls.Certificate
}

// NewExpiryMetric makes the metric of Certificates and registers it.
func NewExpiryMetric(registry prometheus.Registerer) *prometheus.GaugeVec {
	m := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "portcullis_certificate_expiry_timestamp_seconds",
		Help: "When the certificate (serving, or the ca that signs it) expires; both are replaced in the last third of their lives.",
	}, []string{"certificate"})
	registry.MustRegister(m)
	return m
}

// NeedLeaderElection says that every replica has a certificate.
func (c *Certificates) NeedLeaderElection() bool { return false }

// Serving is what tls.Config.GetCertificate wants.
func (c *Certificates) Serving(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k := c.known.Load()
	if k == nil {
		return nil, errors.New("there is no certificate yet")
	}
	return k.serving, nil
}

// Roots is what the API server is to trust; nil while there is no certificate.
func (c *Certificates) Roots() *x509.CertPool {
	k := c.known.Load()
	if k == nil {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.store.Bundle())
	return roots
}

// Start keeps this replica's certificate until ctx ends. Whoever comes first makes the authority.
func (c *Certificates) Start(ctx context.Context) error {
	var told complaint
	for {
		err := c.follow(ctx)
		told.about(ctx, err, "Following the certificate authority", "secret", c.Secret.String())
		wait := min(max(c.shortest()/60, time.Second), 10*time.Second)
		if c.known.Load() == nil {
			wait = 200 * time.Millisecond
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

func (c *Certificates) shortest() time.Duration { return min(c.AuthorityLifetime, c.Lifetime) }

// follow reads the authorities and has a certificate of the one that signs.
func (c *Certificates) follow(ctx context.Context) error {
	store, _, err := c.read(ctx)
	switch {
	case apierrors.IsNotFound(err):
		store, err = c.create(ctx)
	case err != nil && c.known.Load() != nil:
		return errors.Join(err, c.adopt(c.known.Load().store)) // its own certificate may be old
	}
	if err != nil {
		return err
	}
	return c.adopt(store)
}

// read returns the authorities, and the Secret that they are in; that alone if it cannot be understood.
func (c *Certificates) read(ctx context.Context) (*certificate.Store, *corev1.Secret, error) {
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

// create makes the Secret: of what this replica knows, for one that somebody has deleted.
func (c *Certificates) create(ctx context.Context) (*certificate.Store, error) {
	store, err := c.remembered()
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

// remembered returns the authorities that this replica has seen last, else new ones.
func (c *Certificates) remembered() (*certificate.Store, error) {
	if k := c.known.Load(); k != nil {
		return k.store, nil
	}
	return certificate.NewStore(c.Now(), c.AuthorityLifetime)
}

// adopt makes sure that the certificate in memory is of the authority that signs, and will last.
func (c *Certificates) adopt(store *certificate.Store) error {
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

// Lead replaces the authority in time and writes what is trusted into the webhook configurations, until ctx ends.
func (c *Certificates) Lead(ctx context.Context) {
	var told complaint
	var since published
	for {
		err := c.rotate(ctx, &since)
		told.about(ctx, err, "Keeping the certificate authority", "secret", c.Secret.String())
		if !sleep(ctx, min(max(c.AuthorityLifetime/60, time.Second), 5*time.Second)) {
			return
		}
	}
}

// published is since when the webhook configurations have a bundle.
type published struct {
	bundle []byte
	since  time.Time
}

func (c *Certificates) rotate(ctx context.Context, p *published) error {
	store, secret, err := c.read(ctx)
	if secret == nil {
		if apierrors.IsNotFound(err) {
			return nil // Start makes it
		}
		return err
	}
	before := store
	if err != nil {
		logf.FromContext(ctx).Error(err, "Writing the Secret anew")
		if store, err = c.remembered(); err != nil {
			return err
		}
	}
	if err := c.publish(ctx, store.Bundle(), p); err != nil {
		return err
	}
	next, err := store.Step(c.Now(), p.since, c.AuthorityLifetime)
	if err != nil || next == before {
		return err
	}
	if secret.Data, err = next.Data(); err != nil {
		return err
	}
	if err := c.Writer.Update(ctx, secret, fieldOwner); err != nil {
		return fmt.Errorf("writing the authority: %w", err)
	}
	logf.FromContext(ctx).Info("the certificate authority has moved on",
		"signs until", next.Current.Certificate.NotAfter, "successor", next.Next != nil, "trusted", len(next.Trusted))
	return errors.Join(c.publish(ctx, next.Bundle(), p), c.adopt(next))
}

// publish writes the bundle into the webhook configurations that exist.
func (c *Certificates) publish(ctx context.Context, bundle []byte, p *published) error {
	wrote := false
	for _, configuration := range []client.Object{
		&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{},
	} {
		err := c.Reader.Get(ctx, client.ObjectKey{Name: c.Configuration}, configuration)
		if apierrors.IsNotFound(err) {
			continue // there is nobody to tell
		}
		if err != nil {
			return fmt.Errorf("reading the webhook configuration: %w", err)
		}
		changed := false
		for _, trusted := range bundlesOf(configuration) {
			if !bytes.Equal(*trusted, bundle) {
				*trusted, changed = bundle, true
			}
		}
		if !changed {
			continue
		}
		wrote = true
		if err := c.Writer.Update(ctx, configuration, fieldOwner); err != nil {
			return fmt.Errorf("writing the caBundle of %T %s: %w", configuration, c.Configuration, err)
		}
	}
	if wrote || p.since.IsZero() || !bytes.Equal(p.bundle, bundle) {
		*p = published{bundle: bundle, since: c.Now()}
	}
	return nil
}

func bundlesOf(configuration client.Object) []*[]byte {
	var all []*[]byte
	switch o := configuration.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range o.Webhooks {
			all = append(all, &o.Webhooks[i].ClientConfig.CABundle)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range o.Webhooks {
			all = append(all, &o.Webhooks[i].ClientConfig.CABundle)
		}
	}
	return all
}

// complaint tells an error when it begins, when it changes, and that it is over.
type complaint struct{ last string }

func (c *complaint) about(ctx context.Context, err error, what string, keysAndValues ...any) {
	log := logf.FromContext(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil && err.Error() != c.last:
		c.last = err.Error()
		log.Error(err, what, keysAndValues...)
	case err == nil && c.last != "":
		c.last = ""
		log.Info(what+" works again", keysAndValues...)
	}
}
