package transparency

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
)

// server is an API server as a client sees it.
type server struct {
	ctx    context.Context
	url    string
	client *http.Client
	// What was seen at a path last, and before that.
	last, before map[string]object
}

func newServer(t *testing.T, cp *controlplane.ControlPlane) *server {
	t.Helper()
	config := cp.RESTConfig()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	return &server{ctx: t.Context(), url: config.Host, client: client, last: map[string]object{}, before: map[string]object{}}
}

// reply is an answer.
type reply struct {
	code            int
	reason, message string
	body            object
}

func (r reply) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", r.code, r.reason, r.message))
}

func (s *server) do(verb, path, contentType string, body any) reply {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return reply{message: err.Error()}
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, 40*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, verb, s.url+path, bytes.NewReader(data))
	if err != nil {
		return reply{message: err.Error()}
	}
	if contentType == "" {
		contentType = "application/json"
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := s.client.Do(req)
	if err != nil {
		return reply{message: err.Error()}
	}
	defer resp.Body.Close()
	if data, err = io.ReadAll(resp.Body); err != nil {
		return reply{message: err.Error()}
	}
	r := reply{code: resp.StatusCode, body: parse(data)}
	if r.code >= http.StatusBadRequest && r.body != nil {
		r.reason, _ = r.body["reason"].(string)
		r.message, _ = r.body["message"].(string)
	}
	return r
}

func (s *server) must(t *testing.T, r reply) {
	t.Helper()
	if r.code >= http.StatusBadRequest || r.code == 0 {
		t.Fatal(r)
	}
}

// get returns an object, nil if there is none.
func (s *server) get(path string) object {
	ctx, cancel := context.WithTimeout(s.ctx, 40*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil
	}
	return parse(data)
}

// older returns the object at a path as it was before the last write to it.
func (s *server) older(path string) object {
	if old := s.before[path]; old != nil {
		return clone(old)
	}
	return s.get(path)
}

func (s *server) remember(path string, o object) {
	last := s.last[path]
	if last != nil && last.metadata()["resourceVersion"] == o.metadata()["resourceVersion"] {
		return
	}
	s.last[path] = clone(o)
	if last != nil {
		s.before[path] = last
	}
}

// items returns the stored objects of a kind.
func (s *server) items(k kind, namespace string) []object {
	list := s.get(fmt.Sprintf(k.path, namespace))
	var all []object
	if list != nil {
		items, _ := list["items"].([]any)
		for _, item := range items {
			all = append(all, item.(object))
		}
	}
	return all
}

// all returns what is stored of a kind in a namespace, without what must differ.
func (s *server) all(t *testing.T, k kind, namespace string) []string {
	t.Helper()
	var all []string
	for _, o := range s.items(k, namespace) {
		s.remember(fmt.Sprintf(k.path, namespace)+"/"+o.metadata()["name"].(string), o)
		normalize(k, o)
		data, err := json.MarshalIndent(o, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k.name+" "+string(data))
	}
	slices.Sort(all)
	return all
}

// normalize takes out of an object what two API servers choose for themselves, and what the webhook fills in.
func normalize(k kind, o object) {
	meta := o.metadata()
	for _, key := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds"} {
		delete(meta, key)
	}
	if _, generated := meta["generateName"]; generated {
		delete(meta, "name")
	}
	spec, _ := o["spec"].(object)
	if k.name == "Service" {
		delete(spec, "clusterIP")
		delete(spec, "clusterIPs")
		chosen(spec, "healthCheckNodePort")
		list, _ := spec["ports"].([]any)
		for _, p := range list {
			chosen(p.(object), "nodePort")
		}
	}
	if k.name == "Job" {
		delete(spec, "selector")
		if template, ok := spec["template"].(object); ok {
			template.metadata()["labels"] = nil
		}
		if labels, ok := meta["labels"].(object); ok {
			delete(labels, "batch.kubernetes.io/controller-uid")
			delete(labels, "controller-uid")
		}
	}
	if k.name == "Pod" {
		containers, _ := spec["containers"].([]any)
		for _, c := range containers {
			list, _ := c.(object)["ports"].([]any)
			for _, p := range list {
				if p.(object)["hostIP"] == "0.0.0.0" {
					delete(p.(object), "hostIP")
				}
			}
		}
	}
}

// chosen replaces a port of the upper band, which no client writes.
func chosen(o object, key string) {
	if n, ok := o[key].(float64); ok && n >= 30031 && n < 31000 {
		o[key] = "chosen"
	}
}

// clear deletes all objects of a kind, whatever finalizers they have.
func (s *server) clear(t *testing.T, k kind, namespace string) {
	t.Helper()
	all := fmt.Sprintf(k.path, namespace)
	items := s.items(k, namespace)
	for _, o := range items {
		if o.metadata()["finalizers"] != nil {
			s.do("PATCH", all+"/"+o.metadata()["name"].(string), "application/merge-patch+json", object{"metadata": object{"finalizers": nil}})
		}
	}
	if len(items) > 0 {
		s.must(t, s.do("DELETE", all+"?gracePeriodSeconds=0&propagationPolicy=Background", "", nil))
	}
	clear(s.before)
	clear(s.last)
}

const quotaPath = "/api/v1/namespaces/limited/resourcequotas"

// limit gives the namespace "limited" a quota. There is no controller: the test writes its status.
func (s *server) limit(t *testing.T) {
	t.Helper()
	hard := object{"services.nodeports": "2", "count/pods": "2", "count/deployments.apps": "1"}
	s.must(t, s.do("POST", quotaPath, "", object{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": object{"name": "q"}, "spec": object{"hard": hard}}))
	s.resetQuota(t)
}

func (s *server) resetQuota(t *testing.T) {
	t.Helper()
	q := s.get(quotaPath + "/q")
	used := object{}
	for key := range q["spec"].(object)["hard"].(object) {
		used[key] = "0"
	}
	q["status"] = object{"hard": q["spec"].(object)["hard"], "used": used}
	s.must(t, s.do("PUT", quotaPath+"/q/status", "", q))
}

var heldPattern = regexp.MustCompile(`: (\d+)/(TCP|UDP|SCTP) `)

// confirm looks up what a refusal by our code says in what the API server has stored, and returns its class.
func (s *server) confirm(code, message string) (string, error) {
	if code != "PC0201" && code != "PC0202" {
		return refusedForItself, nil
	}
	ref, port := finding.Holder(message), heldPattern.FindStringSubmatch(message)
	if ref == "" || port == nil {
		return "", fmt.Errorf("no holder or port in: %s", message)
	}
	parts := strings.FieldsFunc(ref, func(r rune) bool { return r == ' ' || r == '/' })
	i := slices.IndexFunc(kinds(), func(k kind) bool { return k.name == parts[0] })
	k := kinds()[i]
	o := s.get(fmt.Sprintf(k.path, parts[1]) + "/" + parts[2])
	if o == nil {
		return "", fmt.Errorf("there is no %s: %s", ref, message)
	}
	for _, c := range claims(k, o) {
		if c.port == port[1] && (c.protocol == port[2] || k.name == "Service") {
			return refusedForHolder, nil
		}
	}
	return "", fmt.Errorf("%s has no port %s: %s", ref, port[0], message)
}

// claim is a port of a stored object, as the model sees it.
type claim struct {
	of, port, protocol string
	isNodePort         bool
}

// claims returns the ports that an object holds. It shares no code with the webhook.
func claims(k kind, o object) []claim {
	var all []claim
	of := k.name + " " + o.metadata()["namespace"].(string) + "/" + o.metadata()["name"].(string)
	spec, _ := o["spec"].(object)
	add := func(p object, key string, isNodePort bool) {
		if n, ok := p[key].(float64); ok && n > 0 {
			protocol, _ := p["protocol"].(string)
			if protocol == "" {
				protocol = "TCP"
			}
			all = append(all, claim{of, fmt.Sprint(int(n)), protocol, isNodePort})
		}
	}
	switch k.name {
	case "Service":
		list, _ := spec["ports"].([]any)
		for _, p := range list {
			add(p.(object), "nodePort", true)
		}
		add(spec, "healthCheckNodePort", true)
		return all
	case "Pod":
		status, _ := o["status"].(object)
		if phase := status["phase"]; phase == "Succeeded" || phase == "Failed" {
			return nil
		}
	case "Deployment", "StatefulSet":
		if spec["replicas"] == float64(0) {
			return nil
		}
		spec = spec["template"].(object)["spec"].(object)
	case "Job":
		if spec["suspend"] == true {
			return nil
		}
		spec = spec["template"].(object)["spec"].(object)
	default:
		spec = spec["template"].(object)["spec"].(object)
	}
	containers, _ := spec["containers"].([]any)
	for _, c := range containers {
		list, _ := c.(object)["ports"].([]any)
		for _, p := range list {
			add(p.(object), "hostPort", false)
		}
	}
	return all
}

// conflicts returns an error if a Service's node port is also somebody's host port: nobody was let through with it.
func (s *server) conflicts(kinds []kind) error {
	held := map[string]claim{}
	var hostPorts []claim
	for _, k := range kinds {
		for _, namespace := range namespaces() {
			for _, o := range s.items(k, namespace) {
				for _, c := range claims(k, o) {
					if c.isNodePort {
						held[c.port+"/"+c.protocol] = c
					} else {
						hostPorts = append(hostPorts, c)
					}
				}
			}
		}
	}
	for _, c := range hostPorts {
		if other, ok := held[c.port+"/"+c.protocol]; ok {
			return fmt.Errorf("%s/%s is held by %s and by %s", c.port, c.protocol, other.of, c.of)
		}
	}
	return nil
}
