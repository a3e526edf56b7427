// Command empty is an admission webhook made with the library that Portcullis is made with, which allows everything: the
// most that a webhook could do. It looks at nothing, or with -decode at the object as the library does, and at nothing in it:
// the most that a webhook could do which has a reason to be asked.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net/http"
	"os"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
)

func main() {
	certDir := flag.String("cert-dir", "", "folder of tls.crt and tls.key")
	port := flag.Int("port", 0, "port of 127.0.0.1")
	decode := flag.Bool("decode", false, "decode the object of each review")
	flag.Parse()
	logf.SetLogger(logr.Discard())
	server := webhook.NewServer(webhook.Options{
		Host: "127.0.0.1", Port: *port, CertDir: *certDir,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }}, // as serve
	})
	decoder := admission.NewDecoder(scheme.Scheme)
	for _, path := range []string{hooks.PathMutatePods, hooks.PathValidatePods, hooks.PathMutateServices, hooks.PathValidateServices} {
		server.Register(path, &admission.Webhook{Handler: admission.HandlerFunc(func(_ context.Context, req admission.Request) admission.Response {
			if *decode {
				if err := read(decoder, req); err != nil {
					return admission.Errored(http.StatusBadRequest, err)
				}
			}
			return admission.Allowed("")
		})})
	}
	if err := server.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "empty:", err)
		os.Exit(1)
	}
}

func read(decoder admission.Decoder, req admission.Request) error {
	if req.Kind.Kind == "Pod" {
		return decoder.DecodeRaw(req.Object, &corev1.Pod{})
	}
	return decoder.DecodeRaw(req.Object, &corev1.Service{})
}
