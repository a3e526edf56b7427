package check

import "github.com/portcullis-k8s/portcullis/pkg/ports"

// HostPortRequest is a host port that a pod asks for by the name of a container port.
type HostPortRequest struct {
	Name  string // of the container ports
	Pool  string // the pool that it is to come from; "" for any
	Field string // the path of the annotation that says so
	Ports int    // how many ports of the containers and sidecars have that name
}

// hostPortRequests asks whether the ports that are to have a host port exist, and whether they can have one: the ports of
// a pod on the host network are those that it listens on.
func hostPortRequests(s subject) []Finding {
	if s.workload == nil {
		return nil
	}
	var findings []Finding
	for _, r := range s.workload.Requests {
		f := Finding{Code: HostPortRequested, Object: s.workload.Owner.Ref, Field: r.Field, Detail: PortRequest{Name: r.Name}}
		switch {
		case r.Ports == 0:
			f.Case = NoSuchPort
		case s.workload.HostNetwork:
			f.Case = OnHostNetwork
		default:
			continue
		}
		findings = append(findings, f)
	}
	return findings
}

// RequestFinding is that a pod cannot have the host port that it asks for, as no pool gives it one.
func RequestFinding(pod ports.Ref, r HostPortRequest, objection error) Finding {
	return Finding{
		Code: HostPortRequested, Severity: SeverityOf(HostPortRequested, NoPoolGives), Case: NoPoolGives,
		Object: pod, Field: r.Field, Detail: PortRequest{Name: r.Name, Err: objection},
	}
}
