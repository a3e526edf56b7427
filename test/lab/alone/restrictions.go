package alone

import (
	"testing"
	"time"

	configv1alpha1 "github.com/portcullis-k8s/portcullis/api/config/v1alpha1"
	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// Source is what policies are made of: a configuration's text, and pools and policies.
func Source(t testing.TB, config, objects string) vap.Source {
	t.Helper()
	read, err := configv1alpha1.Load([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	s := vap.Source{ExcludedNamespaces: hooks.Shipped().ExcludedNamespaces, Now: time.Now()}
	if s.Settings, err = extract.NewSettings(read); err != nil {
		t.Fatal(err)
	}
	scheme := manifest.Scheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	in, err := manifest.Parse("restrictions", []byte(objects), scheme)
	if err != nil && objects != "" {
		t.Fatal(err)
	}
	for _, o := range in.Objects {
		switch o := o.Object.(type) {
		case *v1alpha1.PortPool:
			s.Pools = append(s.Pools, o)
		case *v1alpha1.PortPolicy:
			s.Policies = append(s.Policies, o)
		}
	}
	return s
}

// Places are the labels of the namespaces in which objects are tried.
func Places() []map[string]string {
	return []map[string]string{{}, {"team": "a"}, {"policy": "none"}, {"policy": "some"}, {"policy": "pools", "team": "games"}, {"policy": "noisy", "team": "b"}}
}

// EveryConfig is the text of a configuration that, with EveryRestriction, uses everything that policies are made of.
const EveryConfig = `
apiVersion: config.portcullis.dev/v1alpha1
kind: PortcullisConfiguration
reservedLocalPorts: "40000-40009"
nodeReserved:
- {name: kubelet, port: 10250, protocol: TCP}
- {name: proxy, port: 10249, hostIP: 127.0.0.1, protocol: TCP}
- {name: agent, port: 31999, protocol: UDP}
- {name: loop, port: 31998, hostIP: "::1", protocol: TCP}
- {name: six, port: 9100, hostIP: "::", protocol: TCP}
`

// EveryRestriction is the text of PortPools and PortPolicies, for the namespaces of Places.
const EveryRestriction = `
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: team-a}
spec: {ranges: [{port: 30100, endPort: 30199}], namespaceSelector: {matchLabels: {team: a}}, enforcement: Deny}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: draining}
spec: {ranges: [{port: 30300, endPort: 30309}], namespaceSelector: {}, state: Draining, enforcement: Warn}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: gold}
spec: {ranges: [{port: 30400, endPort: 30409}], namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}, serviceSelector: {matchLabels: {tier: gold}}, sharing: Shared}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPool
metadata: {name: games}
spec: {for: HostPorts, ranges: [{port: 7000, endPort: 7099}], namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [games]}]}, enforcement: Deny}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: no-ports}
spec:
  namespaceSelector: {matchLabels: {policy: none}}
  enforcement: Deny
  message: ask the platform team
  nodePorts: {mode: Forbidden}
  hostPorts: {mode: Forbidden, hostNetwork: Forbidden}
  exceptions:
  - {name: edge, objectSelector: {matchLabels: {app: edge}}, reason: it is the edge}
  - {name: late, objectSelector: {matchLabels: {app: late}}, reason: it was the edge, expiresAt: "2020-01-01T00:00:00Z"}
  - {name: soon, objectSelector: {matchLabels: {app: soon}}, reason: it will move, expiresAt: "2100-01-01T00:00:00Z"}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: some-ports}
spec:
  namespaceSelector: {matchLabels: {policy: some}}
  enforcement: Deny
  nodePorts: {mode: Restricted, allowed: [{port: 30100, endPort: 30109}], loadBalancerNodePorts: Forbidden}
  hostPorts:
    mode: Restricted
    nodePortRange: Forbidden
    allowed:
    - {port: 8080, endPort: 8089, protocols: [TCP]}
    - {port: 9000, hostIPs: [127.0.0.1, "::ffff:10.0.0.1"]}
    - {port: 9001, hostIPs: ["0.0.0.0", "::"]}
    - {port: 30500}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: pools-only}
spec:
  namespaceSelector: {matchLabels: {policy: pools}}
  enforcement: Deny
  nodePorts: {mode: PoolOnly, explicitRequests: Forbidden}
  reserved:
  - {name: backup, ports: [{port: 8700, endPort: 8710, hostIPs: ["0.0.0.0"]}], nodeSelector: {}, reason: the backup agent}
  - {name: gpu, ports: [{port: 8800}], nodeSelector: {matchLabels: {gpu: "true"}}}
---
apiVersion: portcullis.dev/v1alpha1
kind: PortPolicy
metadata: {name: noisy}
spec:
  namespaceSelector: {matchLabels: {policy: noisy}}
  enforcement: Warn
  hostPorts: {mode: Forbidden, hostNetwork: Forbidden}
`

// EverythingWarns is put behind EveryConfig: nothing is denied, so that all findings are told.
const EverythingWarns = "enforcement: {PC0101: Warn, PC0102: Warn, PC0104: Warn, PC0301: Warn, PC0302: Warn, PC0303: Warn, PC0304: Warn, PC0306: Warn, " +
	"PC0307: Warn, PC0310: Warn, PC0311: Warn, PC0312: Warn, PC0403: Warn, PC0502: Warn, PC0504: Warn}\nonUncertain: Warn\n"
