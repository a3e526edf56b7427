// Command binaries builds programs that tests run, unless the cache has them, and prints the file of each. Its arguments
// are the programs wanted; without any it builds what `make test` needs. With -exec the last one is then run in its place: this is
// how `make run` begins, so that its own few packages are compiled before the many of Kubernetes, which it reports on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

func main() {
	var o binaries.Options
	flag.StringVar(&o.Kubernetes, "kubernetes", "", "the minor version of Kubernetes, such as 1.36; empty for the one that the tests are compiled against")
	exec := flag.Bool("exec", false, "run the last program when all are built")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: binaries [-kubernetes MINOR] [-exec] [PROGRAM...]\nPROGRAM is one of %v; what make test needs by default.\n", binaries.All())
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(o, *exec, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "binaries:", err)
		os.Exit(1)
	}
}

func run(o binaries.Options, exec bool, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var names []binaries.Name
	for _, a := range args {
		names = append(names, binaries.Name(a))
	}
	if len(names) == 0 {
		names = binaries.ForTests()
	}
	programs, err := binaries.Ensure(ctx, o, names...)
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	if err != nil {
		return err
	}
	if exec {
		stop()
		file := programs.Path(names[len(names)-1])
		return syscall.Exec(file, []string{file}, os.Environ())
	}
	for _, n := range names {
		fmt.Println(programs.Path(n))
	}
	return nil
}
