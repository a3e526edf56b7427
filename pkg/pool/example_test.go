package pool_test

import (
	"fmt"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// all selects every namespace.
type all struct{}

func (all) Matches(map[string]string) bool { return true }
func (all) String() string                 { return "" }

// A DNS Service gets one number for both of its protocols, from the pool of its team; another team may not take it.
func ExampleSet_Choose() {
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	common := pool.Pool{
		Created: created, For: pool.NodePorts, Priority: 500, Mode: pool.Auto, Strategy: pool.Hashed, Exclusive: true,
		State: pool.Active, Enforcement: pool.Deny,
	}
	payments, everyone := common, common
	payments.Name, payments.Ranges, payments.Namespaces = "team-payments", ports.Ranges{ports.MustParseRange("30100-30199")}, labels{"team": "payments"}
	everyone.Name, everyone.Ranges, everyone.Namespaces, everyone.Priority = "everyone", ports.Ranges{ports.MustParseRange("30100-32767")}, all{}, 1000
	everyone.Created = created.AddDate(0, 1, 0)
	set := pool.New([]pool.Pool{everyone, payments}, ports.MustParseRange("30000-32767"))

	dns := pool.Requester{For: pool.NodePorts, Namespace: "pay", Name: "dns", NamespaceLabels: map[string]string{"team": "payments"}}
	request := pool.Request{Requester: dns}
	for _, gap := range pool.Gaps([]ports.ServicePort{{Port: 53, Protocol: ports.UDP}, {Port: 53, Protocol: ports.TCP}}, false) {
		request.Wants = append(request.Wants, gap.Key())
	}
	choice, err := set.Choose(request)
	fmt.Println(choice.Pool.Name, choice.Numbers, err)

	shop := pool.Requester{For: pool.NodePorts, Namespace: "web", Name: "shop"}
	fmt.Println(set.Judge(shop, choice.Numbers[0], func(uint16) pool.Use { return pool.Free }))
	// Output:
	// team-payments [30192] <nil>
	// 30192 belongs to PortPool team-payments (namespaces team=payments); namespace web may use PortPool everyone 30200-32767, next free 30200
}
