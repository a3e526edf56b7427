package placement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const (
	benchNodes  = 1000
	benchPods   = 2000 // at most two of one port fit on a node
	benchRounds = 5
)

// benchConfig is a scheduler that is not held back by the rate of its own client. PLUGINS is what there is to compare.
const benchConfig = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {qps: 10000, burst: 10000, contentType: application/vnd.kubernetes.protobuf}
profiles:
- schedulerName: bench
  plugins: PLUGINS
`

// run is what one scheduler took for the pods.
type run struct {
	perSecond float64 // pods bound, from the first to the last
	algorithm float64 // seconds for each pod to find a node
	cpu       float64 // seconds of the scheduler's process for each pod
}

// BenchmarkThroughput is how fast pods are placed by the scheduler with the plugin on, compared with the same program
// as it comes and with NodePorts moved behind the other plugins, as the plugin needs it. They take turns. What is reported
// are the medians of the rounds' ratios.
func BenchmarkThroughput(b *testing.B) {
	c := &cluster{program: binaries.For(b, binaries.PortcullisScheduler)}
	c.ControlPlane = controlplane.Run(b, controlplane.Options{APIServerFlags: []string{"--requestheader-client-ca-file=" + frontProxyCA(b)}})
	c.Client = newClient(b, c.ControlPlane)
	s := c.newSite(b, "bench")
	s.addPlainNodes(b, benchNodes)
	for _, kind := range []struct {
		name string
		port func(i int) []corev1.ContainerPort
	}{
		{"without host ports", func(int) []corev1.ContainerPort { return nil }},
		{"with host ports", func(i int) []corev1.ContainerPort { return []corev1.ContainerPort{tcp("", 9000+int32(i%2))} }},
	} {
		b.Run(kind.name, func(b *testing.B) {
			for b.Loop() {
				c.compare(b, s, kind.port)
			}
		})
	}
}

// variants are the plugins that are compared with those that come first.
func variants() []variant {
	return []variant{
		{"default", "{}"},
		{"NodePorts-last", "{multiPoint: {disabled: [{name: NodePorts}], enabled: [{name: NodePorts}]}}"},
		{"PortClaims", "{multiPoint: {disabled: [{name: NodePorts}], enabled: [{name: PortClaims}, {name: NodePorts}]}}"},
	}
}

type variant struct{ name, plugins string }

func (c *cluster) compare(b *testing.B, s *site, port func(int) []corev1.ContainerPort) {
	all := variants()
	ratios := map[string][]float64{}
	for round := range benchRounds {
		runs := make([]run, len(all))
		for i := range all {
			which := (i + round) % len(all)
			r := c.measure(b, s, all[which].plugins, port)
			runs[which] = r
			b.Logf("round %d, %s: %.0f pods/s, %.2f ms to find a node, %.2f ms of processor time", round, all[which].name, r.perSecond, 1000*r.algorithm, 1000*r.cpu)
		}
		for i, v := range all[1:] {
			r := runs[i+1]
			for unit, ratio := range map[string]float64{"rate": r.perSecond / runs[0].perSecond, "search": r.algorithm / runs[0].algorithm, "cpu": r.cpu / runs[0].cpu} {
				unit = v.name + "/default-" + unit
				ratios[unit] = append(ratios[unit], ratio)
			}
		}
	}
	for unit, of := range ratios {
		b.ReportMetric(median(of), unit)
	}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// measure makes the pods, then starts a scheduler and waits until it has placed them all.
func (c *cluster) measure(b *testing.B, s *site, plugins string, port func(int) []corev1.ContainerPort) run {
	b.Helper()
	err := each(b.Context(), benchPods, func(ctx context.Context, i int) error {
		return s.Create(ctx, s.pod(fmt.Sprint("p", i), port(i)...))
	})
	if err != nil {
		b.Fatal(err)
	}
	f := s.follow(b)
	scheduler := rig.RunScheduler(b, c.ControlPlane, rig.SchedulerOptions{Program: c.program, Config: []byte(strings.Replace(benchConfig, "PLUGINS", plugins, 1))})
	defer scheduler.Stop()
	poll.Until(b, func(context.Context) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.bound); n < benchPods {
			return fmt.Errorf("%d of %d pods are placed", n, benchPods)
		}
		return nil
	})
	metric := func(name string) float64 {
		n, err := scheduler.Count(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	r := run{
		perSecond: float64(len(f.bound)-1) / f.last.Sub(f.first).Seconds(),
		algorithm: metric("scheduler_scheduling_algorithm_duration_seconds_sum") / metric("scheduler_scheduling_algorithm_duration_seconds_count"),
		cpu:       metric("process_cpu_seconds_total") / benchPods,
	}
	s.empty(b)
	poll.Until(b, func(context.Context) error {
		var pods corev1.PodList
		if err := s.List(b.Context(), &pods, client.InNamespace(s.namespace), client.Limit(1)); err != nil {
			return err
		}
		if len(pods.Items) > 0 {
			return errors.New("there are still pods")
		}
		return nil
	})
	time.Sleep(time.Second) // for the API server to have told everybody
	return r
}
