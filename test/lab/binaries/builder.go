package binaries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

// builder fills one folder with programs.
type builder struct {
	dir      string
	isTree   bool   // what is in the folder may be older than its source
	programs []Name // what is wanted
	progress *progress
	// compile builds programs into a folder; it may print what it has done so far.
	compile func(ctx context.Context, dir string, names []Name, p *progress) error
}

func (b builder) path(n Name) string { return filepath.Join(b.dir, string(n)) }

// ensure makes sure that every wanted program is in the folder.
func (b builder) ensure(ctx context.Context) error {
	if !b.isTree && len(b.missing()) == 0 {
		return nil
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if b.isTree {
		// What is up to date is left alone; else there is a new file, so that whoever runs the old one is not disturbed.
		return b.compile(ctx, b.dir, b.programs, b.progress)
	}
	return b.build(ctx, b.missing()) // asked again under the lock: whoever held it before has built some
}

// missing returns those of the programs that are not in the folder.
func (b builder) missing() []Name {
	return slices.DeleteFunc(slices.Clone(b.programs), func(n Name) bool {
		_, err := os.Stat(b.path(n))
		return err == nil
	})
}

// build compiles programs in a folder beside, and renames them when all are whole: a program that is in the folder is
// complete.
func (b builder) build(ctx context.Context, names []Name) error {
	if len(names) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp(b.dir, "building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.compile(ctx, dir, names, b.progress); err != nil {
		return err
	}
	for _, n := range names {
		if err := os.Rename(filepath.Join(dir, string(n)), b.path(n)); err != nil {
			return err
		}
	}
	return nil
}

// lock waits until no other process builds into the folder. The kernel drops the lock of a process that dies.
func (b builder) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	var other error
	done := b.progress.start("waiting for another process that builds into "+b.dir, nil)
	err = poll.Wait(ctx, func(context.Context) error {
		other = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(other, syscall.EWOULDBLOCK) || errors.Is(other, syscall.EINTR) {
			return other
		}
		return nil
	})
	err = errors.Join(err, other)
	done(err)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("waiting for another process that builds into %s: %w", b.dir, err)
	}
	return func() { f.Close() }, nil
}
