package check

import "fmt"

// Code names a check and outlives its wording: codes are never renumbered or reused, and each has a page in docs/.
// The first two digits are the block: 01 malformed or self-contradicting, 02 conflict with a holder, 03 ranges, pools
// and reservations, 04 rollout and placement, 05 Service edits and wiring, 06 data plane, 07 input that is not read.
type Code string

// The catalogue. New codes go to the end of their block.
const (
	HostIPInvalid      Code = "PC0101"
	SocketTwice        Code = "PC0102"
	ServiceSelfClash   Code = "PC0103"
	NodePortWithoutUse Code = "PC0104"
	InitContainersMeet Code = "PC0105"
	WrongCase          Code = "PC0106"
	HealthCheckFixed   Code = "PC0107"
	PortInvalid        Code = "PC0108"
	PortNameTwice      Code = "PC0109"
	HostPortDiffers    Code = "PC0110"
	FieldWrongCase     Code = "PC0111" // raised by whoever reads files

	Held          Code = "PC0201"
	WorkloadsMeet Code = "PC0202"
	InFlight      Code = "PC0203" // raised by the webhook
	ForeignIP     Code = "PC0204"

	UndeclaredMeet Code = "PC0205"

	OutsideRange   Code = "PC0301"
	DaemonSocket   Code = "PC0302"
	InNodePorts    Code = "PC0303"
	InEphemeral    Code = "PC0304"
	InDynamicBand  Code = "PC0305"
	OutsideSmaller Code = "PC0306"
	ForeignPool    Code = "PC0307"
	PoolLimit      Code = "PC0308" // raised by whoever chooses numbers too, as the next
	PoolExhausted  Code = "PC0309"
	PolicyNodePort Code = "PC0310"
	PolicyHostPort Code = "PC0311"
	PolicyReserved Code = "PC0312"
	ExceptionEnds  Code = "PC0313"

	HostPortRequested Code = "PC0314"
	PolicyExternalIP  Code = "PC0315"
	BadReservation    Code = "PC0316" // raised by pkg/extract, which reads the annotation

	TooFewNodes   Code = "PC0401"
	RolloutStalls Code = "PC0402"
	SurgeInPlace  Code = "PC0403"
	StricterThere Code = "PC0404"

	NumberChanges     Code = "PC0501"
	CreateRefuses     Code = "PC0502"
	OneMergeKey       Code = "PC0503"
	NeverMapped       Code = "PC0504"
	TargetPortName    Code = "PC0505"
	EndpointsApart    Code = "PC0506"
	TrafficPolicy     Code = "PC0507"
	NoNodesAddress    Code = "PC0508"
	UndeclaredSockets Code = "PC0509"

	Captured       Code = "PC0603" // raised by pkg/explain
	FamilyMismatch Code = "PC0604"

	Unread             Code = "PC0701" // raised by whoever reads files, as the next
	FieldUnread        Code = "PC0702"
	NameTwice          Code = "PC0703"
	RestrictionInvalid Code = "PC0704"
)

// Severity says how bad a finding is.
type Severity uint8

// The severities, the worst last.
const (
	Info    Severity = iota + 1 // worth knowing
	Warning                     // admitted by Kubernetes, but it will bite
	Error                       // cannot work, or breaks somebody
)

// String returns the spelling of reports: info, warning, error.
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	case Error:
		return "error"
	default:
		return fmt.Sprintf("Severity(%d)", uint8(s))
	}
}

// Case names what exactly a check found, where its code covers several things. It selects the sentence that a user
// reads and, where it has one, a severity of its own.
type Case string

// The cases.
const (
	SameNodePortTwice  Case = "same nodePort twice"                     // PC0103
	SameNodePortSplit  Case = "one nodePort for two ports"              // PC0103
	HealthCheckIsOwn   Case = "healthCheckNodePort is own nodePort"     // PC0103
	SamePortTwice      Case = "same port twice"                         // PC0103
	NodePortIsLeftOver Case = "left over from a change of type"         // PC0104
	NodePortIsIgnored  Case = "ignored by an ExternalName"              // PC0104
	HolderHasNoNode    Case = "no node matches the holder's pods"       // PC0201
	EveryNodeTaken     Case = "every eligible node is taken"            // PC0202
	SomeNodesTaken     Case = "some eligible nodes are taken"           // PC0202
	TooManyTogether    Case = "together they want more nodes"           // PC0202
	NumberMissing      Case = "a port without a number"                 // PC0108
	NotANumber         Case = "a value that is not a number"            // PC0108
	QuotedNumber       Case = "a number in quotes"                      // PC0108
	BadPortName        Case = "no name of a container's port"           // PC0108
	BadServicePortName Case = "no name of a Service's port"             // PC0108
	NameMissing        Case = "one of several ports without a name"     // PC0108
	UnknownProtocol    Case = "no protocol"                             // PC0108
	BadAppProtocol     Case = "no application protocol"                 // PC0108
	NoPorts            Case = "a Service without ports"                 // PC0108
	LeavesNoNode       Case = "no node is left to the holder"           // PC0202
	MayMeetThere       Case = "the holder's pods may come there"        // PC0202
	NotGivenYet        Case = "a cluster IP that is yet to be given"    // PC0204
	ProbeConnects      Case = "its probe connects to the port"          // PC0205
	ProbeOfHolder      Case = "a probe of the holder connects to it"    // PC0205
	AskedFor           Case = "a load balancer is asked for it"         // PC0205
	InitListens        Case = "an init container listens on it"         // PC0205
	NoSuchPort         Case = "no port has the name"                    // PC0314
	OnHostNetwork      Case = "the pod is on the host network"          // PC0314
	NoPoolGives        Case = "no pool gives one"                       // PC0314
	NumberOfOthers     Case = "the pool serves others"                  // PC0307
	NumberOfDraining   Case = "the pool is draining"                    // PC0307
	NoNodePorts        Case = "no node port is allowed"                 // PC0310
	NumberNotAllowed   Case = "the number is not allowed"               // PC0310
	NumberOfNoPool     Case = "the number is of no pool"                // PC0310
	NumberWritten      Case = "numbers may not be chosen"               // PC0310
	LoadBalancerNumber Case = "a load balancer with node ports"         // PC0310
	NoHostPorts        Case = "no host port is allowed"                 // PC0311
	SocketNotAllowed   Case = "the socket is not allowed"               // PC0311
	NoHostNetwork      Case = "no host network is allowed"              // PC0311
	InRangeForbidden   Case = "the node port range is not allowed"      // PC0311
	ReservedThere      Case = "reserved on a node that it takes"        // PC0312
	ReservedAll        Case = "reserved on all eligible nodes"          // PC0312
	ReservedLater      Case = "reserved wherever a suitable node comes" // PC0312
	ReservedMaybe      Case = "reserved on some nodes that may come"    // PC0312
	NoExternalIPs      Case = "no external IP is allowed"               // PC0315
	NoNodesExternalIP  Case = "no external IP of a node is allowed"     // PC0315
	EndsSoon           Case = "the exception ends soon"                 // PC0313
	HasEnded           Case = "the exception has ended"                 // PC0313
	SomePodsWait       Case = "some pods have no node"                  // PC0401
	NoNodeSuits        Case = "no node suits"                           // PC0401
	FewerAtOnce        Case = "a Job runs fewer at a time"              // PC0401
	OneNode            Case = "one replica on one node"                 // PC0402
	NodesAllInUse      Case = "every node runs an old pod"              // PC0402
	SchedulerStricter  Case = "the scheduler sees a conflict"           // PC0404
	KubeletStricter    Case = "the kubelet sees a conflict"             // PC0404
	LostByReplace      Case = "lost by replace"                         // PC0501
	LostAnyway         Case = "lost in any way"                         // PC0501
	ServiceEntries     Case = "entries of a Service"                    // PC0503
	ContainerEntries   Case = "entries of a container"                  // PC0503
	NotOffered         Case = "nothing selected offers it"              // PC0505
	OtherProtocol      Case = "offered with another protocol"           // PC0505
	OfferedTwice       Case = "offered twice"                           // PC0505
	OtherNamespace     Case = "in another namespace"                    // PC0506
	OtherPortName      Case = "by another port name"                    // PC0506
	FamilyAbsent       Case = "pods have no such address"               // PC0604
	OneFamilyOnly      Case = "one of two families"                     // PC0604
	WholeObject        Case = "the whole object is passed over"         // PC0702
	NoMatterOfPorts    Case = "the object claims no ports"              // PC0702
	TooManySockets     Case = "too many sockets"                        // PC0702
	FormTaken          Case = "the later one is taken"                  // PC0703
)

// Entry is one line of the catalogue.
type Entry struct {
	Code     Code
	Title    string // one line
	Severity Severity
	Cases    map[Case]Severity // the cases that differ from Severity
}

// Catalogue lists every code, in order.
func Catalogue() []Entry {
	return []Entry{
		{HostIPInvalid, "hostIP is not an IP address", Error, nil},
		{SocketTwice, "a pod claims one socket twice", Error, nil},
		{ServiceSelfClash, "a Service collides with itself", Error, nil},
		{NodePortWithoutUse, "a nodePort on a Service whose type has none", Error, map[Case]Severity{NodePortIsLeftOver: Warning, NodePortIsIgnored: Warning}},
		{InitContainersMeet, "two init containers of a pod use the same host port", Info, nil},
		{WrongCase, "a value that the API spells in another case", Error, nil},
		{HealthCheckFixed, "a healthCheckNodePort that is changed while it is in use", Error, nil},
		{PortInvalid, "a port that no API server accepts", Error, map[Case]Severity{NoPorts: Warning, NameMissing: Warning}},
		{PortNameTwice, "two ports of one name", Error, nil},
		{HostPortDiffers, "a hostPort that is not the containerPort, on the host network", Error, nil},
		{FieldWrongCase, "a field that the API spells in another case", Error, nil},
		{Held, "the port is held by somebody else", Error, map[Case]Severity{HolderHasNoNode: Warning}},
		{WorkloadsMeet, "two workloads want the same host port on the same nodes", Error, map[Case]Severity{SomeNodesTaken: Warning, TooManyTogether: Warning, MayMeetThere: Warning}},
		{InFlight, "another request for the port is under way", Error, nil},
		{ForeignIP, "an external IP that is the cluster IP of another Service, or may become it", Error, nil},
		{UndeclaredMeet, "a port that a pod listens on without reserving it is held by somebody else", Warning, nil},
		{OutsideRange, "a number outside the node port range", Error, nil},
		{DaemonSocket, "the port belongs to a daemon of the node", Error, nil},
		{InNodePorts, "a host port inside the node port range", Warning, nil},
		{InEphemeral, "a port that outgoing connections may be using", Warning, nil},
		{InDynamicBand, "an explicit node port in the dynamic allocation band", Info, nil},
		{OutsideSmaller, "a number that the node port range has left outside", Warning, nil},
		{ForeignPool, "a number of a pool that does not give it", Warning, nil},
		{PoolLimit, "more numbers of a pool than its limits allow", Warning, nil},
		{PoolExhausted, "a pool without a free number", Warning, nil},
		{PolicyNodePort, "a node port that a policy does not allow", Warning, nil},
		{PolicyHostPort, "a host port or host network that a policy does not allow", Warning, nil},
		{PolicyReserved, "a port of the nodes that a policy reserves", Warning, nil},
		{ExceptionEnds, "an exception to a policy that ends soon, or has ended", Warning, nil},
		{HostPortRequested, "a host port on request that cannot be given", Error, nil},
		{PolicyExternalIP, "an external IP that a policy does not allow", Warning, nil},
		{BadReservation, "an entry of a node's reserved-ports annotation that reserves nothing", Warning, nil},
		{TooFewNodes, "more pods want a host port than nodes have it free", Warning, nil},
		{RolloutStalls, "a rolling update that can never finish", Warning, nil},
		{SurgeInPlace, "a DaemonSet that starts new pods beside old ones on one host port", Error, nil},
		{StricterThere, "Kubernetes sees a host port conflict where there is none", Warning, nil},
		{NumberChanges, "a port that gets another nodePort", Warning, nil},
		{CreateRefuses, "a Service that the API server keeps but would not create", Warning, nil},
		{OneMergeKey, "two port entries that client-side apply takes for one", Info, nil},
		{NeverMapped, "a hostPort of a sidecar, which is reserved but not handed to CNI", Warning, nil},
		{TargetPortName, "a targetPort name that leads nowhere, or to two ports", Warning, nil},
		{EndpointsApart, "a Service without a selector whose endpoints do not meet it", Warning, nil},
		{TrafficPolicy, "a changed externalTrafficPolicy", Info, nil},
		{NoNodesAddress, "a hostIP that is not an address of any node", Warning, nil},
		{UndeclaredSockets, "a pod of the host network that declares no ports, and has probes", Info, nil},
		{Captured, "a hostPort that takes the packets for every cluster IP", Warning, nil},
		{FamilyMismatch, "a hostIP of an address family that does not match the cluster's", Warning, nil},
		{Unread, "a manifest that cannot be read", Error, nil},
		{FieldUnread, "a field that cannot be read", Error, map[Case]Severity{NoMatterOfPorts: Info}},
		{NameTwice, "two different objects of one name", Warning, nil},
		{RestrictionInvalid, "a pool, policy or claim that the API server refuses", Error, nil},
	}
}

// Lookup finds a code in the catalogue.
func Lookup(code Code) (Entry, bool) {
	for _, e := range Catalogue() {
		if e.Code == code {
			return e, true
		}
	}
	return Entry{}, false
}

// SeverityOf is the severity of a case of a code.
func SeverityOf(code Code, named Case) Severity {
	e, _ := Lookup(code)
	if s, ok := e.Cases[named]; ok {
		return s
	}
	return e.Severity
}
