// Package transparency holds the webhook to its promise: what is taken is refused, what is free passes, and the API server
// otherwise behaves as if the webhook were not there. Everyday sequences are written out; a random history machine drives
// an API server behind the webhook and a plain one with the same requests.
package transparency

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	os.Exit(m.Run())
}

var codes = regexp.MustCompile(`PC\d{4}`)

// answer is what a client gets, as tests write it: "ok", "409 AlreadyExists", "422 Invalid PC0201 Service team/a".
func answer(err error) string {
	if err == nil {
		return "ok"
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err.Error()
	}
	s := status.Status()
	text := fmt.Sprintf("%d %s", s.Code, s.Reason)
	if code := codes.FindString(s.Message); code != "" {
		text += " " + code
		if holder := holders.FindString(s.Message); holder != "" {
			text += " " + holder
		}
	}
	return text
}

var holders = regexp.MustCompile(`\b(Service|Pod|Deployment|DaemonSet|StatefulSet|ReplicaSet|Job) [a-z0-9-]+/[a-z0-9.-]+`)
