package manifest

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// becomes returns the kind as which an object is read: workloads of API versions that are gone have become those of apps/v1
// and batch/v1, and their fields with them (https://kubernetes.io/docs/reference/using-api/deprecation-guide). Of the
// defaults that these versions had it writes the one that decides whose pods are whose: the selector.
func becomes(kind schema.GroupVersionKind, fields map[string]any) schema.GroupVersionKind {
	group := schema.GroupVersion{Group: "apps", Version: "v1"}
	old, selects := kind.GroupVersion().String(), false
	switch old + " " + kind.Kind {
	case "extensions/v1beta1 Deployment", "extensions/v1beta1 DaemonSet", "extensions/v1beta1 ReplicaSet",
		"apps/v1beta1 Deployment", "apps/v1beta1 StatefulSet":
		selects = true
	case "apps/v1beta2 Deployment", "apps/v1beta2 DaemonSet", "apps/v1beta2 ReplicaSet", "apps/v1beta2 StatefulSet":
	case "batch/v1beta1 CronJob", "batch/v2alpha1 CronJob":
		group.Group = "batch"
	default:
		return kind
	}
	fields["apiVersion"] = group.String()
	if spec, ok := fields["spec"].(map[string]any); selects && ok && spec["selector"] == nil {
		template, _ := spec["template"].(map[string]any)
		metadata, _ := template["metadata"].(map[string]any)
		if labels, ok := metadata["labels"].(map[string]any); ok {
			spec["selector"] = map[string]any{"matchLabels": labels}
		}
	}
	return group.WithKind(kind.Kind)
}
