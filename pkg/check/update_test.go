package check_test

import (
	"testing"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// TestUpdates holds an update to what it newly introduces: a violation from before never blocks an unrelated edit, and does not hide
// a new one.
func TestUpdates(t *testing.T) {
	service := []string{"Service b NodePort 80:30080/TCP", "Service c NodePort 80:30081/TCP"}
	pods := []string{"Pod b: hostPort * 80/TCP @n1"}
	const held = "PC0201 error standing spec.ports[0].nodePort < Service b spec.ports[0].nodePort"
	for _, s := range []scene{
		{why: "what stood before", held: service, old: "Service a NodePort 80:30080/TCP", now: "Service a NodePort 80:30080/TCP 443/TCP", want: []string{held}},
		{why: "an entry that moves in its list", held: service, old: "Service a NodePort 443/TCP 80:30080/TCP", now: "Service a NodePort 80:30080/TCP", want: []string{held}},
		{why: "a new conflict beside it", held: service, old: "Service a NodePort 80:30080/TCP", now: "Service a NodePort 80:30080/TCP 81:30081/TCP",
			want: []string{held, "PC0201 error spec.ports[1].nodePort < Service c spec.ports[0].nodePort"}},
		{why: "a number that is changed to a taken one", held: service, old: "Service a NodePort 80:30080/TCP", now: "Service a NodePort 80:30081/TCP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Service c spec.ports[0].nodePort"}},
		{why: "a type that gets node ports", held: service, old: "Service a ClusterIP 80/TCP", now: "Service a NodePort 80:30080/TCP",
			want: []string{"PC0201 error spec.ports[0].nodePort < Service b spec.ports[0].nodePort"}},
		{why: "outside the range since the range was changed", old: "Service a NodePort 80:20080/TCP", now: "Service a NodePort 80:20080/TCP 81/TCP",
			want: []string{"PC0306 warning standing spec.ports[0].nodePort"}},
		{why: "a daemon's socket", old: "Deployment a: hostPort * 22/TCP @?", now: "Deployment a: hostPort * 80/TCP @?; hostPort * 22/TCP @?",
			want: []string{"PC0302 error standing ports[1].hostPort < node daemon sshd"}},
		{why: "one address after the other, the old one first", held: pods, old: "Deployment a: hostPort 127.0.0.1 80/TCP @n1",
			now: "Deployment a: hostPort 127.0.0.1 80/TCP @n1; hostPort 10.0.0.1 80/TCP @n1", want: []string{
				"PC0202 error standing ports[0].hostPort (every eligible node is taken) < Pod b ports[0].hostPort on n1 of 1",
				"PC0202 error ports[1].hostPort (every eligible node is taken) < Pod b ports[0].hostPort on n1 of 1",
			}},
		{why: "the last node with a choice is taken out", held: pods, old: "Deployment a on n1,n2: hostPort * 80/TCP @?", now: "Deployment a on n1: hostPort * 80/TCP @?",
			want: []string{"PC0202 error ports[0].hostPort (every eligible node is taken) < Pod b ports[0].hostPort on n1 of 1"}},
		{why: "twice in the pod since before", old: "Deployment a: hostPort * 80/TCP @?; hostPort 0.0.0.0 80/TCP @?",
			now: "Deployment a: hostPort * 81/TCP @?; hostPort * 80/TCP @?; hostPort 0.0.0.0 80/TCP @?", want: []string{"PC0102 error standing ports[2].hostPort and ports[1].hostPort"}},
		{why: "a hostIP that is not an address", old: "Deployment a: hostIP=x 80/TCP", now: "Deployment a: hostIP=x 80/TCP; hostIP=y 81/TCP",
			want: []string{"PC0101 error standing ports[0].hostIP and 80/TCP", "PC0101 error ports[1].hostIP and 81/TCP"}},
		{why: "the conflict is taken out", held: service, old: "Service a NodePort 80:30080/TCP", now: "Service a NodePort 80:30090/TCP"},
	} {
		refuseOnlyNew(t, s.play(t, ""))
	}
}

// TestOwned lets through what a controller in the ledger makes: what already runs must be replaceable.
func TestOwned(t *testing.T) {
	const daemon = "PC0302 error standing ports[0].hostPort < node daemon sshd"
	deployment := []string{"Deployment a: hostPort * 22/TCP @?"}
	for _, s := range []scene{
		{why: "its ReplicaSet", held: deployment, now: "ReplicaSet a-1 < Deployment a: hostPort * 22/TCP @?", want: []string{daemon}},
		{why: "its pod, by the ReplicaSet", held: append(deployment, "ReplicaSet a-1 < Deployment a: hostPort * 22/TCP @?"),
			now: "Pod a-1-x < ReplicaSet a-1: hostPort * 22/TCP @n1", want: []string{daemon}},
		{why: "its pod, by what the pod says", held: deployment, now: "Pod a-1-x < ReplicaSet a-1 < Deployment a: hostPort * 22/TCP @n1", want: []string{daemon}},
		{why: "a pod that got its hostIP by default", held: deployment, now: "Pod a-1-x < ReplicaSet a-1 < Deployment a: hostPort 0.0.0.0 22/TCP @n1", want: []string{daemon}},
		{why: "a Job of a suspended CronJob", held: []string{"CronJob a: hostPort,idle * 30080/TCP @?", "Service b NodePort 80:30080/TCP"},
			now: "Job a-1 < CronJob a: hostPort * 30080/TCP @?", want: []string{"PC0201 error ports[0].hostPort < Service b spec.ports[0].nodePort"}},
		{why: "a pod of the host network, whose template has no hostPort", held: []string{"DaemonSet a hostNetwork main: hostNetwork * 22/TCP @every"},
			now: "Pod a-x < DaemonSet a hostNetwork main: hostPort * 22/TCP @n1", want: []string{daemon}},
		{why: "with a claim more", held: deployment, now: "Pod a-1-x < Deployment a: hostPort * 22/TCP @n1; hostPort * 80/TCP @n1",
			want: []string{"PC0302 error ports[0].hostPort < node daemon sshd"}},
		{why: "on more addresses", held: []string{"Deployment a: hostPort 10.0.0.1 22/TCP @?"}, now: "Pod a-1-x < Deployment a: hostPort * 22/TCP @n1",
			want: []string{"PC0302 error ports[0].hostPort < node daemon sshd"}},
		{why: "on another protocol", held: []string{"Deployment a: hostPort * 22/UDP @?"}, now: "Pod a-1-x < Deployment a: hostPort * 22/TCP @n1",
			want: []string{"PC0302 error ports[0].hostPort < node daemon sshd"}},
		{why: "a controller that nobody knows", now: "Pod a-x < GameServer a: hostPort * 22/TCP @n1",
			want: []string{"PC0302 error ports[0].hostPort < node daemon sshd"}},
		{why: "a controller without claims, as its hostIP is not an address", held: []string{"Deployment a:"}, now: "Pod a-x < Deployment a: hostIP=x 80/TCP",
			want: []string{"PC0101 error standing ports[0].hostIP and 80/TCP"}},
		{why: "an object is not its own controller", held: deployment, now: "Deployment a: hostPort * 22/TCP @?",
			want: []string{"PC0302 error ports[0].hostPort < node daemon sshd"}},
	} {
		refuseOnlyNew(t, s.play(t, ""))
	}
}

// refuseOnlyNew shows that what stood is never refused, whatever the configuration says.
func refuseOnlyNew(t *testing.T, findings []check.Finding) {
	t.Helper()
	strict := settings()
	strict.Enforcement = map[check.Code]check.Enforcement{}
	for _, e := range check.Catalogue() {
		strict.Enforcement[e.Code] = check.Deny
	}
	for _, f := range findings {
		if got := strict.Enforce(f); (got == check.Deny) == f.Standing {
			t.Errorf("%s: %s, standing %v", f.Code, got, f.Standing)
		}
	}
}
