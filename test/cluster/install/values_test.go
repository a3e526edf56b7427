package install

import (
	"encoding/json"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
)

// TestValues: with any values the chart renders objects that Kubernetes takes, or says which value it does not take.
func TestValues(t *testing.T) {
	t.Parallel()
	const hostile = "\"'`\n{{ fail `x` }}: {{ .Values }} ${HOME} $(POD_IP) # \\ \t & *a !b %c | > é\u2028\U0001F600\n--- \nkind: Secret"
	quoted := func(s string) string {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
	for _, c := range []struct {
		values  string
		refusal string // a part of what Helm says; "" if it renders
		keeps   string // a text that must be somewhere, exactly
	}{
		{values: "replicas: 0", refusal: "/replicas"},
		{values: "replicas: -1", refusal: "/replicas"},
		{values: "replicas: 1.5", refusal: "/replicas"},
		{values: "replicas: '2'", refusal: "/replicas"},
		{values: "replicas: 1e30", refusal: "/replicas"},
		{values: "replicas: 99999999999999999999", refusal: "/replicas"},
		{values: "replicas: null"}, // the default
		{values: "replicas: 1"},
		{values: "{replicas: 1, podDisruptionBudget: {minAvailable: 1}}"}, // there is none then
		{values: "{replicas: 2, podDisruptionBudget: {minAvailable: 2}}", refusal: "podDisruptionBudget.minAvailable: 2 of replicas: 2"},
		{values: "{replicas: 2, podDisruptionBudget: {minAvailable: 0}}", refusal: "/podDisruptionBudget/minAvailable"},
		{values: "{replicas: 2, podDisruptionBudget: {enabled: false, minAvailable: 2}}"},
		{values: "{replicas: 100, podDisruptionBudget: {minAvailable: 99}}"},
		{values: "replica: 3", refusal: "replica"},
		{values: "image: portcullis", refusal: "/image"},
		{values: "image: {repository: ''}", refusal: "/image/repository"},
		{values: "image: {repository: null}", refusal: "repository"},
		{values: "image: {repository: 'a b'}", refusal: "/image/repository"},
		{values: "image: {repository: example.com:5000/p, tag: v1}", keeps: "example.com:5000/p:v1"},
		{values: "image: {tag: 'v1 --privileged'}", refusal: "/image/tag"},
		{values: "image: {tag: 1.10}", refusal: "/image/tag"},
		{values: "image: {tag: v9, digest: 'sha256:" + strings.Repeat("a", 64) + "'}", keeps: "ghcr.io/portcullis-k8s/portcullis@sha256:" + strings.Repeat("a", 64)},
		{values: "image: {digest: sha256:a}", refusal: "/image/digest"},
		{values: "image: {pullPolicy: always}", refusal: "/image/pullPolicy"},
		{values: "imagePullSecrets: [registry]", refusal: "/imagePullSecrets/0"},
		{values: "imagePullSecrets: [{name: registry}]", keeps: "registry"},
		{values: "config: {nodePortRange: 30000-31000}"},
		{values: "config: {nodePorts: 30000-31000}", refusal: "nodePorts"},
		{values: "config: {apiVersion: v1}", refusal: "/config/apiVersion"},
		{values: "config: {enforcement: {PC0201: Allow}}", refusal: "/config/enforcement/PC0201"},
		{values: "config: {enforcement: {PC0201: Audit}, nodeReserved: [], dataplane: {serviceProxy: nftables}}"},
		{values: "config: '{}'", refusal: "/config"},
		{values: "arm: yes-please", refusal: "/arm"},
		{values: "arm: 'false'", refusal: "/arm"},
		{values: "arm: false"},
		{values: "probeNamespace: Default", refusal: "/probeNamespace"},
		{values: "probeNamespace: probes", keeps: "probes"},
		{values: "excludedNamespaces: kube-system", refusal: "/excludedNamespaces"},
		{values: "excludedNamespaces: [calico_system]", refusal: "/excludedNamespaces/0"},
		{values: "excludedNamespaces: ['*']", refusal: "/excludedNamespaces/0"},
		{values: "excludedNamespaces: [kube-system, calico-system]", keeps: "calico-system"},
		{values: "certificates: {mode: self}", refusal: "/certificates/mode"},
		{values: "certificates: {mode: existingSecret}", refusal: "certificates.existingSecret"},
		{values: "certificates: {mode: existingSecret, existingSecret: mine}", refusal: "certificates.caBundle"},
		{values: "certificates: {mode: existingSecret, existingSecret: mine, caBundle: TFMwdA==}", refusal: "/certificates/caBundle"},
		{values: "certificates: {mode: existingSecret, existingSecret: mine, caBundle: " + quoted(pem) + "}", keeps: "mine"},
		{values: "certificates: {existingSecret: mine}", refusal: "certificates.mode"},
		{values: "certificates: {mode: certManager, caBundle: " + quoted(pem) + "}", refusal: "certificates.mode"},
		{values: "certificates: {issuerRef: {name: ours}}", refusal: "certificates.issuerRef"},
		{values: "certificates: {mode: certManager, issuerRef: {kind: ClusterIssuer}}", refusal: "/certificates/issuerRef"},
		{values: "certificates: {mode: certManager, issuerRef: {kind: ClusterIssuer, name: ours}}", keeps: "ours"},
		{values: "certificates: {mode: certManager, lifetime: 24h}", refusal: "certificates.lifetime"},
		{values: "certificates: {lifetime: 1d}", refusal: "/certificates/lifetime"},
		{values: "certificates: {lifetime: 24h, caLifetime: 1h30m}", keeps: "--ca-lifetime=1h30m"},
		{values: "webhook: {tlsMinVersion: 1.3}", refusal: "/webhook/tlsMinVersion"},
		{values: "webhook: {tlsMinVersion: '1.3'}", keeps: "--tls-min-version=1.3"},
		{values: "webhook: {secretPath: 'true'}", refusal: "/webhook/secretPath"},
		{values: "webhook: {secretPath: true}", keeps: "--secret-path"},
		{values: "{certificates: {mode: certManager}, webhook: {secretPath: true}}", refusal: "webhook.secretPath"},
		{values: "webhook: {maxRequests: 1000000}", keeps: "--max-requests=1000000"},
		{values: "webhook: {maxRequests: 1e99}", refusal: "/webhook/maxRequests"},
		{values: "webhook: {annotations: {admissions.enforcer/disabled: true}}", refusal: "/webhook/annotations"},
		{values: "webhook: {annotations: {a: " + quoted(hostile) + "}}", keeps: hostile},
		{values: "audit: {every: 0}", refusal: "/audit/every"},
		{values: "audit: {every: '0'}", keeps: "--audit-every=0"},
		{values: "reports: {enabled: false}", keeps: "--reports=false"},
		{values: "tracing: {endpoint: http://collector:4317}", refusal: "/tracing/endpoint"},
		{values: "tracing: {endpoint: '[2001:db8::1]:4317', sampling: 0.000001}", keeps: "--tracing-sampling=0.000001"},
		{values: "tracing: {endpoint: 'otel:4317', sampling: 0}", keeps: "--tracing-sampling=0"},
		{values: "tracing: {endpoint: 'otel:4317', sampling: 2}", refusal: "/tracing/sampling"},
		{values: "tracing: {sampling: 0.5}", refusal: "tracing.endpoint"},
		{values: "{networkPolicy: {enabled: true}, tracing: {endpoint: 'otel:4317'}}"},
		{values: "networkPolicy: {enabled: true, apiServers: [192.0.2.0/28, '2001:db8::1/128']}"},
		{values: "networkPolicy: {enabled: true, apiServers: [api.example.com]}", refusal: "/networkPolicy/apiServers/0"},
		{values: "networkPolicy: {enabled: true, egressPorts: [70000]}", refusal: "/networkPolicy/egressPorts/0"},
		{values: "ports: {webhook: 443}", refusal: "/ports/webhook"},
		{values: "ports: {webhook: 8080}", refusal: "ports: webhook 8080, metrics 8080"},
		{values: "{hostNetwork: true, ports: {webhook: 10443, metrics: 10080, health: 10081}}", keeps: "--health-address=:10081"},
		{values: "resources: {limit: {memory: 1Gi}}", refusal: "limit"},
		{values: "resources: {limits: {memory: 1073741824}}"},
		{values: "resources: null"},
		{values: "tolerations: [{operator: Exists}]"},
		{values: "tolerations: [{effects: NoSchedule}]", refusal: "/tolerations/0"},
		{values: "affinity: {nodeaffinity: {}}", refusal: "nodeaffinity"},
		{values: "spread: Always", refusal: "/spread"},
		{values: "terminationGracePeriodSeconds: 5", refusal: "/terminationGracePeriodSeconds"},
		{values: "priorityClassName: ''"},
		{values: "priorityClassName: Much Higher", refusal: "/priorityClassName"},
		{values: "podAnnotations: {a: " + quoted(hostile) + "}", keeps: hostile},
		{values: "podAnnotations: {a: 1}", refusal: "/podAnnotations/a"},
		{values: "podLabels: {app.kubernetes.io/name: other, team: net}", keeps: "net"},
		{values: "labels: {team: net, app.kubernetes.io/managed-by: me}", keeps: "net"},
		{values: "extraArgs: [serve]", refusal: "/extraArgs/0"},
		{values: "extraArgs: [" + quoted("--host="+hostile) + "]", keeps: "--host=" + hostile},
		{values: "extraEnv: [{name: A, value: " + quoted(hostile) + "}]", keeps: hostile},
		{values: "extraEnv: [{name: A, value: 1}]", refusal: "/extraEnv/0/value"},
		{values: "{extraVolumes: [{name: ca, configMap: {name: ca}}], extraVolumeMounts: [{name: ca, mountPath: /ca}], extraArgs: [--client-ca-file=/ca/ca.crt]}"},
		{values: "crds: {install: false}"},
		{values: "crds: {keep: false}"},
		{values: "[]", refusal: "cannot unmarshal"},
	} {
		t.Run(c.values, func(t *testing.T) {
			all, refusal := templated(t, namespace, c.values)
			if c.refusal != "" || refusal != "" {
				if c.refusal == "" || !strings.Contains(refusal, c.refusal) {
					t.Errorf("refused with %q, want %q", refusal, c.refusal)
				}
				return
			}
			holdSound(t, all)
			if c.keeps != "" && !all.has(c.keeps) {
				t.Errorf("nothing is %q", c.keeps)
			}
		})
	}
}

// TestReleasedImage: a released chart installs the image of its version by digest; a tag, a digest or a registry of the user's
// counts.
func TestReleasedImage(t *testing.T) {
	released, other := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	const repository, version = "ghcr.io/portcullis-k8s/portcullis", "v0.1.0"
	out := t.TempDir()
	if text, err := exec.CommandContext(t.Context(), config+"/../.github/pin-image.sh", version, repository+"@"+released, out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for values, want := range map[string]string{
		"": repository + ":" + version + "@" + released, "repository=example.com/p": "example.com/p:" + version + "@" + released,
		"tag=v9": repository + ":v9", "digest=" + other: repository + "@" + other, "tag=v9,image.digest=" + other: repository + "@" + other,
	} {
		args := []string{"template", "portcullis", out + "/chart", "--namespace", namespace, "--kube-version", "1.37.2"}
		if values != "" {
			args = append(args, "--set", "image."+values)
		}
		text, err := helm(t, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", values, err)
		}
		if !parsed(t, text).has(want) {
			t.Errorf("%q: no image is %s", values, want)
		}
	}
}

// TestNamespaces: where the chart can be installed.
func TestNamespaces(t *testing.T) {
	for _, c := range []struct{ namespace, refusal string }{
		{"kube-system", "cannot be installed in kube-system"}, {"kube-public", "cannot be installed in kube-public"},
		{"kube-node-lease", "cannot be installed in kube-node-lease"}, {"default", "is never judged"}, {"replicas", ""},
	} {
		all, refusal := templated(t, c.namespace, "")
		if c.refusal != "" {
			if !strings.Contains(refusal, c.refusal) || !strings.Contains(refusal, "--namespace portcullis-system") {
				t.Errorf("in %s: %q, want %q and what to do", c.namespace, refusal, c.refusal)
			}
			continue
		}
		holdSound(t, all)
		if all.has(namespace) {
			t.Errorf("in %s something still says %s", c.namespace, namespace)
		}
	}
}

// TestRegistration: whom every hook asks, whom it trusts, and what it leaves out.
func TestRegistration(t *testing.T) {
	const authority = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
	values := "{certificates: {mode: existingSecret, existingSecret: mine, caBundle: " + strconv.Quote(authority) + "}, excludedNamespaces: [rook-ceph, calico-system, kube-system], webhook: {annotations: {a: b}}}"
	all, refusal := templated(t, "replicas", values)
	if refusal != "" {
		t.Fatal(refusal)
	}
	hold := func(hook string, c admissionregistrationv1.WebhookClientConfig, selector *metav1.LabelSelector, policy admissionregistrationv1.FailurePolicyType) {
		if string(c.CABundle) != authority || c.Service.Namespace != "replicas" || c.Service.Name != "portcullis" || policy != admissionregistrationv1.Ignore {
			t.Errorf("%s: %+v, %s", hook, c, policy)
		}
		want := []metav1.LabelSelectorRequirement{{
			Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn,
			Values: []string{"calico-system", "kube-node-lease", "kube-system", "replicas", "rook-ceph"},
		}}
		if diff := cmp.Diff(want, selector.MatchExpressions); diff != "" {
			t.Errorf("%s leaves out (-want +got):\n%s", hook, diff)
		}
	}
	mutating := one[*admissionregistrationv1.MutatingWebhookConfiguration](t, all, "MutatingWebhookConfiguration//portcullis")
	validating := one[*admissionregistrationv1.ValidatingWebhookConfiguration](t, all, "ValidatingWebhookConfiguration//portcullis")
	for _, h := range mutating.Webhooks {
		hold(h.Name, h.ClientConfig, h.NamespaceSelector, *h.FailurePolicy)
	}
	for _, h := range validating.Webhooks {
		hold(h.Name, h.ClientConfig, h.NamespaceSelector, *h.FailurePolicy)
	}
	if len(mutating.Webhooks) == 0 || len(validating.Webhooks) == 0 || mutating.Annotations["a"] != "b" || validating.Annotations["a"] != "b" {
		t.Errorf("%d and %d hooks, annotations %v and %v", len(mutating.Webhooks), len(validating.Webhooks), mutating.Annotations, validating.Annotations)
	}
}

// TestLint: Helm's own linter has nothing to say.
func TestLint(t *testing.T) {
	if out, err := helm(t, "lint", "--strict", "--namespace", namespace, chart).CombinedOutput(); err != nil || strings.Contains(string(out), "WARNING") {
		t.Errorf("%v\n%s", err, out)
	}
}

// holdSound holds what goes for every installation: every field is one that Kubernetes knows, the configuration is one
// that the program takes, and the Service finds the pods.
func holdSound(t *testing.T, all objects) {
	t.Helper()
	typed, foreign := all.decoded(t)
	for _, kind := range foreign {
		if !slices.Contains([]string{"Certificate.cert-manager.io", "Issuer.cert-manager.io", "PodMonitor.monitoring.coreos.com", "PrometheusRule.monitoring.coreos.com"}, kind) {
			t.Errorf("there is a %s", kind)
		}
	}
	if all.has("Secret") {
		t.Error("there is a Secret, or something that calls itself one")
	}
	file := typed["ConfigMap/"+all.namespace()+"/portcullis"].(*corev1.ConfigMap).Data["config.yaml"]
	loaded, err := configv1alpha1.Load([]byte(file))
	if err == nil {
		_, err = extract.NewSettings(loaded)
	}
	if err != nil {
		t.Errorf("the program does not take its configuration: %v\n%s", err, file)
	}
	deployment := typed["Deployment/"+all.namespace()+"/portcullis"].(*appsv1.Deployment)
	for _, selector := range []map[string]string{deployment.Spec.Selector.MatchLabels, typed["Service/"+all.namespace()+"/portcullis"].(*corev1.Service).Spec.Selector} {
		if want := map[string]string{"app.kubernetes.io/name": "portcullis"}; !cmp.Equal(selector, want) || deployment.Spec.Template.Labels["app.kubernetes.io/name"] != "portcullis" {
			t.Errorf("a selector is %v, the pods have %v", selector, deployment.Spec.Template.Labels)
		}
	}
	for _, p := range deployment.Spec.Template.Spec.Containers[0].Ports {
		if p.ContainerPort == 0 || deployment.Spec.Template.Spec.HostNetwork && p.HostPort != 0 && p.HostPort != p.ContainerPort {
			t.Errorf("a port is %v", p)
		}
	}
}

// namespace is where the Deployment is.
func (all objects) namespace() string {
	for _, o := range all {
		if o.GetKind() == "Deployment" {
			return o.GetNamespace()
		}
	}
	return ""
}

// has reports whether a field anywhere is exactly a text.
func (all objects) has(text string) bool {
	for _, o := range all {
		if has(o.Object, text) {
			return true
		}
	}
	return false
}

func has(value any, text string) bool {
	switch value := value.(type) {
	case map[string]any:
		for _, v := range value {
			if has(v, text) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, func(v any) bool { return has(v, text) })
	case string:
		return value == text
	}
	return false
}

func marshal(t *testing.T, o *unstructured.Unstructured) []byte {
	t.Helper()
	text, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSchema: the schema and the values are of each other, and the configuration's fields are those of the program.
func TestSchema(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(read(t, chart+"/values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(read(t, chart+"/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	var declared []string
	for _, v := range leaves(schema, "") {
		if v.path != "global" && !strings.HasPrefix(v.path, "config.") {
			declared = append(declared, v.path)
		}
		if v.description == "" {
			t.Errorf("%s is not described", v.path)
		}
	}
	var given []string
	for _, path := range declared {
		if field(values, path) {
			given = append(given, path)
		}
	}
	if diff := cmp.Diff(declared, given); diff != "" {
		t.Errorf("values.yaml lacks what the schema has:\n%s", diff)
	}
	var fields, want []string
	for name := range schema["properties"].(map[string]any)["config"].(map[string]any)["properties"].(map[string]any) {
		fields = append(fields, name)
	}
	for f := range reflect.TypeFor[configv1alpha1.PortcullisConfiguration]().Fields() {
		want = append(want, strings.Split(f.Tag.Get("json"), ",")[0])
	}
	slices.Sort(fields)
	slices.Sort(want)
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("the fields of the configuration, in the schema (+) and in the program (-):\n%s", diff)
	}
}

// field reports whether a path leads to a field; it may be null.
func field(values map[string]any, path string) bool {
	first, rest, more := strings.Cut(path, ".")
	v, there := values[first]
	if !more || !there {
		return there
	}
	below, ok := v.(map[string]any)
	return ok && field(below, rest)
}

// leaf is a value that the schema describes.
type leaf struct{ path, description string }

// leaves are the values of a schema, in order of their names; what is described as a whole, as resources is, is one.
func leaves(schema map[string]any, prefix string) []leaf {
	properties, _ := schema["properties"].(map[string]any)
	var names []string
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []leaf
	for _, name := range names {
		p := properties[name].(map[string]any)
		below := leaves(p, prefix+name+".")
		if len(below) > 0 && below[0].description != "" {
			all = append(all, below...)
			continue
		}
		description, _ := p["description"].(string)
		all = append(all, leaf{prefix + name, description})
	}
	return all
}

// TestFlags: every flag that an installation passes is one of the program's.
func TestFlags(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), binaries.For(t, binaries.Portcullis), "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllSubmatch(help, -1) {
		flags[string(m[1])] = true
	}
	used := append(strings.Fields(`--config --cert-dir --client-ca-file`), flagsOf(string(read(t, chart+"/templates/_names.tpl")))...)
	for _, o := range overlay(t, "certmanager", "secure-metrics") {
		if o.GetKind() == "Deployment" {
			used = append(used, flagsOf(string(marshal(t, o)))...)
		}
	}
	slices.Sort(used)
	for _, flag := range slices.Compact(used) {
		if !flags[flag] {
			t.Errorf("portcullis serve has no %s", flag)
		}
	}
}

func flagsOf(text string) []string {
	return regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(text, -1)
}

// TestNotes: what Helm says after an installation.
func TestNotes(t *testing.T) {
	for _, c := range []struct{ values, want, wantNot string }{
		{"", "rollout status deployment/portcullis", "WARNING"},
		{"replicas: 1", "WARNING: replicas is 1", "hostNetwork"},
		{"hostNetwork: true", "hostNetwork needs", "WARNING"},
		{"arm: false", "kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration", "armed"},
	} {
		cmd := helm(t, "install", "portcullis", chart, "--namespace", namespace, "--dry-run=client", "--values", "-")
		cmd.Stdin = strings.NewReader(c.values)
		out, err := cmd.CombinedOutput()
		_, notes, found := strings.Cut(string(out), "\nNOTES:\n")
		if err != nil || !found || !strings.Contains(notes, c.want) || strings.Contains(notes, c.wantNot) {
			t.Errorf("%q: %v, %.1000q; want %q, and not %q", c.values, err, notes+string(out), c.want, c.wantNot)
		}
	}
}
