package judge

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/docs/codes"
	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// printPage writes the page of a code.
func printPage(w io.Writer, code string) error {
	page, ok := codes.Page(strings.ToUpper(code))
	if !ok {
		return fmt.Errorf("--explain %q: there is no such code; %s", code, near(strings.ToUpper(code)))
	}
	_, err := io.WriteString(w, page)
	return err
}

// near names the codes that may have been meant: those of the same block, PC02.., else all.
func near(code string) string {
	const block = len("PC02")
	var same, all []string
	for _, e := range check.Catalogue() {
		all = append(all, string(e.Code))
		if len(code) >= block && strings.HasPrefix(string(e.Code), code[:block]) {
			same = append(same, string(e.Code))
		}
	}
	if same != nil {
		return fmt.Sprintf("of its block there are %s", strings.Join(same, ", "))
	}
	return fmt.Sprintf("there are %s", strings.Join(all, ", "))
}

// codeCompletions offers every code with its title.
func codeCompletions() []cobra.Completion {
	var all []cobra.Completion
	for _, e := range check.Catalogue() {
		all = append(all, cobra.CompletionWithDesc(string(e.Code), e.Title))
	}
	return all
}
