package certificates

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/controller/internal/periodic"
)

// Lead replaces the authority in time and writes the bundle and the paths into the webhook configurations, until ctx ends.
func (c *Controller) Lead(ctx context.Context) {
	var reporter periodic.ErrorReporter
	var p published
	for {
		err := c.rotate(ctx, &p)
		reporter.Report(ctx, err, "Keeping the certificate authority", "secret", c.Secret.String())
		if !periodic.Sleep(ctx, min(max(c.AuthorityLifetime/60, time.Second), 5*time.Second)) {
			return
		}
	}
}

// published is what the webhook configurations contain, and since when.
type published struct {
	bundle   []byte
	prefixes certificate.Prefixes
	since    time.Time
}

// rotate publishes what the Secret contains, and writes the next step into the Secret when it is due.
func (c *Controller) rotate(ctx context.Context, p *published) error {
	store, secret, err := c.read(ctx)
	if secret == nil {
		if apierrors.IsNotFound(err) {
			return nil // Start creates it
		}
		return err
	}
	before := store
	if err != nil {
		logf.FromContext(ctx).Error(err, "Writing the Secret anew")
		if store, err = c.lastKnown(); err != nil {
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

// accepted reports whether every replica accepts the next path: each endpoint of the Service has confirmed it in the Secret,
// and a replica that the Service does not list yet has had the time to read the Secret. A replica that starts is not ready
// before it has read it. The error names a replica that has not confirmed: it cannot read the Secret, or its version knows
// no paths.
func (c *Controller) accepted(ctx context.Context, prefixes *certificate.Prefixes, p *published) (bool, error) {
	if prefixes.Next == "" || c.Now().Sub(p.since) < max(certificate.Settle(c.AuthorityLifetime), 3*c.interval()) {
		return false, nil
	}
	var endpointSlices discoveryv1.EndpointSliceList
	err := c.Reader.List(ctx, &endpointSlices, client.InNamespace(c.Service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: c.Service.Name})
	if err != nil {
		return false, fmt.Errorf("listing the EndpointSlices of Service %s: %w", c.Service, err)
	}
	for _, s := range endpointSlices.Items {
		for _, e := range s.Endpoints {
			names := e.Addresses
			if e.TargetRef != nil {
				names = []string{e.TargetRef.Name} // another pod may have the address by now
			}
			if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(prefixes.Seen, name) }) {
				return false, fmt.Errorf("the next path is not registered as long as %v has not read the Secret", names)
			}
		}
	}
	return true, nil
}

// publish writes the bundle and the paths into the webhook configurations that exist.
func (c *Controller) publish(ctx context.Context, store *certificate.Store, p *published) error {
	bundle, wrote := store.Bundle(), false
	for _, configuration := range []client.Object{
		&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{},
	} {
		err := c.Reader.Get(ctx, client.ObjectKey{Name: c.Configuration}, configuration)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the webhook configuration: %w", err)
		}
		changed := false
		for _, hook := range clientConfigs(configuration) {
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

// setPrefix puts the path of a hook below a prefix, and reports whether that changed anything.
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

func clientConfigs(configuration client.Object) []*admissionregistrationv1.WebhookClientConfig {
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
