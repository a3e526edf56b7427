package install

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// cluster is the scope of a right that a ClusterRoleBinding gives.
const cluster = "*"

// read-only rights, as most are.
const watched = "get,list,watch"

// TestRights: the webhook has exactly these rights, and what is switched off takes its own away.
func TestRights(t *testing.T) {
	base := []string{
		cluster + " core/namespaces,nodes,pods,replicationcontrollers,services " + watched,
		cluster + " apps/daemonsets,deployments,replicasets,statefulsets " + watched,
		cluster + " batch/cronjobs,jobs " + watched,
		cluster + " networking.k8s.io/servicecidrs " + watched,
		cluster + " apiextensions.k8s.io/customresourcedefinitions[portpools.portcullis.dev] get",
		cluster + " portcullis.dev/portpools,portpolicies " + watched,
		cluster + " portcullis.dev/portpools/status,portpolicies/status,portclaims/status update",
		cluster + " portcullis.dev/portclaims get,list,watch,create,patch,delete",
		cluster + " events.k8s.io/events create,patch,update",
		namespace + " coordination.k8s.io/leases create",
		namespace + " coordination.k8s.io/leases[portcullis] get,update",
		namespace + " core/configmaps create",
		namespace + " core/configmaps[portcullis-journal] get,update",
	}
	registrations := cluster + " admissionregistration.k8s.io/mutatingwebhookconfigurations,validatingwebhookconfigurations[portcullis] get,update"
	certificates := []string{namespace + " core/secrets create", namespace + " core/secrets[portcullis-ca] get,update"}
	arming := []string{namespace + " discovery.k8s.io/endpointslices list", "default apps/deployments create"}
	reports := cluster + " openreports.io/reports list,create,patch,delete"
	for _, c := range []struct {
		values string
		want   []string
	}{
		{"", slices.Concat(base, certificates, arming, []string{registrations, reports})},
		{"arm: false", slices.Concat(base, certificates, []string{registrations, reports})},
		{"probeNamespace: probes", slices.Concat(base, certificates, []string{arming[0], "probes apps/deployments create", registrations, reports})},
		{"reports: {enabled: false}", slices.Concat(base, certificates, arming, []string{registrations})},
		{"certificates: {mode: certManager}", slices.Concat(base, arming, []string{registrations, reports})},
		{"{certificates: {mode: certManager}, arm: false, reports: {enabled: false}}", base},
		{"metrics: {secure: true}", slices.Concat(base, certificates, arming, []string{
			registrations, reports, cluster + " authentication.k8s.io/tokenreviews create", cluster + " authorization.k8s.io/subjectaccessreviews create",
		})},
	} {
		got := rights(t, rendered(t, c.values))
		slices.Sort(c.want)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("with %q the webhook's rights are (-want +got):\n%s", c.values, diff)
		}
		for _, right := range got {
			if strings.Count(right, "*") > strings.Count(right[:1], "*") || strings.HasPrefix(right, cluster+" core/secrets") {
				t.Errorf("%q is too much", right)
			}
			verbs := right[strings.LastIndex(right, " ")+1:]
			for v := range strings.SplitSeq(verbs, ",") {
				if !slices.Contains([]string{"get", "list", "watch", "create", "update", "patch", "delete"}, v) {
					t.Errorf("%q is too much", right)
				}
			}
		}
	}
}

// rights are what the bindings give to the webhook's service account, a line for each rule: where, what, and the verbs.
func rights(t *testing.T, all objects) []string {
	t.Helper()
	typed, _ := all.decoded(t)
	var lines []string
	bound := func(where string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "portcullis", Namespace: namespace}}
		if diff := cmp.Diff(want, subjects); diff != "" {
			t.Errorf("%s is bound to others (-want +got):\n%s", ref.Name, diff)
		}
		switch role := typed[ref.Kind+"/"+strings.TrimPrefix(where, cluster)+"/"+ref.Name].(type) {
		case *rbacv1.ClusterRole:
			lines = append(lines, described(where, role.Rules)...)
		case *rbacv1.Role:
			lines = append(lines, described(where, role.Rules)...)
		default:
			t.Errorf("there is no %s %s for what is bound in %s", ref.Kind, ref.Name, where)
		}
	}
	for _, o := range typed {
		switch b := o.(type) {
		case *rbacv1.ClusterRoleBinding:
			bound(cluster, b.RoleRef, b.Subjects)
		case *rbacv1.RoleBinding:
			bound(b.Namespace, b.RoleRef, b.Subjects)
		}
	}
	slices.Sort(lines)
	return lines
}

func described(where string, rules []rbacv1.PolicyRule) []string {
	var lines []string
	for _, r := range rules {
		group := strings.Join(r.APIGroups, ",")
		if group == "" {
			group = "core"
		}
		resources := strings.Join(slices.Concat(r.Resources, r.NonResourceURLs), ",")
		if len(r.ResourceNames) > 0 {
			resources += "[" + strings.Join(r.ResourceNames, ",") + "]"
		}
		lines = append(lines, fmt.Sprintf("%s %s/%s %s", where, group, resources, strings.Join(r.Verbs, ",")))
	}
	return lines
}
