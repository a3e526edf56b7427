// Package breakglass has the command break-glass, which takes the webhook out of the way when nothing of it works.
//
// A glass has the webhook configurations of Portcullis, found by their label, whatever they are called. They are listed, and
// after a yes deleted, or left with failurePolicy Ignore; an Event tells who did it. It asks the API server only, and nothing
// of the installation.
package breakglass

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
)

// holdAnnotation on a webhook configuration keeps the webhook from setting failurePolicy Fail.
const holdAnnotation = "portcullis.dev/hold"

// partOf is by which label the installation's objects are found.
const partOf = "app.kubernetes.io/part-of=portcullis"

// options are the flags of `portcullis break-glass`.
type options struct {
	cli.ClusterFlags
	yes         bool
	ignoreOnly  bool
	installedIn string
	hold        bool
}

// Command returns the command break-glass.
func Command(version string) *cobra.Command {
	o := &options{}
	o.Version = version
	cmd := &cobra.Command{
		Use:   "break-glass",
		Short: "Take the webhook out of the way, now",
		Long: `Delete both webhook configurations, so that the API server asks the webhook about nothing any more. It works when nothing of
the webhook does: webhook configurations are not subject to webhooks. They are listed first, and nothing is done without a yes on
the terminal, or --yes. An Event tells who did it.

With --ignore-only they stay, with failurePolicy Ignore: what the webhook answers still counts, and what it does not passes. A replica
that runs with --arm sets Fail again as soon as it works; with --hold it does not, as long as the annotation
portcullis.dev/hold is "true".

Exit code: 0 done, or nothing to do; 2 otherwise.`,
		Example: `  portcullis break-glass
  portcullis break-glass --yes --context production
  portcullis break-glass --ignore-only --hold`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return o.run(ctx, cli.StreamsOf(cmd), time.Now())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.StringVar(&o.installedIn, "installed-in", cli.SystemNamespace, "`NAMESPACE` of the webhook, where an Event says what was done")
	f.BoolVar(&o.ignoreOnly, "ignore-only", false, "set failurePolicy Ignore instead of deleting")
	f.BoolVar(&o.hold, "hold", false, "with --ignore-only: keep the webhook from setting Fail again")
	o.AddFlags(cmd)
	return cmd
}

func (o *options) run(ctx context.Context, s cli.Streams, now time.Time) error {
	if o.hold && !o.ignoreOnly {
		return errors.New("--hold goes with --ignore-only: what is deleted cannot be held")
	}
	client, host, err := o.Clientset()
	if err != nil {
		return err
	}
	g := &glass{Interface: client}
	if err := g.find(ctx); err != nil {
		return fmt.Errorf("looking for webhook configurations at %s: %w", host, err)
	}
	if g.isGone(o) {
		fmt.Fprintln(s.Out, "nothing to do: there is no webhook configuration of Portcullis that stands in anybody's way")
		return nil
	}
	cli.PrintLine(s.Out, "At %s these will %s:", host, o.deed())
	for _, name := range g.names() {
		cli.PrintLine(s.Out, "  %s", name)
	}
	if err := o.confirm(s); err != nil {
		return err
	}
	if err := g.act(ctx, o); err != nil {
		return fmt.Errorf("%w; what can always be done: kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration -l %s", err, partOf)
	}
	fmt.Fprintln(s.Out, "done: "+o.effect())
	if err := g.record(ctx, o, now); err != nil {
		cli.PrintLine(s.Err, "no Event could be written of it: %v", err)
	}
	return nil
}

// deed is what is going to be done.
func (o *options) deed() string {
	if o.ignoreOnly {
		return "get failurePolicy Ignore"
	}
	return "be deleted"
}

// effect is what it comes to, and the way back.
func (o *options) effect() string {
	switch {
	case o.hold:
		return "what no replica answers passes, until the annotation is removed: kubectl annotate validatingwebhookconfiguration,mutatingwebhookconfiguration -l " + partOf + " " + holdAnnotation + "-"
	case o.ignoreOnly:
		return "what no replica answers passes. A replica with --arm sets Fail again as soon as it works; --hold keeps it from that"
	default:
		return "the API server asks the webhook about nothing any more. To come back: kubectl apply -f install.yaml (or kubectl apply -k config/default), or helm upgrade"
	}
}

// confirm asks on a terminal, and refuses where there is none.
func (o *options) confirm(s cli.Streams) error {
	if o.yes {
		return nil
	}
	file, isFile := s.In.(*os.File)
	if !isFile || !cli.IsTerminal(file) {
		return errors.New("there is no terminal to ask on: say --yes if you mean it")
	}
	fmt.Fprint(s.Out, "Type yes to go on: ")
	line, err := bufio.NewReader(s.In).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// glass is what stands between a cluster and its replica.
type glass struct {
	kubernetes.Interface
	mutating   []admissionregistrationv1.MutatingWebhookConfiguration
	validating []admissionregistrationv1.ValidatingWebhookConfiguration
}

func (g *glass) find(ctx context.Context) error {
	ours := metav1.ListOptions{LabelSelector: partOf}
	mutating, err := g.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, ours)
	if err != nil {
		return err
	}
	validating, err := g.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, ours)
	if err != nil {
		return err
	}
	g.mutating, g.validating = mutating.Items, validating.Items
	return nil
}

func (g *glass) names() []string {
	var names []string
	for _, c := range g.mutating {
		names = append(names, "MutatingWebhookConfiguration "+c.Name)
	}
	for _, c := range g.validating {
		names = append(names, "ValidatingWebhookConfiguration "+c.Name)
	}
	return names
}

// isGone reports whether what is asked for is so already.
func (g *glass) isGone(o *options) bool {
	if !o.ignoreOnly {
		return len(g.mutating)+len(g.validating) == 0
	}
	for i := range g.mutating {
		if !relaxed(&g.mutating[i].ObjectMeta, o.hold) {
			return false
		}
		for _, w := range g.mutating[i].Webhooks {
			if w.FailurePolicy == nil || *w.FailurePolicy != admissionregistrationv1.Ignore {
				return false
			}
		}
	}
	for i := range g.validating {
		if !relaxed(&g.validating[i].ObjectMeta, o.hold) {
			return false
		}
		for _, w := range g.validating[i].Webhooks {
			if w.FailurePolicy == nil || *w.FailurePolicy != admissionregistrationv1.Ignore {
				return false
			}
		}
	}
	return true
}

// relaxed reports whether a configuration is held, if it is to be.
func relaxed(m *metav1.ObjectMeta, hold bool) bool {
	return !hold || m.Annotations[holdAnnotation] == "true"
}

// act deletes the configurations, or sets Ignore. One that is gone meanwhile is no error.
func (g *glass) act(ctx context.Context, o *options) error {
	admission := g.AdmissionregistrationV1()
	var errs []error
	note := func(err error) {
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	for i := range g.mutating {
		c := &g.mutating[i]
		if !o.ignoreOnly {
			note(admission.MutatingWebhookConfigurations().Delete(ctx, c.Name, metav1.DeleteOptions{}))
			continue
		}
		patch, err := patchOf(len(c.Webhooks), o.hold, c.Annotations == nil)
		note(err)
		_, err = admission.MutatingWebhookConfigurations().Patch(ctx, c.Name, types.JSONPatchType, patch, metav1.PatchOptions{})
		note(err)
	}
	for i := range g.validating {
		c := &g.validating[i]
		if !o.ignoreOnly {
			note(admission.ValidatingWebhookConfigurations().Delete(ctx, c.Name, metav1.DeleteOptions{}))
			continue
		}
		patch, err := patchOf(len(c.Webhooks), o.hold, c.Annotations == nil)
		note(err)
		_, err = admission.ValidatingWebhookConfigurations().Patch(ctx, c.Name, types.JSONPatchType, patch, metav1.PatchOptions{})
		note(err)
	}
	return errors.Join(errs...)
}

// record writes an Event of what was done, in the webhook's namespace or, if that is gone, in default.
func (g *glass) record(ctx context.Context, o *options, now time.Time) error {
	who := "somebody"
	review, err := g.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err == nil {
		who = review.Status.UserInfo.Username
	}
	for _, namespace := range []string{o.installedIn, metav1.NamespaceDefault} {
		e := &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "portcullis-break-glass-", Namespace: namespace},
			EventTime:  metav1.NewMicroTime(now), ReportingController: "portcullis.dev/break-glass", ReportingInstance: "portcullis",
			Action: "BreakGlass", Reason: "BreakGlass", Type: corev1.EventTypeWarning,
			Regarding: corev1.ObjectReference{Kind: "Namespace", APIVersion: "v1", Name: namespace, Namespace: namespace},
			Note:      fmt.Sprintf("%s had these %s: %s", who, strings.TrimPrefix(o.deed(), "be "), strings.Join(g.names(), ", ")),
		}
		if _, err = g.EventsV1().Events(namespace).Create(ctx, e, metav1.CreateOptions{}); err == nil {
			return nil
		}
	}
	return err
}

// patchOf sets Ignore in each of n webhooks, and holds the configuration.
func patchOf(n int, hold, isFirst bool) ([]byte, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	list := []operation{}
	for i := range n {
		list = append(list, operation{"add", fmt.Sprintf("/webhooks/%d/failurePolicy", i), "Ignore"})
	}
	if hold && isFirst {
		list = append(list, operation{"add", "/metadata/annotations", map[string]string{}})
	}
	if hold {
		list = append(list, operation{"add", "/metadata/annotations/portcullis.dev~1hold", "true"})
	}
	return json.Marshal(list)
}
