package docs

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// TestEveryCodeHasAPage, and every page a code.
func TestEveryCodeHasAPage(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(root, "docs/codes/PC*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var pages, codes []string
	for _, f := range found {
		pages = append(pages, strings.TrimSuffix(filepath.Base(f), ".md"))
	}
	for _, e := range check.Catalogue() {
		codes = append(codes, string(e.Code))
	}
	if !slices.Equal(pages, codes) {
		t.Errorf("docs/codes has the pages %v, the catalogue the codes %v", pages, codes)
	}
}

// TestGoldenCodeTable holds the list of the codes to the catalogue.
func TestGoldenCodeTable(t *testing.T) {
	table := [][]string{{"Code", "Severity", "What is wrong"}}
	for _, e := range check.Catalogue() {
		table = append(table, []string{fmt.Sprintf("[%s](%[1]s.md)", e.Code), severities(e), e.Title})
	}
	read(t, "docs/codes/README.md").holdTable(t, table)
}

// severities: "error; warning when some eligible nodes are taken".
func severities(e check.Entry) string {
	text := e.Severity.String()
	for _, c := range slices.Sorted(maps.Keys(e.Cases)) {
		text += fmt.Sprintf("; %s when %s", e.Cases[c], c)
	}
	return text
}

// TestGoldenPages judges every example of every page: a manifest, which one of objects that exist already may precede,
// and the sentences that Portcullis says about it. Each severity of the code must be shown.
func TestGoldenPages(t *testing.T) {
	for _, e := range check.Catalogue() {
		t.Run(string(e.Code), func(t *testing.T) {
			p := read(t, fmt.Sprintf("docs/codes/%s.md", e.Code))
			p.hold(t, "the title", 0, p.lines[:1], []string{fmt.Sprintf("# %s: %s", e.Code, e.Title)})
			p.hold(t, "the severity", 2, p.lines[2:3], []string{"Severity: " + severities(e) + "."})
			p.holdHeadings(t, "## Why", "## Example", "## Fix")
			if e.Code == check.InFlight {
				return // it needs two requests at once: webhook TestInFlight
			}
			shown := p.holdExamples(t, e.Code)
			for _, s := range append(slices.Collect(maps.Values(e.Cases)), e.Severity) {
				if !slices.Contains(shown, s.String()) {
					t.Errorf("%s: no example shows %s with severity %s", p.path, e.Code, s)
				}
			}
		})
	}
}

func (p *page) holdHeadings(t *testing.T, want ...string) {
	t.Helper()
	var is []string
	for _, line := range p.lines {
		if strings.HasPrefix(line, "## ") {
			is = append(is, line)
		}
	}
	if !slices.Equal(is, want) {
		t.Errorf("%s: the headings are %q, want %q", p.path, is, want)
	}
}

// holdExamples judges the examples of a code's page, and returns the severities with which it was found.
func (p *page) holdExamples(t *testing.T, code check.Code) []string {
	t.Helper()
	var shown []string
	for n := 0; ; {
		// Writing one example may move the lines of the next.
		blocks := p.blocks(t)
		if n == len(blocks) {
			return shown
		}
		var state []string
		config := ""
		if blocks[n].info == "yaml config" {
			config = blocks[n].file(t)
			n++
		}
		if blocks[n].info == "yaml state" {
			state = []string{blocks[n].file(t)}
			n++
		}
		if n+1 >= len(blocks) || blocks[n].info != "yaml" || blocks[n+1].info != "text" {
			t.Fatalf("%s: an example is a block `yaml`, with `yaml config` and `yaml state` before it or not, and one `text` after it", p.path)
		}
		objects, said := blocks[n].file(t), blocks[n+1]
		n += 2
		var want []string
		before := len(shown)
		for _, f := range judge(t, config, state, objects) {
			want = append(want, sentence(f))
			if f.Code == string(code) {
				shown = append(shown, f.Severity)
			}
		}
		if len(shown) == before {
			t.Errorf("%s:%d: the example does not show %s", p.path, said.first, code)
		}
		p.hold(t, "what is said", said.first, said.lines, want)
	}
}
