package docs

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// judge asks every question about the objects of a manifest, with the default configuration, where those of state exist
// already. An object that stands in the state too is an update of it.
func judge(t *testing.T, state, objects []*manifest.Object) []check.Finding {
	t.Helper()
	settings := defaults(t)
	held := &ledger.Ledger{}
	var nodes extract.NodeList
	for _, o := range state {
		if node, ok := o.Object.(*corev1.Node); ok {
			nodes = append(nodes, node)
			held.ReplaceNode(node.Name, extract.NodeAddresses(node))
		}
	}
	existing := map[ports.Ref]check.Input{}
	for _, o := range state {
		if in, owner, claims, ok := input(settings, nodes, o.Object); ok {
			existing[owner.Ref] = in
			held.Replace(owner, claims)
		}
	}
	var findings []check.Finding
	for _, o := range objects {
		in, owner, _, ok := input(settings, nodes, o.Object)
		if !ok {
			t.Fatalf("%s:%d: %T claims no ports", o.Path, o.Line, o.Object)
		}
		old := existing[owner.Ref]
		in.OldService, in.OldWorkload = old.Service, old.Workload
		in.Held, in.Settings = held.Snapshot(), &settings.Check
		findings = append(findings, check.Check(in)...)
	}
	return findings
}

func defaults(t *testing.T) *extract.Settings {
	t.Helper()
	config, err := configv1alpha1.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := extract.NewSettings(config)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// input returns an object as a question sees it, and what it claims; false for kinds that claim nothing.
func input(settings *extract.Settings, nodes extract.NodeList, object runtime.Object) (check.Input, ports.Owner, []ports.Claim, bool) {
	if svc, ok := object.(*corev1.Service); ok {
		s := extract.Service(svc, settings.NodePorts)
		return check.Input{Service: s}, s.Owner, s.Claims, true
	}
	var w *check.Workload
	if pod, ok := object.(*corev1.Pod); ok {
		w = extract.Pod(pod, nodes)
	} else if w, ok = extract.Workload(object, nodes); !ok {
		return check.Input{}, ports.Owner{}, nil, false
	}
	return check.Input{Workload: w}, w.Owner, w.Claims, true
}

// parse reads a block of YAML; where is what errors call it.
func parse(t *testing.T, where, text string) []*manifest.Object {
	t.Helper()
	in, err := manifest.Parse(where, []byte(text), manifest.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	return in.Objects
}

// parseFiles reads the objects of files below root.
func parseFiles(t *testing.T, paths ...string) []*manifest.Object {
	t.Helper()
	var objects []*manifest.Object
	for _, path := range paths {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, parse(t, path, string(text))...)
	}
	return objects
}
