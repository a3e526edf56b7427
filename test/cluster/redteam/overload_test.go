package redteam

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/objects"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// memoryLimit is what the shipped Deployment gives a container.
const memoryLimit = 512 << 20

// TestOverloads has a tenant send the worst objects that the API server lets through, and a stranger the worst bodies. No request
// of anybody else fails, and the webhook's memory stays below the shipped limit. How much longer the others wait is printed.
func TestOverloads(t *testing.T) {
	w := newWorld(t)
	p := w.place(t, nil)
	s, ns, other := newStranger(p), p.Namespace, w.namespace(t, nil)
	long := time.Duration(seed.Rounds(2, 60)) * time.Second
	wide := func(ports int) client.Object {
		list := make([]string, ports)
		for i := range list {
			list[i] = fmt.Sprintf("{containerPort: 80, hostPort: %d}", 1024+i)
		}
		return objects.One(t, ns, "{apiVersion: v1, kind: Pod, metadata: {generateName: p}, spec: {containers: [{name: c, image: i, ports: ["+strings.Join(list, ", ")+"]}]}}")
	}(2000)
	placed := objects.One(t, ns, objects.Workload("Deployment", "d", "", objects.Containers("containerPort: 80, hostPort: 30800"))).(*appsv1.Deployment)
	addresses := func() client.Object {
		svc := objects.One(t, ns, objects.Service("wide", "ports: [{port: 80}]")).(*corev1.Service)
		svc.Spec.Ports = nil
		for i := range 99 {
			svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, fmt.Sprintf("192.0.2.%d", i+1))
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(i), Port: int32(1000 + i)})
		}
		return svc
	}()
	blank := append([]byte("{"), bytes.Repeat([]byte(" "), 6<<20)...)
	p.has(objects.Service("exists", "ports: [{port: 80}]"))
	base := overload(t, w, w.Webhook, other, long, 0, nil)
	t.Logf("undisturbed: %s", base)
	for _, o := range []struct {
		name    string
		clients int
		once    func(i int)
	}{
		{"pods of 2,000 ports, dry runs", 4, func(int) {
			_ = w.tenant.Create(t.Context(), wide.DeepCopyObject().(client.Object), client.DryRunAll)
		}},
		{"node selectors of a megabyte, refused", 4, func(i int) {
			d := placed.DeepCopy()
			d.Spec.Template.Spec.NodeSelector = map[string]string{}
			for j := range 6000 {
				d.Spec.Template.Spec.NodeSelector[fmt.Sprintf("k%d-%d-%s", i, j, strings.Repeat("x", 40))] = strings.Repeat("y", 60)
			}
			_ = w.tenant.Create(t.Context(), d, client.DryRunAll)
		}},
		{"Services of 9,801 sockets, dry runs", 4, func(int) {
			_ = w.tenant.Create(t.Context(), addresses.DeepCopyObject().(client.Object), client.DryRunAll)
		}},
		{"creates of a name that exists", 8, func(i int) {
			_ = w.tenant.Create(t.Context(), objects.One(t, ns, objects.Service("exists", fmt.Sprintf("type: NodePort, ports: [{port: 80, nodePort: %d}]", 30900+i%100))))
		}},
		{"100 bodies that never end, from the network", 100, func(i int) {
			time.Sleep(time.Duration(i%100) * 10 * time.Millisecond) // handshakes are another overload
			s.post(hooks.PathValidatePods, "application/json", slow{100 * time.Millisecond})
		}},
		{"bodies of 6 MiB, from the network", 8, func(int) { s.post(hooks.PathValidatePods, "application/json", bytes.NewReader(blank)) }},
	} {
		loaded := overload(t, w, w.Webhook, other, long, o.clients, o.once)
		t.Logf("%s: %s; median %.1f, ninth decile %.1f times the undisturbed", o.name, loaded,
			float64(loaded.median)/float64(base.median), float64(loaded.ninth)/float64(base.ninth))
	}
}

// load is what others met during an overload.
type load struct {
	requests, overloads int
	median, ninth       time.Duration
	memory              int64 // of the webhook at most, in bytes
}

func (l load) String() string {
	return fmt.Sprintf("%d requests of others beside %d, memory %d MiB", l.requests, l.overloads, l.memory>>20)
}

// overload has clients do something again and again for a while, and somebody else ask for host ports beside them.
func overload(t *testing.T, w *world, g *rig.Replica, namespace string, long time.Duration, clients int, once func(i int)) load {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var l load
	end := time.Now().Add(long)
	for c := range clients {
		all.Go(func() {
			for i := c; time.Now().Before(end); i += clients {
				once(i)
				mu.Lock()
				l.overloads++
				mu.Unlock()
			}
		})
	}
	var took []time.Duration
	random := rand.New(rand.NewPCG(1, uint64(clients)))
	for time.Now().Before(end) {
		begin := time.Now()
		err := w.admin.Create(t.Context(), objects.One(t, namespace, pod("p", "", fmt.Sprintf("hostPort: %d", 10500+random.IntN(1000)))), client.DryRunAll)
		took = append(took, time.Since(begin))
		if err != nil {
			t.Errorf("somebody else's request: %v", err)
		}
		l.memory = max(l.memory, memoryOf(t, g.Pid()))
		time.Sleep(20 * time.Millisecond)
	}
	all.Wait()
	slices.Sort(took)
	l.requests, l.median, l.ninth = len(took), took[len(took)/2], took[len(took)*9/10]
	if l.memory > memoryLimit {
		t.Errorf("%d MiB of memory, and %d MiB are the container's limit", l.memory>>20, memoryLimit>>20)
	}
	if clients > 0 && l.overloads < clients {
		t.Error(errors.New("there was no overload"))
	}
	return l
}

// memoryOf is the resident memory of a process.
func memoryOf(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	t.Fatal("the kernel does not say how much memory the webhook has")
	return 0
}
