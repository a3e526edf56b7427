package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// registration looks at the two webhook configurations.
func (d *installation) registration(ctx context.Context) []report.DoctorCheck {
	const name = "webhook configurations"
	ours, _, missing, err := d.hooks(ctx)
	if err != nil {
		return unread(name, "the webhook configurations", err)
	}
	if len(missing) > 0 {
		return []report.DoctorCheck{broken(name, reinstall, "there is no %s %s, so that the API server does not ask the webhook", strings.Join(missing, " and no "), hooks.ConfigurationName)}
	}
	checks := []report.DoctorCheck{d.drift(ours)}
	return append(checks, d.bundle(ours), d.armed(ctx, ours), d.excluded(ours), timeouts(ours))
}

func (d *installation) drift(ours []hook) report.DoctorCheck {
	const name = "webhook configurations"
	guard := slices.ContainsFunc(ours, func(h hook) bool { return h.name == hooks.GuardBindingsName })
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
		return broken(name, reinstall, "not as portcullis %s ships them (%s), so that requests pass which should not, or the other way round", d.Version, strings.Join(differs, "; "))
	}
	return well(name, "both are there, and as portcullis %s ships them", d.Version)
}

// soon is how long before its end a certificate is spoken of.
const soon = 24 * time.Hour

// bundle looks at what the API server trusts.
func (d *installation) bundle(ours []hook) report.DoctorCheck {
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

// armed looks at what happens while no replica answers.
func (d *installation) armed(ctx context.Context, ours []hook) report.DoctorCheck {
	const name = "failure policy"
	fails, ignores := 0, 0
	for _, h := range ours {
		switch {
		case h.mutates || strings.HasPrefix(h.name, hooks.GuardPrefix):
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
func (d *installation) excluded(ours []hook) report.DoctorCheck {
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
func (d *installation) otherWebhooks(ctx context.Context) []report.DoctorCheck {
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
