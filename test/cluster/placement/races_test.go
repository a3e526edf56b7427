package placement

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// rivals is the configuration of a second scheduler with the plugin, with its last look at a node and without.
const rivals = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {qps: 1000, burst: 2000}
profiles:
- schedulerName: rival
  plugins: {multiPoint: {disabled: [{name: NodePorts}], enabled: [{name: PortClaims}, {name: NodePorts}]}}
- schedulerName: rival-without-reserve
  plugins:
    multiPoint: {disabled: [{name: NodePorts}], enabled: [{name: PortClaims}, {name: NodePorts}]}
    reserve: {disabled: [{name: PortClaims}]}
`

const stockConfig = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {qps: 1000, burst: 2000}
profiles:
- schedulerName: stock
`

// apart are how long after the first pod the second one is created, round by round.
func apart() []time.Duration {
	const ms = time.Millisecond
	return []time.Duration{0, 2 * ms, 5 * ms, 10 * ms, 20 * ms}
}

// testRaces: two schedulers that do not know of each other may give one port of a node to two pods. Then the kubelet
// rejects the one that came later, and never are there two that run.
func (c *cluster) testRaces(t *testing.T) {
	rig.RunScheduler(t, c.ControlPlane, rig.SchedulerOptions{Program: c.program, Config: []byte(rivals)})
	rig.RunScheduler(t, c.ControlPlane, rig.SchedulerOptions{Program: stock(t), Config: []byte(stockConfig)})
	for _, tc := range []struct {
		name string
		a, b string
	}{
		{"with the stock scheduler", both, "stock"},
		{"of two with the plugin", both, "rival"},
		{"of two without the last look", hasty, "rival-without-reserve"},
	} {
		t.Run(tc.name, func(t *testing.T) { c.race(t, seed.Rounds(60, 1000), tc.a, tc.b) })
	}
}

func (c *cluster) race(t *testing.T, rounds int, schedulers ...string) {
	s := c.site(t, "", 1)
	f := s.follow(t)
	double := map[time.Duration]int{}
	won := map[string]int{}
	for round := range rounds {
		delay := apart()[round%len(apart())]
		var names []string
		for _, scheduler := range schedulers {
			names = append(names, fmt.Sprintf("%s-%d", scheduler, round))
		}
		err := each(t.Context(), len(names), func(ctx context.Context, i int) error {
			time.Sleep(time.Duration(i) * delay)
			pod := s.pod(names[i], tcp("", 20000+int32(round)))
			pod.Spec.SchedulerName = schedulers[i]
			return s.Create(ctx, pod)
		})
		if err != nil {
			t.Fatal(err)
		}
		var bound []string
		for _, pod := range f.await(t, names, isDecided) {
			if pod.Spec.NodeName != "" {
				bound = append(bound, pod.Name)
			}
		}
		switch len(bound) {
		case 1:
			f.await(t, bound, isRunning)
			won[f.scheduler(bound[0])]++
		case 2:
			double[delay]++
			first, second := f.order(bound[0], bound[1])
			f.await(t, []string{first}, isRunning)
			f.await(t, []string{second}, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "NodePorts" })
			won[f.scheduler(first)]++
		default:
			t.Fatalf("round %d: nobody got the port", round)
		}
		if round%50 == 49 {
			s.empty(t) // a node has only so many addresses for its pods
		}
	}
	t.Logf("%d rounds of %v; the kubelet rejected a pod whose port was given away, by how long after the other it was created: %v of %d each; won: %v",
		rounds, schedulers, double, rounds/len(apart()), won)
}

func isRunning(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }

func (f *follower) scheduler(pod string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[pod].Spec.SchedulerName
}
