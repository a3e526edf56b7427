// Package cli has what the commands of portcullis share with the person, or the script, that runs them.
//
//   - Streams are standard input, output and error; Progress is a line on a terminal that says how far a long run is.
//   - ClusterFlags are kubectl's flags; they lead to the cluster. ReportFlags add the flags of a command that prints a
//     report: the forms of its output, and the configuration of the webhook, which ReadSettings reads.
//   - Execute runs a command and makes an exit code of its error: a FindingsError says that the command did its work,
//     and found something.
//
// Each command is a function of a package beside this one. It returns a cobra.Command with flags of its own and of this
// package; package main puts these commands together. The objects that they look at are read by package source.
package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// The exit codes, a contract with scripts.
const (
	ExitFindings = 1
	ExitUsage    = 2
)

// FindingsError says that there were findings at or above the level that fails.
type FindingsError struct {
	N   int
	Why string // what else makes the exit code 1, where the report does not show it
}

func (e *FindingsError) Error() string { return fmt.Sprintf("%d findings", e.N) }

// Execute runs a command and returns the exit code. What is wrong is printed escaped: it names files, and what is in them.
func Execute(ctx context.Context, cmd *cobra.Command) int {
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if found, ok := errors.AsType[*FindingsError](err); ok {
		if found.Why != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "portcullis:", report.Escape(found.Why))
		}
		return ExitFindings
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "portcullis:", report.EscapeError(withSuggestions(err)))
	return ExitUsage
}

// withSuggestions returns an error about an unknown command in one line: cobra puts each command that could be meant on a
// line of its own.
func withSuggestions(err error) error {
	what, suggested, ok := strings.Cut(err.Error(), "\n\nDid you mean this?\n\t")
	if !ok || !strings.HasPrefix(what, "unknown command ") {
		return err
	}
	return fmt.Errorf("%s; did you mean %s?", what, strings.ReplaceAll(strings.TrimSpace(suggested), "\n\t", " or "))
}
