package main

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

// reportOptions are the flags that the commands share which make a report about a cluster.
type reportOptions struct {
	cluster
	configFile string
	output     string
}

// addFlags adds the flags with the forms of the report that there are, the first of them by default.
func (o *reportOptions) addFlags(cmd *cobra.Command, forms []cobra.Completion) {
	f := cmd.Flags()
	first, _, _ := strings.Cut(words(forms), ", ")
	f.StringVar(&o.configFile, "config", "", "configuration `FILE` of the webhook; without it the defaults hold")
	f.StringVarP(&o.output, "output", "o", first, "`FORM` of the report: "+words(forms))
	o.cluster.addFlags(cmd)
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

// asked returns the settings, if the flags make sense.
func (o *reportOptions) asked(forms []cobra.Completion) (*extract.Settings, error) {
	if err := o.validate(forms); err != nil {
		return nil, err
	}
	return readSettings(o.configFile)
}

// validate reports what cannot be meant.
func (o *reportOptions) validate(forms []cobra.Completion) error {
	if !slices.Contains(strings.Split(words(forms), ", "), o.output) {
		return fmt.Errorf("--output %q is not one of %s", o.output, words(forms))
	}
	return nil
}

// forms are the forms of a report: of a kind, for scripts.
func forms(kind string) []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("table", "for a person"),
		cobra.CompletionWithDesc("json", "a versioned "+kind+", for scripts"),
		cobra.CompletionWithDesc("yaml", "the same in YAML"),
	}
}

// versioned is a report of a versioned kind.
type versioned interface{ WriteJSON(w io.Writer) error }

// write writes a report; table writes it for a person.
func (o *reportOptions) write(w io.Writer, r versioned, table func(io.Writer) error) error {
	switch o.output {
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
