package check

import "fmt"

// Code names a question and outlives its wording: codes are never renumbered or reused, and each has a page in docs/.
// The first two digits are the block: 01 malformed or self-contradicting, 02 conflict with a holder, 03 ranges, pools
// and reservations, 04 rollout and placement, 05 Service edits and wiring, 06 data plane.
type Code string

// The catalogue. New codes go to the end of their block.
const (
	HostIPInvalid      Code = "PC0101"
	SocketTwice        Code = "PC0102"
	ServiceSelfClash   Code = "PC0103"
	NodePortWithoutUse Code = "PC0104"
	InitContainersMeet Code = "PC0105"
	Held               Code = "PC0201"
	WorkloadsMeet      Code = "PC0202"
	OutsideRange       Code = "PC0301"
	DaemonSocket       Code = "PC0302"
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

// Case names what exactly a question met, where its code covers several things. It selects the sentence that a user
// reads and, where it has one, a severity of its own.
type Case string

// The cases.
const (
	SameNodePortTwice  Case = "same nodePort twice"                 // PC0103
	SameNodePortSplit  Case = "one nodePort for two ports"          // PC0103
	HealthCheckIsOwn   Case = "healthCheckNodePort is own nodePort" // PC0103
	SamePortTwice      Case = "same port twice"                     // PC0103
	NodePortIsLeftOver Case = "left over from a change of type"     // PC0104
	EveryNodeTaken     Case = "every eligible node is taken"        // PC0202
	SomeNodesTaken     Case = "some eligible nodes are taken"       // PC0202
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
		{HostIPInvalid, "hostIP is no IP address", Error, nil},
		{SocketTwice, "a pod claims one socket twice", Error, nil},
		{ServiceSelfClash, "a Service collides with itself", Error, nil},
		{NodePortWithoutUse, "a nodePort on a Service whose type has none", Error, map[Case]Severity{NodePortIsLeftOver: Warning}},
		{InitContainersMeet, "two init containers of a pod use the same host port", Info, nil},
		{Held, "the port is held by somebody else", Error, nil},
		{WorkloadsMeet, "two workloads want the same host port on the same nodes", Error, map[Case]Severity{SomeNodesTaken: Warning}},
		{OutsideRange, "a number outside the node port range", Error, nil},
		{DaemonSocket, "the port belongs to a daemon of the node", Error, nil},
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

// severityOf is the severity of a case of a code.
func severityOf(code Code, named Case) Severity {
	e, _ := Lookup(code)
	if s, ok := e.Cases[named]; ok {
		return s
	}
	return e.Severity
}
