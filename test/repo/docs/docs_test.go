// Package docs holds the documentation to the code: every example is judged by the real checks, every table of codes,
// hooks and metrics is compared with what they are made from, every link leads somewhere. What can be written by a
// machine is written by `go -C test test ./repo/docs -update`.
package docs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

var update = flag.Bool("update", false, "write what is generated into the documents")

const root = "../../.."

// page is a document in Markdown.
type page struct {
	path  string // below root
	lines []string
}

func read(t *testing.T, path string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return &page{path, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")}
}

// text returns the page as it stands.
func (p *page) text() string { return strings.Join(p.lines, "\n") + "\n" }

func (p *page) write(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, p.path), []byte(p.text()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// block is what stands between two fences.
type block struct {
	info  string // what follows the opening fence: "yaml", "yaml state", "text"
	first int    // index of its first line; that of the closing fence if it is empty
	lines []string
}

func (b block) text() string { return strings.Join(b.lines, "\n") + "\n" }

// blocks returns the page's fenced blocks of the given kinds in order; all of them if none is given.
func (p *page) blocks(t *testing.T, kinds ...string) []block {
	t.Helper()
	var all []block
	var open *block
	for i, line := range p.lines {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{info: fence, first: i + 1}
		case isFence:
			if len(kinds) == 0 || slices.Contains(kinds, open.info) {
				all = append(all, *open)
			}
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block is not closed", p.path, open.first)
	}
	return all
}

// hold compares lines of the page, from first on, with what they should be. With -update it writes them.
func (p *page) hold(t *testing.T, what string, first int, is, want []string) {
	t.Helper()
	if slices.Equal(is, want) {
		return
	}
	if !*update {
		t.Errorf("%s:%d: %s is\n%s\nwant\n%s\n(go -C test test ./repo/docs -update writes it)", p.path, first+1, what, strings.Join(is, "\n"), strings.Join(want, "\n"))
		return
	}
	p.lines = slices.Replace(p.lines, first, first+len(is), want...)
	p.write(t)
}

// holdTable compares the table that has want's header with want.
func (p *page) holdTable(t *testing.T, want [][]string) {
	t.Helper()
	first, is := p.table(want[0])
	if first < 0 {
		t.Errorf("%s: no table begins with %s", p.path, row(want[0]))
		return
	}
	lines := []string{row(want[0]), "|" + strings.Repeat("---|", len(want[0]))}
	for _, cells := range want[1:] {
		lines = append(lines, row(cells))
	}
	p.hold(t, "the table", first, is, lines)
}

// table finds the table with a header; -1 if there is none.
func (p *page) table(header []string) (first int, lines []string) {
	first = slices.Index(p.lines, row(header))
	if first < 0 {
		return first, nil
	}
	end := first
	for end < len(p.lines) && strings.HasPrefix(p.lines[end], "|") {
		end++
	}
	return first, p.lines[first:end]
}

// column returns the cells of a table's first column, without backquotes.
func (p *page) column(t *testing.T, header ...string) []string {
	t.Helper()
	first, lines := p.table(header)
	if first < 0 {
		t.Fatalf("%s: no table begins with %s", p.path, row(header))
	}
	var cells []string
	for _, line := range lines[2:] {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		cells = append(cells, strings.Trim(cell, "`"))
	}
	return cells
}

func row(cells []string) string { return "| " + strings.Join(cells, " | ") + " |" }

func code(s string) string { return "`" + s + "`" }

// documents returns the path of every document.
func documents(t *testing.T) []string {
	t.Helper()
	paths := []string{"README.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			path, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
	}
	return paths
}

// TestLinks follows every link that stays inside the repository, to the heading if it names one.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)
	for _, path := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, path).text(), -1) {
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", path, m[0])
				continue
			}
			if m[2] != "" && !slices.Contains(anchors(t, target), m[2]) {
				t.Errorf("%s: the link %s leads to no heading", path, m[0])
			}
		}
	}
}

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(t *testing.T, path string) []string {
	t.Helper()
	var all []string
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, line := range read(t, path).lines {
		if name, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			all = append(all, "#"+strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(name), ""), " ", "-"))
		}
	}
	return all
}

// TestNames: what the documents call a code or a make target is one.
func TestNames(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`\bPC\d{4}\b`)
	targets := regexp.MustCompile("(?m)(?:`|^)make ([a-z]+)(?:`| +#|$)")
	for _, path := range documents(t) {
		text := read(t, path).text()
		for _, name := range codes.FindAllString(text, -1) {
			if _, ok := check.Lookup(check.Code(name)); !ok {
				t.Errorf("%s: there is no code %s", path, name)
			}
		}
		for _, m := range targets.FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(fmt.Sprintf(`(?m)^%s:`, m[1])).Match(makefile) {
				t.Errorf("%s: there is no target %s", path, m[1])
			}
		}
	}
}
