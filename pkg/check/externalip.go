package check

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// foreignIPs asks for external IPs that are the cluster IPs of other Services: the Service would get what pods of the whole
// cluster send there, or who has the address would get nothing (CVE-2020-8554, kubernetes/kubernetes#97076). Whatever its
// ports are: what the other one does not serve today it may serve tomorrow. So it is with an address that has yet to be given.
func foreignIPs(s subject) []Finding {
	if s.service == nil {
		return nil
	}
	var findings []Finding
	for i, addr := range s.service.ExternalIPs {
		f := Finding{Code: ForeignIP, Object: s.service.Owner.Ref, Field: externalIPField(i), Detail: ExternalIP{Addr: addr}}
		within := slices.IndexFunc(s.ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
		owner, is := s.held.ServiceAt(addr, s.service.Owner.Ref)
		switch {
		case is:
			f.Holder = &Holder{Ref: owner.Ref, Claim: ports.Claim{Owner: owner}, Field: "spec.clusterIP"}
		case within >= 0 && !slices.Contains(s.service.Owner.ClusterIPs, addr):
			f.Case, f.Detail = NotGivenYet, ExternalIP{Addr: addr, Range: s.ranges[within]}
		default:
			continue
		}
		findings = append(findings, f)
	}
	return findings
}

func externalIPField(i int) string { return fmt.Sprintf("spec.externalIPs[%d]", i) }
