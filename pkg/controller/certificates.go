package controller

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
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
// a serving certificate in the memory of each replica. Beside the authority the leader keeps the secret segment of the
// paths, if there is to be one, and replaces it when another authority signs. Every replica runs it; Lead is for a Leader.
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
	// SecretPath says that the leader keeps a secret segment in the paths of the webhook configurations. What a replica
	// accepts is up to the Secret alone, so that replicas with and without it, as in a rollout, accept the same.
	SecretPath bool
	// Service is what stands before the replicas, and Replica the names by which its endpoints know this one: those of the
	// pod and its address.
	Service client.ObjectKey
	Replica []string

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

// Accepts reports whether requests to a path with a segment are served; an empty one stands for the plain path.
func (c *Certificates) Accepts(segment string) bool {
	k := c.known.Load()
	return k != nil && k.store.Prefixes.Accepts(segment)
}

// Start keeps this replica's certificate until ctx ends. Whoever comes first makes the authority.
func (c *Certificates) Start(ctx context.Context) error {
	var told complaint
	for {
		err := c.follow(ctx)
		told.about(ctx, err, "Following the certificate authority", "secret", c.Secret.String())
		wait := c.every()
		if c.known.Load() == nil {
			wait = 200 * time.Millisecond
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// every is how often a replica reads the Secret.
func (c *Certificates) every() time.Duration {
	return min(max(min(c.AuthorityLifetime, c.Lifetime)/60, time.Second), 10*time.Second)
}

// follow reads the authorities and has a certificate of the one that signs.
func (c *Certificates) follow(ctx context.Context) error {
	store, secret, err := c.read(ctx)
	switch {
	case apierrors.IsNotFound(err):
		store, err = c.create(ctx)
	case err != nil && c.known.Load() != nil:
		return errors.Join(err, c.adopt(c.known.Load().store)) // its own certificate may be old
	}
	if err != nil {
		return err
	}
	if err := c.adopt(store); err != nil || secret == nil {
		return err
	}
	return c.see(ctx, store, secret)
}

// see writes into the Secret that this replica accepts the next prefix, once it does.
func (c *Certificates) see(ctx context.Context, store *certificate.Store, secret *corev1.Secret) (err error) {
	next := *store
	next.Prefixes = store.Prefixes.See(c.Replica...)
	if len(next.Prefixes.Seen) == len(store.Prefixes.Seen) {
		return nil
	}
	if secret.Data, err = next.Data(); err != nil {
		return err
	}
	if err := c.Writer.Update(ctx, secret, fieldOwner); err != nil && !apierrors.IsConflict(err) { // another one was first
		return fmt.Errorf("writing that the next path is accepted: %w", err)
	}
	return nil
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

// published is since when the webhook configurations have a bundle and paths, and the Secret has those prefixes.
type published struct {
	bundle   []byte
	prefixes certificate.Prefixes
	since    time.Time
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
	if err := c.publish(ctx, store, p); err != nil {
		return err
	}
	next, err := store.Step(c.Now(), p.since, c.AuthorityLifetime)
	if err != nil {
		return err
	}
	accepted, waits := c.accepted(ctx, &store.Prefixes, p)
	rotate := next.Current != store.Current
	if prefixes := store.Prefixes.Step(c.SecretPath, rotate, accepted, c.Now(), p.since, c.AuthorityLifetime); !prefixes.Equal(store.Prefixes) {
		moved := *next
		moved.Prefixes = prefixes
		next = &moved
	}
	if next == before {
		return waits
	}
	if secret.Data, err = next.Data(); err != nil {
		return err
	}
	if err := c.Writer.Update(ctx, secret, fieldOwner); err != nil {
		return fmt.Errorf("writing the authority: %w", err)
	}
	logf.FromContext(ctx).Info("The certificate authority or the path has moved on",
		"signsUntil", next.Current.Certificate.NotAfter, "successor", next.Next != nil, "trusted", len(next.Trusted),
		"secretPath", next.Prefixes.Current != certificate.Plain, "nextPath", next.Prefixes.Next != "", "formerPath", next.Prefixes.Former != "")
	return errors.Join(waits, c.publish(ctx, next, p), c.adopt(next))
}

// accepted reports whether every replica accepts the next prefix: those that the Service leads to have written so, and
// where it leads to none, or to some that it does not list yet, each has had the time to read the Secret. A replica that
// starts is not ready before it has read it. One that cannot read it, or is of a version that knows no prefixes, is waited
// for; the error names it.
func (c *Certificates) accepted(ctx context.Context, prefixes *certificate.Prefixes, p *published) (bool, error) {
	if prefixes.Next == "" || c.Now().Sub(p.since) < max(certificate.Settle(c.AuthorityLifetime), 3*c.every()) {
		return false, nil
	}
	endpoints, err := endpointsOf(ctx, c.Reader, c.Service)
	if err != nil {
		return false, err
	}
	for _, e := range endpoints {
		names := e.Addresses
		if e.TargetRef != nil {
			names = []string{e.TargetRef.Name} // another pod may have the address by now
		}
		if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(prefixes.Seen, name) }) {
			return false, fmt.Errorf("the next path is not registered as long as %v has not read the Secret", names)
		}
	}
	return true, nil
}

// publish writes the bundle and the paths into the webhook configurations that exist.
func (c *Certificates) publish(ctx context.Context, store *certificate.Store, p *published) error {
	bundle, wrote := store.Bundle(), false
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
		for _, hook := range clientsOf(configuration) {
			if !bytes.Equal(hook.CABundle, bundle) {
				hook.CABundle, changed = bundle, true
			}
			changed = setPrefix(hook, store.Prefixes.Current) || changed
		}
		if !changed {
			continue
		}
		wrote = true
		if err := c.Writer.Update(ctx, configuration, fieldOwner); err != nil {
			return fmt.Errorf("writing the caBundle and the paths of %T %s: %w", configuration, c.Configuration, err)
		}
	}
	if wrote || p.since.IsZero() || !bytes.Equal(p.bundle, bundle) || !p.prefixes.Equal(store.Prefixes) {
		*p = published{bundle, store.Prefixes, c.Now()}
	}
	return nil
}

// setPrefix has a hook called below a prefix, and reports whether that changed anything.
func setPrefix(hook *admissionregistrationv1.WebhookClientConfig, prefix string) bool {
	if hook.Service != nil && hook.Service.Path != nil {
		before := *hook.Service.Path
		hook.Service.Path = new(certificate.Prefixed(before, prefix))
		return *hook.Service.Path != before
	}
	if hook.URL == nil {
		return false
	}
	u, err := url.Parse(*hook.URL)
	if err != nil || u.Path == certificate.Prefixed(u.Path, prefix) {
		return false
	}
	u.Path = certificate.Prefixed(u.Path, prefix)
	hook.URL = new(u.String())
	return true
}

func clientsOf(configuration client.Object) []*admissionregistrationv1.WebhookClientConfig {
	var all []*admissionregistrationv1.WebhookClientConfig
	switch o := configuration.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range o.Webhooks {
			all = append(all, &o.Webhooks[i].ClientConfig)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range o.Webhooks {
			all = append(all, &o.Webhooks[i].ClientConfig)
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
		log.Error(errors.New(certificate.Redacted(c.last)), what, keysAndValues...)
	case err == nil && c.last != "":
		c.last = ""
		log.Info(what+" works again", keysAndValues...)
	}
}
