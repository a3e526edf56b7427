package redteam

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// callerFile is a file for --admission-control-config-file, as docs/security.md has it.
const callerFile = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ValidatingAdmissionWebhook
  configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: %[1]s}
- name: MutatingAdmissionWebhook
  configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: %[1]s}
`

// TestClientCertificate: with --client-ca-file and --client-names the API server is answered, and nobody who lacks its certificate.
func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, data, 0o600))
		return file
	}
	ours, others := newAuthority(t), newAuthority(t)
	certificate, key := ours.client(t, "kube-apiserver")
	kubeconfig := filepath.Join(dir, "kubeconfig")
	must(t, controlplane.WriteKubeconfig(kubeconfig, &rest.Config{Host: "https://localhost", TLSClientConfig: rest.TLSClientConfig{CertData: certificate, KeyData: key}}, ""))
	text, err := os.ReadFile(kubeconfig)
	must(t, err)
	// Users are named by the host that the webhook is at; "*" is any.
	must(t, os.WriteFile(kubeconfig, []byte(strings.ReplaceAll(string(text), "portcullis-test", `"*"`)), 0o600))
	r := rig.Run(t, rig.Options{
		ControlPlane: controlplane.Options{APIServerFlags: []string{"--admission-control-config-file=" + write("admission.yaml", fmt.Appendf(nil, callerFile, kubeconfig))}},
		Flags:        []string{"--client-ca-file=" + write("ca.crt", ours.pem), "--client-names=kube-apiserver"},
	})
	admin := newClient(t, r.RESTConfig(), "")
	must(t, admin.Create(t.Context(), objects.One(t, "default", objects.Service("s", "type: NodePort, ports: [{port: 80, nodePort: 30800}]"))))
	err = admin.Create(t.Context(), objects.One(t, "default", pod("p", "", "hostPort: 30800")), client.DryRunAll)
	if got, want := finding.Answer(err), "422 Invalid PC0201 Service default/s"; got != want {
		t.Errorf("through the API server: %s, want %s", got, want)
	}
	ask := func(from authority, name string) string {
		config := &tls.Config{RootCAs: roots(r.Webhook)}
		if name != "" {
			certificate, key := from.client(t, name)
			pair, err := tls.X509KeyPair(certificate, key)
			must(t, err)
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		stranger := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 5 * time.Second}
		answer, err := stranger.Post(r.Webhook.URL()+hooks.PathValidatePods, "application/json", strings.NewReader("{}"))
		if err != nil {
			return "refused"
		}
		answer.Body.Close()
		return answer.Status
	}
	for _, c := range []struct {
		who, want string
		from      authority
		name      string
	}{
		{"who has the API server's certificate", "200 OK", ours, "kube-apiserver"},
		{"who has none", "refused", ours, ""},
		{"who has one of another name", "refused", ours, "somebody"},
		{"who has one of another authority", "refused", others, "kube-apiserver"},
	} {
		if got := ask(c.from, c.name); got != c.want {
			t.Errorf("%s: %s, want %s", c.who, got, c.want)
		}
	}
}

// authority signs client certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	a := authority{key: key, certificate: &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "ca"}}}
	der := a.sign(t, a.certificate, key)
	a.certificate, err = x509.ParseCertificate(der)
	must(t, err)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func (a authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(t, err)
	return der
}

// client returns a client certificate and its key, in PEM.
func (a authority) client(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, private)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// TestMirrorPods: the API server's image of a static pod, which a node makes, is not refused, whatever a policy says, and holds its
// ports.
func TestMirrorPods(t *testing.T) {
	w := newWorld(t)
	config := w.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:node:n1", Groups: []string{"system:nodes", "system:masters", "system:authenticated"}}
	node := newClient(t, config, "")
	forbidding, other := w.place(t, noPorts()), w.place(t, nil)
	if err := forbidding.keep(node, forbidding.object(with("annotations: {kubernetes.io/config.mirror: x}", pod("mirror", "nodeName: n1, ", "hostPort: 30850")))); err != nil {
		t.Fatalf("a node's mirror pod: %v", err)
	}
	if got := finding.Answer(forbidding.keep(node, forbidding.object(pod("plain", "nodeName: n1, ", "hostPort: 30851")))); got != noHostPort {
		t.Errorf("another pod of the node's: %s, want %s", got, noHostPort)
	}
	want := "422 Invalid PC0201 Pod " + forbidding.Namespace + "/mirror"
	poll.Until(t, func(context.Context) error { // the watch shows it
		if got := finding.Answer(other.tenant.Create(t.Context(), other.object(service("type: NodePort, ports: [{port: 80, nodePort: 30850}]")), client.DryRunAll)); got != want {
			return fmt.Errorf("its port: %s, want %s", got, want)
		}
		return nil
	})
}
