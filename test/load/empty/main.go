// Command empty is an admission webhook made with the library that Portcullis is made with, which looks at nothing and
// allows everything: the most that a webhook could do.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	portcullis "github.com/portcullis-k8s/portcullis/webhook"
)

func main() {
	certDir := flag.String("cert-dir", "", "folder of tls.crt and tls.key")
	port := flag.Int("port", 0, "port of 127.0.0.1")
	flag.Parse()
	logf.SetLogger(logr.Discard())
	server := webhook.NewServer(webhook.Options{
		Host: "127.0.0.1", Port: *port, CertDir: *certDir,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }}, // as serve
	})
	for _, path := range []string{portcullis.PathMutatePods, portcullis.PathValidatePods, portcullis.PathMutateServices, portcullis.PathValidateServices} {
		server.Register(path, &admission.Webhook{Handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response {
			return admission.Allowed("")
		})})
	}
	if err := server.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "empty:", err)
		os.Exit(1)
	}
}
