package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func newPool() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "Pools of numbers: suggest them, see what is left of them, try a change",
		Long: `Work with PortPools, which say which numbers of the nodes a team's Services and pods get.

All of it reads and nothing writes: from the cluster, or with -f or --state from files.`,
		Example: `  portcullis pool suggest > pools.yaml
  portcullis pool status
  portcullis pool check -f pools.yaml`,
	}
	cmd.AddCommand(newPoolSuggest(), newPoolStatus(), newPoolCheck())
	return cmd
}

// poolOptions are the flags that the commands about pools share.
type poolOptions struct {
	cluster
	configFile string
	output     string
}

// addFlags adds the flags with the forms of the report that there are, the first of them by default.
func (o *poolOptions) addFlags(cmd *cobra.Command, forms []cobra.Completion) {
	f := cmd.Flags()
	first, _, _ := strings.Cut(words(forms), ", ")
	f.StringVar(&o.configFile, "config", "", "configuration `FILE` of the gate; without it the defaults hold")
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
func (o *poolOptions) asked(forms []cobra.Completion) (*extract.Settings, error) {
	if !slices.Contains(strings.Split(words(forms), ", "), o.output) {
		return nil, fmt.Errorf("--output %q is none of %s", o.output, words(forms))
	}
	return readSettings(o.configFile)
}

// run runs a command until it ends or is interrupted, with a line of progress in front of whom waits.
func runPool(cmd *cobra.Command, do func(context.Context, streams, *progress) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	s := streamsOf(cmd)
	p := &progress{w: s.err, watched: s.watched}
	end := p.start()
	defer end()
	return do(ctx, s, p)
}

// poolForms are the forms of a report about pools.
func poolForms(kind string) []cobra.Completion {
	return []cobra.Completion{
		cobra.CompletionWithDesc("table", "for a person"),
		cobra.CompletionWithDesc("json", "a versioned "+kind+", for scripts"),
		cobra.CompletionWithDesc("yaml", "the same in YAML"),
	}
}

// poolOutcome is a report about pools.
type poolOutcome interface{ WriteJSON(w io.Writer) error }

// write writes a report; table writes it for a person.
func (o *poolOptions) write(w io.Writer, r poolOutcome, table func(io.Writer) error) error {
	if o.output == "table" {
		return table(w)
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		return err
	}
	text := b.Bytes()
	if o.output == "yaml" {
		var err error
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
	}
	_, err := w.Write(text)
	return err
}

func newPoolStatus() *cobra.Command {
	o := &poolOptions{}
	var files []string
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "What is left of each pool; of one, who holds which number",
		Long: `Tell for each PortPool which numbers it has, how many are allocated, available, quarantined or held by others, and how many
those whom it serves hold elsewhere. With NAME, of that pool too who holds which number since when, and the PortClaim.

It reads PortPools, PortClaims, namespaces, services and pods of all namespaces and writes nothing; with -f it reads them from
files and needs no cluster.

Exit code: 0, or 2 for bad usage or if there is no such pool.`,
		Example: `  portcullis pool status
  portcullis pool status team-payments -o json

  kubectl get portpools,portclaims,namespaces,services,pods -A -o yaml > state.yaml
  portcullis pool status -f state.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPool(cmd, func(ctx context.Context, s streams, p *progress) error { return o.status(ctx, s, p, files, args) })
		},
	}
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "read the objects from `PATH` instead of a cluster: a file, a folder (with all below it) or -; may be repeated")
	o.addFlags(cmd, poolForms("PoolReport"))
	return cmd
}

func (o *poolOptions) status(ctx context.Context, s streams, p *progress, files, names []string) error {
	settings, err := o.asked(poolForms("PoolReport"))
	if err != nil {
		return err
	}
	state, err := o.state(ctx, s, p, files, settings)
	if err != nil {
		return err
	}
	if !state.hasPools && len(files) == 0 {
		return noPools()
	}
	set := state.set()
	if len(names) > 0 {
		if _, known := set.Named(names[0]); !known {
			return fmt.Errorf("there is no PortPool %s; portcullis pool status lists all there are", names[0])
		}
	}
	r := report.NewPoolReport()
	out := state.outOfPool(set)
	for _, m := range set.Members() {
		if len(names) > 0 && m.Name != names[0] {
			continue
		}
		row := r.Add(m, m.Usage(state.book(m)))
		row.OutOfPoolCount = len(out[m.Name])
		if len(names) > 0 {
			row.Numbers = state.numbers(m, out[m.Name])
		}
	}
	return o.write(s.out, r, func(w io.Writer) error { return r.WriteTable(w, time.Now()) })
}

// noPools says that a cluster has none of our kinds.
func noPools() error {
	return errors.New("the cluster does not know the kind PortPool: install it with kubectl apply -k config/crd, or give the objects in files")
}
