package transparency

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/finding"
	"github.com/portcullis-k8s/portcullis/test/lab/poll"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

const fireClients = 32

// TestUnderFire has many clients create, change and delete through one, two and three replicas, of which some are stopped,
// killed, restarted and rolled, and see the cluster late, while the API server is restarted and etcd is paused. At no moment does
// the API server hold a Service's node port that is also somebody's host port, and no refusal names an object that there never was.
func TestUnderFire(t *testing.T) {
	t.Parallel()
	f := newFire(t, seed.Of(t))
	for n := 1; n <= len(f.replicas); n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			f.use(t, n)
			f.burn(t, time.Duration(seed.Rounds(15, 400))*time.Second)
		})
	}
}

// fire is a control plane with replicas behind a balancer.
type fire struct {
	*rig.Rig
	api      *server
	used     int // of replicas
	balancer *rig.Balancer
	replicas []*rig.Replica
	watches  []*lateWatch // of the replicas
	from     uint64

	mu      sync.Mutex
	existed map[string]bool // "Service free/a", also of requests whose outcome is not known
	named   map[string]string
	counts  map[string]int
	met     map[string]bool     // pairs that were reported
	trail   map[string][]string // the requests about an object, with what they got
}

func newFire(t *testing.T, from uint64) *fire {
	t.Helper()
	r := rig.Run(t, rig.Options{})
	f := &fire{Rig: r, api: newServer(t, r.ControlPlane), from: from, existed: map[string]bool{}}
	r.Webhook.Close() // its watches cannot be held back
	for range 3 {
		w := newLateWatch(t, r)
		f.watches, f.replicas = append(f.watches, w), append(f.replicas, w.replica(t, r, ""))
	}
	r.Webhook = f.replicas[0]
	for _, namespace := range namespaces() {
		f.api.must(t, f.api.do("POST", "/api/v1/namespaces", "", object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}}))
	}
	for _, node := range []string{"n1", "n2"} {
		f.api.must(t, f.api.do("POST", "/api/v1/nodes", "", object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": node}}))
	}
	return f
}

// use has the API server ask the first n replicas.
func (f *fire) use(t *testing.T, n int) {
	t.Helper()
	f.used, f.named, f.counts, f.met, f.trail = n, map[string]string{}, map[string]int{}, map[string]bool{}, map[string][]string{}
	balancer, err := rig.NewBalancer(t.Context(), f.replicas[:n]...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(balancer.Close)
	registration := f.Registration()
	var ca []byte
	for _, g := range f.replicas {
		ca = append(ca, g.CA...)
	}
	registration.ClientConfig = hooks.URLClient(balancer.URL(), ca)
	mutating, validating := hooks.Mutating(registration), hooks.Validating(registration)
	path := "/apis/admissionregistration.k8s.io/v1/"
	merge := "application/merge-patch+json"
	f.api.must(t, f.api.do("PATCH", path+"mutatingwebhookconfigurations/"+hooks.ConfigurationName, merge, object{"webhooks": mutating.Webhooks}))
	f.api.must(t, f.api.do("PATCH", path+"validatingwebhookconfigurations/"+hooks.ConfigurationName, merge, object{"webhooks": validating.Webhooks}))
	bad := object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": "bad"}, "spec": object{"type": "NodePort", "ports": []any{object{"port": 80, "nodePort": 1}}}}
	if f.balancer != nil {
		f.balancer.Close() // who is asked now is asked through the new one
	}
	f.balancer = balancer
	poll.Until(t, func(context.Context) error {
		if r := f.api.do("POST", "/api/v1/namespaces/free/services?dryRun=All", "", bad); finding.Code(r.message) == "" {
			return fmt.Errorf("the webhook is not asked: %s", r)
		}
		return nil
	})
}

func (f *fire) burn(t *testing.T, d time.Duration) {
	t.Helper()
	over := make(chan struct{})
	var all sync.WaitGroup
	stop := sync.OnceFunc(func() { close(over); all.Wait() })
	defer stop()
	goOn := func() bool {
		select {
		case <-over:
			return false
		case <-t.Context().Done():
			return false
		default:
			return true
		}
	}
	for i := range fireClients {
		random := rand.New(rand.NewPCG(f.from, uint64(i)))
		all.Go(func() {
			for goOn() {
				f.act(random, i)
			}
		})
	}
	all.Go(func() {
		for goOn() {
			f.look(t)
		}
	})
	random := rand.New(rand.NewPCG(f.from, fireClients))
	f.late(random)
	for end := time.Now().Add(d); time.Now().Before(end) && !t.Failed(); {
		if err := f.disturb(t, random); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	stop()
	f.look(t)
	for _, k := range kinds() {
		for _, namespace := range namespaces() {
			f.api.clear(t, k, namespace)
		}
	}
	for holder, message := range f.named {
		if !f.existed[holder] {
			t.Errorf("there never was a %s: %s", holder, message)
		}
	}
	held := int64(0)
	for _, w := range f.watches[:f.used] {
		held += w.held.Swap(0)
	}
	t.Logf("%v; what watches bring was held back %d times", f.counts, held)
	if f.counts["201"] < 50 || f.counts["422"] < 10 || held == 0 {
		t.Errorf("%v prove little", f.counts)
	}
}

func (f *fire) count(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[what]++
}

// late has a replica see the cluster late, by up to twice the time that a request is remembered without being stored.
func (f *fire) late(random *rand.Rand) {
	f.count(late)
	f.watches[random.IntN(f.used)].hold(time.Duration(1000+random.IntN(9000)) * time.Millisecond)
}

const late = "watches delayed"

// disturb breaks something, and mends it; watches stay late beside what is broken next.
func (f *fire) disturb(t *testing.T, random *rand.Rand) error {
	g := f.replicas[random.IntN(f.used)]
	pause := time.Duration(200+random.IntN(1800)) * time.Millisecond
	const stopped, killed, rolled, paused = "a replica stopped for a while", "a replica killed", "a replica rolled", "etcd paused"
	what := pick(random, stopped, stopped, stopped, killed, killed, killed, rolled, rolled, paused, paused, "API server restarted", late, late, late)
	if what == late {
		f.late(random)
		return nil
	}
	f.count(what)
	t.Log(time.Now().Format("04:05.000"), what, pause)
	switch what {
	case stopped:
		g.Freeze(pause)
		return nil
	case killed:
		g.Kill()
		time.Sleep(pause)
		return g.Start(t.Context())
	case rolled:
		g.Stop()
		return g.Start(t.Context())
	case paused:
		return f.Pause(t.Context(), binaries.Etcd, pause)
	default:
		return f.Restart(t.Context(), binaries.KubeAPIServer)
	}
}

// act makes one request.
func (f *fire) act(random *rand.Rand, client int) {
	h := &history{Rand: random}
	k := pick(random, kinds()...)
	namespace, name := pick(random, namespaces()...), fmt.Sprintf("c%d-%d", client, random.IntN(3))
	all := fmt.Sprintf(k.path, namespace)
	one, id := all+"/"+name, k.name+" "+namespace+"/"+name
	var r reply
	verb, start := "", time.Now()
	switch what := random.IntN(10); {
	case what < 5:
		verb = "create"
		o := h.object(k, name)
		if k.name == "Pod" {
			o["spec"].(object)["nodeName"] = pick(random, "n1", "n2")
		}
		o.metadata()["annotations"] = object{}
		r = f.api.do("POST", all, "", o)
		if r.code == http.StatusCreated || r.code == 0 || r.code >= http.StatusInternalServerError {
			f.mu.Lock()
			f.existed[id] = true
			f.mu.Unlock()
		}
	case what < 6 && k.scale:
		verb = "scale"
		r = f.api.do("PATCH", one+"/scale", "application/merge-patch+json", object{"spec": object{"replicas": random.IntN(3)}})
	case what < 7:
		verb = "patch"
		r = f.api.do("PATCH", one, "application/merge-patch+json", h.patch(k))
	default:
		verb = "delete"
		r = f.api.do("DELETE", one+"?gracePeriodSeconds=0", "", nil)
	}
	f.mu.Lock()
	f.trail[id] = append(f.trail[id], fmt.Sprintf("%s, %v: %s %s", start.Format("04:05.000"), time.Since(start).Round(time.Millisecond), verb, r))
	f.mu.Unlock()
	f.count(fmt.Sprint(r.code))
	if holder := finding.Holder(r.message); holder != "" && r.code == http.StatusUnprocessableEntity && finding.Code(r.message) != "" {
		f.mu.Lock()
		f.named[holder] = r.message
		f.mu.Unlock()
	}
	if r.code == 0 {
		time.Sleep(50 * time.Millisecond) // the API server is away
	}
}

// look looks for a node port that is also a host port. The lists are of different moments: what was seen is read again.
func (f *fire) look(t *testing.T) {
	type place struct {
		path, uid string
		claim
	}
	nodePorts := map[string]place{}
	var hostPorts []place
	for _, k := range kinds() {
		for _, namespace := range namespaces() {
			for _, o := range f.api.items(k, namespace) {
				for _, c := range claims(k, o) {
					uid, _ := o.metadata()["uid"].(string)
					p := place{fmt.Sprintf(k.path, namespace) + "/" + o.metadata()["name"].(string), uid, c}
					if c.isNodePort {
						nodePorts[c.port+"/"+c.protocol] = p
					} else {
						hostPorts = append(hostPorts, p)
					}
				}
			}
		}
	}
	stands := func(p place, kindName string) bool {
		o := f.api.get(p.path)
		if o == nil || o.metadata()["uid"] != p.uid {
			return false
		}
		for _, k := range kinds() {
			if k.name != kindName {
				continue
			}
			return slices.Contains(claims(k, o), p.claim)
		}
		return false
	}
	kindOf := func(p place) string {
		kind := ""
		_, _ = fmt.Sscan(p.of, &kind)
		return kind
	}
	for _, p := range hostPorts {
		n, ok := nodePorts[p.port+"/"+p.protocol]
		if !ok || !stands(n, kindOf(n)) || !stands(p, kindOf(p)) || !stands(n, kindOf(n)) {
			continue
		}
		f.mu.Lock()
		again := f.met[n.uid+p.uid]
		f.met[n.uid+p.uid] = true
		f.mu.Unlock()
		if !again {
			f.mu.Lock()
			trails := slices.Concat([]string{n.of}, f.trail[n.of], []string{p.of}, f.trail[p.of])
			f.mu.Unlock()
			t.Errorf("%s/%s is held by %s and by %s\n%s", p.port, p.protocol, n.of, p.of, strings.Join(trails, "\n"))
		}
	}
	if len(nodePorts)+len(hostPorts) > 0 {
		f.count("looks")
	}
}
