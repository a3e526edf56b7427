package check

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// foreignIPs asks for external IPs that are the cluster IPs of other Services: the Service would get what pods of the whole
// cluster send there, or who has the address would get nothing (CVE-2020-8554, kubernetes/kubernetes#97076). Whatever its
// ports are: what the other one does not serve today it may serve tomorrow.
func foreignIPs(s subject) []Finding {
	if s.service == nil {
		return nil
	}
	var findings []Finding
	for i, addr := range s.service.ExternalIPs {
		if owner, is := s.held.ServiceAt(addr, s.service.Owner.Ref); is {
			findings = append(findings, Finding{
				Code: ForeignIP, Object: s.service.Owner.Ref, Field: externalIPField(i), Value: addr.String(),
				Holder: &Holder{Ref: owner.Ref, Claim: ports.Claim{Owner: owner}, Field: "spec.clusterIP"},
			})
		}
	}
	return findings
}

func externalIPField(i int) string { return fmt.Sprintf("spec.externalIPs[%d]", i) }
