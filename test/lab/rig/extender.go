package rig

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
)

// Extender is what a replica needs to answer schedulers, and a scheduler to ask it.
type Extender struct {
	Flags []string // of the webhook
	URL   string
	// Files of the scheduler's certificate, as the cluster's authority has signed it, and its key.
	CertFile, KeyFile string
	Certificate       tls.Certificate
}

// NewExtender reserves a port for a replica that is to answer schedulers.
func (r *Rig) NewExtender(tb testing.TB) Extender {
	tb.Helper()
	port, release, err := controlplane.ReservePort()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	scheduler, err := r.RESTConfigFor("system:kube-scheduler")
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			tb.Fatal(err)
		}
		return file
	}
	e := Extender{
		Flags: []string{"--extender-port=" + strconv.Itoa(port), "--extender-host=127.0.0.1", "--extender-client-ca-file=" + write("cluster.crt", scheduler.CAData)},
		URL:   fmt.Sprintf("https://127.0.0.1:%d", port), CertFile: write("tls.crt", scheduler.CertData), KeyFile: write("tls.key", scheduler.KeyData),
	}
	if e.Certificate, err = tls.X509KeyPair(scheduler.CertData, scheduler.KeyData); err != nil {
		tb.Fatal(err)
	}
	return e
}
