// Package transparency holds the webhook to its promise: what is taken is refused, what is free passes, and the API server
// otherwise behaves as if the webhook were not there. Everyday sequences are written out; a random history machine drives
// an API server behind the webhook and a plain one with the same requests.
package transparency

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	os.Exit(m.Run())
}
