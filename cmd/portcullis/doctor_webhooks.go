package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/webhook"
)

// hook is an entry of either configuration.
type hook struct {
	name       string
	client     admissionregistrationv1.WebhookClientConfig
	policy     admissionregistrationv1.FailurePolicyType
	namespaces *metav1.LabelSelector
	timeout    int32
	mutates    bool
	terms      []any // what must be as it ships
}

// termNames are what terms are called.
func termNames() []string {
	return []string{"rules", "matchConditions", "matchPolicy", "sideEffects", "timeoutSeconds", "objectSelector", "path"}
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func hookOf(w *admissionregistrationv1.ValidatingWebhook) hook {
	timeout := valueOr(w.TimeoutSeconds, 10)
	objects := w.ObjectSelector
	if objects == nil {
		objects = &metav1.LabelSelector{}
	}
	return hook{w.Name, w.ClientConfig, valueOr(w.FailurePolicy, admissionregistrationv1.Fail), w.NamespaceSelector, timeout, false,
		[]any{w.Rules, w.MatchConditions, valueOr(w.MatchPolicy, admissionregistrationv1.Equivalent), valueOr(w.SideEffects, ""), timeout, objects, pathOf(w.ClientConfig)}}
}

func mutatingHookOf(w *admissionregistrationv1.MutatingWebhook) hook {
	h := hookOf(&admissionregistrationv1.ValidatingWebhook{
		Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy, NamespaceSelector: w.NamespaceSelector,
		ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects, TimeoutSeconds: w.TimeoutSeconds, MatchConditions: w.MatchConditions,
	})
	h.mutates = true
	return h
}

// pathOf returns the path at which a hook is called, without the secret segment that the leader writes into it.
func pathOf(c admissionregistrationv1.WebhookClientConfig) string {
	if c.Service != nil {
		return certificate.Prefixed(valueOr(c.Service.Path, ""), certificate.Plain)
	}
	u, err := url.Parse(valueOr(c.URL, ""))
	if err != nil {
		return ""
	}
	return certificate.Prefixed(u.Path, certificate.Plain)
}

// hooks reads the entries of all configurations of both kinds, those of one name first.
func (d *patient) hooks(ctx context.Context) (ours, others []hook, missing []string, err error) {
	admission := d.AdmissionregistrationV1()
	mutating, err := admission.MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, nil, err
	}
	validating, err := admission.ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, nil, err
	}
	missing = []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
	add := func(configuration, kind string, h hook) {
		if configuration != webhook.Name {
			h.name = configuration + "/" + h.name
			others = append(others, h)
			return
		}
		ours = append(ours, h)
		missing = slices.DeleteFunc(missing, func(k string) bool { return k == kind })
	}
	for i := range mutating.Items {
		for j := range mutating.Items[i].Webhooks {
			add(mutating.Items[i].Name, "MutatingWebhookConfiguration", mutatingHookOf(&mutating.Items[i].Webhooks[j]))
		}
	}
	for i := range validating.Items {
		for j := range validating.Items[i].Webhooks {
			add(validating.Items[i].Name, "ValidatingWebhookConfiguration", hookOf(&validating.Items[i].Webhooks[j]))
		}
	}
	return ours, others, missing, nil
}

// shippedHooks are the entries as this version ships them.
func shippedHooks(guard bool) []hook {
	r := webhook.Shipped()
	r.GuardBindings = guard
	return hooksOf(r)
}

// hooksOf returns the hooks of a registration.
func hooksOf(r webhook.Registration) []hook {
	var hooks []hook
	mutating, validating := webhook.Mutating(r), webhook.Validating(r)
	for i := range mutating.Webhooks {
		hooks = append(hooks, mutatingHookOf(&mutating.Webhooks[i]))
	}
	for i := range validating.Webhooks {
		hooks = append(hooks, hookOf(&validating.Webhooks[i]))
	}
	return hooks
}

// registration looks at the two webhook configurations.
func (d *patient) registration(ctx context.Context) []report.DoctorCheck {
	const name = "webhook configurations"
	ours, _, missing, err := d.hooks(ctx)
	if err != nil {
		return unread(name, "the webhook configurations", err)
	}
	if len(missing) > 0 {
		return []report.DoctorCheck{broken(name, reinstall, "there is no %s %s, so that the API server does not ask the webhook", strings.Join(missing, " and no "), webhook.Name)}
	}
	checks := []report.DoctorCheck{d.drift(ours)}
	return append(checks, d.bundle(ours), d.armed(ctx, ours), d.excluded(ours), timeouts(ours))
}

func (d *patient) drift(ours []hook) report.DoctorCheck {
	const name = "webhook configurations"
	guard := slices.ContainsFunc(ours, func(h hook) bool { return strings.HasPrefix(h.name, "guard-bindings.") })
	var differs []string
	shipped := shippedHooks(guard)
	for _, want := range shipped {
		i := slices.IndexFunc(ours, func(h hook) bool { return h.name == want.name && h.mutates == want.mutates })
		if i < 0 {
			differs = append(differs, want.name+" is missing")
			continue
		}
		for j, term := range want.terms {
			if !equality.Semantic.DeepEqual(term, ours[i].terms[j]) {
				differs = append(differs, want.name+": "+termNames()[j])
			}
		}
	}
	for _, h := range ours {
		if !slices.ContainsFunc(shipped, func(s hook) bool { return s.name == h.name && s.mutates == h.mutates }) {
			differs = append(differs, h.name+" is not of this version")
		}
	}
	if len(differs) > 0 {
		return broken(name, reinstall, "not as portcullis %s ships them (%s), so that requests pass which should not, or the other way round", programVersion(), strings.Join(differs, "; "))
	}
	return well(name, "both are there, and as portcullis %s ships them", programVersion())
}

// soon is how long before its end a certificate is spoken of.
const soon = 24 * time.Hour

// bundle looks at what the API server trusts.
func (d *patient) bundle(ours []hook) report.DoctorCheck {
	const name = "CA bundle"
	fix := fmt.Sprintf("look at the log of the leader, which writes it: kubectl -n %s logs deployment/%s; with --cert-dir, put your CA into webhooks[].clientConfig.caBundle", d.installedIn, d.service)
	for _, h := range ours {
		if len(h.client.CABundle) == 0 {
			return broken(name, fix, "%s has no caBundle, so that the API server trusts no replica", h.name)
		}
		if string(h.client.CABundle) != string(ours[0].client.CABundle) {
			return broken(name, fix, "%s and %s have different caBundles: one of them is left over", ours[0].name, h.name)
		}
	}
	all, err := certificates(ours[0].client.CABundle)
	if err != nil {
		return broken(name, fix, "the caBundle is %v, so that the API server trusts no replica", err)
	}
	last := slices.MaxFunc(all, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
	switch {
	case d.now.After(last):
		return broken(name, fix, "the caBundle has expired at %s, so that the API server trusts no replica", last.UTC().Format(time.RFC3339))
	case d.now.Add(soon).After(last):
		return warned(name, fix, "the caBundle expires at %s and should have been replaced by now", last.UTC().Format(time.RFC3339))
	}
	return well(name, "%d certificates, the last one until %s", len(all), last.UTC().Format(time.RFC3339))
}

func certificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("no certificate")
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return all, nil
}

// armed looks at what happens while no replica answers.
func (d *patient) armed(ctx context.Context, ours []hook) report.DoctorCheck {
	const name = "failure policy"
	fails, ignores := 0, 0
	for _, h := range ours {
		switch {
		case h.mutates || strings.HasPrefix(h.name, webhook.GuardPrefix):
		case h.policy == admissionregistrationv1.Fail:
			fails++
		default:
			ignores++
		}
	}
	switch {
	case fails == 0:
		return warned(name, "run serve with --arm, which sets Fail once it is known to work; remove the annotation portcullis.dev/hold if somebody set it",
			"Ignore: while no replica answers, everything passes")
	case ignores > 0:
		return broken(name, reinstall, "some hooks have Fail and others Ignore")
	}
	if deployment, err := d.AppsV1().Deployments(d.installedIn).Get(ctx, d.service, metav1.GetOptions{}); err == nil && deployment.Status.ReadyReplicas < 2 {
		return warned(name, fmt.Sprintf("kubectl -n %s scale deployment/%s --replicas=2", d.installedIn, d.service),
			"Fail with %d ready replicas: when one restarts, nothing with node ports can be created", deployment.Status.ReadyReplicas)
	}
	return well(name, "Fail: what no replica has judged is refused")
}

// excluded looks whether the webhook's own namespace and the cluster's are left alone.
func (d *patient) excluded(ours []hook) report.DoctorCheck {
	const name = "namespaces"
	for _, h := range ours {
		selector, err := metav1.LabelSelectorAsSelector(h.namespaces)
		if err != nil {
			return broken(name, reinstall, "%s: its namespaceSelector is none: %v", h.name, err)
		}
		for _, namespace := range []string{"kube-system", d.installedIn} {
			if h.namespaces == nil || selector.Matches(labels.Set{"kubernetes.io/metadata.name": namespace}) {
				return broken(name, "add to its namespaceSelector: {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-node-lease, kube-system, "+d.installedIn+"]}",
					"%s judges %s, which the cluster needs to come up, and the webhook itself", h.name, namespace)
			}
		}
	}
	return well(name, "kube-system and %s are left alone", d.installedIn)
}

// timeouts adds up what a request may have to wait: mutating hooks are asked one after the other, the others at once.
func timeouts(ours []hook) report.DoctorCheck {
	const name, most = "timeouts", 10
	byRule, longest := map[string]int32{}, int32(0)
	for _, h := range ours {
		if h.mutates {
			for _, r := range h.terms[0].([]admissionregistrationv1.RuleWithOperations) {
				for _, resource := range r.Resources {
					byRule[resource] += h.timeout
				}
			}
		} else {
			longest = max(longest, h.timeout)
		}
	}
	wait := int32(0)
	for _, sum := range byRule {
		wait = max(wait, sum)
	}
	if wait+longest > most {
		return warned(name, reinstall, "a request may wait %d s while the webhook does not answer, and clients give up after 10 to 30", wait+longest)
	}
	return well(name, "a request waits at most %d s while the webhook does not answer", wait+longest)
}

// otherWebhooks looks for hooks of others on what the webhook is asked about.
func (d *patient) otherWebhooks(ctx context.Context) []report.DoctorCheck {
	const name, long = "other webhooks", 10
	_, others, _, err := d.hooks(ctx)
	if err != nil {
		return unread(name, "the webhook configurations", err)
	}
	var slow []string
	for _, h := range others {
		rules := h.terms[0].([]admissionregistrationv1.RuleWithOperations)
		meets := slices.ContainsFunc(rules, func(r admissionregistrationv1.RuleWithOperations) bool {
			return slices.ContainsFunc(r.Resources, func(s string) bool {
				return slices.Contains([]string{"pods", "services", "deployments", "*", "*/*"}, s)
			})
		})
		if meets && h.policy == admissionregistrationv1.Fail && h.timeout >= long {
			slow = append(slow, fmt.Sprintf("%s (%d s)", h.name, h.timeout))
		}
	}
	if len(slow) > 0 {
		slices.Sort(slow)
		return []report.DoctorCheck{warned(name, "have their timeoutSeconds lowered, or their namespaces narrowed",
			"%s must answer for pods or Services too: while they do not, nobody can create any", strings.Join(slow, ", "))}
	}
	return []report.DoctorCheck{well(name, "none that must answer and may take %d s or more is asked about pods or Services", long)}
}

// servingCertificate asks each replica that can be reached for its certificate.
func (d *patient) servingCertificate(ctx context.Context) []report.DoctorCheck {
	const name = "serving certificate"
	ours, _, _, err := d.hooks(ctx)
	if err != nil || len(ours) == 0 {
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "there is no webhook configuration to compare it with"}}
	}
	targets, serverName := d.targets(ctx, ours[0])
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ours[0].client.CABundle)
	var wrong []string
	reached := 0
	var ends time.Time
	for _, target := range targets {
		leaf, err := leafOf(ctx, target, serverName)
		if err != nil {
			continue
		}
		reached++
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: serverName, CurrentTime: d.now}); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", target, err))
		}
		if ends.IsZero() || leaf.NotAfter.Before(ends) {
			ends = leaf.NotAfter
		}
	}
	switch {
	case len(wrong) > 0:
		return []report.DoctorCheck{broken(name, fmt.Sprintf("kubectl -n %s rollout restart deployment/%s, and look at its log", d.installedIn, d.service),
			"the API server does not trust %s", strings.Join(wrong, "; "))}
	case reached == 0:
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "no replica can be reached from here; the end-to-end check asks through the API server"}}
	case d.now.Add(time.Hour).After(ends):
		return []report.DoctorCheck{warned(name, "look at the log of the webhook, which renews it", "it ends at %s and should have been renewed by now", ends.UTC().Format(time.RFC3339))}
	}
	return []report.DoctorCheck{well(name, "of %d replicas that can be reached it is trusted, until %s", reached, ends.UTC().Format(time.RFC3339))}
}

// targets are where replicas listen, and the name by which the API server asks for them.
func (d *patient) targets(ctx context.Context, h hook) (addresses []string, serverName string) {
	if h.client.Service == nil {
		u, err := url.Parse(valueOr(h.client.URL, ""))
		if err != nil || u.Host == "" {
			return nil, ""
		}
		port := u.Port()
		if port == "" {
			port = "443"
		}
		return []string{net.JoinHostPort(u.Hostname(), port)}, u.Hostname()
	}
	slicesOf, err := d.DiscoveryV1().EndpointSlices(d.installedIn).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + d.service})
	if err == nil {
		for _, s := range slicesOf.Items {
			for _, e := range s.Endpoints {
				for _, p := range s.Ports {
					const most = 5
					if len(e.Addresses) > 0 && p.Port != nil && valueOr(e.Conditions.Ready, true) && len(addresses) < most {
						addresses = append(addresses, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
					}
				}
			}
		}
	}
	return addresses, h.client.Service.Name + "." + h.client.Service.Namespace + ".svc"
}

// leafOf returns the certificate that is served at an address. It is judged by who asked.
func leafOf(ctx context.Context, address, serverName string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var leaf *x509.Certificate
	config := &tls.Config{ServerName: serverName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, // verified by the caller, whatever it is
		VerifyConnection: func(s tls.ConnectionState) error {
			leaf = s.PeerCertificates[0]
			return nil
		}}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if conn != nil {
		_ = conn.Close()
	}
	if leaf != nil {
		return leaf, nil // a replica that wants a certificate of its client shows its own before
	}
	return nil, err
}

// authority looks at the Secret in which the webhook keeps its own certificate authority.
func (d *patient) authority(ctx context.Context) []report.DoctorCheck {
	const name, secret = "certificate authority", "portcullis-ca"
	fix := fmt.Sprintf("kubectl -n %s delete secret %s: the webhook makes another, and replaces the caBundle", d.installedIn, secret)
	s, err := d.CoreV1().Secrets(d.installedIn).Get(ctx, secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "there is no Secret " + secret + ": certificates come from elsewhere (--cert-dir), or no replica has run yet"}}
	}
	if err != nil {
		return unread(name, "Secret "+d.installedIn+"/"+secret, err)
	}
	all, err := certificates(s.Data["tls.crt"])
	if err != nil {
		return []report.DoctorCheck{broken(name, fix, "tls.crt of Secret %s is %v", secret, err)}
	}
	if ends := all[0].NotAfter; d.now.Add(soon).After(ends) {
		return []report.DoctorCheck{broken(name, fix, "the authority in Secret %s ends at %s and was not replaced", secret, ends.UTC().Format(time.RFC3339))}
	}
	ours, _, _, err := d.hooks(ctx)
	if err == nil && len(ours) > 0 && !strings.Contains(string(ours[0].client.CABundle), strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: all[0].Raw})))) {
		return []report.DoctorCheck{broken(name, "look at the log of the leader, which writes the caBundle", "the authority of Secret %s is not in the caBundle, so that the API server trusts no replica", secret)}
	}
	return []report.DoctorCheck{well(name, "until %s, and in the caBundle", all[0].NotAfter.UTC().Format(time.RFC3339))}
}
