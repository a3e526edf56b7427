package serve

import (
	"crypto/tls"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// metricsOptions are the flags of serve that are about its metrics.
type metricsOptions struct {
	address string
	secure  bool
}

func (o *metricsOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.address, "metrics-address", ":8080", "where to serve metrics; 0 for nowhere")
	f.BoolVar(&o.secure, "metrics-secure", false, "serve metrics over TLS, to those only whom the API server knows and lets get /metrics")
}

// server returns how the manager is to serve the metrics. Secure ones have a certificate that the program signs itself
// at each start: who asks shows a token, and who answers is not proved.
func (o *metricsOptions) server() metricsserver.Options {
	server := metricsserver.Options{BindAddress: o.address}
	if o.secure {
		server.SecureServing, server.FilterProvider = true, filters.WithAuthenticationAndAuthorization
		server.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.MinVersion, c.NextProtos = tls.VersionTLS12, []string{"http/1.1"} }}
	}
	return server
}
