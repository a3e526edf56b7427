package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/cert"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/child"
	"github.com/portcullis-k8s/portcullis/test/lab/controlplane"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	os.Exit(m.Run())
}

const (
	within = 50 * time.Millisecond // what 99 in 100 answers must keep
	config = "{apiVersion: config.portcullis.dev/v1alpha1, kind: PortcullisConfiguration, nodePortRange: 20000-32767, allocateFrom: 32000-32767}"
)

// BenchmarkServe finds the most reviews a second that the program answers, 99 in 100 of them within 50 ms, beside a webhook
// that does nothing and one that only decodes the object, in turn; one pass is a turn of each. -benchtime 3x for the median
// of three.
func BenchmarkServe(b *testing.B) {
	b.Run("generated: 150,000 pods, 5,000 nodes, 10,000 Services", func(b *testing.B) {
		kubeconfig := filepath.Join(b.TempDir(), "kubeconfig")
		server, err := Generated{Nodes: 5000, PodsPerNode: 30, Services: 10000}.Serve(kubeconfig)
		if err != nil {
			b.Fatal(err)
		}
		// The watches end with the program, which is closed first.
		b.Cleanup(server.Close)
		handlers, err := rig.NewReplica(b.Context(), b.TempDir(), config, kubeconfig, "--leader-elect=false", "--rebuild-every=10m")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(handlers.Close)
		ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
		defer cancel()
		start := time.Now()
		if err := handlers.Start(ctx); err != nil {
			b.Fatal(err)
		}
		compare(b, handlers, time.Since(start))
	})
	b.Run("API server: 30,000 pods, 1,000 nodes", func(b *testing.B) {
		r := rig.Run(b, rig.Options{Unarmed: true, ControlPlane: controlplane.Options{NodePortRange: "20000-32767"}})
		populate(b, r, Generated{Nodes: 1000, PodsPerNode: 30})
		start := time.Now()
		r.Replace(b, config, "--rebuild-every=10m")
		compare(b, r.Webhook, time.Since(start))
	})
}

// populate creates the nodes and pods of a generated cluster in a real one.
func populate(b *testing.B, r *rig.Rig, g Generated) {
	b.Helper()
	ctx, core := b.Context(), r.Client.CoreV1()
	if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	pods := g.Nodes * g.PodsPerNode
	var next atomic.Int64
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 32 {
		all.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				var err error
				switch {
				case i < g.Nodes:
					n := g.node(i).(*corev1.Node)
					n.ResourceVersion, n.UID = "", ""
					_, err = core.Nodes().Create(ctx, n, metav1.CreateOptions{})
				case i < g.Nodes+pods:
					p := g.pod(i - g.Nodes).(*corev1.Pod)
					p.ResourceVersion, p.UID, p.Spec.Containers[0].VolumeMounts = "", "", nil
					_, err = core.Pods("team").Create(ctx, p, metav1.CreateOptions{})
				default:
					return
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

// compare runs the webhook, which was ready after a time, and the empty webhook in turn, and reports what they reach.
func compare(b *testing.B, handlers *rig.Replica, ready time.Duration) {
	b.Helper()
	reviews := reviews(b)
	program := binaries.For(b, binaries.Empty)
	empty, address := startEmpty(b, program)
	decoding, decodes := startEmpty(b, program, "-decode")
	bound, err := bound(reviews)
	if err != nil {
		b.Fatal(err)
	}
	ours, theirs := NewDriver(strings.TrimPrefix(handlers.URL(), "https://"), reviews), NewDriver(address, reviews)
	reading := NewDriver(decodes, reviews)
	var rates, emptyRates, ratios, costs, readingRatios, readingCosts []float64
	for b.Loop() {
		us, usEach, err1 := turn(ours, handlers.Pid())
		them, themEach, err2 := turn(theirs, empty.Pid())
		read, readEach, err3 := turn(reading, decoding.Pid())
		if err := errors.Join(err1, err2, err3); err != nil {
			b.Fatal(err)
		}
		readingRatios, readingCosts = append(readingRatios, us.Rate/read.Rate), append(readingCosts, usEach.Seconds()/readEach.Seconds())
		rates, emptyRates = append(rates, us.Rate), append(emptyRates, them.Rate)
		ratios, costs = append(ratios, us.Rate/them.Rate), append(costs, usEach.Seconds()/themEach.Seconds())
	}
	b.ReportMetric(ready.Seconds(), "s-until-ready")
	b.ReportMetric(median(rates), "reviews/s")
	b.ReportMetric(median(emptyRates), "empty-reviews/s")
	b.ReportMetric(median(ratios), "reviews/empty")
	b.ReportMetric(median(costs), "processor/empty")
	b.ReportMetric(median(readingRatios), "reviews/decoding")
	b.ReportMetric(median(readingCosts), "processor/decoding")
	b.ReportMetric(bound.Rate, "driver-alone/s")
	resident, peak, err := memory(handlers.Pid())
	if err != nil {
		b.Fatal(err)
	}
	heap, err := handlers.Count(b.Context(), "go_memstats_heap_inuse_bytes")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(resident/(1<<20), "MiB-resident")
	b.ReportMetric(peak/(1<<20), "MiB-peak")
	b.ReportMetric(heap/(1<<20), "MiB-heap")
	b.ReportMetric(0, "ns/op") // a pass has a fixed time
}

// turn finds the highest rate of one, and what one answer costs of the processors there.
func turn(d *Driver, pid int) (Load, time.Duration, error) {
	_, connections, err := d.Highest(within, 2*time.Second)
	if err != nil || connections == 0 {
		return Load{}, 0, errors.Join(err, fmt.Errorf("%d connections keep the time", connections))
	}
	before, err1 := processorTime(pid)
	load, err2 := d.Run(connections, 5*time.Second)
	after, err3 := processorTime(pid)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Load{}, 0, err
	}
	return load, (after - before) / time.Duration(load.Answers), nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// bound is what the driver reaches when answering costs next to nothing.
func bound(reviews []Review) (Load, error) {
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return Load{}, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return Load{}, err
	}
	listener, err := echo(pair)
	if err != nil {
		return Load{}, err
	}
	defer listener.Close()
	best, _, err := NewDriver(listener.Addr().String(), reviews).Highest(within, time.Second)
	return best, err
}

// startEmpty runs the webhook that does nothing.
func startEmpty(b *testing.B, program string, flags ...string) (*child.Process, string) {
	b.Helper()
	dir := b.TempDir()
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "tls.crt"), certificate, 0o600), os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600)); err != nil {
		b.Fatal(err)
	}
	port, release, err := controlplane.ReservePort()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(release)
	args := append([]string{"-cert-dir", dir, "-port", strconv.Itoa(port)}, flags...)
	process, err := child.Start(child.Program{Name: "empty", Path: program, Args: args, Log: filepath.Join(dir, "log")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(process.Kill)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return process, address
		}
		if time.Now().After(deadline) {
			b.Fatal(process.Explain(err))
		}
	}
}

// reviews are those of creations of pods with a host port and of Services, in turn, as an API server sends them: to the
// mutating and to the validating hook. Nothing is in their way.
func reviews(tb testing.TB) []Review {
	tb.Helper()
	var all []Review
	for i := range 500 {
		pod := hostPortPod(fmt.Sprintf("new-%d", i), int32(11000+i))
		asked := nodePortService(fmt.Sprintf("new-%d", i), 0)
		given := nodePortService(fmt.Sprintf("other-%d", i), int32(31000+i))
		all = append(all,
			Review{hooks.PathMutatePods, review(tb, "Pod", "pods", pod)},
			Review{hooks.PathValidatePods, review(tb, "Pod", "pods", pod)},
			Review{hooks.PathMutateServices, review(tb, "Service", "services", asked)},
			Review{hooks.PathValidateServices, review(tb, "Service", "services", given)},
		)
	}
	return all
}

func review(tb testing.TB, kind, resource string, object metav1.Object) []byte {
	tb.Helper()
	if p, ok := object.(*corev1.Pod); ok {
		p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: kind}
	} else if s, ok := object.(*corev1.Service); ok {
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: kind}
	}
	raw, err := json.Marshal(object)
	if err != nil {
		tb.Fatal(err)
	}
	no := false
	body, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Kind: metav1.GroupVersionKind{Version: "v1", Kind: kind}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: resource},
			RequestKind: &metav1.GroupVersionKind{Version: "v1", Kind: kind}, RequestResource: &metav1.GroupVersionResource{Version: "v1", Resource: resource},
			Name: object.GetName(), Namespace: object.GetNamespace(), Operation: admissionv1.Create, DryRun: &no,
			Object: runtime.RawExtension{Raw: raw}, Options: runtime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return body
}
