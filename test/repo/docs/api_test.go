package docs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// libraryPackages are those that the README names under "As a library", with what their values are made of.
func libraryPackages() []string {
	return []string{
		"api/config/v1alpha1", "api/v1alpha1", "pkg/audit", "pkg/check", "pkg/explain", "pkg/extract", "pkg/ledger", "pkg/manifest", "pkg/pool",
		"pkg/ports", "pkg/report", "pkg/rules", "pkg/rules/kubeproxy", "pkg/rules/portmap", "pkg/rules/text", "pkg/rules/walk", "pkg/hooks", "webhook", "webhook/vap",
	}
}

// TestGoldenAPI: docs/api.txt lists what the library exports, so that a change of it is seen in review.
func TestGoldenAPI(t *testing.T) {
	var listing bytes.Buffer
	for _, pkg := range libraryPackages() {
		fmt.Fprintf(&listing, "package %s\n\n", pkg)
		for _, line := range exported(t, filepath.Join(root, pkg)) {
			fmt.Fprintln(&listing, line)
		}
		fmt.Fprintln(&listing)
	}
	path := filepath.Join(root, "docs", "api.txt")
	is, err := os.ReadFile(path)
	if err == nil && bytes.Equal(is, listing.Bytes()) {
		return
	}
	if !*update {
		t.Fatal("docs/api.txt does not list what the library exports (go -C test test ./repo/docs -run Golden -update writes it)")
	}
	if err := os.WriteFile(path, listing.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// exported returns the exported declarations of a package, sorted by name, without comments and bodies.
func exported(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s holds no package: %v", folder, err)
	}
	all := map[string]string{}
	set, style := token.NewFileSet(), printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(filepath.Base(path), "zz_generated") {
			continue
		}
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(file)
		for _, d := range file.Decls {
			for name, one := range declarations(d) {
				var text strings.Builder
				if err := style.Fprint(&text, set, one); err != nil {
					t.Fatal(err)
				}
				all[name] = strings.ReplaceAll(text.String(), "\n\n", "\n") // where comments were
			}
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, all[name])
	}
	return lines
}

// declarations returns what a declaration declares, by names to sort by: methods come after their type.
func declarations(d ast.Decl) map[string]ast.Node {
	named := map[string]ast.Node{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		d.Body, d.Doc = nil, nil
		name := d.Name.Name
		if d.Recv != nil {
			of := receiver(d.Recv.List[0].Type)
			if !ast.IsExported(of) {
				return nil
			}
			name = of + "." + name
		}
		named[name] = d
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				s.Doc = nil
				named[s.Name.Name] = &ast.GenDecl{Tok: token.TYPE, Specs: []ast.Spec{s}}
			case *ast.ValueSpec:
				s.Doc, s.Values = nil, nil // what a constant is worth may change
				named[s.Names[0].Name] = &ast.GenDecl{Tok: d.Tok, Specs: []ast.Spec{s}}
			}
		}
	}
	return named
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	default:
		return ""
	}
}

// TestLibraryPackages: the README names no package as a library that the listing leaves out.
func TestLibraryPackages(t *testing.T) {
	text, err := fs.ReadFile(os.DirFS(root), "README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## As a library\n")
	section, _, _ = strings.Cut(section, "\n```")
	words := strings.Split(section, "`")
	found := 0
	for i := 1; i < len(words); i += 2 {
		if info, err := os.Stat(filepath.Join(root, words[i])); err != nil || !info.IsDir() {
			continue
		}
		found++
		if !slices.Contains(libraryPackages(), words[i]) {
			t.Errorf("%s is not listed in docs/api.txt", words[i])
		}
	}
	if found < 8 {
		t.Errorf("the README names %d packages", found)
	}
}
