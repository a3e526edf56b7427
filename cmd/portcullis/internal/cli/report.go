package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
)

// ReportFlags are the flags that the commands share which make a report about a cluster.
type ReportFlags struct {
	ClusterFlags
	ConfigFile string
	Output     string
}

// AddFlags adds the flags with the forms of the report that there are, the first of them by default.
func (o *ReportFlags) AddFlags(cmd *cobra.Command, forms []cobra.Completion) {
	f := cmd.Flags()
	first, _, _ := strings.Cut(Words(forms), ", ")
	f.StringVar(&o.ConfigFile, "config", "", "configuration `FILE` of the webhook; without it the defaults hold")
	f.StringVarP(&o.Output, "output", "o", first, "`FORM` of the report: "+Words(forms))
	o.ClusterFlags.AddFlags(cmd)
	errs := []error{
		cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp)), cmd.MarkFlagFilename("config", "yaml", "yml", "json"),
	}
	for _, paths := range []string{"filename", "state"} {
		if f.Lookup(paths) != nil {
			errs = append(errs, cmd.MarkFlagFilename(paths, "yaml", "yml", "json"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		panic(err) // a flag that is not there
	}
}

// Settings returns the settings, if the flags make sense.
func (o *ReportFlags) Settings(forms []cobra.Completion) (*extract.Settings, error) {
	if err := o.Validate(forms); err != nil {
		return nil, err
	}
	return ReadSettings(o.ConfigFile)
}

// Validate reports what cannot be meant.
func (o *ReportFlags) Validate(forms []cobra.Completion) error {
	if !slices.Contains(strings.Split(Words(forms), ", "), o.Output) {
		return fmt.Errorf("--output %q is not one of %s", o.Output, Words(forms))
	}
	return nil
}

// Forms are the forms of a report: of a kind, for scripts.
func Forms(kind string) []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("table", "for a person"),
		cobra.CompletionWithDesc("json", "a versioned "+kind+", for scripts"),
		cobra.CompletionWithDesc("yaml", "the same in YAML"),
	}
}

// Words lists completions without their descriptions.
func Words(of []cobra.Completion) string {
	var all []string
	for _, c := range of {
		word, _, _ := strings.Cut(c, "\t")
		all = append(all, word)
	}
	return strings.Join(all, ", ")
}

// versioned is a report of a versioned kind.
type versioned interface{ WriteJSON(w io.Writer) error }

// Write writes a report; table writes it for a person.
func (o *ReportFlags) Write(w io.Writer, r versioned, table func(io.Writer) error) error {
	switch o.Output {
	case "json":
		return r.WriteJSON(w)
	case "yaml":
		return writeYAML(w, r.WriteJSON)
	default:
		return table(w)
	}
}

// writeYAML writes in YAML what writeJSON would write in JSON.
func writeYAML(w io.Writer, writeJSON func(io.Writer) error) error {
	var b bytes.Buffer
	if err := writeJSON(&b); err != nil {
		return err
	}
	text, err := yaml.JSONToYAML(b.Bytes())
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
