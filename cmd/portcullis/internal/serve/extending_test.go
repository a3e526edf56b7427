package serve

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/certificate"
	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/webhook"
)

// TestExtenderFlags: there is no extender unless it is asked for, none without authorities, and it answers nobody who has no
// certificate of them with one of the names.
func TestExtenderFlags(t *testing.T) {
	cmd, o := Command("development"), extenderOptions{}
	o.addTo(&cobra.Command{})
	if port, err := cmd.Flags().GetInt("extender-port"); port != 0 || err != nil || o.validate() != nil {
		t.Errorf("by default: port %d, %v", port, err)
	}
	if err := (&extenderOptions{port: 1}).validate(); err == nil || !strings.Contains(err.Error(), "--extender-client-ca-file") {
		t.Errorf("without authorities: %v", err)
	}
	scheduler, ca := newClient(t, "system:kube-scheduler", true)
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := certificate.NewStore(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := store.Current.Issue(time.Now(), time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(store.Bundle())
	settings, err := cli.ReadSettings("")
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := newClient(t, "system:kube-scheduler", true)
	for _, c := range []struct {
		name   string
		names  []string
		client *tls.Certificate
		want   string
	}{
		{"the scheduler's", o.names, scheduler, "405 Method Not Allowed"}, // it reads POST only
		{"none", o.names, nil, "refused"},
		{"of another authority", o.names, stranger, "refused"},
		{"of another name", []string{"somebody"}, scheduler, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			port := free.Addr().(*net.TCPAddr).Port
			free.Close()
			registry := prometheus.NewRegistry()
			e := extenderOptions{host: "127.0.0.1", port: port, ca: file, names: c.names}
			server, err := e.server(nil, settings, scheduling.NewExtenderMetrics(registry), webhook.NewRefusedMetric(registry), "1.2", func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving, nil })
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Server.Serve(server.Listener) }()
			defer server.Server.Close()
			asking := &tls.Config{RootCAs: roots}
			if c.client != nil {
				asking.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.client, nil }
			}
			got := "refused"
			if answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: asking}}).Get("https://" + server.Listener.Addr().String() + "/scheduler/filter"); err == nil {
				got = answer.Status
				answer.Body.Close()
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
