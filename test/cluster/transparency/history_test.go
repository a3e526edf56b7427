package transparency

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// The API servers allocate node ports from the upper band, and clients write those of the lower one (the first 31 of this
// range): what one API server allocates is never what a client writes to the other.
const nodePortRange = "30000-30999"

// Named classes of differences between an API server behind the webhook and a plain one.
const (
	// refusedForHolder: our code, and the model finds the holder that the answer names.
	refusedForHolder = "refused for a holder"
	// refusedForItself: our code about the object alone, whatever else there is.
	refusedForItself = "refused for itself"
	// waited: 429 with PC0203, and the same answer as the plain API server once the grace was over.
	waited = "429, then the same"
	// notWaited: 429 with PC0203, not repeated: the history goes on without the request.
	notWaited = "429, not repeated"
	// existsFirst: a create of a name that exists, with a port that somebody holds, is 409 AlreadyExists by us; the plain API
	// server gives the answer of an admission plugin that comes later, a quota's 403.
	existsFirst = "409 before a later refusal"
	// sameAnswer: no difference.
	sameAnswer = "the same"
)

// TestHistories drives an API server behind the webhook and a plain one with the same requests. After each, both must have
// given the same answer and have stored the same, unless our answer carries one of our codes; then a model that reads only
// what the API server has stored must find the conflict.
func TestHistories(t *testing.T) {
	t.Parallel()
	behind := rig.Run(t, rig.Options{
		ControlPlane: controlplane.Options{NodePortRange: nodePortRange},
		Config:       "apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nnodePortRange: " + nodePortRange + "\n",
	})
	plain := controlplane.Run(t, controlplane.Options{NodePortRange: nodePortRange})
	p := &pair{behind: newServer(t, behind.ControlPlane), plain: newServer(t, plain), classes: map[string]int{}, drawn: map[string]int{}}
	others := newOthers(t)
	for _, s := range []*server{p.behind, p.plain} {
		others.register(t, s)
		for _, namespace := range namespaces() {
			s.must(t, s.do("POST", "/api/v1/namespaces", "", object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}}))
		}
		s.limit(t)
		for _, node := range []string{"n1", "n2"} { // a DaemonSet holds its ports on nodes
			s.must(t, s.do("POST", "/api/v1/nodes", "", object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": node}}))
		}
	}
	from := seed.Of(t)
	for i := range seed.Rounds(60, 20000) {
		h := &history{pair: p, Rand: rand.New(rand.NewPCG(from, uint64(i)))}
		others := kinds()[1:]
		h.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		h.kinds = append(others[:2:2], kinds()[0])
		for range steps {
			if err := h.step(t); err != nil {
				t.Errorf("history %d of seed %d: %v\n%s", i, from, err, strings.Join(h.log, "\n"))
				break
			}
		}
		if err := h.behind.conflicts(h.kinds); err != nil {
			t.Errorf("history %d of seed %d: %v\n%s", i, from, err, strings.Join(h.log, "\n"))
		}
		h.end(t)
		if t.Failed() {
			break
		}
	}
	t.Logf("answers by class: %v", p.classes)
	t.Logf("requests: %v", p.drawn)
	for class, least := range map[string]int{sameAnswer: 10, refusedForHolder: 10, refusedForItself: 3} {
		if p.classes[class] < least {
			t.Errorf("%s: %d times proves little", class, p.classes[class])
		}
	}
}

const steps = 20 // of a history

func namespaces() []string { return []string{"free", "limited"} }

// pair is the two API servers.
type pair struct {
	behind, plain *server
	classes       map[string]int
	drawn         map[string]int
}

// history is a sequence of requests, the same for both.
type history struct {
	*pair
	*rand.Rand
	kinds []kind // that it is about: Services, and two others
	log   []string
}

// step draws a request, sends it to both, and compares.
func (h *history) step(t *testing.T) error {
	t.Helper()
	r := h.request()
	h.drawn[r.what]++
	got := r.send(h.behind)
	line := fmt.Sprintf("%s %s %s: %s", r.what, r.path, r.query, got)
	for try := 0; got.code == http.StatusTooManyRequests; try++ {
		if finding.Code(got.message) == "" || strings.Contains(got.message, " is held by ") {
			return fmt.Errorf("%s: a 429 without a code or with a holder", line)
		}
		if try == 0 && h.IntN(20) > 0 {
			h.classes[notWaited]++
			h.log = append(h.log, line)
			return nil
		}
		if try > 20 {
			return fmt.Errorf("%s, after the grace too", line)
		}
		time.Sleep(500 * time.Millisecond)
		if got = r.send(h.behind); got.code != http.StatusTooManyRequests {
			h.classes[waited]++
			line += ", then " + got.String()
		}
	}
	h.log = append(h.log, line)
	if code := finding.Code(got.message); code != "" && got.code == http.StatusUnprocessableEntity {
		class, err := h.behind.confirm(code, got.message)
		h.classes[class]++
		return err
	}
	want := r.send(h.plain)
	if got.code == http.StatusConflict && want.code >= http.StatusBadRequest && strings.Contains(got.message, "portcullis.dev\" denied") {
		h.classes[existsFirst]++
		return nil
	}
	if got.code != want.code || got.reason != want.reason {
		return fmt.Errorf("%s, the plain API server: %s", line, want)
	}
	h.classes[sameAnswer]++
	if diff := cmp.Diff(h.plain.all(t, r.kind, r.namespace), h.behind.all(t, r.kind, r.namespace)); diff != "" {
		return fmt.Errorf("%s: stored (-plain +behind the webhook):\n%s", line, diff)
	}
	return nil
}

// end deletes what the history has made.
func (h *history) end(t *testing.T) {
	t.Helper()
	for _, s := range []*server{h.behind, h.plain} {
		for _, kind := range h.kinds {
			for _, namespace := range namespaces() {
				s.clear(t, kind, namespace)
			}
		}
		s.resetQuota(t)
	}
}

// request is a request that can be sent to either API server: what it writes is made from what that one has stored.
type request struct {
	kind              kind
	namespace         string
	what              string
	verb, path, query string
	contentType       string
	body              func(*server) any // nil: none
}

func (r request) send(s *server) reply {
	var body any
	if r.body != nil {
		body = r.body(s)
	}
	return s.do(r.verb, r.path+r.query, r.contentType, body)
}

// kind is where objects of a kind are.
type kind struct {
	name, path string
	scale      bool
}

func kinds() []kind {
	return []kind{
		{"Service", "/api/v1/namespaces/%s/services", false}, {"Pod", "/api/v1/namespaces/%s/pods", false},
		{"Deployment", "/apis/apps/v1/namespaces/%s/deployments", true}, {"DaemonSet", "/apis/apps/v1/namespaces/%s/daemonsets", false},
		{"StatefulSet", "/apis/apps/v1/namespaces/%s/statefulsets", true}, {"Job", "/apis/batch/v1/namespaces/%s/jobs", false},
	}
}

func (k kind) version() string {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(k.path, "/apis/"), "/api/"), "/namespaces/")
	return parts[0]
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// request draws a request. Names and ports are few, so that requests meet.
func (h *history) request() request {
	k := pick(h.Rand, h.kinds...)
	namespace := pick(h.Rand, "free", "free", "limited")
	name := pick(h.Rand, "a", "b", "c")
	all := fmt.Sprintf(k.path, namespace)
	one := all + "/" + name
	dryRun := pick(h.Rand, "", "", "", "", "?dryRun=All")
	switch what := h.IntN(20); {
	case what < 8:
		o := h.object(k, name)
		if h.IntN(8) == 0 {
			o.metadata()["generateName"] = name + "-"
			delete(o.metadata(), "name")
		}
		return request{kind: k, namespace: namespace, what: "create", verb: "POST", path: all, query: dryRun, body: always(o)}
	case what < 10:
		version := pick(h.Rand, "current", "none", "stale")
		return request{kind: k, namespace: namespace, what: "put, resourceVersion " + version, verb: "PUT", path: one, query: dryRun, body: h.put(k, one, name, version)}
	case what < 11:
		return request{kind: k, namespace: namespace, what: "put of a file", verb: "PUT", path: one, query: dryRun, body: always(h.object(k, name))}
	case what < 13:
		return request{kind: k, namespace: namespace, what: "merge patch", verb: "PATCH", path: one, query: dryRun, contentType: "application/merge-patch+json", body: always(h.patch(k))}
	case what < 14:
		return request{kind: k, namespace: namespace, what: "strategic patch", verb: "PATCH", path: one, query: dryRun, contentType: "application/strategic-merge-patch+json", body: always(h.patch(k))}
	case what < 15:
		return request{kind: k, namespace: namespace, what: "JSON patch", verb: "PATCH", path: one, query: dryRun, contentType: "application/json-patch+json", body: always(h.jsonPatch(k))}
	case what < 17 && k.scale:
		replicas := h.IntN(3)
		return request{kind: k, namespace: namespace, what: "scale", verb: "PATCH", path: one + "/scale", query: dryRun, contentType: "application/merge-patch+json", body: always(object{"spec": object{"replicas": replicas}})}
	case what < 17:
		query := "?fieldManager=" + pick(h.Rand, "m1", "m2") + pick(h.Rand, "", "&force=true")
		if dryRun != "" {
			query += "&dryRun=All"
		}
		return request{kind: k, namespace: namespace, what: "apply", verb: "PATCH", path: one, query: query, contentType: "application/apply-patch+yaml", body: always(h.object(k, name))}
	case what < 18:
		finalizers := pick[any](h.Rand, []string{"example.com/f"}, nil)
		return request{kind: k, namespace: namespace, what: "finalizers", verb: "PATCH", path: one, contentType: "application/merge-patch+json", body: always(object{"metadata": object{"finalizers": finalizers}})}
	case what < 19:
		return request{kind: k, namespace: namespace, what: "status", verb: "PATCH", path: one + "/status", query: dryRun, contentType: "application/merge-patch+json", body: always(h.status(k))}
	case h.IntN(4) == 0:
		return request{kind: k, namespace: namespace, what: "delete collection", verb: "DELETE", path: all, query: pick(h.Rand, "?gracePeriodSeconds=0", "?labelSelector=turn%3D1", "?dryRun=All")}
	default:
		return request{kind: k, namespace: namespace, what: "delete", verb: "DELETE", path: one, query: pick(h.Rand, "", "?gracePeriodSeconds=0", "?dryRun=All")}
	}
}

func always(body any) func(*server) any { return func(*server) any { return body } }

// object is a manifest.
type object map[string]any

func (o object) metadata() object { return o["metadata"].(object) }

// object draws a manifest of a kind.
func (h *history) object(k kind, name string) object {
	labels := object{"turn": pick(h.Rand, "1", "2")}
	annotations := object{}
	switch h.IntN(12) {
	case 0:
		annotations["example.com/refuse"] = "true"
	case 1:
		annotations["example.com/mutate"] = "true"
	}
	o := object{"apiVersion": k.version(), "kind": k.name, "metadata": object{"name": name, "labels": labels, "annotations": annotations}}
	switch k.name {
	case "Service":
		o["spec"] = h.serviceSpec()
	case "Pod":
		o["spec"] = h.podSpec()
	default:
		o["spec"] = h.workloadSpec(k)
	}
	if h.IntN(15) == 0 {
		labels["turn"] = "not valid!" // for the API server's own validation
	}
	return o
}

func (h *history) serviceSpec() object {
	spec := object{"selector": object{"app": "x"}, "type": pick(h.Rand, "NodePort", "NodePort", "LoadBalancer", "ClusterIP")}
	var list []any
	for i := range 1 + h.IntN(2) {
		port := object{"name": fmt.Sprint("p", i), "port": 80 + i, "protocol": pick(h.Rand, "TCP", "TCP", "UDP")}
		if spec["type"] != "ClusterIP" && h.IntN(3) > 0 {
			port["nodePort"] = h.nodePort()
		}
		list = append(list, port)
	}
	spec["ports"] = list
	if spec["type"] == "LoadBalancer" {
		if h.IntN(4) == 0 {
			spec["allocateLoadBalancerNodePorts"] = false
		}
		if h.IntN(4) == 0 {
			spec["externalTrafficPolicy"] = "Local"
		}
	}
	return spec
}

// nodePort is one that a client writes; one in thirty is outside of the range.
func (h *history) nodePort() int {
	if h.IntN(30) == 0 {
		return 32000
	}
	return 30000 + h.IntN(10)
}

func (h *history) podSpec() object {
	port := object{"containerPort": 80, "protocol": pick(h.Rand, "TCP", "TCP", "UDP")}
	switch h.IntN(6) {
	case 0: // none
	case 1:
		port["hostPort"] = 9000 + h.IntN(10)
	default:
		port["hostPort"] = 30000 + h.IntN(10)
	}
	if h.IntN(40) == 0 {
		port["hostIP"] = "nonsense"
	}
	return object{"containers": []any{object{"name": "c", "image": "i", "ports": []any{port}}}}
}

func (h *history) workloadSpec(k kind) object {
	template := object{"metadata": object{"labels": object{"app": "x"}}, "spec": h.podSpec()}
	spec := object{"template": template}
	if k.name != "Job" {
		spec["selector"] = object{"matchLabels": object{"app": "x"}}
	} else {
		template["spec"].(object)["restartPolicy"] = "Never"
		spec["suspend"] = h.IntN(2) == 0
	}
	if k.scale {
		spec["replicas"] = h.IntN(3)
	}
	if k.name == "StatefulSet" {
		spec["serviceName"] = "x"
	}
	return spec
}

// patch draws a patch of what is there.
func (h *history) patch(k kind) object {
	meta := object{"labels": object{"turn": pick(h.Rand, "1", "2", "3")}}
	if h.IntN(3) == 0 {
		return object{"metadata": meta}
	}
	switch k.name {
	case "Service":
		return object{"metadata": meta, "spec": h.serviceSpec()}
	case "Pod":
		return object{"metadata": meta, "spec": object{"activeDeadlineSeconds": 100}}
	case "Job":
		return object{"metadata": meta, "spec": object{"suspend": h.IntN(2) == 0}}
	case "DaemonSet":
		return object{"metadata": meta, "spec": object{"template": object{"spec": h.podSpec()}}}
	default:
		return object{"metadata": meta, "spec": object{"replicas": h.IntN(3), "template": object{"spec": h.podSpec()}}}
	}
}

func (h *history) jsonPatch(k kind) []any {
	switch k.name {
	case "Service":
		return []any{object{"op": "replace", "path": "/spec/ports/0/nodePort", "value": h.nodePort()}}
	case "Pod":
		return []any{object{"op": "replace", "path": "/spec/containers/0/image", "value": "j"}}
	case "Job":
		return []any{object{"op": "replace", "path": "/spec/suspend", "value": h.IntN(2) == 0}}
	default:
		return []any{object{"op": "add", "path": "/spec/template/spec/containers/0/ports/0/hostPort", "value": 30000 + h.IntN(10)}}
	}
}

func (h *history) status(k kind) object {
	switch k.name {
	case "Service":
		return object{"status": object{"loadBalancer": object{"ingress": []any{object{"ip": "192.0.2.7"}}}}}
	case "Pod":
		return object{"status": object{"phase": pick(h.Rand, "Running", "Succeeded", "Failed")}}
	default:
		return object{"status": object{"observedGeneration": 1}}
	}
}

// put draws an edit of what is stored, and sends it with a resourceVersion.
func (h *history) put(k kind, path, name, version string) func(*server) any {
	file := h.object(k, name)
	edit := h.IntN(3)
	return func(s *server) any {
		stored := s.get(path)
		if version == "stale" {
			stored = s.older(path)
		}
		if stored == nil {
			return file
		}
		meta := stored.metadata()
		meta["labels"] = file.metadata()["labels"]
		if version == "none" {
			delete(meta, "resourceVersion")
		}
		spec := stored["spec"].(object)
		if edit > 0 && k.name == "Service" { // what a client edits by hand
			for _, key := range []string{"type", "ports", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"} {
				if v, ok := file["spec"].(object)[key]; ok {
					spec[key] = v
				}
			}
		}
		if edit > 0 && k.name != "Service" && k.name != "Pod" && k.name != "Job" {
			spec["template"].(object)["spec"].(object)["containers"] = file["spec"].(object)["template"].(object)["spec"].(object)["containers"]
		}
		return stored
	}
}

// clone is a deep copy, of numbers as JSON has them.
func clone(o any) object {
	data, err := json.Marshal(o)
	if err != nil {
		panic(err) // it was made of JSON
	}
	return parse(data)
}

func parse(data []byte) object {
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return nil
	}
	return toObject(m).(object)
}

// toObject makes objects of all maps.
func toObject(v any) any {
	switch v := v.(type) {
	case map[string]any:
		o := object{}
		for _, key := range slices.Collect(maps.Keys(v)) {
			o[key] = toObject(v[key])
		}
		return o
	case []any:
		for i := range v {
			v[i] = toObject(v[i])
		}
		return v
	default:
		return v
	}
}
