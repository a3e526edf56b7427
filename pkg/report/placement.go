package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// maxHolders is how many holders of one port are named; the rest are counted.
const maxHolders = 3

// HeldOnNode tells why a node does not suit a pod: "hostPort 9000/TCP is held by Deployment default/tomcat". It names no
// node and no pod of a controller, so that it is the same on every node and kube-scheduler counts the nodes for which it
// holds. Holders may come in any order, and twice.
func HeldOnNode(wanted ports.Claim, holders []string) string {
	if len(holders) > 1 {
		holders = slices.Compact(slices.Sorted(slices.Values(holders)))
	}
	return wanted.Kind.String() + " " + wanted.PortProtocol() + " is held by " + enumerate(holders)
}

// enumerate: "A", "A and B", "A, B and C", "A, B and 5 others".
func enumerate(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := names[len(names)-1]
	if len(names) > maxHolders {
		others := len(names) - (maxHolders - 1)
		names, last = names[:maxHolders], strconv.Itoa(others)+" others"
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + last
}

// Daemon names a daemon of every node, or of the node that is looked at, as a holder.
func Daemon(name string, everywhere bool) string {
	if everywhere {
		return name + " (a daemon of every node)"
	}
	return name + " (a daemon of the node)"
}

// ReservedBy names something that a PortPolicy reserves ports for as a holder.
func ReservedBy(name, policy string) string { return name + " (PortPolicy " + policy + ")" }

// Reservation names a node that reserves a port by its annotation as a holder.
func Reservation(annotation string) string { return "the node itself (annotation " + annotation + ")" }

// Taken is a host port that a pod cannot have on a node.
type Taken struct {
	Node   string
	Wanted ports.Claim
	Holder string // as for HeldOnNode
	Pod    string // the pod that holds it, namespace/name; "" for none
}

// Compare orders by port, node and holder.
func (t Taken) Compare(o Taken) int {
	return cmp.Or(t.Wanted.Compare(o.Wanted), strings.Compare(t.Node, o.Node), strings.Compare(t.Holder, o.Holder), strings.Compare(t.Pod, o.Pod))
}

// maxNote is how long the text of an event may be (k8s.io/api/events/v1 Event.Note: 1kB), less the closing words.
const maxNote = 850

// WaitsFor is the text of an event on a pod that waits for host ports, node by node: "hostPort 9000/TCP is held on n1 by
// Pod default/tomcat-5d8f-x of Deployment default/tomcat, on n2 by ...". What is too much is counted.
func WaitsFor(pod string, taken []Taken) string {
	var text strings.Builder
	number := ""
	for i, t := range taken {
		separator := ", "
		if n := t.Wanted.Kind.String() + " " + t.Wanted.PortProtocol(); n != number {
			if i > 0 {
				text.WriteString("; ")
			}
			text.WriteString(n + " is held")
			number, separator = n, " "
		}
		place := separator + "on " + t.Node + " by " + t.by()
		if text.Len()+len(place) > maxNote {
			text.WriteString(separator + "on " + strconv.Itoa(len(taken)-i) + " more")
			break
		}
		text.WriteString(place)
	}
	return text.String() + ". All of it: portcullis why " + pod
}

func (t Taken) by() string {
	switch own := "Pod " + t.Pod; {
	case t.Pod == "":
		return t.Holder
	case t.Holder == own:
		return own
	default:
		return own + " of " + t.Holder
	}
}
