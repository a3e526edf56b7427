// Command mutate shows what the tests do not notice. It changes the code in one place at a time, runs the tests of the
// package, and reports each change with which they still pass.
//
//	go -C test run ./cmd/mutate [-n 300] [-seed N] [-also pkg/audit,webhook] [-out FILE] [PACKAGE...]
//
// A change is called a mutant. The operators in operators.go list all mutants of a package in a fixed order; n of them
// are drawn with the seed, as package seed describes. Each is built with an overlay, so that the files of the repository
// stay as they are. A mutant is killed if a test fails or takes too long; it survives if all tests pass; one that does
// not compile is replaced by another.
//
// Some mutants change nothing that a test can see. They are listed in survivors.txt, with the reason, and counted apart.
// Any other survivor needs a test. If there is one, or if a line of the list fits no mutant, the exit code is 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

func main() {
	count := flag.Int("n", 300, "how many mutants of each package are tested")
	seedText := flag.String("seed", os.Getenv(seed.Variable), "from which seed they are drawn: a number or \"random\"; PORTCULLIS_SEED by default")
	timeout := flag.Duration("timeout", 0, "how long the tests of a mutant may take; by default ten seconds, and five times as long as without a change")
	also := flag.String("also", "", "packages, separated by commas, whose tests run if those of the package itself pass")
	out := flag.String("out", "", "a file that gets the report as well, below the root of the repository")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: mutate [FLAG...] [PACKAGE...]\nPACKAGE is a folder of the root module; by default %s.\n", strings.Join(defaultPackages(), ", "))
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	isGood, err := run(ctx, *count, *seedText, *timeout, *also, *out, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	if !isGood {
		os.Exit(1)
	}
}

func defaultPackages() []string {
	return []string{"pkg/ports", "pkg/check", "pkg/ledger", "pkg/hooks", "webhook", "webhook/vap"}
}

// run tests mutants of the packages, writes the report, and returns whether each survivor is explained.
func run(ctx context.Context, count int, seedText string, timeout time.Duration, also, out string, folders []string) (isGood bool, err error) {
	root, err := binaries.Root()
	if err != nil {
		return false, err
	}
	from, err := seed.Parse(seedText)
	if err != nil {
		return false, err
	}
	known, err := readExplained(filepath.Join(root, "test", "cmd", "mutate", "survivors.txt"))
	if err != nil {
		return false, err
	}
	if len(folders) == 0 {
		folders = defaultPackages()
	}
	r, err := newRunner(root, timeout, split(also))
	if err != nil {
		return false, err
	}
	defer r.close()
	fmt.Printf("PORTCULLIS_SEED=%d\n", from)
	var all report
	for _, folder := range folders {
		p, err := testMutants(ctx, r, cleanFolder(folder), count, from, known, progress(os.Stderr))
		all = append(all, p)
		if err != nil {
			return false, errors.Join(err, write(root, out, all, from))
		}
	}
	return all.isGood(), write(root, out, all, from)
}

func split(list string) []string {
	var all []string
	for part := range strings.SplitSeq(list, ",") {
		if part != "" {
			all = append(all, cleanFolder(part))
		}
	}
	return all
}

func cleanFolder(folder string) string { return filepath.ToSlash(filepath.Clean(folder)) }

// testMutants draws mutants of a package until count of them compile, and tests them. If it is interrupted, it returns
// what it has so far.
func testMutants(ctx context.Context, r *runner, folder string, count int, from uint64, known explained, show func(string)) (p packageReport, err error) {
	p.folder = folder
	began := time.Now()
	defer func() { p.took = time.Since(began) }()
	mutants, err := findMutants(r.root, folder)
	if err != nil {
		return p, err
	}
	p.possible = len(mutants)
	p.outdated = known.outdated(folder, mutants)
	if err := r.measure(ctx, folder); err != nil {
		return p, err
	}
	for _, m := range drawn(mutants, from) {
		if p.tested() == count {
			break
		}
		show(fmt.Sprintf("%s: %s, %d of %d", folder, p.summary(), p.tested(), min(count, p.possible)))
		o, err := r.try(ctx, folder, m)
		if err != nil {
			show("")
			return p, err
		}
		p.add(m, o, known.explains(m))
	}
	show("")
	return p, nil
}

// drawn returns mutants in the order that a seed stands for.
func drawn(mutants []mutant, from uint64) []mutant {
	var all []mutant
	for _, i := range seed.From(from).Perm(len(mutants)) {
		all = append(all, mutants[i])
	}
	return all
}

// progress returns a function that shows one line in place of the one before, if w is a terminal.
func progress(w *os.File) func(string) {
	if !term.IsTerminal(int(w.Fd())) {
		return func(string) {}
	}
	return func(line string) { fmt.Fprintf(w, "\r\x1b[K%s", line) }
}

// write prints the report, and writes it to the file if there is one.
func write(root, file string, r report, from uint64) error {
	if err := r.write(os.Stdout); err != nil || file == "" {
		return err
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(root, file)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, fmt.Sprintf("PORTCULLIS_SEED=%d\n", from))
	return errors.Join(err, r.write(f), f.Close())
}
