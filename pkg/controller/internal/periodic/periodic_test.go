package periodic

import (
	"context"
	"errors"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

// TestErrorReporter: a cause is one line, and so is its end; nothing is logged about a context that has ended.
func TestErrorReporter(t *testing.T) {
	var lines []string
	ctx, cancel := context.WithCancel(logf.IntoContext(t.Context(), funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})))
	down, denied := errors.New("down"), errors.New("denied")
	var r ErrorReporter
	for _, err := range []error{nil, down, down, denied, down, nil, nil} {
		r.Report(ctx, err, "Writing", "name", "a")
	}
	cancel()
	r.Report(ctx, denied, "Writing")
	want := []string{
		`"msg"="Writing" "error"="down" "name"="a"`, `"msg"="Writing" "error"="denied" "name"="a"`, `"msg"="Writing" "error"="down" "name"="a"`,
		`"level"=0 "msg"="Writing works again" "name"="a"`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTrigger: fired twice it receives once.
func TestTrigger(t *testing.T) {
	trigger := NewTrigger()
	trigger.Fire()
	trigger.Fire()
	<-trigger
	select {
	case <-trigger:
		t.Error("it receives twice")
	default:
	}
}
