package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/client"

	certs "github.com/portcullis-k8s/portcullis/pkg/controller/certificates"
)

// secretName is where self-made certificates have their authority.
const secretName = "portcullis-ca"

// servingOptions are the flags of serve that are about its certificate, and who may ask it how much.
type servingOptions struct {
	host              string
	port              int
	certDir           string
	service           string
	names             []string
	authorityLifetime time.Duration
	lifetime          time.Duration
	minVersion        string
	clientCA          string
	clientNames       []string
	secretPath        bool
	maxRequests       int
	prefix            string // of the flags about clients
}

func (o *servingOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "", "address to serve the webhook on; empty for all")
	f.IntVar(&o.port, "port", 9443, "port to serve the webhook on")
	f.StringVar(&o.certDir, "cert-dir", "", "folder of tls.crt and tls.key, which are read again when they change; without it the program makes its own, of an authority in the Secret "+secretName+", and writes caBundle into the webhook configurations")
	f.StringVar(&o.service, "service", "portcullis", "the Service in front of all replicas")
	f.StringSliceVar(&o.names, "certificate-names", nil, "more DNS names and addresses for the self-made certificate, where the API server reaches the webhook at a URL")
	f.DurationVar(&o.authorityLifetime, "ca-lifetime", 365*24*time.Hour, "how long a self-made authority lasts; its successor is made in the last third")
	f.DurationVar(&o.lifetime, "certificate-lifetime", 7*24*time.Hour, "how long a self-made certificate lasts; it is replaced in the last third")
	f.StringVar(&o.minVersion, "tls-min-version", "1.2", "oldest version of TLS to speak: 1.2 or 1.3")
	f.StringVar(&o.clientCA, "client-ca-file", "", "file of the authorities that the API server's client certificate must be of, PEM; without it anybody may ask")
	f.StringSliceVar(&o.clientNames, "client-names", nil, "common names of which the client certificate must have one; without it any of --client-ca-file will do")
	f.BoolVar(&o.secretPath, "secret-path", false, "serve the hooks below a secret path only, which the leader writes into the webhook configurations, and replaces when another authority signs; not with --cert-dir")
	f.IntVar(&o.maxRequests, "max-requests", 256, "how many reviews to work on at once; more wait")
}

// validate reports what cannot be meant.
func (o *servingOptions) validate() error {
	const shortest = 10 * time.Second
	switch {
	case o.authorityLifetime < shortest || o.lifetime < shortest:
		return fmt.Errorf("--ca-lifetime and --certificate-lifetime: at least %s, as replacing one takes seconds", shortest)
	case o.minVersion != "1.2" && o.minVersion != "1.3":
		return fmt.Errorf("--tls-min-version %s: 1.2 or 1.3", o.minVersion)
	case len(o.clientNames) > 0 && o.clientCA == "":
		return errors.New("--client-names asks for a certificate: name its authorities with --client-ca-file")
	case o.secretPath && o.certDir != "":
		return errors.New("--secret-path cannot be combined with --cert-dir: the path is kept beside the self-made authority, in the Secret " + secretName)
	case o.maxRequests < 1:
		return fmt.Errorf("--max-requests %d: at least 1", o.maxRequests)
	}
	return nil
}

// certificates returns the keeper of self-made certificates; nil if there are files.
func (o *servingOptions) certificates(manager ctrl.Manager, namespace string, expiry *prometheus.GaugeVec) *certs.Controller {
	if o.certDir != "" {
		return nil
	}
	host := o.service + "." + namespace + ".svc"
	return &certs.Controller{
		Reader: manager.GetAPIReader(), Writer: manager.GetClient(),
		Secret: client.ObjectKey{Namespace: namespace, Name: secretName}, Configuration: configurationName,
		Names:             append([]string{host, host + ".cluster.local"}, o.names...),
		AuthorityLifetime: o.authorityLifetime, Lifetime: o.lifetime, Expiry: expiry, Now: time.Now,
		SecretPath: o.secretPath, Service: client.ObjectKey{Namespace: namespace, Name: o.service},
		Replica: []string{os.Getenv("POD_NAME"), os.Getenv("POD_IP")},
	}
}

// segments returns which segments of paths are accepted: none with files, where nobody writes any.
func (o *servingOptions) segments(certificates *certs.Controller) func(segment string) bool {
	if certificates == nil {
		return func(segment string) bool { return segment == "" }
	}
	return certificates.Accepts
}

// source is where the certificate comes from.
type source func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// files returns a source that follows --cert-dir, and adds what does so to the manager.
func (o *servingOptions) files(manager ctrl.Manager, expiry *prometheus.GaugeVec) (source, error) {
	watcher, err := certwatcher.New(filepath.Join(o.certDir, "tls.crt"), filepath.Join(o.certDir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("the certificate in --cert-dir: %w", err)
	}
	watcher.RegisterCallback(func(c tls.Certificate) {
		if c.Leaf != nil {
			expiry.WithLabelValues("serving").Set(float64(c.Leaf.NotAfter.Unix()))
		}
	})
	return watcher.GetCertificate, manager.Add(watcher)
}

// configure sets what the server speaks, and with whom.
func (o *servingOptions) configure(from source) (func(*tls.Config), error) {
	var clients *x509.CertPool
	if o.clientCA != "" {
		var err error
		if clients, err = authorities(o.clientCA); err != nil {
			return nil, fmt.Errorf("--%sclient-ca-file%w", o.prefix, err)
		}
	}
	return func(c *tls.Config) {
		c.GetCertificate, c.MinVersion = from, tls.VersionTLS12
		// One connection of HTTP/2 takes all that an API server asks, whichever replicas there are, and when its replica is
		// cut off every request on it waits in vain until a ping has, which is 45 s.
		c.NextProtos = []string{"http/1.1"}
		if o.minVersion == "1.3" {
			c.MinVersion = tls.VersionTLS13
		}
		if clients == nil {
			return
		}
		c.ClientCAs, c.ClientAuth = clients, tls.RequireAndVerifyClientCert
		c.VerifyConnection = o.verifyClient
	}, nil
}

// authorities reads a file of certificates in PEM. The error follows the name of a flag.
func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf(" %s: no certificate in it", file)
	}
	return pool, nil
}

func (o *servingOptions) verifyClient(state tls.ConnectionState) error {
	if len(o.clientNames) == 0 {
		return nil
	}
	got := state.PeerCertificates[0].Subject.CommonName
	if slices.Contains(o.clientNames, got) {
		return nil
	}
	return fmt.Errorf("the client certificate is of %q, which --%sclient-names does not name", got, o.prefix)
}

// answers returns a check that the program's own port answers with the certificate that the API server expects; with
// files it is not known what that expects.
func (o *servingOptions) answers(certificates *certs.Controller) func(context.Context) error {
	host := o.host
	if host == "" {
		host = "localhost"
	}
	at := net.JoinHostPort(host, strconv.Itoa(o.port))
	return func(ctx context.Context) error {
		config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
		if certificates != nil {
			if config.RootCAs = certificates.Roots(); config.RootCAs == nil {
				return errors.New("there is no certificate yet")
			}
			config.InsecureSkipVerify, config.ServerName = false, certificates.Names[0]
		}
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: config}
		conn, err := dialer.DialContext(ctx, "tcp", at)
		if err != nil {
			return fmt.Errorf("its own TLS does not answer: %w", err)
		}
		return conn.Close()
	}
}

// limited has no more requests worked on at once than slots has room for. Those that wait too long are given up by who
// asked, and cost nothing but their connection.
func limited(slots chan struct{}, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			handler.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}
