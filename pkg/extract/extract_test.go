package extract_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// mustRead reads an object, or a part of one, written as YAML; in the tables as one line of it.
func mustRead[T any](text string) *T {
	object := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return object
}

// told writes claims as "KIND ADDRESS:PORT/PROTOCOL @SCOPE FIELD", with "init", "sidecar" or "idle" behind.
func told(claims []ports.Claim) []string {
	var lines []string
	for _, c := range claims {
		line := fmt.Sprintf("%s %s @%s %s", c.Kind, c.Socket, c.Scope, c.Field)
		for _, option := range []struct {
			set  bool
			name string
		}{{c.InitOnly, "init"}, {c.Sidecar, "sidecar"}, {c.Idle, "idle"}} {
			if option.set {
				line += " " + option.name
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// chain writes an owner with its controllers.
func chain(o ports.Owner) string {
	line := ""
	for ref := range o.Chain() {
		if line != "" {
			line += " < "
		}
		line += ref.APIVersion + " " + ref.String()
	}
	return line
}

// threeNodes: n1 in zone a, n2 in zone b, and n3 in zone b with a taint.
func threeNodes() extract.NodeList {
	return extract.NodeList{
		mustRead[corev1.Node]("{metadata: {name: n2, labels: {zone: b}}}"),
		mustRead[corev1.Node]("{metadata: {name: n1, labels: {zone: a}}}"),
		mustRead[corev1.Node]("{metadata: {name: n3, labels: {zone: b}}, spec: {taints: [{key: dedicated, value: db, effect: NoSchedule}]}}"),
	}
}

// everyOwner checks that claims belong to the object that they were taken from.
func everyOwner(t *testing.T, why string, owner *ports.Owner, claims []ports.Claim) {
	t.Helper()
	for _, c := range claims {
		if c.Owner != owner {
			t.Errorf("%s: %s belongs to %p, not to %p", why, c, c.Owner, owner)
		}
	}
}
