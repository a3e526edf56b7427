package operations

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// collector takes spans as an OpenTelemetry collector does, and keeps them.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	address string
	mu      sync.Mutex
	spans   map[string]span // by trace and span
}

// span is a span with the service that sent it.
type span struct {
	*tracev1.Span
	service string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: listener.Addr().String(), spans: map[string]span{}}
	server := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return c
}

// Export implements the collector's protocol.
func (c *collector) Export(_ context.Context, r *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range r.ResourceSpans {
		service := text(from.GetResource().GetAttributes(), "service.name")
		for _, scope := range from.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans[key(s.TraceId, s.SpanId)] = span{s, service}
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func key(trace, span []byte) string {
	return hex.EncodeToString(trace) + "/" + hex.EncodeToString(span)
}

// text is the value of an attribute.
func text(attributes []*commonv1.KeyValue, name string) string {
	for _, a := range attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// find returns the webhook's span about an object, and the span that it is below of.
func (c *collector) find(hook, object string) (found, parent span, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.service != "portcullis" || s.Name != hook || text(s.Attributes, "k8s.name") != object {
			continue
		}
		parent, ok := c.spans[key(s.TraceId, s.ParentSpanId)]
		if !ok {
			return s, span{}, fmt.Errorf("of the span of %s the parent %x is not there yet", hook, s.ParentSpanId)
		}
		return s, parent, nil
	}
	return span{}, span{}, fmt.Errorf("no span of %s about %s among %d", hook, object, len(c.spans))
}

// testTraces looks at the spans of one refusal: that of the webhook, that of the API server above it, and that these lead up
// to the client's request.
func (c *cluster) testTraces(t *testing.T) {
	refused := c.create(t.Context(), podText("traced", "containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 8001, hostIP: not-an-ip}]}]"))
	if !apierrors.IsInvalid(refused) {
		t.Fatal(refused)
	}
	var ours, parent span
	poll.Until(t, func(context.Context) (err error) {
		ours, parent, err = c.collector.find(hooks.HandlerName(hooks.PathMutatePods), "traced")
		return err
	})
	if parent.service != "apiserver" || parent.Kind != tracev1.Span_SPAN_KIND_CLIENT {
		t.Errorf("the webhook's span is below %s of %s, want the call of the API server", parent.Name, parent.service)
	}
	line := c.logLine(t, func(l logLine) bool { return l.Name == "traced" })
	for name, want := range map[string]string{
		"portcullis.verdict": "deny", "portcullis.codes": "PC0101", "portcullis.request_id": line.RequestID, "k8s.resource": "pods", "k8s.namespace": "default",
	} {
		if got := text(ours.Attributes, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if ours.StartTimeUnixNano < parent.StartTimeUnixNano || ours.EndTimeUnixNano > parent.EndTimeUnixNano {
		t.Error("the webhook's span is not within the API server's, on one machine")
	}
	poll.Until(t, func(context.Context) error { return c.collector.leadsToRequest(ours) })
}

// leadsToRequest goes up from a span.
func (c *collector) leadsToRequest(s span) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var way []string
	for {
		way = append(way, s.Name)
		if s.service == "apiserver" && s.Kind == tracev1.Span_SPAN_KIND_SERVER {
			return nil
		}
		above, ok := c.spans[key(s.TraceId, s.ParentSpanId)]
		if !ok {
			return fmt.Errorf("the way up ends at %s", strings.Join(way, " < "))
		}
		s = above
	}
}

// testSecureMetrics asks a replica with --metrics-secure as nobody, as somebody without the right, and as one who has it.
func (c *cluster) testSecureMetrics(t *testing.T) {
	ctx := t.Context()
	if err := rig.Install(ctx, c.RESTConfig(), "observation/secure"); err != nil {
		t.Fatal(err)
	}
	replica := c.ReplicaAt(t, "", "", "--metrics-secure")
	core := c.Rig.Client.CoreV1()
	token := func(name string) string {
		t.Helper()
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err1 := core.ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{})
		request, err2 := core.ServiceAccounts("default").CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return request.Status.Token
	}
	stranger, scraper := token("stranger"), token("scraper")
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "scraper"}}
	binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "portcullis-metrics"}
	binding.Subjects = []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "scraper"}}
	if _, err := c.Rig.Client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A token that the API server cannot read makes its review end in an error.
	for _, asked := range []struct {
		name, token string
		want        int
	}{{"nobody", "", http.StatusUnauthorized}, {"a made-up token", "x", http.StatusInternalServerError}, {"a stranger", stranger, http.StatusForbidden}, {"a scraper", scraper, http.StatusOK}} {
		t.Run(asked.name, func(t *testing.T) {
			poll.Until(t, func(context.Context) error { // the API server learns of a binding by its own watch
				status, body, err := scrape(ctx, replica.MetricsAddress(), asked.token)
				if err == nil && (status != asked.want || strings.Contains(body, "portcullis_ledger_complete 1") != (asked.want == http.StatusOK)) {
					err = fmt.Errorf("%d %.100s, want %d", status, body, asked.want)
				}
				return err
			})
		})
	}
	if body, err := replica.Metrics(ctx); err == nil {
		t.Errorf("without TLS it answers %.100s", body)
	}
}

func scrape(ctx context.Context, address, token string) (int, string, error) {
	// The certificate is the program's own, signed by nobody.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/metrics", nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
