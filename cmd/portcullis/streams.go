package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// streams are what a command reads and writes, and what a person sees of it.
type streams struct {
	in       io.Reader
	out, err io.Writer
	colour   bool // out is a terminal whose user wants colours
	watched  bool // err is a terminal: somebody waits in front of it
}

func streamsOf(cmd *cobra.Command) streams {
	s := streams{in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
	s.colour = isTerminal(s.out) && wantsColour(os.Getenv)
	s.watched = isTerminal(s.err)
	return s
}

// printLine writes a line for a person, escaped.
func printLine(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, report.Escape(fmt.Sprintf(format, args...)))
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// wantsColour follows no-color.org, and leaves terminals alone that say they cannot.
func wantsColour(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
