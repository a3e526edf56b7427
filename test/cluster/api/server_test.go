package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	os.Exit(m.Run())
}

// server is an API server that has the definitions which ship.
type server struct {
	*controlplane.ControlPlane
	client.Client
	clientset kubernetes.Interface
}

// TestAPIServer is every test that needs the API server, for it takes longer to start than all of them.
func TestAPIServer(t *testing.T) {
	s := newServer(t)
	t.Run("samples", s.testSamples)
	t.Run("refusals", s.testRefusals)
	t.Run("bounds", s.testBounds)
	t.Run("spellings", s.testSpellings)
	t.Run("status", s.testStatus)
	t.Run("claims", s.testClaims)
	t.Run("kubectl", s.testKubectl)
	t.Run("rights", s.testRights)
	t.Run("ratcheting", s.testRatcheting)
}

func newServer(t *testing.T) *server {
	t.Helper()
	// The controller manager makes the aggregated roles.
	s := &server{ControlPlane: controlplane.Run(t, controlplane.Options{ControllerManager: true})}
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), rbacv1.AddToScheme(known), v1alpha1.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.clientset, err = kubernetes.NewForConfig(s.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	apply, err := client.New(s.RESTConfig(), client.Options{Scheme: known})
	if err != nil {
		t.Fatal(err)
	}
	s.Client = apply
	for _, file := range glob(t, crds) {
		s.apply(t, load(t, file))
	}
	for _, list := range []client.ObjectList{&v1alpha1.PortPoolList{}, &v1alpha1.PortPolicyList{}, &v1alpha1.PortClaimList{}} {
		poll.Until(t, func(ctx context.Context) error { return s.List(ctx, list) })
	}
	return s
}

// load reads the only object of a file.
func load(t *testing.T, file string) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if text, err = yaml.YAMLToJSONStrict(text); err == nil {
		err = u.UnmarshalJSON(text)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return u
}

// full returns the object of a kind that has every field.
func full(t *testing.T, kind string) *unstructured.Unstructured {
	t.Helper()
	return load(t, filepath.Join("testdata", strings.ToLower(kind)+".yaml"))
}

// apply applies an object on the server's side.
func (s *server) apply(t *testing.T, u *unstructured.Unstructured) {
	t.Helper()
	if err := s.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("test"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
}

// create creates an object, its status too, and deletes it when the test ends.
func (s *server) create(t *testing.T, u *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	status, ok := u.Object["status"]
	if err := s.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Delete(context.WithoutCancel(t.Context()), u); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	if ok {
		u.Object["status"] = status
		if err := s.Status().Update(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// causes returns what an error says of each field, an empty list for no error.
func causes(t *testing.T, err error) []metav1.StatusCause {
	t.Helper()
	if err == nil {
		return nil
	}
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || !apierrors.IsInvalid(err) {
		t.Fatalf("got %v, want that it is invalid", err)
	}
	return status.ErrStatus.Details.Causes
}

// absent as a value is none, where nil is a null.
type absent struct{}

// set puts a value at a path such as spec.ranges[0].port. Lists are not made longer.
func set(t *testing.T, object map[string]any, path string, value any) {
	t.Helper()
	steps := step.FindAllString(path, -1)
	var at any = object
	for i, s := range steps {
		last := i == len(steps)-1
		if index, ok := strings.CutPrefix(s, "["); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			list, isList := at.([]any)
			if err != nil || !isList || n >= len(list) {
				t.Fatalf("%s: no item %s", path, s)
			}
			if last {
				list[n] = value
			}
			at = list[n]
			continue
		}
		fields, ok := at.(map[string]any)
		name := strings.TrimPrefix(s, ".")
		_, isAbsent := value.(absent)
		switch {
		case !ok:
			t.Fatalf("%s: nothing has the field %s", path, name)
		case last && isAbsent:
			delete(fields, name)
		case last:
			fields[name] = value
		case fields[name] == nil:
			fields[name] = map[string]any{}
		}
		at = fields[name]
	}
}

var step = regexp.MustCompile(`\[\d+\]|\.?[^.\[\]]+`)

// get returns what is at a path.
func get(t *testing.T, object map[string]any, path string) any {
	t.Helper()
	var at any = object
	for _, s := range step.FindAllString(path, -1) {
		if index, ok := strings.CutPrefix(s, "["); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(index, "]"))
			at = at.([]any)[n]
			continue
		}
		at = at.(map[string]any)[strings.TrimPrefix(s, ".")]
	}
	return at
}

// parse reads a value as it would stand in a manifest.
func parse(t *testing.T, text string) any {
	t.Helper()
	var value any
	data, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = json.Unmarshal(data, &value)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return whole(value)
}

// whole makes integers of the numbers that JSON gives, as clients do.
func whole(value any) any {
	switch v := value.(type) {
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = whole(v[key])
		}
	}
	return value
}

// tryStore asks the API server whether it would take an object, and whether as an update of what is stored.
func (s *server) tryStore(t *testing.T, u *unstructured.Unstructured, onto *unstructured.Unstructured) error {
	t.Helper()
	if onto == nil {
		return s.Create(t.Context(), u, client.DryRunAll)
	}
	u.SetResourceVersion(onto.GetResourceVersion())
	return s.Update(t.Context(), u, client.DryRunAll)
}

// tryStatus asks the API server whether it would take an object's status.
func (s *server) tryStatus(t *testing.T, u *unstructured.Unstructured, onto *unstructured.Unstructured) error {
	t.Helper()
	u.SetResourceVersion(onto.GetResourceVersion())
	return s.Status().Update(t.Context(), u, client.DryRunAll)
}

// plain turns the field of a cause into the path of a schema. The API server writes <nil> for the whole object.
func plain(field string) string {
	if field == "<nil>" {
		return ""
	}
	return key.ReplaceAllString(index.ReplaceAllString(field, "[]"), "{}")
}

var (
	index = regexp.MustCompile(`\[\d+\]`)
	key   = regexp.MustCompile(`\[[^\]]+\]`)
)

func describe(all []metav1.StatusCause) string {
	var lines []string
	for _, c := range all {
		lines = append(lines, fmt.Sprintf("  %s: %s", c.Field, c.Message))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
