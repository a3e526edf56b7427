package redteam

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
)

// hostileInput is what somebody else has put where the command reads.
type hostileInput struct {
	name string
	make func(folder string) error // "input" in the folder is what is read
	exit int
}

// mostMemory is what the command may take for any of them: it reads 64 MiB at most of a file.
const mostMemory = 700 << 20

// TestCommand reads hostile files. The command says what is wrong, and neither hangs, nor ends by a signal or a panic, nor takes
// much memory, nor prints what a terminal or a workflow would obey.
func TestCommand(t *testing.T) {
	program, err := binaries.One(t.Context(), binaries.Portcullis)
	must(t, err)
	for _, h := range hostile() {
		t.Run(h.name, func(t *testing.T) {
			folder := t.TempDir()
			must(t, h.make(folder))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			lint := exec.CommandContext(ctx, program, "lint", "-f", "input")
			lint.Dir = folder
			text, err := lint.CombinedOutput()
			if exit, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
				t.Fatal(err)
			} else if failed && exit.ExitCode() < 0 {
				t.Fatalf("%v\n%s", err, text)
			}
			if got := lint.ProcessState.ExitCode(); got != h.exit {
				t.Errorf("exit %d, want %d\n%.2000s", got, h.exit, text)
			}
			if strings.Contains(string(text), "goroutine ") || h.exit != 0 && len(text) == 0 {
				t.Errorf("it says %q", text)
			}
			if i := strings.IndexFunc(string(text), func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }); i >= 0 || strings.Contains(string(text), "\n::") {
				t.Errorf("a terminal would obey %q", text)
			}
			if usage, ok := lint.ProcessState.SysUsage().(*syscall.Rusage); !ok || usage.Maxrss<<10 > mostMemory {
				t.Errorf("it took %d MiB", usage.Maxrss>>10)
			}
		})
	}
}

func hostile() []hostileInput {
	written := func(name string, exit int, text string) hostileInput {
		return hostileInput{name, func(folder string) error { return os.WriteFile(filepath.Join(folder, "input"), []byte(text), 0o600) }, exit}
	}
	linked := func(name, to string, exit int) hostileInput {
		return hostileInput{name, func(folder string) error { return os.Symlink(to, filepath.Join(folder, "input")) }, exit}
	}
	called := func(name, file string, exit int) hostileInput {
		return hostileInput{name, func(folder string) error {
			if err := os.Mkdir(filepath.Join(folder, "input"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(folder, "input", file), []byte("a: [\n"), 0o600)
		}, exit}
	}
	laughs := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\na0: &a0 ha\n"
	for i := 1; i < 30; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	return []hostileInput{
		written("aliases that grow without end", 2, laughs),
		written("an alias of itself", 2, "apiVersion: v1\nkind: ConfigMap\nmetadata: &a {name: a, labels: *a}\n"),
		written("a million brackets", 2, strings.Repeat("[", 1_000_000)),
		written("a million levels of indentation", 2, strings.Repeat("- ", 1_000_000)),
		written("two hundred thousand documents", 2, strings.Repeat("---\n", 200_000)),
		written("a key thirty thousand times", 2, "a: 1\n"+strings.Repeat("? x\n", 30_000)),
		written("a number that no memory holds", 1, "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1e999999999}]}\n"),
		written("NUL bytes", 2, strings.Repeat("\x00", 1<<20)),
		written("a name that clears the screen", 1, "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\e[2J\"}\nspec: {ports: [{port: x}]}\n"),
		written("a name that is a workflow command", 1, "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\n::error::x\"}\nspec: {ports: [{port: x}]}\n"),
		written("a pod of thirty thousand ports", 0, objects.Pod("p", objects.Containers("containerPort: 80"+strings.Repeat("}, {containerPort: 80", 30_000)))),
		{"a hundred mebibytes of nothing", func(folder string) error {
			file := filepath.Join(folder, "input")
			return errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 100<<20))
		}, 2},
		linked("a device without end", "/dev/zero", 2),
		linked("a device of noise", "/dev/urandom", 2),
		linked("a link to itself", "input", 2),
		linked("a link to nowhere", "nowhere", 2),
		linked("a file of the kernel", "/proc/self/mem", 2),
		{"a folder with a pipe", func(folder string) error {
			if err := os.Mkdir(filepath.Join(folder, "input"), 0o700); err != nil {
				return err
			}
			return unix.Mkfifo(filepath.Join(folder, "input", "pipe.yaml"), 0o600)
		}, 2},
		{"a folder that links to itself", func(folder string) error {
			if err := os.Mkdir(filepath.Join(folder, "input"), 0o700); err != nil {
				return err
			}
			return os.Symlink(".", filepath.Join(folder, "input", "again"))
		}, 2},
		called("a file whose name clears the screen", "a\x1b[2J.yaml", 2),
		called("a file whose name is a workflow command", "a\n::error::x.yaml", 2),
	}
}
