package pool_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Pools are written in one line in these tests: the name, the ranges, and whatever differs from the defaults of the API.
//
//	NAME RANGES [shared] [host] [draining|disabled] [explicit] [lowest|random] [deny|warn] [only=RANGES] [ns=TEAM] [svc=VALUE]
//	            [age=N] [priority=N] [perNamespace=N] [perService=N]
//
// ns selects namespaces by the label team, svc Services by the label expose; age is the order of creation.

func mustPool(line string) pool.Pool {
	words := strings.Fields(line)
	p := pool.Pool{
		Name: words[0], For: pool.NodePorts, Ranges: mustRanges(words[1]), Priority: 500, Namespaces: labels{}, Mode: pool.Auto,
		Strategy: pool.Hashed, Exclusive: true, State: pool.Active, Enforcement: pool.Audit, Created: time.Unix(1000, 0),
	}
	for _, w := range words[2:] {
		key, value, hasValue := strings.Cut(w, "=")
		if hasValue {
			setValue(&p, key, value)
		} else {
			setWord(&p, key)
		}
	}
	return p
}

func setWord(p *pool.Pool, word string) {
	switch word {
	case "shared":
		p.Exclusive = false
	case "host":
		p.For = pool.HostPorts
	case "draining":
		p.State = pool.Draining
	case "disabled":
		p.State = pool.Disabled
	case "explicit":
		p.Mode = pool.Explicit
	case "lowest":
		p.Strategy = pool.LowestFree
	case "random":
		p.Strategy = pool.Random
	case "deny":
		p.Enforcement = pool.Deny
	case "warn":
		p.Enforcement = pool.Warn
	default:
		panic("pool: " + word)
	}
}

func setValue(p *pool.Pool, key, value string) {
	number := func() int {
		n, err := strconv.Atoi(value)
		if err != nil {
			panic(err)
		}
		return n
	}
	switch key {
	case "only":
		p.ExplicitOnly = mustRanges(value)
	case "ns":
		p.Namespaces = labels{"team": value}
	case "svc":
		p.Services = labels{"expose": value}
	case "age":
		p.Created = time.Unix(int64(1000+number()), 0)
	case "priority":
		p.Priority = number()
	case "perNamespace":
		p.PerNamespace = number()
	case "perService":
		p.PerService = number()
	default:
		panic("pool: " + key)
	}
}

func mustPools(lines ...string) []pool.Pool {
	var pools []pool.Pool
	for _, line := range lines {
		pools = append(pools, mustPool(line))
	}
	return pools
}

func defaultRange() ports.Range { return ports.MustParseRange("30000-32767") }

func mustSet(lines ...string) *pool.Set { return pool.New(mustPools(lines...), defaultRange()) }

func mustRanges(text string) ports.Ranges {
	rs, err := ports.ParseRanges(text)
	if err != nil {
		panic(err)
	}
	return rs
}

// labels select what has them all.
type labels map[string]string

func (l labels) Matches(of map[string]string) bool {
	for k, v := range l {
		if of[k] != v {
			return false
		}
	}
	return true
}

func (l labels) String() string {
	var parts []string
	for k, v := range l {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// service is a Service "TEAM/NAME", or "TEAM/NAME/VALUE" with the label expose.
func service(text string) pool.Requester {
	parts := append(strings.Split(text, "/"), "")
	return pool.Requester{
		For: pool.NodePorts, Namespace: parts[0], Name: parts[1],
		NamespaceLabels: map[string]string{"team": parts[0]}, Labels: map[string]string{"expose": parts[2]},
	}
}

// uses is a Book: what each range of numbers is used for.
func uses(allocated, foreign, quarantined string) pool.Book {
	use := map[uint16]pool.Use{}
	for as, text := range map[pool.Use]string{pool.Allocated: allocated, pool.Foreign: foreign, pool.Quarantined: quarantined} {
		for _, n := range numbersOf(text) {
			use[n] = as
		}
	}
	return func(port uint16) pool.Use { return use[port] }
}

func held(text string) pool.Book { return uses(text, "", "") }

// wants are the keys of n numbers.
func wants(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = strconv.Itoa(80 + i)
	}
	return keys
}

// randomText is a few short ranges near both ends of the numbers and in the middle.
func randomText(r *rand.Rand) string {
	var parts []string
	for range 1 + r.IntN(3) {
		first := []int{1, 30000, 30000, 65510}[r.IntN(4)] + r.IntN(20)
		parts = append(parts, fmt.Sprintf("%d-%d", first, min(65535, first+r.IntN(12))))
	}
	return strings.Join(parts, ",")
}

// randomLines are pools that overlap, of both fields, in each state, for two teams, some of the same age.
func randomLines(r *rand.Rand) []string {
	lines := make([]string, 1+r.IntN(7))
	for i := range lines {
		words := []string{string(rune('a' + i)), randomText(r), fmt.Sprintf("age=%d", r.IntN(3)), fmt.Sprintf("priority=%d", r.IntN(2))}
		for _, w := range []string{"shared", "host", "draining", "disabled", "explicit", "deny", "lowest", "random", "ns=x", "ns=y", "svc=edge",
			"only=" + randomText(r), fmt.Sprintf("perNamespace=%d", 1+r.IntN(4)), fmt.Sprintf("perService=%d", 1+r.IntN(4))} {
			if r.IntN(6) == 0 {
				words = append(words, w)
			}
		}
		lines[i] = strings.Join(words, " ")
	}
	return lines
}

func randomRequester(r *rand.Rand) pool.Requester {
	who := service(fmt.Sprintf("%s/s%d/%s", []string{"x", "y", "z"}[r.IntN(3)], r.IntN(50), []string{"", "edge"}[r.IntN(2)]))
	if r.IntN(5) == 0 {
		who.For = pool.HostPorts
	}
	return who
}
