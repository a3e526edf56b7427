package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// PortList is the outcome of `portcullis ports -o json`: a versioned kind that other people's scripts read.
type PortList struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Items      []PortItem   `json:"items"`               // sorted by port, then node
	About      []PortNumber `json:"about,omitempty"`     // of the number that was asked for, one for each protocol
	Namespace  string       `json:"namespace,omitempty"` // only what its objects hold is listed; "": of all
	Inputs     *Inputs      `json:"inputs,omitempty"`    // of the files; nil: of a cluster
}

// PortItem is one port that somebody holds.
type PortItem struct {
	Node      string   `json:"node"`    // EveryNode, or "" for a pod that has no node yet
	Address   string   `json:"address"` // "*" for every address
	Protocol  string   `json:"protocol"`
	Port      int      `json:"port"`
	Holder    Holder   `json:"holder"` // the topmost controller of a pod; the field is the pod's
	Pod       string   `json:"pod,omitempty"`
	Kind      string   `json:"kind"`                // nodePort, healthCheckNodePort, hostPort, hostNetwork, externalIP, loadBalancerIP, daemon
	Since     string   `json:"since,omitempty"`     // RFC 3339; of the pod or Service
	Conflicts []Holder `json:"conflicts,omitempty"` // others that hold the port there too
}

// EveryNode stands for the name of a node where a port is held on all of them.
const EveryNode = "*"

// The words for who holds a port by no field of a Service or pod, and for those whose names in messages are longer.
const (
	daemonWord         = "daemon"
	hostNetworkWord    = "hostNetwork"
	externalIPWord     = "externalIP"
	loadBalancerIPWord = "loadBalancerIP"
)

// HeldPort is a claim with where it is held and what the cluster says of its owner.
type HeldPort struct {
	Claim     ports.Claim
	Node      string    // EveryNode, or "" for none yet
	Holder    ports.Ref // of the kind check.DaemonKind for a daemon, check.NodeKind where the node reserves it by an annotation
	Since     time.Time // zero: not known
	Conflicts []check.Holder
}

// NewPortList returns the list of what is held.
func NewPortList(held []HeldPort) *PortList {
	l := &PortList{APIVersion: apiVersion, Kind: "PortList", Items: []PortItem{}}
	for _, h := range held {
		item := PortItem{
			Node: h.Node, Address: addressWord(h.Claim.Address), Protocol: h.Claim.Protocol.String(), Port: int(h.Claim.Port),
			Holder: Holder{Kind: h.Holder.Kind, Namespace: h.Holder.Namespace, Name: h.Holder.Name, Field: h.Claim.Field}, Kind: kindWord(h),
		}
		if owner := h.Claim.Owner; owner != nil && owner.Kind == "Pod" {
			item.Pod = owner.Namespace + "/" + owner.Name
		}
		if !h.Since.IsZero() {
			item.Since = h.Since.UTC().Format(time.RFC3339)
		}
		for _, c := range h.Conflicts {
			item.Conflicts = append(item.Conflicts, Holder{Kind: c.Kind, Namespace: c.Namespace, Name: c.Name, Field: c.Field})
		}
		l.Items = append(l.Items, item)
	}
	slices.SortStableFunc(l.Items, PortItem.compare)
	return l
}

// addressWord does not say of IPv4 what it is not of IPv6.
func addressWord(a ports.Address) string {
	if a.HasIPv6() {
		return a.String()
	}
	return strings.TrimSuffix(a.String(), " (not ::1)")
}

func kindWord(h HeldPort) string {
	switch {
	case h.Holder.Kind == check.DaemonKind || h.Holder.Kind == check.NodeKind:
		return daemonWord
	case h.Claim.Kind == ports.HostNetwork:
		return hostNetworkWord
	case h.Claim.Kind == ports.ExternalIP:
		return externalIPWord
	case h.Claim.Kind == ports.LoadBalancerIP:
		return loadBalancerIPWord
	default:
		return h.Claim.Kind.String()
	}
}

func (i PortItem) compare(o PortItem) int {
	return cmp.Or(cmp.Compare(i.Port, o.Port), strings.Compare(i.node(), o.node()), strings.Compare(i.Protocol, o.Protocol),
		strings.Compare(i.Address, o.Address), strings.Compare(i.Kind, o.Kind), strings.Compare(i.Holder.Namespace, o.Holder.Namespace),
		strings.Compare(i.Holder.Name, o.Holder.Name), strings.Compare(i.Pod, o.Pod), strings.Compare(i.Holder.Field, o.Holder.Field))
}

// node is the name of the node as a table has it.
func (i PortItem) node() string {
	switch i.Node {
	case EveryNode:
		return "<all>"
	case "":
		return "<none>"
	default:
		return i.Node
	}
}

// WriteJSON writes the list as JSON.
func (l *PortList) WriteJSON(w io.Writer) error { return writeJSON(w, l) }

// WriteTable writes the list for a person, a line for each port that somebody holds somewhere, with pods and fields if it
// is wide. What is told of a number that was asked for follows. Ages are as of now.
func (l *PortList) WriteTable(w io.Writer, now time.Time, wide bool) error {
	if len(l.Items) > 0 {
		if err := l.writeRows(w, now, wide); err != nil {
			return err
		}
	} else if len(l.About) == 0 {
		nobody := "nobody holds a port"
		if l.Namespace != "" {
			nobody = fmt.Sprintf("nobody in namespace %s holds a port; leave -n out to see all namespaces", l.Namespace)
		}
		if _, err := fmt.Fprintln(w, nobody); err != nil {
			return err
		}
	}
	for i := range l.About {
		if i > 0 || len(l.Items) > 0 {
			fmt.Fprintln(w)
		}
		if err := l.About[i].write(w); err != nil {
			return err
		}
	}
	return nil
}

func (l *PortList) writeRows(w io.Writer, now time.Time, wide bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0) // as kubectl's
	header := "NODE\tADDRESS\tPROTOCOL\tPORT\tKIND\tHOLDER\tAGE\tCONFLICT"
	if wide {
		header += "\tPOD\tFIELD"
	}
	fmt.Fprintln(t, header)
	for _, i := range l.Items {
		var conflicts []string
		for _, c := range i.Conflicts {
			conflicts = append(conflicts, c.words())
		}
		cells := []string{i.node(), i.Address, i.Protocol, fmt.Sprint(i.Port), i.Kind, i.Holder.words(), age(i.Since, now), list(conflicts)}
		if wide {
			cells = append(cells, i.Pod, i.Holder.Field)
		}
		for n := range cells {
			cells[n] = Escape(orDash(cells[n]))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// words names a holder: "Deployment default/tomcat", "kubelet, a node daemon", "Node n1".
func (h Holder) words() string {
	if h.Kind == check.DaemonKind {
		return h.Name + ", a node daemon"
	}
	return Object{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name}.String()
}
