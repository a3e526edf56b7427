package check

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// neverMapped asks for host ports of sidecars: the scheduler reserves them, but the kubelet gives the runtime those of the
// main containers only (k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_sandbox.go).
func neverMapped(s subject) []Finding {
	if s.workload == nil {
		return nil
	}
	var findings []Finding
	for _, c := range s.workload.Claims {
		if c.Sidecar && c.Kind == ports.HostPort {
			findings = append(findings, Finding{Code: NeverMapped, Object: c.Owner.Ref, Field: c.Field, Claim: c})
		}
	}
	return findings
}

// hostAddresses asks whether the hostIPs of a pod that is not of the host network can be reached: whether they are
// addresses of a node, and of a family that pods have.
func hostAddresses(s subject) []Finding {
	if s.workload == nil || s.workload.HostNetwork {
		return nil
	}
	var findings []Finding
	for _, c := range s.workload.Claims {
		if c.Kind != ports.HostPort || c.InitOnly || c.Sidecar {
			continue
		}
		f := Finding{Object: c.Owner.Ref, Field: hostIPField(c.Field), Claim: c, Detail: HostIP{c.Address}}
		if how, mismatch := s.mismatch(c.Address); mismatch {
			f.Code, f.Case = FamilyMismatch, how
			findings = append(findings, f)
			continue
		}
		addr, single := c.Address.Single()
		if !single || c.Address.IsLoopback() || !s.held.HasAddresses() {
			continue // every node has loopback, and where no node's addresses are known nothing is
		}
		if _, _, known := s.held.NodeOf(addr); !known {
			f.Code = NoNodesAddress
			findings = append(findings, f)
		}
	}
	return findings
}

// mismatch reports whether an address is of a family that the pods do not have, or stands for all of one where they have
// both: portmap maps 0.0.0.0 for IPv4 only. One address is of one family, and whoever writes it knows that.
func (s subject) mismatch(a ports.Address) (Case, bool) {
	_, single := a.Single()
	switch {
	case s.families == Families{} || a == ports.AllAddresses():
		return "", false
	case a.HasIPv4() && !s.families.IPv4, a.HasIPv6() && !s.families.IPv6:
		return FamilyAbsent, true
	default:
		return OneFamilyOnly, s.families.IPv4 && s.families.IPv6 && !single
	}
}

// hostIPField is the path of the hostIP beside a hostPort.
func hostIPField(path string) string {
	const port, ip = "hostPort", "hostIP"
	if n := len(path) - len(port); n >= 0 && path[n:] == port {
		return path[:n] + ip
	}
	return path
}
