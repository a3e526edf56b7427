// Package generate has the command generate vap, which makes ValidatingAdmissionPolicies of the rules of the webhook, for all
// that can be judged by one object alone.
//
// The PortPools and PortPolicies come from files, by package source; vap.Source makes the policies of them and of
// the configuration. They are printed as YAML, with what no policy can see in comments, or as a List in JSON.
// config/policies is its output without flags, which TestShippedPolicies holds to the code.
package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/source"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// Command returns the command generate.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Generate admission policies for a cluster without the webhook",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newGenerateVAP())
	return cmd
}

// vapOptions are the flags of `portcullis generate vap`.
type vapOptions struct {
	source.FileFlags
	files       []string
	configFile  string
	mutating    bool
	enforcement string
	output      string
}

func newGenerateVAP() *cobra.Command {
	o := &vapOptions{}
	cmd := &cobra.Command{
		Use:   "vap [-f PATH…]",
		Short: "Generate ValidatingAdmissionPolicies: the checks that need only the object itself",
		Long: `Make ValidatingAdmissionPolicies and their bindings of the same rules that the webhook has, for all that can be judged by
one object alone: pods that contradict themselves, ports of daemons, ranges, and what PortPolicies and PortPools (-f) allow.
The API server judges by itself then; nothing runs in the cluster. Conflicts between objects need the webhook.

With --mutating a MutatingAdmissionPolicy too, which writes hostIP as the configuration's defaultHostIP says; Auto needs the
Nodes or ServiceCIDRs among the files.

What no policy can see is written into the comments of the output. The policies need Kubernetes 1.35, --mutating 1.36.

Exit code: 0, or 2 for bad usage or unreadable input.`,
		Example: `  portcullis generate vap | kubectl apply -f -
  portcullis generate vap -f pools.yaml -f policies/ --config portcullis.yaml --enforcement Warn
  kubectl get nodes,portpools,portpolicies -o yaml | portcullis generate vap -f - --mutating`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cli.StreamsOf(cmd), time.Now()) },
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "read PortPools and PortPolicies from `PATH`: a file, a folder (with all below it) or -; may be repeated")
	o.AddFlags(f)
	f.StringVar(&o.configFile, "config", "", "configuration `FILE` of the webhook; without it the defaults hold")
	f.BoolVar(&o.mutating, "mutating", false, "make a MutatingAdmissionPolicy too, which writes hostIP")
	f.StringVar(&o.enforcement, "enforcement", "Deny", "the strictest `ENFORCEMENT` of any rule: Deny, Warn (nothing is rejected), or Audit (only recorded)")
	f.StringVarP(&o.output, "output", "o", "yaml", "`FORM` of the objects: yaml, json")
	if err := errors.Join(
		cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{"yaml", "json"}, cobra.ShellCompDirectiveNoFileComp)),
		cmd.RegisterFlagCompletionFunc("enforcement", cobra.FixedCompletions([]cobra.Completion{"Deny", "Warn", "Audit"}, cobra.ShellCompDirectiveNoFileComp)),
		cmd.MarkFlagFilename("filename", "yaml", "yml", "json"), cmd.MarkFlagFilename("config", "yaml", "yml", "json"),
	); err != nil {
		panic(err) // a flag that is not there
	}
	return cmd
}

func (o *vapOptions) run(s cli.Streams, now time.Time) error {
	if !slices.Contains([]string{"yaml", "json"}, o.output) {
		return fmt.Errorf("--output %q is not one of yaml, json", o.output)
	}
	atMost, err := pool.ParseEnforcement(o.enforcement)
	if err != nil {
		return fmt.Errorf("--enforcement: %w", err)
	}
	settings, err := cli.ReadSettings(o.configFile)
	if err != nil {
		return err
	}
	policies := vap.Source{Settings: settings, ExcludedNamespaces: hooks.Shipped().ExcludedNamespaces, AtMost: atMost, Now: now}
	families, err := o.restrictions(s, &policies)
	if err != nil {
		return err
	}
	made, err := policies.Validating()
	if err != nil {
		return err
	}
	if o.mutating {
		hostIP := settings.DefaultHostIP.For(families)
		if hostIP == "" {
			return errors.New("--mutating: there is no hostIP to write: set defaultHostIP to 0.0.0.0 or \"::\" in the file of --config, " +
				"or give the Nodes of a cluster of one family with -f")
		}
		made.Objects = append(made.Objects, policies.Mutating(hostIP)...)
	}
	if o.output == "json" {
		return writePolicyList(s.Out, made)
	}
	return writePolicies(s.Out, made)
}

// restrictions reads what restricts ports, and the families of the cluster as far as they are among the objects.
func (o *vapOptions) restrictions(s cli.Streams, to *vap.Source) (check.Families, error) {
	if len(o.files) == 0 {
		return check.Families{}, nil
	}
	objects, err := o.ReadWhole(o.files, s.In, s.Progress())
	if err != nil {
		return check.Families{}, err
	}
	var nodes extract.NodeList
	var cidrs []*networkingv1.ServiceCIDR
	for _, object := range objects {
		switch o := object.Object.(type) {
		case *v1alpha1.PortPool:
			to.Pools = append(to.Pools, o)
		case *v1alpha1.PortPolicy:
			to.Policies = append(to.Policies, o)
		case *corev1.Node:
			nodes = append(nodes, o)
		case *networkingv1.ServiceCIDR:
			cidrs = append(cidrs, o)
		}
	}
	return extract.ClusterFamilies(nodes, cidrs), nil
}

// writePolicies writes YAML with what is left to the webhook in front.
func writePolicies(w io.Writer, made *vap.Policies) error {
	var b bytes.Buffer
	b.WriteString("# Made by `portcullis generate vap`. A policy sees one object, so that all of this needs the webhook:\n")
	for _, line := range slices.Concat(vap.Unseen(), made.Unseen) {
		b.WriteString("# - " + report.Escape(line) + "\n")
	}
	for _, object := range made.Objects {
		fields, err := plainObject(object)
		if err != nil {
			return err
		}
		text, err := yaml.Marshal(fields)
		if err != nil {
			return err
		}
		b.WriteString("---\n")
		b.Write(text)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writePolicyList(w io.Writer, made *vap.Policies) error {
	items := []any{}
	for _, object := range made.Objects {
		fields, err := plainObject(object)
		if err != nil {
			return err
		}
		items = append(items, fields)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

// plainObject is an object as a person writes it, without a status.
func plainObject(object runtime.Object) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	delete(fields, "status")
	if metadata, ok := fields["metadata"].(map[string]any); ok {
		delete(metadata, "creationTimestamp")
	}
	return fields, nil
}
