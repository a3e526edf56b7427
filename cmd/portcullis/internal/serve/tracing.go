package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// tracingOptions are the flags of serve that are about traces.
type tracingOptions struct {
	endpoint string
	ca       string
	sampling float64
}

func (o *tracingOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.endpoint, "tracing-endpoint", "", "HOST:PORT of an OpenTelemetry collector that takes spans by OTLP over gRPC; empty for no traces")
	f.StringVar(&o.ca, "tracing-ca-file", "", "file of the authorities that the collector's certificate must be of, PEM; without it spans are sent without TLS")
	f.Float64Var(&o.sampling, "tracing-sampling", 0.01, "share of the reviews to trace where the API server has not decided: 0 to 1")
}

// validate reports what cannot be meant.
func (o *tracingOptions) validate() error {
	switch {
	case !(o.sampling >= 0 && o.sampling <= 1): // so that NaN is refused too
		return fmt.Errorf("--tracing-sampling %v: a share, from 0 to 1", o.sampling)
	case o.ca != "" && o.endpoint == "":
		return errors.New("--tracing-ca-file: name the collector with --tracing-endpoint")
	}
	return nil
}

// tracing sends a span for each admission review to a collector, below that of the API server's call where there is one.
// A nil tracing sends nothing.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   oteltrace.Tracer
}

// start returns what makes spans; nil if they are not asked for. It does not wait for the collector: spans that cannot be
// sent are dropped.
func (o *tracingOptions) start(ctx context.Context, version string, logger logr.Logger) (*tracing, error) {
	if o.endpoint == "" {
		return nil, nil
	}
	security, err := o.security()
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(o.endpoint), security)
	if err != nil {
		return nil, fmt.Errorf("--tracing-endpoint %s: %w", o.endpoint, err)
	}
	// The library knows no other way to tell that spans are lost.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Error(err, "Sending traces") }))
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.sampling))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "portcullis"), attribute.String("service.version", version),
		)),
	)
	return newTracing(provider), nil
}

// security is how the collector proves who it is.
func (o *tracingOptions) security() (otlptracegrpc.Option, error) {
	if o.ca == "" {
		return otlptracegrpc.WithInsecure(), nil
	}
	roots, err := authorities(o.ca)
	if err != nil {
		return nil, fmt.Errorf("--tracing-ca-file%w", err)
	}
	return otlptracegrpc.WithTLSCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})), nil
}

func newTracing(provider *sdktrace.TracerProvider) *tracing {
	return &tracing{provider, provider.Tracer("github.com/portcullis-k8s/portcullis")}
}

// NeedLeaderElection says that every replica traces.
func (t *tracing) NeedLeaderElection() bool { return false }

// Start sends what is left when ctx ends.
func (t *tracing) Start(ctx context.Context) error {
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	// Spans that are lost at the end are nobody's failure.
	_ = t.provider.Shutdown(last)
	return nil
}

// traced serves a hook, with a span for each review. hook is its path or its name.
func (t *tracing) traced(hook string, handler admission.Handler) *admission.Webhook {
	if t == nil {
		return &admission.Webhook{Handler: handler}
	}
	return &admission.Webhook{
		WithContextFunc: func(ctx context.Context, r *http.Request) context.Context {
			return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
		},
		Handler: admission.HandlerFunc(func(ctx context.Context, req admission.Request) admission.Response {
			ctx, span := t.tracer.Start(ctx, hook, oteltrace.WithSpanKind(oteltrace.SpanKindServer))
			defer span.End()
			response := handler.Handle(ctx, req)
			if span.IsRecording() {
				span.SetAttributes(attributes(hook, req, response)...)
			}
			return response
		}),
	}
}

// attributes tell a review and its answer.
func attributes(hook string, req admission.Request, response admission.Response) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("portcullis.hook", hook),
		attribute.String("portcullis.verdict", verdictOf(response)),
		attribute.String("portcullis.codes", response.AuditAnnotations["codes"]),
		attribute.String("portcullis.request_id", string(req.UID)),
		attribute.String("portcullis.operation", string(req.Operation)),
		attribute.Bool("portcullis.dry_run", req.DryRun != nil && *req.DryRun),
		attribute.String("k8s.resource", cmp.Or(req.Resource.Resource, "unknown")),
		attribute.String("k8s.namespace", req.Namespace),
		attribute.String("k8s.name", req.Name),
	}
}

// verdictOf is the verdict that an answer was made from, as the metrics have it.
func verdictOf(response admission.Response) string {
	switch {
	case response.Allowed && len(response.Warnings) == 0:
		return "allow"
	case response.Allowed && response.AuditAnnotations["codes"] != "":
		return "warn"
	case !response.Allowed && response.Result != nil && response.Result.Code == http.StatusUnprocessableEntity:
		return "deny"
	default: // a warning without a finding is that it could not be told
		return "could_not_tell"
	}
}
