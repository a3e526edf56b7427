// Command explore runs the randomised tests with fresh seeds, over and over, until it is interrupted or its time is up,
// and keeps the output of each failure. Which tests are randomised it learns from the first round, which runs all of
// them: they print their seed.
//
//	go -C test run ./cmd/explore [-for 1h] [-into DIR] [PACKAGE...]
//
// A failure is repeated with the PORTCULLIS_SEED that its output names. When it is mended the seed goes into the list of
// its test: see seed.Each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/testjson"
)

func main() {
	duration := flag.Duration("for", 0, "how long to explore; 0 is until it is interrupted")
	into := flag.String("into", "bin/explore", "the folder for the output of failures, below the root of the repository")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: explore [-for DURATION] [-into DIR] [PACKAGE...]\nPACKAGE is a folder as in make test, such as pkg/ports or cluster/pools; all of them by default.")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *duration > 0 {
		limited, cancel := context.WithTimeout(ctx, *duration)
		defer cancel()
		ctx = limited
	}
	failures, err := explore(ctx, *into, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "explore:", err)
		os.Exit(2)
	}
	if failures > 0 {
		fmt.Printf("%d failures: their output is in %s\n", failures, *into)
		os.Exit(1)
	}
}

// explore returns how many tests have failed.
func explore(ctx context.Context, into string, folders []string) (failures int, err error) {
	root, err := binaries.Root()
	if err != nil {
		return 0, err
	}
	into = filepath.Join(root, into)
	if err := os.MkdirAll(into, 0o755); err != nil {
		return 0, err
	}
	randomised := map[target][]string{}
	for round := 1; ctx.Err() == nil; round++ {
		for _, t := range targets(root, folders, randomised) {
			if ctx.Err() != nil {
				break
			}
			r := run(ctx, t, randomised[t])
			for pkg, tests := range r.randomised {
				randomised[target{dir: t.dir, pkg: pkg}] = tests
			}
			if ctx.Err() != nil {
				break // what was interrupted has not failed
			}
			for test, output := range r.failed {
				failures++
				file := filepath.Join(into, fmt.Sprintf("%s-%03d.log", strings.NewReplacer("/", "-", " ", "-").Replace(test), failures))
				if err := os.WriteFile(file, []byte(output), 0o644); err != nil {
					return failures, err
				}
				fmt.Printf("round %d: %s failed with %s: %s\n", round, test, seedOf(output), file)
			}
			if r.err != nil && len(r.failed) == 0 {
				return failures, r.err
			}
		}
		if round == 1 && len(randomised) == 0 && ctx.Err() == nil {
			return failures, errors.New("none of these tests is randomised")
		}
		fmt.Printf("round %d is over: %d failures so far\n", round, failures)
	}
	return failures, nil
}

// target is what one call of go test is about.
type target struct{ dir, pkg string }

// targets are the packages of the first round or, once it is known, those with randomised tests.
func targets(root string, folders []string, randomised map[target][]string) []target {
	if len(randomised) > 0 {
		return slices.SortedFunc(maps.Keys(randomised), func(a, b target) int { return strings.Compare(a.pkg, b.pkg) })
	}
	if len(folders) == 0 {
		folders = []string{"...", "test/..."}
	}
	var all []target
	for _, f := range folders {
		below, ofTests := strings.CutPrefix(f, "test/")
		if _, err := os.Stat(filepath.Join(root, "test", below)); err == nil {
			ofTests = true // as `make test` takes them
		}
		if ofTests {
			all = append(all, target{filepath.Join(root, "test"), "./" + below})
		} else {
			all = append(all, target{root, "./" + f})
		}
	}
	return all
}

// result is what a call of go test has told.
type result struct {
	randomised map[string][]string // by package, the tests that print a seed
	failed     map[string]string   // the output, by package and test
	err        error               // of go test; a failed test is one
}

var seedPattern = regexp.MustCompile(`PORTCULLIS_SEED=\d+`)

func seedOf(output string) string {
	if s := seedPattern.FindString(output); s != "" {
		return s
	}
	return "no seed"
}

// run runs the tests of a target: those that are named, or all.
func run(ctx context.Context, t target, tests []string) result {
	args := []string{"test", "-json", "-count=1", "-timeout=60m", "-p=1"}
	if len(tests) > 0 {
		args = append(args, "-run=^("+strings.Join(tests, "|")+")$")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, t.pkg)...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), "PORTCULLIS_SEED=random", "GOWORK=off", "PWD="+t.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return result{err: err}
	}
	if err := cmd.Start(); err != nil {
		return result{err: err}
	}
	c := collector{result{randomised: map[string][]string{}, failed: map[string]string{}}, map[string]*strings.Builder{}}
	err = testjson.Read(out, c.add)
	c.err = errors.Join(err, cmd.Wait())
	return c.result
}

// collector makes a result of events.
type collector struct {
	result
	output map[string]*strings.Builder // by package and test, subtests with the test that they are of
}

func (c *collector) add(e testjson.Event) {
	test, _, _ := strings.Cut(e.Test, "/")
	key := e.Package + "." + test
	if e.Output != "" {
		if c.output[key] == nil {
			c.output[key] = &strings.Builder{}
		}
		c.output[key].WriteString(e.Output)
		if test != "" && seedPattern.MatchString(e.Output) && !slices.Contains(c.randomised[e.Package], test) {
			c.randomised[e.Package] = append(c.randomised[e.Package], test)
		}
	}
	if e.Action == "fail" && e.Test == test && test != "" {
		c.failed[key] = c.output[key].String()
	}
}
