package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/extract"
	"github.com/portcullis-k8s/portcullis/pkg/hooks"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// mutatePod gives a pod the host ports that it asks for, judges it as the client wrote it, then removes annotations
// that report other host ports, and fills in hostIP and protocol.
func (h *Handlers) mutatePod(ctx context.Context, req admission.Request) decision {
	pod, old, d, ok := h.pod(req)
	if !ok {
		return d
	}
	if old != nil {
		return h.allowed()
	}
	w := extract.Pod(pod, h.cluster, h.settings.Check.Trusted)
	if isImpossible(req, pod) || h.exists(ctx, req, w.Owner.Ref) {
		return h.allowed()
	}
	var given []jsonpatch.JsonPatchOperation
	var findings []check.Finding
	if len(w.Requests) > 0 && !isDryRun(req) {
		var ok bool
		if given, findings, ok = h.assignHostPorts(pod, w); !ok {
			return later(h.settings, "other requests for host ports came first")
		}
		w = extract.Pod(pod, h.cluster, h.settings.Check.Trusted)
		if len(given) > 0 {
			w.Owner.Ref = unnamedPod(pod).Ref // by which it is in flight
		}
	}
	d = h.admitInherited(ctx, pod, check.Input{Workload: w}, nil)
	if !d.busy {
		d.findings = append(d.findings, findings...)
		d.verdict = h.settings.Check.Judge(d.findings)
	}
	if d.verdict == check.Denied || d.busy {
		if len(given) > 0 {
			h.drop(unnamedPod(pod).Ref, w.Claims)
		}
		return d
	}
	if !isDryRun(req) {
		d.patches = slices.Concat(removeFalseAssignments(pod), given, fillHostPorts(pod, h.settings.DefaultHostIP.For(h.cluster.Families())))
	}
	return d
}

// assignHostPorts gives a pod the host ports that it asks for, and remembers them until the validating webhook sees it. It
// reports false if others have asked for them each time that they were chosen.
func (h *Handlers) assignHostPorts(pod *corev1.Pod, w *check.Workload) ([]jsonpatch.JsonPatchOperation, []check.Finding, bool) {
	h.choosing.Lock()
	defer h.choosing.Unlock()
	for range admitRounds {
		base, flying, version := h.look()
		attempt := pod.DeepCopy()
		given, findings := h.giveHostPorts(attempt, w, flying.Over(base))
		w := extract.Pod(attempt, h.cluster, h.settings.Check.Trusted)
		numbers := hostPortsOf(pod)
		fresh := slices.DeleteFunc(slices.Clone(w.Claims), func(c ports.Claim) bool { return slices.Contains(numbers, c.Port) })
		isRecorded := len(given) == 0
		if !isRecorded {
			_, isRecorded = h.record(unnamedPod(attempt), *writeOf(attempt, nil, w.Claims), fresh, version)
		}
		if isRecorded {
			*pod = *attempt
			return given, findings, true
		}
	}
	return nil, nil, false
}

// unnamedPod is the owner that stands for a pod that was given host ports until the validating hook sees its name.
func unnamedPod(pod *corev1.Pod) ports.Owner {
	owner := extract.Owner(corev1.SchemeGroupVersion.WithKind("Pod"), pod, nil)
	if pod.GenerateName != "" {
		unnamed := corev1.Pod{}
		unnamed.Namespace, unnamed.GenerateName = pod.Namespace, pod.GenerateName
		owner.Ref = extract.Owner(corev1.SchemeGroupVersion.WithKind("Pod"), &unnamed, nil).Ref
		for _, number := range hostPortsOf(pod) {
			owner.Name += strconv.Itoa(int(number)) + "."
		}
	}
	return owner
}

// validatePod judges a pod as it will be stored, and once more when its labels change: exceptions of policies go by them.
func (h *Handlers) validatePod(ctx context.Context, req admission.Request) decision {
	pod, old, d, ok := h.pod(req)
	if !ok {
		return d
	}
	w := extract.Pod(pod, h.cluster, h.settings.Check.Trusted)
	if old != nil {
		return h.admitInherited(ctx, pod, check.Input{Workload: w, OldWorkload: extract.Pod(old, h.cluster, h.settings.Check.Trusted)}, nil)
	}
	if len(w.Requests) > 0 && !isDryRun(req) {
		h.drop(unnamedPod(pod).Ref, w.Claims)
	}
	return h.admitWorkload(ctx, req, pod, check.Input{Workload: w}, writeOf(pod, nil, w.Claims))
}

// pod decodes a request for a pod. It reports false with the decision if there is nothing to judge.
func (h *Handlers) pod(req admission.Request) (pod, old *corev1.Pod, d decision, ok bool) {
	if req.Resource.Group != corev1.GroupName || req.Resource.Resource != "pods" || req.SubResource != "" {
		return nil, nil, malformed(fmt.Errorf("this hook judges pods, not %s", resource(req))), false
	}
	pod, old, err := decode[corev1.Pod](req)
	if err != nil {
		return nil, nil, malformed(err), false
	}
	named(pod, req)
	isNode := slices.Contains(req.UserInfo.Groups, hooks.NodesGroup)
	switch {
	case isNode && extract.IsMirror(pod): // refusing the image of a static pod does not stop it, and nobody else makes one
		return nil, nil, h.allowed(), false
	case req.Operation == admissionv1.Create:
		return pod, nil, decision{}, true
	case req.Operation == admissionv1.Update && old != nil && !maps.Equal(old.Labels, pod.Labels): // its ports cannot be changed
		named(old, req)
		return pod, old, decision{}, true
	default:
		return nil, nil, h.allowed(), false
	}
}

// validateWorkload judges the pod template of a Deployment, DaemonSet and so on where a person writes it.
func (h *Handlers) validateWorkload(ctx context.Context, req admission.Request) decision {
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update || req.SubResource != "" {
		return h.allowed()
	}
	w, object, err := h.workload(req.Object, req)
	if err != nil {
		return malformed(err)
	}
	if len(req.OldObject.Raw) == 0 {
		d := h.admitWorkload(ctx, req, object, check.Input{Workload: w}, writeOf(object, nil, w.Claims))
		if isProbe(req) {
			d.settings, d.probe = h.strict, true
			d.verdict = h.strict.Check.Judge(d.findings)
		}
		return d
	}
	old, oldObject, err := h.workload(req.OldObject, req)
	if err != nil {
		return malformed(err)
	}
	return h.admitWorkload(ctx, req, object, check.Input{Workload: w, OldWorkload: old}, writeOf(object, oldObject, w.Claims))
}

// isProbe reports whether a request only asks whether the webhook is asked.
func isProbe(req admission.Request) bool {
	if !isDryRun(req) {
		return false
	}
	var object metav1.PartialObjectMetadata
	return json.Unmarshal(req.Object.Raw, &object) == nil && object.Annotations[v1alpha1.ProbeAnnotation] == "true"
}

func (h *Handlers) workload(raw runtime.RawExtension, req admission.Request) (*check.Workload, metav1.Object, error) {
	object, err := h.decodeAny(raw, req)
	if err != nil {
		return nil, nil, err
	}
	meta, ok := object.(metav1.Object)
	if !ok {
		return nil, nil, fmt.Errorf("this hook judges objects with a pod template, not %s", resource(req))
	}
	named(meta, req)
	w, ok := extract.Workload(object, h.cluster, h.settings.Check.Trusted)
	if !ok {
		return nil, nil, fmt.Errorf("this hook judges objects with a pod template, not %s", resource(req))
	}
	return w, meta, nil
}

// decodeAny decodes an object of the request's own kind.
func (h *Handlers) decodeAny(raw runtime.RawExtension, req admission.Request) (runtime.Object, error) {
	object, err := h.scheme.New(schemaKind(req))
	if err != nil {
		return nil, fmt.Errorf("this hook does not know %s: %w", resource(req), err)
	}
	return object, decodeInto(raw.Raw, object, req)
}

// admitWorkload judges a pod or template and, if it is let through, remembers what it claims.
func (h *Handlers) admitWorkload(ctx context.Context, req admission.Request, object metav1.Object, in check.Input, write *write) decision {
	if isImpossible(req, object) {
		return h.allowed()
	}
	if h.exists(ctx, req, in.Workload.Owner.Ref) {
		return h.leave(req, in.Workload.Owner.Name, h.admitInherited(ctx, object, in, nil))
	}
	write.isFree = h.isOfTemplate(ctx, object, in.Workload)
	if isDryRun(req) {
		write = nil
	}
	return h.admitInherited(ctx, object, in, write)
}

// fillHostPorts writes what the API leaves open: hostIP, where a default is wanted, and the protocol. Pods of the host
// network and ports with a hostIP are let alone.
func fillHostPorts(pod *corev1.Pod, hostIP string) []jsonpatch.JsonPatchOperation {
	if pod.Spec.HostNetwork {
		return nil
	}
	var patches []jsonpatch.JsonPatchOperation
	fill := func(list string, containers []corev1.Container) {
		for i := range containers {
			for j := range containers[i].Ports {
				p := &containers[i].Ports[j]
				if p.HostPort == 0 {
					continue
				}
				at := fmt.Sprintf("/spec/%s/%d/ports/%d/", list, i, j)
				if p.HostIP == "" && hostIP != "" {
					patches = append(patches, jsonpatch.NewOperation("add", at+"hostIP", hostIP))
				}
				if p.Protocol == "" {
					patches = append(patches, jsonpatch.NewOperation("add", at+"protocol", string(corev1.ProtocolTCP)))
				}
			}
		}
	}
	fill("initContainers", pod.Spec.InitContainers)
	fill("containers", pod.Spec.Containers)
	return patches
}

// bindingTime bounds what is read for a binding: its hook has one second, and passes where there is no answer.
const bindingTime = 700 * time.Millisecond

// validateBinding is the optional guard for clusters where more than one scheduler binds pods: it judges a pod against
// what the chosen node holds. It only sees a name, so that a pod that is not in the ledger passes: it has no ports.
func (h *Handlers) validateBinding(ctx context.Context, req admission.Request) decision {
	if r := req.Resource.Resource; req.Resource.Group != corev1.GroupName || r != "bindings" && r+"/"+req.SubResource != "pods/binding" {
		return malformed(fmt.Errorf("this hook judges bindings, not %s", resource(req)))
	}
	binding, _, err := decode[corev1.Binding](req)
	if err != nil {
		return malformed(err)
	}
	named(binding, req)
	name := binding.Name
	if name == "" {
		name = req.Name
	}
	ctx, cancel := context.WithTimeout(ctx, bindingTime)
	defer cancel()
	base, flying, _ := h.look()
	ref := ports.Ref{APIVersion: "v1", Kind: "Pod", Namespace: binding.Namespace, Name: name}
	owner, claims, ok := flying.Over(base).Owner(ref)
	if !ok || binding.Target.Name == "" {
		return h.allowed()
	}
	w := &check.Workload{Owner: *owner, IsPod: true}
	for _, c := range claims {
		c.Scope, c.Owner = ports.NodeScope(binding.Target.Name), &w.Owner
		w.Claims = append(w.Claims, c)
	}
	return h.settleDenial(ctx, check.Input{Workload: w, Bound: true}, base, flying)
}
