package operations

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/scheduling"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// cluster is a control plane that writes an audit log and sends traces, and the webhook.
type cluster struct {
	*rig.Rig
	client.Client
	auditLog  string
	collector *collector
	extender  rig.Extender
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{auditLog: filepath.Join(t.TempDir(), "audit.log"), collector: newCollector(t)}
	policy, tracing := filepath.Join(t.TempDir(), "policy.yaml"), filepath.Join(t.TempDir(), "tracing.yaml")
	for path, text := range map[string]string{
		policy:  "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata, verbs: [create]}]\n",
		tracing: "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: " + c.collector.address + "\nsamplingRatePerMillion: 1000000\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Rig = rig.Run(t, rig.Options{Unarmed: true, ControlPlane: controlplane.Options{APIServerFlags: []string{
		"--audit-policy-file=" + policy, "--audit-log-path=" + c.auditLog, "--audit-log-mode=blocking",
		"--tracing-config-file=" + tracing,
	}}})
	var err error
	if c.Client, err = client.New(c.RESTConfig(), client.Options{Scheme: manifest.Scheme()}); err != nil {
		t.Fatal(err)
	}
	// Before anybody judges: what an audit finds.
	c.mustCreate(t, "{apiVersion: v1, kind: Node, metadata: {name: n1}}")
	c.mustCreate(t, podText("before-a", "nodeName: n1, containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 9001}]}]"))
	c.mustCreate(t, podText("before-b", "nodeName: n1, containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 9001}]}]"))
	c.extender = c.NewExtender(t)
	flags := append(c.extender.Flags, // the API server's decision counts for the sampling
		"--cert-dir=", "--certificate-names=127.0.0.1", "--arm", "--audit-every=1s",
		"--tracing-endpoint="+c.collector.address, "--tracing-sampling=0")
	c.Replace(t, "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, allocateFrom: 30500-30501}", flags...)
	c.register(t)
	return c
}

// register creates the webhook configurations as they ship, but that the webhook is at a URL, and returns when it has armed
// itself.
func (c *cluster) register(t *testing.T) {
	t.Helper()
	registration, ctx := hooks.Shipped(), t.Context()
	registration.ClientConfig = hooks.URLClient(c.Webhook.URL(), nil)
	admission := c.Rig.Client.AdmissionregistrationV1()
	_, err1 := admission.MutatingWebhookConfigurations().Create(ctx, hooks.Mutating(registration), metav1.CreateOptions{})
	_, err2 := admission.ValidatingWebhookConfigurations().Create(ctx, hooks.Validating(registration), metav1.CreateOptions{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, func(context.Context) error {
		if armed, err := c.Webhook.Count(ctx, "portcullis_webhook_armed"); err != nil || armed != 1 {
			return fmt.Errorf("portcullis_webhook_armed is %v, %w", armed, err)
		}
		// The probe is about the validating hooks; the mutating ones are asked once they are known.
		err := c.create(ctx, service("probe", "type: NodePort, ports: [{port: 80, nodePort: 1}]"))
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), hooks.MutateServicesName) {
			return fmt.Errorf("the API server does not ask the mutating hooks: %w", err)
		}
		return nil
	})
}

func podText(name, spec string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: default}, spec: {%s}}", name, spec)
}

func service(name, spec string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: default}, spec: {%s}}", name, spec)
}

func (c *cluster) create(ctx context.Context, text string) error {
	in, err := manifest.Parse("manifest", []byte(text), manifest.Scheme())
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range in.Objects {
		object, ok := o.Object.(client.Object)
		if !ok {
			return fmt.Errorf("%T is no object", o.Object)
		}
		errs = append(errs, c.Create(ctx, object))
	}
	return errors.Join(errs...)
}

func (c *cluster) mustCreate(t *testing.T, text string) {
	t.Helper()
	if err := c.create(t.Context(), text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	t.Run("every refusal can be followed", c.testRefusals)
	t.Run("a review is a part of the API server's trace", c.testTraces)
	t.Run("metrics for those only who may", c.testSecureMetrics)
	t.Run("everything asked for is served", c.testServed)
}

// refusal is an object that the webhook refuses.
type refusal struct {
	code, hook string
	object     string
}

// testRefusals goes the way of docs/observation.md for refusals of each block of codes: from the client's message to the
// metric, to the line of the log, to the entry of the API server's audit log, to the page of the code.
func (c *cluster) testRefusals(t *testing.T) {
	c.mustCreate(t, service("holder", "type: NodePort, ports: [{port: 80, nodePort: 31500}]"))
	const container = "{name: c, image: i, ports: [{containerPort: 80, hostPort: %d%s}]}"
	one := func(port int, more string) string { return "containers: [" + fmt.Sprintf(container, port, more) + "]" }
	for _, r := range []refusal{
		{"PC0101", hooks.HandlerName(hooks.PathMutatePods), podText("r0101", one(8001, ", hostIP: not-an-ip"))},
		{"PC0103", hooks.HandlerName(hooks.PathMutateServices), service("r0103", "type: NodePort, ports: [{name: a, port: 80, nodePort: 31001}, {name: b, port: 81, nodePort: 31001}]")},
		{"PC0104", hooks.HandlerName(hooks.PathMutateServices), service("r0104", "ports: [{port: 80, nodePort: 31004}]")},
		{"PC0201", hooks.HandlerName(hooks.PathMutatePods), podText("r0201", one(31500, ""))},
		{"PC0301", hooks.HandlerName(hooks.PathMutateServices), service("r0301", "type: NodePort, ports: [{port: 80, nodePort: 1}]")},
		{"PC0302", hooks.HandlerName(hooks.PathValidateWorkload), `{apiVersion: apps/v1, kind: Deployment, metadata: {name: r0302, namespace: default}, spec: {selector: {matchLabels: {a: b}},
			template: {metadata: {labels: {a: b}}, spec: {` + one(10250, "") + `}}}}`},
	} {
		t.Run(r.code, func(t *testing.T) { c.testRefusal(t, r) })
	}
}

func (c *cluster) testRefusal(t *testing.T, r refusal) {
	counted := []string{fmt.Sprintf("hook=%q", r.hook), fmt.Sprintf("code=%q", r.code), `enforcement="deny"`}
	before, err := c.Webhook.Count(t.Context(), "portcullis_admission_findings_total", counted...)
	if err != nil {
		t.Fatal(err)
	}
	refused := c.create(t.Context(), r.object)
	if !apierrors.IsInvalid(refused) || !strings.Contains(refused.Error(), "("+r.code+")") || !strings.Contains(refused.Error(), r.hook+hooks.Suffix) {
		t.Fatalf("%v, want a refusal of %s by %s", refused, r.code, r.hook)
	}
	after, err := c.Webhook.Count(t.Context(), "portcullis_admission_findings_total", counted...)
	if err != nil || after != before+1 {
		t.Errorf("portcullis_admission_findings_total%v went from %v to %v, %v", counted, before, after, err)
	}
	name := "r" + strings.TrimPrefix(r.code, "PC")
	line := c.logLine(t, func(l logLine) bool { return l.Hook == r.hook && l.Name == name && strings.Contains(l.Codes, r.code) })
	if line.Verdict != "deny" || line.Namespace != "default" || line.RequestID == "" || line.User == "" || !strings.Contains(refused.Error(), line.Message) {
		t.Errorf("the line in the log is %+v", line)
	}
	event := c.auditEvent(t, name)
	said := event.Annotations[r.hook+".portcullis.dev/codes"]
	if !strings.Contains(said, r.code) || event.Annotations[r.hook+".portcullis.dev/message"] != line.Message || event.ResponseStatus.Code != http.StatusUnprocessableEntity || event.User.Username != line.User {
		t.Errorf("the audit log says %+v, want codes with %s, message %q, user %s", event, r.code, line.Message, line.User)
	}
	heading := string(read(t, filepath.Join(root, "docs/codes", r.code+".md")))
	if !strings.HasPrefix(heading, "# "+r.code) {
		t.Errorf("docs/codes/%s.md begins with %.40q", r.code, heading)
	}
}

// logLine is a line of the webhook's log about an answer.
type logLine struct {
	Message                                                 string `json:"message"`
	Msg, Hook, Verdict, Codes, Namespace, Name, User, Level string
	RequestID                                               string `json:"requestID"`
}

func (c *cluster) logLine(t *testing.T, matches func(logLine) bool) logLine {
	t.Helper()
	for text := range strings.Lines(string(read(t, c.Webhook.LogFile()))) {
		var l logLine
		if json.Unmarshal([]byte(text), &l) == nil && l.Msg == "judged" && matches(l) {
			return l
		}
	}
	t.Fatal("the log of the webhook has no such line")
	return logLine{}
}

// auditEvent is what is looked at of an event of the API server's audit log.
type auditEvent struct {
	ObjectRef      struct{ Name string }
	User           struct{ Username string }
	ResponseStatus struct{ Code int32 }
	Annotations    map[string]string
}

func (c *cluster) auditEvent(t *testing.T, name string) (found auditEvent) {
	t.Helper()
	poll.Until(t, func(context.Context) error {
		data, err := os.ReadFile(c.auditLog)
		if err != nil {
			return err
		}
		for text := range strings.Lines(string(data)) {
			var e auditEvent
			if err := json.Unmarshal([]byte(text), &e); err == nil && e.ObjectRef.Name == name && len(e.Annotations) > 0 {
				found = e
				return nil
			}
		}
		return fmt.Errorf("the audit log says nothing of %s", name)
	})
	return found
}

// testServed makes everything happen that is counted, and holds the queries of alerts and dashboard to what the webhook and
// the API server then serve.
func (c *cluster) testServed(t *testing.T) {
	c.stir(t)
	text, served := c.scrape(t)
	c.lint(t, text)
	c.documented(t, served)
	c.cutOff(t)
	answer, err := c.Rig.Client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	served.add(string(answer))
	for _, q := range queries(t) {
		if err := served.answers(q.expr); err != nil {
			t.Errorf("%s: %v", q.title, err)
		}
	}
}

// queries are those of the alerts and of the dashboard.
func queries(t *testing.T) []query {
	t.Helper()
	all := queriesOf(t, readDashboard(t))
	for _, a := range alerts(t) {
		all = append(all, query{"alert " + a.Alert, a.Expr})
	}
	return all
}

// scrape returns what the webhook serves, as soon as it answers all that is asked of it, or else after a minute: pools,
// claims and audits are told a while after they change.
func (c *cluster) scrape(t *testing.T) (text string, served samples) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		text, err := c.Webhook.Metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		served := samples{}
		served.add(text)
		missing := 0
		for _, q := range queries(t) {
			if !strings.Contains(q.expr, "apiserver_") && served.answers(q.expr) != nil {
				missing++
			}
		}
		if missing == 0 || time.Now().After(deadline) {
			return text, served
		}
	}
}

// stir has the webhook count what it counts: numbers that it gives until none is left, a pool, what it cannot read, a
// scheduler that asks.
func (c *cluster) stir(t *testing.T) {
	t.Helper()
	for i := range 2 {
		c.mustCreate(t, service(fmt.Sprint("any-", i), "type: NodePort, ports: [{port: 80}]"))
	}
	if err := c.create(t.Context(), service("any-2", "type: NodePort, ports: [{port: 80}]")); err != nil && !apierrors.IsInvalid(err) {
		t.Fatal(err)
	}
	c.mustCreate(t, `{apiVersion: portcullis.dev/v1alpha1, kind: PortPool, metadata: {name: some}, spec: {ranges: [{port: 32000, endPort: 32009}],
		namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-public}}}}`)
	const nothing = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","resource":{"version":"v1","resource":"pods"},"object":1}}`
	c.post(t, c.Webhook.URL()+hooks.PathValidatePods, nothing, http.StatusOK) // neither is asked about anything
	c.post(t, c.extender.URL+scheduling.PathFilter, nothing, http.StatusOK)
	c.post(t, c.Webhook.URL()+hooks.PathValidatePods, "nothing", http.StatusBadRequest)
}

func (c *cluster) post(t *testing.T, url, body string, status int) {
	t.Helper()
	// Whom it trusts the API server has shown already.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c.extender.Certificate}}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != status {
		t.Fatalf("%s answers %d %s, %v", url, resp.StatusCode, answer, err)
	}
}

// lint holds what is served under our prefix to Prometheus' conventions.
func (c *cluster) lint(t *testing.T, text string) {
	t.Helper()
	var ours strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "portcullis_") {
			ours.WriteString(line)
		}
	}
	problems, err := promlint.New(strings.NewReader(ours.String())).Lint()
	if err != nil || ours.Len() == 0 {
		t.Fatalf("%d bytes are served, %v", ours.Len(), err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// documented holds the tables of metrics to what the real program serves.
func (c *cluster) documented(t *testing.T, served samples) {
	t.Helper()
	told := map[string]bool{}
	for _, file := range []string{"docs/webhook.md", "docs/observation.md"} {
		for _, m := range regexp.MustCompile("(?m)^\\| `(portcullis_\\w+)` \\| \\w+ \\|").FindAllStringSubmatch(string(read(t, filepath.Join(root, file))), -1) {
			told[m[1]] = true
			if len(served[m[1]]) == 0 && len(served[m[1]+"_bucket"]) == 0 {
				t.Errorf("%s tells of %s, which is not served", file, m[1])
			}
		}
	}
	for name := range served {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "portcullis_") && !told[name] && !told[base] {
			t.Errorf("%s is served, and no page tells of it", name)
		}
	}
}

// cutOff ends the webhook without a warning and has the API server refuse a request for that, which it let pass as far as
// the mutating hook is concerned.
func (c *cluster) cutOff(t *testing.T) {
	t.Helper()
	c.Webhook.Kill()
	if err := c.create(t.Context(), podText("cut-off", "containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 9002}]}]")); !apierrors.IsInternalError(err) {
		t.Fatalf("without the webhook: %v, want a failed call", err)
	}
}
