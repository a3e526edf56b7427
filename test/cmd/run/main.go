// Command run is `make run`: a real API server with etcd, controllers, a scheduler and three nodes behind the webhook, to
// which the samples are applied. It shows what became of each of them and stays up until it is interrupted. Command
// binaries, which starts it, has built everything before.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/kubelet"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "run:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what is shown
	programs, err := binaries.Ensure(ctx, binaries.Options{}, binaries.Kubectl)
	if err != nil {
		return err
	}
	steps := &steps{}
	r, err := rig.Start(ctx, rig.Options{
		ControlPlane: controlplane.Options{ControllerManager: true, Scheduler: true},
		Kubelet:      kubelet.Options{Nodes: kubelet.Nodes(3)},
		SelfArmed:    true,
		Say:          steps.begin,
	})
	if err != nil {
		return err
	}
	defer r.Stop()
	steps.end()
	s := &show{Rig: r, steps: steps, kubectl: programs.Path(binaries.Kubectl)}
	dir, err := os.MkdirTemp("", "portcullis-run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if s.kubeconfig, err = filepath.Abs(filepath.Join(dir, "kubeconfig")); err != nil {
		return err
	}
	if err := r.WriteKubeconfig(s.kubeconfig); err != nil {
		return err
	}
	if err := s.apply(ctx, "the samples", "../config/samples"); err != nil {
		return err
	}
	if err := s.apply(ctx, "what must be refused", "../config/samples/conflicts"); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.print(ctx); err != nil {
		return err
	}
	fmt.Printf("\nThe cluster runs until you interrupt it. In another terminal:\n\nexport KUBECONFIG=%s\n", s.kubeconfig)
	if _, err := exec.LookPath("kubectl"); err != nil {
		fmt.Printf("alias kubectl=%s\n", s.kubectl)
	}
	fmt.Println("ready")
	<-ctx.Done()
	steps.begin("stopping")
	return nil
}

// steps announces what is done, and how long it took.
type steps struct{ began time.Time }

func (s *steps) begin(format string, args ...any) {
	s.end()
	s.began = time.Now()
	fmt.Printf("==> "+format+"\n", args...)
}

// end prints how long the current step took, if there is one.
func (s *steps) end() {
	if !s.began.IsZero() {
		fmt.Printf("    took %.1f s\n", time.Since(s.began).Seconds())
	}
	s.began = time.Time{}
}

// show applies manifests and prints what became of them.
type show struct {
	*rig.Rig
	*steps
	kubectl, kubeconfig string
}

// apply applies the files of a folder, one by one, with the real kubectl, and prints its words. A refusal is an outcome.
func (s *show) apply(ctx context.Context, what, folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	s.begin("%s", what)
	defer s.end()
	for _, file := range files {
		cmd := exec.CommandContext(ctx, s.kubectl, "--kubeconfig", s.kubeconfig, "apply", "-f", file)
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		fmt.Printf("%s\n", filepath.Base(file))
		for line := range strings.Lines(strings.TrimSpace(string(out))) {
			fmt.Printf("    %s", line)
		}
		fmt.Println()
	}
	return nil
}

// settle waits until the scheduler and the nodes have done what they can, so that what is printed is the outcome.
func (s *show) settle(ctx context.Context) error {
	s.begin("waiting for the pods")
	defer s.end()
	const quiet = 2 * time.Second // nothing has changed for so long
	deadline := time.Now().Add(time.Minute)
	last, since := "", time.Now()
	for time.Now().Before(deadline) {
		pods, err := s.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var state strings.Builder
		for _, p := range pods.Items {
			fmt.Fprintln(&state, p.Name, p.Status.Phase, p.Spec.NodeName)
		}
		if state.String() != last {
			last, since = state.String(), time.Now()
		}
		if time.Since(since) > quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil // what is still moving is printed as it is
}

func (s *show) print(ctx context.Context) error {
	services, err := s.Client.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("\n==> Services: what was allocated\n")
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tTYPE\tPORT\tTARGETPORT\tNODEPORT\tCHOSEN BY")
	for _, svc := range services.Items {
		for _, p := range svc.Spec.Ports {
			number, by := "-", "-"
			if p.NodePort != 0 {
				number, by = strconv.Itoa(int(p.NodePort)), "the manifest"
				if !strings.Contains(svc.Annotations[corev1.LastAppliedConfigAnnotation], `"nodePort":`+number) {
					by = "the webhook"
				}
			}
			fmt.Fprintf(t, "%s\t%s\t%d/%s\t%s\t%s\t%s\n", svc.Name, svc.Spec.Type, p.Port, p.Protocol, p.TargetPort.String(), number, by)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return s.printPods(ctx)
}

func (s *show) printPods(ctx context.Context) error {
	pods, err := s.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("\n==> Pods with host ports: what was defaulted\n")
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tNODE\tPHASE\tHOSTIP:HOSTPORT\tWHY NOT RUNNING")
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for _, pod := range pods.Items {
		why := ""
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				why = c.Message
			}
		}
		for _, c := range pod.Spec.Containers {
			for _, p := range c.Ports {
				if p.HostPort != 0 {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s:%d/%s\t%s\n", pod.Name, pod.Spec.NodeName, pod.Status.Phase, p.HostIP, p.HostPort, p.Protocol, why)
				}
			}
		}
	}
	return t.Flush()
}
