//go:build linux

// Package operations proves what an installation must withstand: certificates that are replaced under load, replicas that
// are killed, cut off, and replaced by another version, an API server that restarts, an etcd that hangs. The real API
// server reaches the real program as in a cluster: through a Service, its EndpointSlices, TLS and the webhook
// configurations that ship, which begin with Ignore and without a caBundle.
//
// It proves as well what an operator looks at: `portcullis doctor` and `break-glass`, metrics, alerts (by promtool), the
// dashboard and traces.
//
// The tests run in a network namespace of their own, in which the API server listens on all addresses. Each replica has
// another one, joined to it by a pair of interfaces, as a pod has. What is missing of a cluster is the kubelet and the
// controller that writes EndpointSlices: a stand-in asks each replica whether it is ready, and writes them.
package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/portcullis-k8s/portcullis/test/lab/binaries"
	"github.com/portcullis-k8s/portcullis/test/lab/netns"
)

// inside is the folder of the programs, for the process in the namespace.
const inside = "PORTCULLIS_OPERATIONS"

// nowhere is its value where no namespace can be made.
const nowhere = "nowhere"

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard()) // client libraries have nothing to add to what the tests say
	switch os.Getenv(inside) {
	case "":
	case nowhere:
		os.Exit(m.Run())
	default:
		if out, err := command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip link set lo up: %v\n%s", err, out)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	code, err := runInside()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runInside runs this program again in a network namespace, with what it needs of the network made before. A machine
// that cannot make one runs the tests where it is: each says why it cannot.
func runInside() (int, error) {
	ctx := context.Background()
	if netns.Missing("ip", "unshare", "nsenter") != "" {
		return runAgain(ctx, os.Args[0], os.Args[1:], nowhere)
	}
	if _, err := binaries.Ensure(ctx, binaries.Options{}, binaries.Etcd, binaries.KubeAPIServer, binaries.KubeControllerManager, binaries.KubeScheduler, binaries.Kubectl); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "portcullis-operations-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := buildVersions(ctx, dir); err != nil {
		return 1, err
	}
	return runAgain(ctx, "unshare", append([]string{"--net", "--", os.Args[0]}, os.Args[1:]...), dir)
}

func runAgain(ctx context.Context, program string, args []string, dir string) (int, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"="+dir)
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// The two versions of the program: the working tree, and the commit before.
const (
	thisVersion     = "portcullis-this"
	previousVersion = "portcullis-previous"
)

func program(version string) string { return filepath.Join(os.Getenv(inside), version) }

// buildVersions builds both. Where the history is not there, as in a shallow clone, or has no program that makes its own
// certificates, the working tree stands in for the commit before, under another version.
func buildVersions(ctx context.Context, dir string) error {
	root, err := binaries.Root()
	if err != nil {
		return err
	}
	build := func(version string, flags ...string) error {
		flags = append(flags, "-ldflags=-s -w -X main.version="+version, "./cmd/portcullis")
		return binaries.Build(ctx, io.Discard, root, filepath.Join(dir, version), flags...)
	}
	if err := build(thisVersion); err != nil {
		return err
	}
	overlay, err := commitBefore(ctx, root, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the previous version is this one, under another name:", err)
		return build(previousVersion)
	}
	return build(previousVersion, "-overlay="+overlay)
}

// commitBefore writes the files that are others in the commit before into a folder, and returns the overlay by which go takes
// them for those of the working tree. So what is the same in both is not compiled again.
func commitBefore(ctx context.Context, root, dir string) (overlay string, err error) {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
		return string(out), err
	}
	const commit = "HEAD~1"
	if _, err := git("cat-file", "-e", commit+":go.mod"); err != nil {
		return "", fmt.Errorf("the commit before is not to be had: %w", err)
	}
	changed, err1 := git("diff", "--name-only", "--no-renames", "-z", commit)
	added, err2 := git("ls-files", "--others", "--exclude-standard", "-z")
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimRight(changed+added, "\x00"), "\x00") {
		replace[filepath.Join(root, name)] = "" // which is to say that it is not there
		text, err := git("cat-file", "blob", commit+":"+name)
		if err != nil {
			continue
		}
		file := filepath.Join(dir, "before", name)
		replace[filepath.Join(root, name)] = file
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}
