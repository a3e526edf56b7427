// Package periodic is for work that a controller does again and again until its context ends, whether it succeeds or not:
//
//	for {
//		err := reconcile(ctx)
//		reporter.Report(ctx, err, "Reconciling")
//		if !periodic.Sleep(ctx, interval) {
//			return
//		}
//	}
//
// An ErrorReporter logs a failure once, however often it repeats. A Trigger starts the next round before its time.
package periodic

import (
	"context"
	"errors"
	"time"

	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
)

// Sleep waits, and reports false if ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Trigger is a channel that receives once after any number of calls of Fire.
type Trigger chan struct{}

// NewTrigger returns a Trigger that has not been fired.
func NewTrigger() Trigger { return make(Trigger, 1) }

// Fire wakes the one that receives from t, now or when it receives next.
func (t Trigger) Fire() {
	select {
	case t <- struct{}{}:
	default:
	}
}

// ErrorReporter logs an error when it begins, when it changes, and when it is over. The zero value is ready to use.
type ErrorReporter struct{ last string }

// Report logs err, if it is not the one that was logged last; nil is success. Secret paths in its text are redacted.
func (r *ErrorReporter) Report(ctx context.Context, err error, message string, keysAndValues ...any) {
	log := logf.FromContext(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil && err.Error() != r.last:
		r.last = err.Error()
		log.Error(errors.New(certificate.Redacted(r.last)), message, keysAndValues...)
	case err == nil && r.last != "":
		r.last = ""
		log.Info(message+" works again", keysAndValues...)
	}
}
