package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// servingCertificate asks each replica that can be reached for its certificate.
func (d *installation) servingCertificate(ctx context.Context) []report.DoctorCheck {
	const name = "serving certificate"
	ours, _, _, err := d.hooks(ctx)
	if err != nil || len(ours) == 0 {
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "there is no webhook configuration to compare it with"}}
	}
	targets, serverName := d.targets(ctx, ours[0])
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ours[0].client.CABundle)
	var wrong []string
	reached := 0
	var ends time.Time
	for _, target := range targets {
		leaf, err := leafOf(ctx, target, serverName)
		if err != nil {
			continue
		}
		reached++
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: serverName, CurrentTime: d.now}); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", target, err))
		}
		if ends.IsZero() || leaf.NotAfter.Before(ends) {
			ends = leaf.NotAfter
		}
	}
	switch {
	case len(wrong) > 0:
		return []report.DoctorCheck{broken(name, fmt.Sprintf("kubectl -n %s rollout restart deployment/%s, and look at its log", d.installedIn, d.service),
			"the API server does not trust %s", strings.Join(wrong, "; "))}
	case reached == 0:
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "no replica can be reached from here; the end-to-end check asks through the API server"}}
	case d.now.Add(time.Hour).After(ends):
		return []report.DoctorCheck{warned(name, "look at the log of the webhook, which renews it", "it ends at %s and should have been renewed by now", ends.UTC().Format(time.RFC3339))}
	}
	return []report.DoctorCheck{well(name, "of %d replicas that can be reached it is trusted, until %s", reached, ends.UTC().Format(time.RFC3339))}
}

// targets are where replicas listen, and the name by which the API server asks for them.
func (d *installation) targets(ctx context.Context, h hook) (addresses []string, serverName string) {
	if h.client.Service == nil {
		u, err := url.Parse(valueOr(h.client.URL, ""))
		if err != nil || u.Host == "" {
			return nil, ""
		}
		port := u.Port()
		if port == "" {
			port = "443"
		}
		return []string{net.JoinHostPort(u.Hostname(), port)}, u.Hostname()
	}
	slicesOf, err := d.DiscoveryV1().EndpointSlices(d.installedIn).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + d.service})
	if err == nil {
		for _, s := range slicesOf.Items {
			for _, e := range s.Endpoints {
				for _, p := range s.Ports {
					const most = 5
					if len(e.Addresses) > 0 && p.Port != nil && valueOr(e.Conditions.Ready, true) && len(addresses) < most {
						addresses = append(addresses, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
					}
				}
			}
		}
	}
	return addresses, h.client.Service.Name + "." + h.client.Service.Namespace + ".svc"
}

// leafOf returns the certificate that is served at an address. It is judged by who asked.
func leafOf(ctx context.Context, address, serverName string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var leaf *x509.Certificate
	config := &tls.Config{ServerName: serverName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, // verified by the caller, whatever it is
		VerifyConnection: func(s tls.ConnectionState) error {
			leaf = s.PeerCertificates[0]
			return nil
		}}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if conn != nil {
		_ = conn.Close()
	}
	if leaf != nil {
		return leaf, nil // a replica that wants a certificate of its client shows its own before
	}
	return nil, err
}

// authority looks at the Secret in which the webhook keeps its own certificate authority.
func (d *installation) authority(ctx context.Context) []report.DoctorCheck {
	const name, secret = "certificate authority", "portcullis-ca"
	fix := fmt.Sprintf("kubectl -n %s delete secret %s: the webhook makes another, and replaces the caBundle", d.installedIn, secret)
	s, err := d.CoreV1().Secrets(d.installedIn).Get(ctx, secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return []report.DoctorCheck{{Name: name, Status: report.DoctorNotChecked, Message: "there is no Secret " + secret + ": certificates come from elsewhere (--cert-dir), or no replica has run yet"}}
	}
	if err != nil {
		return unread(name, "Secret "+d.installedIn+"/"+secret, err)
	}
	all, err := certificates(s.Data["tls.crt"])
	if err != nil {
		return []report.DoctorCheck{broken(name, fix, "tls.crt of Secret %s is %v", secret, err)}
	}
	if ends := all[0].NotAfter; d.now.Add(soon).After(ends) {
		return []report.DoctorCheck{broken(name, fix, "the authority in Secret %s ends at %s and was not replaced", secret, ends.UTC().Format(time.RFC3339))}
	}
	ours, _, _, err := d.hooks(ctx)
	if err == nil && len(ours) > 0 && !strings.Contains(string(ours[0].client.CABundle), strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: all[0].Raw})))) {
		return []report.DoctorCheck{broken(name, "look at the log of the leader, which writes the caBundle", "the authority of Secret %s is not in the caBundle, so that the API server trusts no replica", secret)}
	}
	return []report.DoctorCheck{well(name, "until %s, and in the caBundle", all[0].NotAfter.UTC().Format(time.RFC3339))}
}

func certificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("no certificate")
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return all, nil
}
