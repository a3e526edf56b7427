package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWrongCase finds the fields of ports that the API spells otherwise, and nothing that a user names.
func TestWrongCase(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"right", "kind: Pod\nspec: {hostNetwork: true, containers: [{ports: [{hostPort: 1, containerPort: 1, protocol: TCP, hostIP: 1.1.1.1}]}]}", ""},
		{"of a container's port", "kind: Pod\nspec:\n  containers:\n  - ports:\n    - containerPort: 1\n      hostport: 80\n    - containerport: 2",
			"f:7: spec.containers[0].ports[0].hostport is spelled hostPort\nf:8: spec.containers[0].ports[1].containerport is spelled containerPort"},
		{"of a Service", "kind: Service\nspec:\n  externalIps: []\n  ports: [{NodePort: 1}]", "f:4: spec.externalIps is spelled externalIPs\nf:5: spec.ports[0].NodePort is spelled nodePort"},
		{"of a pod", "kind: Pod\nspec:\n  hostnetwork: true\n  Containers: [{ports: [{hostport: 1}]}]", "f:5: spec.Containers is spelled containers\nf:4: spec.hostnetwork is spelled hostNetwork"},
		{"in a probe", "kind: Pod\nspec: {containers: [{livenessProbe: {httpGet: {Port: 1}}}]}", "f:3: spec.containers[0].livenessProbe.httpGet.Port is spelled port"},
		{"beside the right one", "kind: Pod\nspec: {hostNetwork: true, hostnetwork: false}", ""},
		{"a label", "kind: Pod\nmetadata: {labels: {hostport: x, nodeport: z}, annotations: {hostip: z}}", ""},
		{"a selector", "kind: Service\nspec: {selector: {nodeport: x}}", ""},
		{"data", "kind: ConfigMap\ndata: {hostport: x}", ""},
		{"a word of no such place", "kind: Pod\nspec: {hostport: 1}", ""},
		{"a field of no ports", "kind: Pod\nspec: {restartpolicy: Never}", ""},
		{"a kind that nobody knows", "kind: Web\nspec: {hostport: 1}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, wrong(parsed(t, "apiVersion: v1\n"+tt.text))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}
