package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/util/retry"
)

// Node is a node to register. Where it leaves a field empty, the node has none of it.
type Node struct {
	Name        string
	Addresses   []string          // its InternalIPs, at most one of each family, the primary one first
	PodCIDRs    []string          // where its pods get their addresses from; families as in Addresses
	Labels      map[string]string // besides its hostname, operating system and architecture
	Taints      []v1.Taint
	Allocatable v1.ResourceList // more than enough for hundreds of pods if nil
}

// Nodes makes nodes n1 to n<count>, one address and one pod range for each family, IPv4 alone if none is named. Node
// i has 192.168.10.i and pods in 10.244.i.0/24, or fd00:10::i and pods in fd00:10:244:i::/64, i in hexadecimal there.
func Nodes(count int, families ...v1.IPFamily) []Node {
	if len(families) == 0 {
		families = []v1.IPFamily{v1.IPv4Protocol}
	}
	nodes := make([]Node, count)
	for i := range nodes {
		number := i + 1
		high, low := number>>8, number&0xff // beyond 255 the next bigger network goes on
		n := Node{Name: fmt.Sprintf("n%d", number)}
		for _, f := range families {
			if f == v1.IPv6Protocol {
				n.Addresses = append(n.Addresses, fmt.Sprintf("fd00:10::%x", number))
				n.PodCIDRs = append(n.PodCIDRs, fmt.Sprintf("fd00:10:244:%x::/64", number))
			} else {
				n.Addresses = append(n.Addresses, fmt.Sprintf("192.168.%d.%d", 10+high, low))
				n.PodCIDRs = append(n.PodCIDRs, fmt.Sprintf("10.%d.%d.0/24", 244+high, low))
			}
		}
		nodes[i] = n
	}
	return nodes
}

// node is a node that was registered, and what is on it.
type node struct {
	Node
	podCIDRs []netip.Prefix

	// Guarded by Kubelet.mu.
	lost  bool
	pods  map[types.UID]*placement
	given map[int]netip.Addr // the address given last, for each of podCIDRs
}

// AddNode registers a node, or takes it over as it is if the API has it, and returns when it is ready.
func (k *Kubelet) AddNode(ctx context.Context, n Node) error {
	if err := k.addNode(ctx, n); err != nil {
		return err
	}
	k.takeUp(n.Name)
	return nil
}

func (k *Kubelet) addNode(ctx context.Context, description Node) error {
	n, err := newNode(description)
	if err != nil {
		return err
	}
	if err := k.register(ctx, n); err != nil {
		return fmt.Errorf("registering node %s: %w", n.Name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.nodes[n.Name] = n
	return nil
}

func newNode(description Node) (*node, error) {
	n := &node{Node: description, pods: map[types.UID]*placement{}, given: map[int]netip.Addr{}}
	for _, cidr := range description.PodCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		n.podCIDRs = append(n.podCIDRs, prefix.Masked())
	}
	return n, nil
}

func (k *Kubelet) register(ctx context.Context, n *node) error {
	if _, err := k.client.CoreV1().Nodes().Create(ctx, n.object(), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	stored, err := k.client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if _, err := k.client.CoordinationV1().Leases(v1.NamespaceNodeLease).Create(ctx, n.lease(stored.UID), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := k.reportReady(ctx, n); err != nil {
		return err
	}
	return k.clearNotReadyTaint(ctx, n.Name)
}

// object is the node as it registers itself.
func (n *node) object() *v1.Node {
	labels := map[string]string{v1.LabelHostname: n.Name, v1.LabelOSStable: runtime.GOOS, v1.LabelArchStable: runtime.GOARCH}
	maps.Copy(labels, n.Labels)
	object := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: labels},
		Spec:       v1.NodeSpec{PodCIDRs: n.PodCIDRs, Taints: n.Taints},
	}
	if len(n.PodCIDRs) > 0 {
		object.Spec.PodCIDR = n.PodCIDRs[0]
	}
	n.fillStatus(&object.Status)
	return object
}

// fillStatus writes what the node reports about itself and leaves the rest.
func (n *node) fillStatus(status *v1.NodeStatus) {
	status.Addresses = nil
	for _, a := range n.Addresses {
		status.Addresses = append(status.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: a})
	}
	status.Addresses = append(status.Addresses, v1.NodeAddress{Type: v1.NodeHostName, Address: n.Name})
	status.Allocatable = n.Allocatable
	if status.Allocatable == nil {
		status.Allocatable = v1.ResourceList{
			v1.ResourceCPU:              resource.MustParse("64"),
			v1.ResourceMemory:           resource.MustParse("256Gi"),
			v1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
			v1.ResourcePods:             resource.MustParse("250"),
		}
	}
	status.Capacity = status.Allocatable
	status.NodeInfo.KubeletVersion = "v0.0.0-stand-in"
	status.NodeInfo.OperatingSystem, status.NodeInfo.Architecture = runtime.GOOS, runtime.GOARCH

	setNodeCondition(status, v1.NodeMemoryPressure, v1.ConditionFalse, "KubeletHasSufficientMemory")
	setNodeCondition(status, v1.NodeDiskPressure, v1.ConditionFalse, "KubeletHasNoDiskPressure")
	setNodeCondition(status, v1.NodePIDPressure, v1.ConditionFalse, "KubeletHasSufficientPID")
	setNodeCondition(status, v1.NodeReady, v1.ConditionTrue, "KubeletReady")
}

func setNodeCondition(status *v1.NodeStatus, kind v1.NodeConditionType, value v1.ConditionStatus, reason string) {
	now := metav1.Now()
	c := v1.NodeCondition{Type: kind, Status: value, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now}
	i := slices.IndexFunc(status.Conditions, func(old v1.NodeCondition) bool { return old.Type == kind })
	if i < 0 {
		status.Conditions = append(status.Conditions, c)
		return
	}
	if old := status.Conditions[i]; old.Status == value {
		c.LastTransitionTime = old.LastTransitionTime
	}
	status.Conditions[i] = c
}

func (n *node) lease(owner types.UID) *coordinationv1.Lease {
	seconds, now := int32(40), metav1.NowMicro()
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name:            n.Name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: owner}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &n.Name, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
}

// reportNodes is the heartbeat of all nodes.
func (k *Kubelet) reportNodes(ctx context.Context) {
	tick := time.NewTicker(k.heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var reports errgroup.Group
		reports.SetLimit(workers)
		for _, n := range k.working() {
			reports.Go(func() error {
				if err := k.report(ctx, n); err != nil && ctx.Err() == nil {
					utilruntime.HandleErrorWithContext(ctx, err, "Heartbeat failed", "node", n.Name)
				}
				return nil
			})
		}
		_ = reports.Wait() // they have told their errors
	}
}

// working returns the nodes that are not lost.
func (k *Kubelet) working() []*node {
	k.mu.Lock()
	defer k.mu.Unlock()
	var nodes []*node
	for _, n := range k.nodes {
		if !n.lost {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// report renews the lease, and the status only if somebody has thought the node lost, after a pause of this machine
// perhaps.
func (k *Kubelet) report(ctx context.Context, n *node) error {
	if err := k.renewLease(ctx, n.Name); err != nil {
		return err
	}
	stored, err := k.client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for _, c := range stored.Status.Conditions {
		if c.Type == v1.NodeReady && c.Status == v1.ConditionTrue {
			return nil
		}
	}
	return k.reportReady(ctx, n)
}

func (k *Kubelet) renewLease(ctx context.Context, name string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"renewTime": metav1.NowMicro()}})
	if err != nil {
		return err
	}
	_, err = k.client.CoordinationV1().Leases(v1.NamespaceNodeLease).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// reportReady writes the whole status of a node.
func (k *Kubelet) reportReady(ctx context.Context, n *node) error {
	if err := k.renewLease(ctx, n.Name); err != nil {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		stored, err := k.client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.fillStatus(&stored.Status)
		_, err = k.client.CoreV1().Nodes().UpdateStatus(ctx, stored, metav1.UpdateOptions{})
		return err
	})
}

// clearNotReadyTaint removes the taint that the API server gives to every new node. It is the node controller's work,
// done here too for control planes that have none.
func (k *Kubelet) clearNotReadyTaint(ctx context.Context, name string) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		stored, err := k.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		had := len(stored.Spec.Taints)
		stored.Spec.Taints = slices.DeleteFunc(stored.Spec.Taints, func(t v1.Taint) bool { return t.Key == v1.TaintNodeNotReady })
		if len(stored.Spec.Taints) == had {
			return nil
		}
		_, err = k.client.CoreV1().Nodes().Update(ctx, stored, metav1.UpdateOptions{})
		return err
	})
}
