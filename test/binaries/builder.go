package binaries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// builder fills one folder.
type builder struct {
	dir      Dir
	programs []Name // what it can hold, in the order in which it is built
	progress *progress
	compile  func(ctx context.Context, n Name, file string) error
}

// ensure makes sure that every named program is in the folder.
func (b builder) ensure(ctx context.Context, names []Name) error {
	for _, n := range names {
		if !slices.Contains(b.programs, n) {
			return fmt.Errorf("no program is called %q: there are %v", n, b.programs)
		}
	}
	if len(b.missing(names)) == 0 {
		return nil
	}
	if err := os.MkdirAll(string(b.dir), 0o755); err != nil {
		return err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Asked again under the lock: whoever held it before has built some.
	for _, n := range b.missing(names) {
		if err := b.build(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// missing returns those of the programs that are not in the folder, in the order in which they are built.
func (b builder) missing(names []Name) []Name {
	var missing []Name
	for _, n := range b.programs {
		if !slices.Contains(names, n) {
			continue
		}
		if _, err := os.Stat(b.dir.Path(n)); err != nil {
			missing = append(missing, n)
		}
	}
	return missing
}

// build compiles one program under another name and renames it when it is whole: a program that is in the folder is
// complete.
func (b builder) build(ctx context.Context, n Name) error {
	temporary := b.dir.Path(n + ".new")
	defer os.Remove(temporary)
	done := b.progress.start("building "+string(n), usually(n)+", into "+string(b.dir))
	err := b.compile(ctx, n, temporary)
	done(err)
	if err != nil {
		return err
	}
	return os.Rename(temporary, b.dir.Path(n))
}

// lock waits until no other process builds into the folder. The kernel drops the lock of a process that dies.
func (b builder) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(b.dir.Path("lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	var waited func(error)
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			break
		}
		if waited == nil {
			waited = b.progress.start("waiting for another process that builds", "into "+string(b.dir))
		}
		select {
		case <-ctx.Done():
			err = fmt.Errorf("waiting for another process that builds into %s: %w", b.dir, ctx.Err())
			waited(err)
			f.Close()
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
	}
	if waited != nil {
		waited(err)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// usually says how long a build takes on a small machine that has compiled nothing yet.
func usually(n Name) string {
	switch n {
	case KubeAPIServer:
		return "about 5 minutes on two cores if nothing is compiled yet"
	case Helm:
		return "about 3 minutes on two cores if nothing is compiled yet"
	default:
		return "up to a minute"
	}
}
