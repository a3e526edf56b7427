// Package poll waits for what a test has caused. It asks again and again, and when the time is over it reports what it
// saw last, not merely that it waited.
package poll

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

const (
	// Limit is how long Until waits. A test that passes waits for a fraction of it, also on a busy machine.
	Limit = 2 * time.Minute

	// The time between two questions begins with interval, as most of what tests wait for takes milliseconds, and grows to
	// maxInterval: what takes seconds is not there sooner for being asked for, and whoever is asked has other work to do.
	interval    = 10 * time.Millisecond
	maxInterval = 150 * time.Millisecond
)

// Until calls ask until it returns nil. It ends the test with ask's last error when that takes longer than Limit.
func Until(tb testing.TB, ask func(context.Context) error) {
	tb.Helper()
	Within(tb, Limit, ask)
}

// Within is Until with a limit of its own.
func Within(tb testing.TB, limit time.Duration, ask func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	defer cancel()
	if err := Wait(ctx, ask); err != nil {
		tb.Fatalf("waited up to %s: %v", limit, err)
	}
}

// UntilTrue is Until for a condition that is either met or not; what says which condition.
func UntilTrue(tb testing.TB, what string, isMet func() bool) {
	tb.Helper()
	Until(tb, func(context.Context) error {
		if !isMet() {
			return fmt.Errorf("not yet: %s", what)
		}
		return nil
	})
}

// Wait calls ask until it returns nil, or the context ends. The error then has the context's, and the last one that ask
// returned while the context was alive: after that ask can only say that it was interrupted.
func Wait(ctx context.Context, ask func(context.Context) error) error {
	var last error
	for pause := interval; ; pause = min(pause+pause/4, maxInterval) {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-time.After(pause):
		}
	}
}
