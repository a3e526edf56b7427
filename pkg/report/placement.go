package report

import (
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
	return wanted.Kind.String() + " " + wanted.Number() + " is held by " + enumerate(holders)
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

// Daemon names a daemon of the nodes as a holder.
func Daemon(name string) string { return name + " (a daemon of every node)" }

// Reservation names a node that reserves a port by its annotation as a holder.
func Reservation(annotation string) string { return "the node itself (annotation " + annotation + ")" }
