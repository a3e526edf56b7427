package binaries

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
)

// Helm is in none of the folders that Ensure returns: it is no part of what runs, and another version of it is no reason
// to build Kubernetes anew.
const Helm Name = "helm"

const helmPath = "helm.sh/helm/v4"

// EnsureHelm returns the file of the program helm, built from the module that helm/go.mod pins, as Ensure does.
func EnsureHelm(ctx context.Context, progress io.Writer) (string, error) {
	module, err := findModule()
	if err != nil {
		return "", err
	}
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(module.dir, "binaries", "helm")
	var version string
	if err := readVersions(filepath.Join(dir, "go.mod"), map[string]*string{helmPath: &version}); err != nil {
		return "", err
	}
	key := fmt.Sprintf("helm-%s-%s-%s-%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	b := builder{
		dir:      Dir(filepath.Join(cache, "binaries", key)),
		programs: []Name{Helm},
		progress: newProgress(progress),
		compile: func(ctx context.Context, _ Name, file string) error {
			return goBuild(ctx, dir, file, helmPath+"/cmd/helm", "-s -w -X "+helmPath+"/internal/version.version="+version)
		},
	}
	if err := b.ensure(ctx, b.programs); err != nil {
		return "", err
	}
	return b.dir.Path(Helm), nil
}
