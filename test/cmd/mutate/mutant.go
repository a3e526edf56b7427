package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is a change of a file in one place.
type mutant struct {
	file       string // from the root of the module, with slashes
	line       int
	function   string
	what       string // "a < b -> a <= b"
	start, end int    // the bytes that are replaced
	text       string // by what
}

// String returns what a reader sees, and what survivors.txt has without the line.
func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", m.file, m.line, m.function, m.what)
}

// apply returns the content of the file with the change.
func (m mutant) apply(content []byte) []byte {
	return slices.Concat(content[:m.start], []byte(m.text), content[m.end:])
}

func (m mutant) compare(o mutant) int {
	return cmp.Or(strings.Compare(m.file, o.file), cmp.Compare(m.start, o.start), cmp.Compare(m.end, o.end), strings.Compare(m.text, o.text))
}

func (m mutant) isSame(o mutant) bool { return m.compare(o) == 0 }

// source is a parsed file.
type source struct {
	name  string // from the root of the module, with slashes
	text  []byte
	files *token.FileSet
	tree  *ast.File
}

func (s source) offset(p token.Pos) int { return s.files.PositionFor(p, false).Offset }

func (s source) textOf(from, to token.Pos) string { return string(s.text[s.offset(from):s.offset(to)]) }

// findMutants lists all mutants of a package, in the order of their files and places.
func findMutants(root, folder string) ([]mutant, error) {
	p, err := build.ImportDir(filepath.Join(root, filepath.FromSlash(folder)), 0)
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, name := range p.GoFiles {
		text, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return nil, err
		}
		found, err := mutantsOf(path.Join(folder, name), text)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// mutantsOf lists all mutants of a file; a generated one has none.
func mutantsOf(name string, text []byte) ([]mutant, error) {
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil || ast.IsGenerated(tree) {
		return nil, err
	}
	src := source{name, text, files, tree}
	var all []mutant
	ast.PreorderStack(tree, nil, func(n ast.Node, parents []ast.Node) bool {
		at := site{src, n, parents}
		for _, edits := range operators() {
			for _, e := range edits(at) {
				all = append(all, at.mutant(e))
			}
		}
		return true
	})
	slices.SortStableFunc(all, mutant.compare)
	return slices.CompactFunc(all, mutant.isSame), nil
}

func (s site) mutant(e edit) mutant {
	src := s.source
	from, to := s.shown(e)
	before, after := src.textOf(from, to), src.textOf(from, e.from)+e.text+src.textOf(e.to, to)
	return mutant{
		file:     src.name,
		line:     src.files.PositionFor(e.from, false).Line,
		function: functionName(append(slices.Clone(s.parents), s.node)),
		what:     difference(before, after),
		start:    src.offset(e.from),
		end:      src.offset(e.to),
		text:     e.text,
	}
}

// Of a long text, difference shows what differs, with so many characters on each side.
const (
	longText = 90
	around   = 30
)

// difference returns "before -> after" on one line.
func difference(before, after string) string {
	b, a := []rune(oneLine(before)), []rune(oneLine(after))
	if len(b) > longText || len(a) > longText {
		first := 0
		for first < min(len(a), len(b)) && a[first] == b[first] {
			first++
		}
		last := 0
		for last < min(len(a), len(b))-first && a[len(a)-1-last] == b[len(b)-1-last] {
			last++
		}
		b, a = cut(b, first, last), cut(a, first, last)
	}
	if len(a) == 0 {
		return string(b) + " -> (removed)"
	}
	return string(b) + " -> " + string(a)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// cut leaves out what is far from the middle of a text, which begins after first characters and ends before last ones,
// and what is long in it.
func cut(text []rune, first, last int) []rune {
	middle := text[first : len(text)-last]
	if len(middle) > longText {
		middle = slices.Concat(middle[:longText-around], []rune("…"), middle[len(middle)-around:])
	}
	head, tail := text[:first], text[len(text)-last:]
	if len(head) > around {
		head = append([]rune("…"), head[len(head)-around:]...)
	}
	if len(tail) > around {
		tail = append(slices.Clone(tail[:around]), '…')
	}
	return slices.Concat(head, middle, tail)
}
