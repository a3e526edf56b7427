// Package peers compares `portcullis lint` with programs that read the same files: how long each takes over thousands
// of manifests, and how much memory.
package peers

import (
	"bytes"
	"embed"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

// generator makes applications as teams keep them: a file for each, in the team's folder, with a few objects. They are
// well formed, and nearly all of their ports are their own.
type generator struct {
	rand     *rand.Rand
	kinds    []*template.Template
	hostPort int
	nodePort int
}

// application is what the templates are given.
type application struct {
	*generator
	Name, Namespace string
}

func newGenerator(seed uint64) (*generator, error) {
	parsed, err := template.ParseFS(templates, "templates/*.yaml")
	if err != nil {
		return nil, err
	}
	return &generator{rand: rand.New(rand.NewPCG(seed, 0)), kinds: parsed.Templates(), hostPort: 2000, nodePort: 30000}, nil
}

// write writes files with exactly n objects below dir.
func (g *generator) write(dir string, n int) error {
	for i := 0; n > 0; i++ {
		a := application{g, fmt.Sprintf("app-%05d", i), fmt.Sprintf("team-%02d", i%40)}
		var text bytes.Buffer
		if err := g.kinds[g.rand.IntN(len(g.kinds))].Execute(&text, a); err != nil {
			return err
		}
		objects := strings.SplitAfter(text.String(), "\n---\n")
		objects = objects[:min(n, len(objects))]
		n -= len(objects)
		path := filepath.Join(dir, a.Namespace, a.Name+".yaml")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(strings.Join(objects, "")), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Chance reports true in percent of a hundred cases.
func (g *generator) Chance(percent int) bool { return g.rand.IntN(100) < percent }

// Number returns a number from 0 to n-1.
func (g *generator) Number(n int) int { return g.rand.IntN(n) }

// Variables returns the names of a container's environment variables.
func (g *generator) Variables() []string {
	names := make([]string, 2+g.rand.IntN(6))
	for i := range names {
		names[i] = fmt.Sprintf("SETTING_%d", i)
	}
	return names
}

// HostPort returns a host port that no other object has, but for one in a hundred.
func (g *generator) HostPort() int {
	if !g.Chance(1) {
		g.hostPort++
	}
	return g.hostPort
}

// NodePort returns a node port that no other object has, but for one in a hundred.
func (g *generator) NodePort() int {
	if !g.Chance(1) {
		g.nodePort++
	}
	return g.nodePort
}
