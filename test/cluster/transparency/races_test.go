package transparency

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
	"github.com/portcullis-k8s/portcullis/test/lab/rig"
)

// TestRaces has two clients, each of which is judged by a replica of its own, want one port at the same moment. Never are
// both admitted, and hardly ever neither.
func TestRaces(t *testing.T) {
	t.Parallel()
	const free = 30900 // the only nodePort that is ever chosen
	config := fmt.Sprintf("apiVersion: config.portcullis.dev/v1alpha1\nkind: PortcullisConfiguration\nallocateFrom: %q\n", fmt.Sprint(free))
	r := rig.Run(t, rig.Options{Config: config})
	s := newServer(t, r.ControlPlane)
	for _, namespace := range []string{"first", "second"} {
		s.must(t, s.do("POST", "/api/v1/namespaces", "", object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}}))
	}
	s.must(t, s.do("POST", "/api/v1/nodes", "", object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": "n1"}}))
	s.must(t, s.do("PATCH", "/api/v1/nodes/n1/status", "application/merge-patch+json", object{"status": object{"addresses": []any{object{"type": "InternalIP", "address": "192.0.2.1"}}}}))
	r.Split(t, r.Replica(t, config), "second")

	service := func(name string, spec object) object {
		return object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name}, "spec": spec}
	}
	withNodePort := func(name string, port int) object {
		return service(name, object{"type": "NodePort", "ports": []any{object{"port": 80, "nodePort": port}}})
	}
	pod := func(name string, port int) object {
		container := object{"name": "c", "image": "i", "ports": []any{object{"containerPort": 80, "hostPort": port}}}
		return object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name}, "spec": object{"nodeName": "n1", "containers": []any{container}}}
	}
	random := seed.Rand(t)
	for _, c := range []struct {
		name          string
		one, other    string // paths
		first, second func(name string, port int) object
		fixed         int
	}{
		{"nodePort and hostPort", "services", "pods", withNodePort, pod, 0},
		{"chosen nodePort and hostPort", "services", "pods", func(name string, _ int) object {
			return service(name, object{"type": "NodePort", "ports": []any{object{"port": 80}}})
		}, pod, free},
		{"nodePort and external IP", "services", "services", withNodePort, func(name string, port int) object {
			return service(name, object{"externalIPs": []any{"192.0.2.1"}, "ports": []any{object{"port": port}}})
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			outcomes, said := map[string]int{}, map[string]int{}
			rounds := seed.Rounds(60, 2000)
			for round := range rounds {
				port := 30000 + round%800
				if c.fixed != 0 {
					port = c.fixed
				}
				name := fmt.Sprint("r", round)
				paths := []string{"/api/v1/namespaces/first/" + c.one, "/api/v1/namespaces/second/" + c.other}
				bodies := []object{c.first(name, port), c.second(name, port)}
				pauses := []time.Duration{time.Duration(random.IntN(3000)) * time.Microsecond, time.Duration(random.IntN(3000)) * time.Microsecond}
				var replies [2]reply
				var both sync.WaitGroup
				for i := range replies {
					both.Go(func() {
						time.Sleep(pauses[i])
						replies[i] = s.do("POST", paths[i], "", bodies[i])
					})
				}
				both.Wait()
				admitted := 0
				for i, r := range replies {
					switch {
					case r.code == http.StatusCreated:
						admitted++
						s.must(t, s.do("DELETE", paths[i]+"/"+name+"?gracePeriodSeconds=0", "", nil))
						outcomes["admitted"]++
					case r.code == http.StatusTooManyRequests: // the other is under way, or the machine is too slow for the journal
						outcomes["429"]++
						said[strings.ReplaceAll(r.message, name, "NAME")]++
					case r.code == http.StatusUnprocessableEntity && strings.Contains(r.message, name+" ("):
						outcomes["422"]++
					default:
						t.Fatalf("round %d: %s", round, r)
					}
				}
				if admitted == 0 {
					outcomes["nobody"]++
				}
				// A chosen nodePort can give way to another one.
				if conflict := admitted == 2 && (c.fixed == 0 || nodePortOf(replies[0]) == port); conflict {
					outcomes["BOTH"]++
					t.Errorf("round %d: both have port %d", round, port)
				}
			}
			t.Logf("%v", outcomes)
			for message, n := range said {
				if n > 10 {
					t.Logf("%d times 429: %s", n, message)
				}
			}
			if nobody := outcomes["nobody"]; nobody > rounds/10 { // the machine may be too slow for the journal at times
				t.Errorf("of %d pairs, %d had nobody admitted", rounds, nobody)
			}
		})
	}
}

func nodePortOf(r reply) int {
	ports, _ := r.body["spec"].(object)["ports"].([]any)
	n, _ := ports[0].(object)["nodePort"].(float64)
	return int(n)
}
