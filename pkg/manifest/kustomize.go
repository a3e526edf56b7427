package manifest

import (
	"path/filepath"
	"slices"
	"strings"
)

// isKustomization reports whether fields are those of a file that kustomize builds from. Its apiVersion and kind may be left out
// (sigs.k8s.io/kustomize api/types FixKustomizationPostUnmarshalling), but then the file has its name.
func isKustomization(path string, fields map[string]any) bool {
	kind, _ := fields["kind"].(string)
	apiVersion, _ := fields["apiVersion"].(string)
	if strings.HasPrefix(apiVersion, "kustomize.config.k8s.io/") && (kind == "Kustomization" || kind == "Component") {
		return true
	}
	name := filepath.Base(path)
	return apiVersion == "" && (kind == "" || kind == "Kustomization" || kind == "Component") && (name == "kustomization.yaml" || name == "kustomization.yml")
}

// kustomization notes the files that a kustomization takes for patches. What they hold looks like objects, but lacks what it does
// not change.
func (r *reader) kustomization(path string, fields map[string]any) {
	note := func(file any) {
		// A patch may stand in the kustomization itself: then it has lines.
		if name, ok := file.(string); ok && name != "" && !strings.Contains(name, "\n") {
			r.patches = append(r.patches, patch{filepath.Join(filepath.Dir(path), name), path})
		}
	}
	resources, _ := fields["resources"].([]any)
	for _, file := range resources {
		if name, ok := file.(string); ok {
			r.resources = append(r.resources, filepath.Join(filepath.Dir(path), name))
		}
	}
	merged, _ := fields["patchesStrategicMerge"].([]any)
	for _, file := range merged {
		note(file)
	}
	for _, list := range []string{"patches", "patchesJson6902"} {
		entries, _ := fields[list].([]any)
		for _, entry := range entries {
			if fields, ok := entry.(map[string]any); ok {
				note(fields["path"])
			}
		}
	}
}

// patch is a file and the kustomization that takes it for a patch.
type patch struct{ file, of string }

// withoutPatches skips the objects that are patches, and resources of no kustomization.
func (r *reader) withoutPatches() {
	of := map[string]string{}
	for _, p := range r.patches {
		of[p.file] = p.of
	}
	for _, file := range r.resources {
		delete(of, file)
	}
	r.input.Objects = slices.DeleteFunc(r.input.Objects, func(o *Object) bool {
		kustomization, isPatch := of[filepath.Clean(o.Path)]
		if isPatch {
			r.skip(o.Path, o.Line, "a patch of "+kustomization+"; `kustomize build` shows what it makes")
		}
		return isPatch
	})
}
