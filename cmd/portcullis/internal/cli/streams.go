package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// Streams are what a command reads and writes, and what a person sees of it.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Colour   bool // Out is a terminal whose user wants colours
	Watched  bool // Err is a terminal: somebody waits in front of it
}

// StreamsOf returns those of a command.
func StreamsOf(cmd *cobra.Command) Streams {
	s := Streams{In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr()}
	s.Colour = IsTerminal(s.Out) && wantsColour(os.Getenv)
	s.Watched = IsTerminal(s.Err)
	return s
}

// PrintLine writes a line for a person, escaped.
func PrintLine(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, report.Escape(fmt.Sprintf(format, args...)))
}

// IsTerminal reports whether a person sees what is written, or types what is read.
func IsTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// wantsColour follows no-color.org, and leaves terminals alone that say they cannot.
func wantsColour(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
