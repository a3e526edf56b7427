package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/observe"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/scheduling"
)

// What a scheduler may ask: with nodeCacheCapable it sends a pod and the names of nodes, else all of 5,000 nodes.
const (
	maxQuestion      = 64 << 20
	maxQuestions     = 192 << 20
	extenderRequests = 16
)

// extenderOptions are the flags of serve that are about the extender for schedulers. Whoever may ask it may say that a pod is
// about to be on a node, which keeps others from it: it answers nobody without a certificate.
type extenderOptions struct {
	host  string
	port  int
	ca    string
	names []string
}

func (o *extenderOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.port, "extender-port", 0, "port to answer schedulers on, as an extender; 0 for none")
	f.StringVar(&o.host, "extender-host", "", "address to answer schedulers on; empty for all")
	f.StringVar(&o.ca, "extender-client-ca-file", "", "file of the authorities that a scheduler's client certificate must be of, PEM: for kube-scheduler's own those of the cluster")
	f.StringSliceVar(&o.names, "extender-client-names", []string{"system:kube-scheduler"}, "common names of which the client certificate must have one; empty: any of --extender-client-ca-file will do")
}

// validate reports what cannot be meant.
func (o *extenderOptions) validate() error {
	if o.port != 0 && o.ca == "" {
		return errors.New("--extender-port: say with --extender-client-ca-file who may ask")
	}
	return nil
}

// observed is the cluster as an extender sees it.
type observed struct{ *observe.Observer }

// UID returns that of an object as the API server has it at this moment; "": there is none.
func (o observed) UID(ctx context.Context, ref ports.Ref) (types.UID, error) {
	seen, err := o.Read(ctx, ref)
	if err != nil || seen == nil {
		return "", err
	}
	return seen.UID, nil
}

// server returns what answers schedulers; nil if nobody asks for it.
func (o *extenderOptions) server(observer *observe.Observer, settings *extract.Settings, counts *scheduling.ExtenderMetrics, refused *prometheus.CounterVec, minVersion string, from source) (*manager.Server, error) {
	if o.port == 0 {
		return nil, nil
	}
	clients := servingOptions{minVersion: minVersion, clientCA: o.ca, clientNames: o.names, prefix: "extender-"}
	configure, err := clients.configure(from)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	configure(config)
	listener, err := tls.Listen("tcp", net.JoinHostPort(o.host, strconv.Itoa(o.port)), config)
	if err != nil {
		return nil, err
	}
	questions := newReception(extenderRequests, maxQuestion, maxQuestions, refused)
	mux := http.NewServeMux()
	for path, handler := range scheduling.NewExtender(observed{observer}, settings, counts, time.Now).Handlers() {
		mux.Handle(path, questions.before(handler))
	}
	return &manager.Server{Name: "extender", Server: &http.Server{Handler: mux, ReadHeaderTimeout: readTime}, Listener: listener}, nil
}
