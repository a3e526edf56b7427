package kubelet

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// killedExitCode is that of a process that SIGKILL ended.
const killedExitCode = 137

// finished reports whether a pod's containers have stopped for good.
func finished(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}

// rejectedStatus is the status of a pod that was refused for its ports.
func rejectedStatus(pod *v1.Pod) v1.PodStatus {
	status := baseStatus(pod)
	status.Phase, status.Reason, status.Message = v1.PodFailed, portsReason, portsMessage
	return *status
}

// runningStatus is the status of a pod whose containers run. One that is held is not ready.
func runningStatus(pod *v1.Pod, n Node, addresses []string, held bool) v1.PodStatus {
	status := baseStatus(pod)
	status.Phase = v1.PodRunning
	status.HostIP, status.HostIPs, status.PodIP, status.PodIPs = "", nil, "", nil
	for _, a := range n.Addresses {
		status.HostIPs = append(status.HostIPs, v1.HostIP{IP: a})
	}
	for _, a := range addresses {
		status.PodIPs = append(status.PodIPs, v1.PodIP{IP: a})
	}
	if len(status.HostIPs) > 0 {
		status.HostIP = status.HostIPs[0].IP
	}
	if len(status.PodIPs) > 0 {
		status.PodIP = status.PodIPs[0].IP
	}
	runContainers(pod, status, !held)

	set := func(kind v1.PodConditionType, value bool, reason, message string) {
		setPodCondition(pod, status, kind, value, reason, message)
	}
	set(v1.PodReadyToStartContainers, true, "", "")
	set(v1.PodInitialized, true, "", "")
	if held {
		const reason, message = "ContainersNotReady", "containers are held"
		set(v1.ContainersReady, false, reason, message)
		set(v1.PodReady, false, reason, message)
		return *status
	}
	set(v1.ContainersReady, true, "", "")
	if gate, closed := closedGate(pod); closed {
		set(v1.PodReady, false, "ReadinessGatesNotReady", fmt.Sprintf("readiness gate %q is not True", gate))
	} else {
		set(v1.PodReady, true, "", "")
	}
	return *status
}

// finishedStatus is the status of a pod whose containers have stopped with an exit code.
func finishedStatus(pod *v1.Pod, exitCode int32, reason, message string) v1.PodStatus {
	status := baseStatus(pod)
	status.Phase, status.Reason, status.Message = v1.PodSucceeded, reason, message
	conditionReason, containerReason := "PodCompleted", "Completed"
	if exitCode != 0 {
		status.Phase, conditionReason, containerReason = v1.PodFailed, "PodFailed", "Error"
	}
	runContainers(pod, status, false)
	for _, containers := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for i := range containers {
			if c := &containers[i]; c.State.Running != nil {
				*c = terminated(*c, exitCode, containerReason)
			}
		}
	}
	setPodCondition(pod, status, v1.PodReadyToStartContainers, false, "", "")
	setPodCondition(pod, status, v1.PodInitialized, true, conditionReason, "")
	setPodCondition(pod, status, v1.ContainersReady, false, conditionReason, "")
	setPodCondition(pod, status, v1.PodReady, false, conditionReason, "")
	return *status
}

// baseStatus is a copy of a pod's status: what others write, the scheduler for example, stays.
func baseStatus(pod *v1.Pod) *v1.PodStatus {
	status := pod.Status.DeepCopy()
	status.ObservedGeneration = pod.Generation
	if status.StartTime == nil {
		now := metav1.Now()
		status.StartTime = &now
	}
	return status
}

// runContainers gives every container the state that it has while the pod runs.
func runContainers(pod *v1.Pod, status *v1.PodStatus, ready bool) {
	before := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	running := func(c v1.Container) v1.ContainerStatus {
		s := containerStatus(pod, c, before)
		if s.State.Running == nil {
			s.State = v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: *status.StartTime}}
		}
		started := true
		s.Ready, s.Started = ready, &started
		return s
	}
	status.InitContainerStatuses, status.ContainerStatuses = nil, nil
	for _, c := range pod.Spec.InitContainers {
		if isSidecar(c) {
			status.InitContainerStatuses = append(status.InitContainerStatuses, running(c))
			continue
		}
		s := containerStatus(pod, c, before)
		if s.State.Terminated == nil {
			s.State = v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: *status.StartTime}}
			s = terminated(s, 0, "Completed")
		}
		s.Ready = true
		status.InitContainerStatuses = append(status.InitContainerStatuses, s)
	}
	for _, c := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, running(c))
	}
}

// containerStatus returns the status that a container has had, or its first one.
func containerStatus(pod *v1.Pod, c v1.Container, before []v1.ContainerStatus) v1.ContainerStatus {
	for _, s := range before {
		if s.Name == c.Name && s.ContainerID != "" {
			return *s.DeepCopy()
		}
	}
	return v1.ContainerStatus{
		Name:        c.Name,
		Image:       c.Image,
		ImageID:     c.Image,
		ContainerID: fmt.Sprintf("stand-in://%s/%s", pod.UID, c.Name),
	}
}

// terminated is the status of a running container that stops now.
func terminated(s v1.ContainerStatus, exitCode int32, reason string) v1.ContainerStatus {
	started := false
	s.State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
		ExitCode: exitCode, Reason: reason, ContainerID: s.ContainerID,
		StartedAt: s.State.Running.StartedAt, FinishedAt: metav1.Now(),
	}}
	s.Ready, s.Started = false, &started
	return s
}

// setPodCondition changes the time of a transition only when there is one.
func setPodCondition(pod *v1.Pod, status *v1.PodStatus, kind v1.PodConditionType, value bool, reason, message string) {
	c := v1.PodCondition{
		Type: kind, Status: v1.ConditionFalse, Reason: reason, Message: message,
		ObservedGeneration: pod.Generation, LastTransitionTime: metav1.Now(),
	}
	if value {
		c.Status = v1.ConditionTrue
	}
	i := slices.IndexFunc(status.Conditions, func(old v1.PodCondition) bool { return old.Type == kind })
	if i < 0 {
		status.Conditions = append(status.Conditions, c)
		return
	}
	if old := status.Conditions[i]; old.Status == c.Status {
		c.LastTransitionTime, c.LastProbeTime = old.LastTransitionTime, old.LastProbeTime
	}
	status.Conditions[i] = c
}

// closedGate returns a readiness gate that somebody else has yet to open.
func closedGate(pod *v1.Pod) (_ v1.PodConditionType, closed bool) {
	for _, gate := range pod.Spec.ReadinessGates {
		open := slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == v1.ConditionTrue
		})
		if !open {
			return gate.ConditionType, true
		}
	}
	return "", false
}
