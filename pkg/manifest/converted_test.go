package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVersionsThatAreGone: the selector that they left out is that of the template's labels.
func TestVersionsThatAreGone(t *testing.T) {
	const template = "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{hostPort: 80}]}]}}"
	for _, tt := range []struct{ version, kind, spec string }{
		{"extensions/v1beta1", "Deployment", template}, {"extensions/v1beta1", "DaemonSet", template}, {"extensions/v1beta1", "ReplicaSet", template},
		{"apps/v1beta1", "Deployment", template}, {"apps/v1beta1", "StatefulSet", template},
		{"apps/v1beta2", "Deployment", "selector: {matchLabels: {app: web}}, " + template},
	} {
		got := parsed(t, "{apiVersion: "+tt.version+", kind: "+tt.kind+", metadata: {name: a}, spec: {"+tt.spec+"}}").Objects[0]
		want := parsed(t, "{apiVersion: apps/v1, kind: "+tt.kind+", metadata: {name: a}, spec: {selector: {matchLabels: {app: web}}, "+template+"}}").Objects[0]
		if diff := cmp.Diff(want.Object, got.Object); diff != "" {
			t.Errorf("%s %s (-as apps/v1 +got):\n%s", tt.version, tt.kind, diff)
		}
	}
}
