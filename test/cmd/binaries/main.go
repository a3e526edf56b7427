// Command binaries builds the programs that the tests run, unless the cache has them, and prints the folder that
// holds them. Its arguments are the programs wanted; without any it builds all of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/portcullis-k8s/portcullis/test/binaries"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: binaries [PROGRAM...]\nPROGRAM is one of %v; all of them by default.\n", binaries.All())
	}
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var names []binaries.Name
	for _, a := range args {
		names = append(names, binaries.Name(a))
	}
	dir, err := binaries.Ensure(ctx, os.Stderr, names...)
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	if err != nil {
		return err
	}
	if len(args) == 0 {
		if _, err := binaries.EnsureHelm(ctx, os.Stderr); err != nil {
			return err
		}
	}
	fmt.Println(dir)
	return nil
}
