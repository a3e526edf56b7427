package binaries

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// compile builds programs of the source into a folder, all by one go install, which leaves alone what is up to date.
func (s source) compile(ctx context.Context, dir string, names []Name, p *progress) error {
	wanted := s.only(names)
	var pkgs, words []string
	for _, program := range wanted.programs {
		pkgs = append(pkgs, program.pkg)
		words = append(words, string(program.name))
	}
	what := strings.Join(words, ", ")
	total, err := s.list(ctx, what, pkgs, p)
	if err != nil {
		return err
	}
	compiled := &packageCounter{total: total}
	done := p.start("building "+what, compiled.String)
	_, err = goTool(ctx, compiled, s.dir, []string{"GOBIN=" + dir}, slices.Concat([]string{"install", "-v"}, s.flags, pkgs)...)
	for _, program := range wanted.programs {
		if from := program.file(); err == nil && from != string(program.name) {
			err = os.Rename(filepath.Join(dir, from), filepath.Join(dir, string(program.name)))
		}
	}
	done(err)
	return err
}

// list downloads what the packages are built from, and returns how many packages that are.
func (s source) list(ctx context.Context, what string, pkgs []string, p *progress) (int, error) {
	if s.isTree {
		return 0, nil // go build would list them again, and there is next to nothing to compile
	}
	done := p.start("downloading what "+what+" are built from", nil)
	args := []string{"list", "-deps", "-f", "{{.ImportPath}}"}
	for _, f := range s.flags {
		if !strings.HasPrefix(f, "-ldflags") {
			args = append(args, f)
		}
	}
	out, err := goTool(ctx, io.Discard, s.dir, nil, append(args, pkgs...)...)
	done(err)
	return strings.Count(out, "\n"), err
}

// Build compiles a package in the graph of the module in dir into a file, with go's default flags and the given ones, of
// which the last is the package. The names of packages that had to be compiled are written to compiled.
func Build(ctx context.Context, compiled io.Writer, dir, file string, args ...string) error {
	_, err := goTool(ctx, compiled, dir, nil, append([]string{"build", "-v", "-o", file}, args...)...)
	return err
}

// goTool runs go and returns what it printed. Lines of stderr go to progress while it runs.
func goTool(ctx context.Context, progress io.Writer, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off", "PWD="+dir), env...)
	// An interrupt lets go remove its temporary files and stop its compilers.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, io.MultiWriter(&stderr, progress)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), dir, err, complaints(stderr.String()))
	}
	return stdout.String(), nil
}

// complaints returns the lines that are neither the name of a package nor a download.
func complaints(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if isPackage(line) || strings.HasPrefix(line, "go: downloading ") {
			continue
		}
		lines = append(lines, line)
	}
	return strings.TrimSpace(strings.Join(lines, ""))
}

func isPackage(line string) bool { return !strings.ContainsAny(strings.TrimSpace(line), " \t:") }

// packageCounter counts the packages that go build -v names.
type packageCounter struct {
	total int // at most; 0 if not known

	mu    sync.Mutex
	seen  int
	start bytes.Buffer // of a line that is not complete yet
}

func (c *packageCounter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start.Write(p)
	for {
		line, err := c.start.ReadString('\n')
		if err != nil {
			c.start.WriteString(line)
			return len(p), nil
		}
		if isPackage(line) {
			c.seen++
		}
	}
}

func (c *packageCounter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total == 0 {
		return fmt.Sprintf("%d packages compiled", c.seen)
	}
	return fmt.Sprintf("%d of at most %d packages compiled", c.seen, c.total)
}
