package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/certificate"
)

// TestWhoMayAsk talks TLS with what the flags configure.
func TestWhoMayAsk(t *testing.T) {
	dir := t.TempDir()
	ours, ca := newClient(t, "kube-apiserver", true)
	other, _ := newClient(t, "somebody", true)
	file := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		options servingOptions
		client  *tls.Certificate
		version uint16
		want    string // in the error; "" for none
	}{
		{"anybody", servingOptions{minVersion: "1.2"}, nil, tls.VersionTLS12, ""},
		{"old TLS", servingOptions{minVersion: "1.2"}, nil, tls.VersionTLS11, "protocol version"},
		{"1.3 wanted, 1.2 spoken", servingOptions{minVersion: "1.3"}, nil, tls.VersionTLS12, "protocol version"},
		{"1.3 wanted, 1.3 spoken", servingOptions{minVersion: "1.3"}, nil, tls.VersionTLS13, ""},
		{"no certificate", servingOptions{minVersion: "1.2", clientCA: file}, nil, tls.VersionTLS13, "certificate required"},
		{"the API server's", servingOptions{minVersion: "1.2", clientCA: file}, ours, tls.VersionTLS13, ""},
		{"another's", servingOptions{minVersion: "1.2", clientCA: file}, other, tls.VersionTLS12, "bad certificate|unknown certificate"},
		{"the right name", servingOptions{minVersion: "1.2", clientCA: file, clientNames: []string{"a", "kube-apiserver"}}, ours, tls.VersionTLS13, ""},
		{"the wrong name", servingOptions{minVersion: "1.2", clientCA: file, clientNames: []string{"a"}}, ours, tls.VersionTLS13, "bad certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.options.talk(t, c.client, c.version)
			if (err == nil) != (c.want == "") {
				t.Fatalf("%v, want %q", err, c.want)
			}
			matches := false
			for want := range strings.SplitSeq(c.want, "|") {
				matches = matches || err == nil || strings.Contains(err.Error(), want)
			}
			if !matches {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// talk asks a server that is configured by the options once.
func (o servingOptions) talk(t *testing.T, client *tls.Certificate, version uint16) error {
	t.Helper()
	store, err := certificate.NewStore(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := store.Current.Issue(time.Now(), time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	configure, err := o.configure(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving, nil })
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("HTTP/%d", r.ProtoMajor)
		}
	}))
	config := &tls.Config{}
	configure(config)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close()
	server.Listener = listener
	server.Config.ErrorLog = nil
	server.Start()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(store.Bundle())
	asking := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: version}
	if client != nil {
		asking.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil }
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: asking, ForceAttemptHTTP2: true}}).Get("https://" + listener.Addr().String())
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// newClient makes a client certificate that is an authority of its own.
func newClient(t *testing.T, name string, isCA bool) (*tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestLimited: no more requests are worked on at once than there is room for, and none is lost.
func TestLimited(t *testing.T) {
	const room, requests = 3, 50
	var now, most, done atomic.Int64
	handlers := limited(make(chan struct{}, room), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
		done.Add(1)
	}))
	over := make(chan struct{})
	for range requests {
		go func() {
			handlers.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil))
			over <- struct{}{}
		}()
	}
	for range requests {
		<-over
	}
	if most.Load() != room || done.Load() != requests {
		t.Errorf("%d at once, %d done", most.Load(), done.Load())
	}

	full := make(chan struct{}, 1)
	full <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // who asked has given up
	limited(full, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("worked on without room") })).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil))
}

// TestServingFlags: what cannot be meant is said before anything starts.
func TestServingFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"--ca-lifetime 1s":               "--ca-lifetime",
		"--certificate-lifetime 5s":      "--certificate-lifetime",
		"--tls-min-version 1.1":          "--tls-min-version 1.1: 1.2 or 1.3",
		"--client-names a":               "--client-ca-file",
		"--secret-path --cert-dir /tls":  "--secret-path cannot be combined with --cert-dir",
		"--max-requests 0":               "--max-requests 0: at least 1",
		"--kubeconfig /nowhere/to/be/it": "/nowhere/to/be/it",
	} {
		cmd := Command("development")
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(flags))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flags, err, want)
		}
	}
}

// TestAnswers: a port that nobody serves, and one that somebody else serves, are not ours.
func TestAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	defer stranger.Close()
	closed := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	for _, c := range []struct {
		name string
		port int
		ok   bool
	}{
		{"nobody", closed, false},
		{"with files it is not known whose certificate is the right one", stranger.Listener.Addr().(*net.TCPAddr).Port, true},
	} {
		o := servingOptions{host: "127.0.0.1", port: c.port}
		if err := o.answers(nil)(t.Context()); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
