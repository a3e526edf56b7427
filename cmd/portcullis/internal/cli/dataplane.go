package cli

import "github.com/portcullis-k8s/portcullis/pkg/rules"

// PortmapMarkBit is portmap's default markMasqBit.
const PortmapMarkBit = 13

// AssumePodCIDRs has kube-proxy know pods by the node's podCIDR where nothing tells, and reports whether it had to.
func AssumePodCIDRs(w *rules.World) (assumed bool) {
	if w.Proxy.Detector.CIDRs != nil || w.Node.PodCIDRs == nil {
		return false
	}
	w.Proxy.Detector.CIDRs = w.Node.PodCIDRs
	return true
}
