package redteam

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
)

// server is who stores what the webhook lets through.
type server interface {
	stored(namespace string) []*unstructured.Unstructured
	send(request) error
}

// search has a tenant write at random what could get around the policies, and holds what is stored to a model.
type search struct {
	source
	server server
	yards  []yard
	log    []string
	counts map[string]int // of codes, and of what was let through
}

// run makes requests. What is stored is looked at every so often: it returns what is broken then, and by which requests.
func (s *search) run(requests, every int) error {
	for i := range requests {
		y := s.yards[s.IntN(len(s.yards))]
		r := s.request(y.namespace, s.server.stored(y.namespace))
		what := r.String() // before the answer is written into the object
		err := s.server.send(r)
		answer := finding.Answer(err)
		s.log = append(s.log, what+" -> "+answer)
		code := finding.Code(answer)
		if err == nil {
			code = "ok"
		}
		s.counts[code]++
		if i%every != every-1 && i != requests-1 {
			continue
		}
		var broken []string
		for _, y := range s.yards {
			broken = append(broken, y.broken(s.server.stored(y.namespace))...)
		}
		if len(broken) > 0 {
			return fmt.Errorf("request %d: %s\nthe last requests:\n%s", i, strings.Join(broken, "\n"), strings.Join(s.log[max(0, len(s.log)-60):], "\n"))
		}
	}
	return nil
}

// enough holds that what is searched came often enough to prove something.
func (s *search) enough(t *testing.T) {
	t.Helper()
	t.Log(s.counts)
	for _, code := range []string{"PC0201", "PC0204", "PC0302", "PC0307", "PC0310", "PC0311", "PC0312", "PC0315", "ok"} {
		if s.counts[code] < 2 {
			t.Errorf("%s came %d times, which proves little", code, s.counts[code])
		}
	}
}

// TestSearch searches for a way around the policies through the API server. Its model reads nothing but what is stored.
func TestSearch(t *testing.T) {
	w := newWorld(t)
	s := &search{source: source{seed.Rand(t)}, server: &apiServer{w, map[string]*unstructured.UnstructuredList{}}, yards: yards(), counts: map[string]int{}}
	for i := range s.yards {
		s.yards[i].namespace = w.namespace(t, s.yards[i].labels)
		t.Cleanup(func() { w.empty(t, s.yards[i].namespace) })
	}
	must(t, s.run(seed.Rounds(700, 20000), 50))
	s.enough(t)
}

// apiServer is the real one.
type apiServer struct {
	*world
	known map[string]*unstructured.UnstructuredList // what is stored of a kind in a namespace, until that is changed
}

// send makes a request as the tenant.
func (a *apiServer) send(r request) (err error) {
	ctx := context.Background()
	o := r.object
	defer func() {
		if err == nil {
			delete(a.known, r.object.GetNamespace()+"/"+r.object.GetKind())
		}
	}()
	switch r.verb {
	case "create":
		if r.dryRun {
			return a.tenant.Create(ctx, o, client.DryRunAll)
		}
		return a.tenant.Create(ctx, o)
	case "patch":
		return a.tenant.Patch(ctx, o, client.RawPatch(r.form, []byte(r.patch)))
	case "scale":
		return a.tenant.SubResource("scale").Patch(ctx, o, client.RawPatch(r.form, []byte(r.patch)))
	default:
		return a.tenant.Delete(ctx, o, client.GracePeriodSeconds(0), client.PropagationPolicy(metav1.DeletePropagationOrphan))
	}
}

// stored is what is stored in a namespace. The tenant is the only one who writes there.
func (a *apiServer) stored(namespace string) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, kind := range searched() {
		list, known := a.known[namespace+"/"+kind]
		if !known {
			list = &unstructured.UnstructuredList{}
			list.SetAPIVersion(versionOf(kind))
			list.SetKind(kind + "List")
			if err := a.admin.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
				panic(err) // the administrator may list everything
			}
			a.known[namespace+"/"+kind] = list
		}
		for i := range list.Items {
			all = append(all, list.Items[i].DeepCopy())
		}
	}
	return all
}
