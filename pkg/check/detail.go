package check

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// Detail is what a finding says beyond its object, field, claim and holder. Each of the structs below is made by the checks of the
// codes that it names, and read by their sentences in pkg/report. There are no others.
type Detail interface {
	// key tells two details of one code and case apart, whichever version of the object they are of.
	key() string
}

// HostIPText is a hostIP that is not an IP address. HostIPInvalid.
type HostIPText struct {
	Text string
	Port string // the port entry as a user would name it, "8080/TCP"
}

// Sibling is another entry of the object that an entry collides with. SocketTwice, InitContainersMeet, ServiceSelfClash,
// PortNameTwice, CreateRefuses, OneMergeKey.
type Sibling struct {
	Field string // its path, or the path of the entry where both collide by one field of it: "spec.ports[0]"
	Value string // what both have; "" where it is the claim's socket
}

// UnusedPort is a port on a Service whose type has none. NodePortWithoutUse.
type UnusedPort struct {
	Port int
	Type string // of the Service
}

// Text is a value that the API server does not accept. PortInvalid, WrongCase, FieldWrongCase.
type Text struct {
	Text  string
	Known string // how the API spells it; "" where that is not the matter
}

// Change is a value that an update replaces. HealthCheckFixed, TrafficPolicy.
type Change struct{ From, To string }

// Mapping is a hostPort that is not the containerPort. HostPortDiffers.
type Mapping struct{ HostPort, ContainerPort int32 }

// ExternalIP is an address that a Service claims. ForeignIP, PolicyExternalIP.
type ExternalIP struct {
	Addr  netip.Addr
	Range netip.Prefix // of a ServiceCIDR, where no Service has the address yet
}

// HostIP is an address that a pod names. NoNodesAddress, FamilyMismatch.
type HostIP struct{ Address ports.Address }

// PortRange is a range that the port is outside or inside of. OutsideRange, OutsideSmaller, InNodePorts, InEphemeral, InDynamicBand,
// and PolicyHostPort with InRangeForbidden.
type PortRange struct{ Range ports.Range }

// DaemonNodes says where a daemon runs. DaemonSocket.
type DaemonNodes struct {
	Label string // of its nodes; "": on every node
}

// Replicas says how many pods there are and on how many nodes their ports are free. TooFewNodes, RolloutStalls; SurgeInPlace, whose pods
// are those of the surge.
type Replicas struct{ Pods, Left int }

// ProbedPorts are ports that probes connect to. UndeclaredSockets.
type ProbedPorts struct{ Ports []uint16 }

// PortRequest is a host port that an annotation requests for a port entry. HostPortRequested.
type PortRequest struct {
	Name string // of the port entry
	Err  error  // why no pool has one; nil: the annotation is wrong
}

// PoolObjection is what a pool objects to, in its own words. ForeignPool, PoolLimit, PoolExhausted.
type PoolObjection struct {
	Err    error
	Chosen bool // the API server or the webhook may have chosen the port: nobody wrote it
}

// Unreadable is what is wrong with what cannot be read, in the words of who reads it. BadReservation, Unread, FieldUnread,
// RestrictionInvalid, and PortInvalid with NotANumber.
type Unreadable struct{ Err error }

// AllowedPorts are those that a policy allows, in words. PolicyNodePort with NumberNotAllowed, PolicyHostPort with SocketNotAllowed.
type AllowedPorts struct{ Ports string }

// ServingPool is the pool that serves the Service. PolicyNodePort with NumberOfNoPool.
type ServingPool struct {
	Name string // "": none does
}

// MissingPort is a port that the Service leaves to be allocated. PolicyNodePort.
type MissingPort struct {
	Key string // by which the entry is told from others, whatever its place
}

// ExceptionEnd is an exception of a policy. ExceptionEnds.
type ExceptionEnd struct {
	Name string
	Ends time.Time
}

// Reservation is an entry of a policy's reserved sockets. PolicyReserved.
type Reservation struct{ Name, Reason string }

// PortName is the name by which a Service leads to a port. TargetPortName, EndpointsApart.
type PortName struct {
	Name     string
	Protocol ports.Protocol
}

// LostPort is a nodePort that an update loses. NumberChanges.
type LostPort struct {
	NodePort uint16
	Name     string // of the port entry that had it
}

// Duplicate is another object of the same name. NameTwice.
type Duplicate struct {
	Position string // "a.yaml:12", or "line 12" in the same file
}

// SocketCount is how many sockets a Service has, of which no more than Most are looked at. FieldUnread with TooManySockets.
type SocketCount struct{ Sockets, Most int }

func (d HostIPText) key() string    { return d.Text }
func (d Sibling) key() string       { return d.Value }
func (d UnusedPort) key() string    { return fmt.Sprint(d.Port) }
func (d Text) key() string          { return d.Text }
func (d Change) key() string        { return d.To }
func (d Mapping) key() string       { return fmt.Sprint(d.HostPort) }
func (d ExternalIP) key() string    { return d.Addr.String() }
func (d HostIP) key() string        { return d.Address.String() }
func (d PortRange) key() string     { return "" }
func (d DaemonNodes) key() string   { return "" }
func (d Replicas) key() string      { return fmt.Sprint(d.Pods) }
func (d PortRequest) key() string   { return d.Name }
func (d ProbedPorts) key() string   { return d.String() }
func (d PoolObjection) key() string { return "" }
func (d Unreadable) key() string    { return d.Err.Error() }
func (d AllowedPorts) key() string  { return d.Ports }
func (d ServingPool) key() string   { return d.Name }
func (d MissingPort) key() string   { return d.Key }
func (d ExceptionEnd) key() string  { return d.Name }
func (d Reservation) key() string   { return d.Name }
func (d PortName) key() string      { return d.Name }
func (d LostPort) key() string      { return fmt.Sprint(d.NodePort) }
func (d Duplicate) key() string     { return "" }
func (d SocketCount) key() string   { return fmt.Sprint(d.Sockets) }

// String returns the ports as "8080, 9808".
func (d ProbedPorts) String() string {
	var texts []string
	for _, p := range d.Ports {
		texts = append(texts, strconv.Itoa(int(p)))
	}
	return strings.Join(texts, ", ")
}
