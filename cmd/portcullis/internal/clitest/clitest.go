// Package clitest runs commands of portcullis for tests as a person does: with arguments, files and standard input.
//
// Run runs a program that has some of the commands only, so that the tests of a package need no other; Execute runs any
// program. The Outcome is all that a script sees of it. Folder makes the files that the arguments name. objects.go has the
// objects that the tests of several packages put into them.
package clitest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
)

// Outcome is what a run of a command leaves behind.
type Outcome struct {
	Exit           int
	Stdout, Stderr string
}

// Run runs a program called portcullis that has these commands.
func Run(t *testing.T, stdin string, args []string, commands ...*cobra.Command) Outcome {
	t.Helper()
	root := &cobra.Command{Use: "portcullis", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(commands...)
	return Execute(t, root, stdin, args)
}

// Execute runs a program.
func Execute(t *testing.T, root *cobra.Command, stdin string, args []string) Outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(args)
	exit := cli.Execute(t.Context(), root)
	return Outcome{exit, stdout.String(), stderr.String()}
}

// Folder writes files, each beginning with its name, into a folder of the test's own and works there.
func Folder(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}
