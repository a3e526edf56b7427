package manifest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestExclude: patterns are about each folder that is named, and about files that are named themselves.
func TestExclude(t *testing.T) {
	tree(t, map[string]string{
		"app/a.yaml": svc("a"), "app/crds/b.yaml": svc("b"), "app/sub/crds/c.yaml": svc("c"), "app/sub/d.json": "{}", "app/.portcullisignore": "# nothing\n",
		"other/a.yaml": svc("o"), "other/.portcullisignore": "*\n!keep.yaml\n", "other/keep.yaml": svc("k"),
		"bad/.portcullisignore": "a[\n\n/skip.yaml\n", "bad/skip.yaml": "kind: [", "bad/e.yaml": svc("e"),
	})
	for _, tt := range []struct{ paths, exclude, want string }{
		{"app", "crds/", "app/a.yaml app/sub/d.json"},
		{"app", "/crds", "app/a.yaml app/sub/crds/c.yaml app/sub/d.json"},
		{"app app/sub/crds", "crds", "app/a.yaml app/sub/d.json app/sub/crds/c.yaml"},
		{"app", "**/crds/*.yaml *.json", "app/a.yaml"},
		{"app", "sub/**", "app/a.yaml app/crds/b.yaml"},
		{"app/a.yaml app/sub/d.json", "a.yaml", "app/sub/d.json"},
		{"other", "keep*", ""},
		{"other", "x", "other/keep.yaml"},
		{"bad", "x", "bad/e.yaml"},
	} {
		r := &reader{}
		sources, err := r.sources(strings.Fields(tt.paths), strings.Fields(tt.exclude))
		var got []string
		for _, s := range sources {
			got = append(got, s.path)
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" || err != nil {
			t.Errorf("%s without %s: %v (-want +got):\n%s", tt.paths, tt.exclude, err, diff)
		}
	}
	for _, bad := range []string{"a[", "", "# a", `a\b`, "a//b"} {
		if _, err := Read([]string{"app"}, Options{Scheme: Scheme(), Exclude: []string{bad}}); err == nil {
			t.Errorf("--exclude %q is taken", bad)
		}
	}
	in, err := Read([]string{"bad"}, Options{Scheme: Scheme()})
	if err != nil || len(in.Unread) != 1 || in.Unread[0].Line != 1 || in.Unread[0].Path != "bad/.portcullisignore" {
		t.Errorf("%v, %q; want the malformed line of the ignore file", err, wrong(in))
	}
}

// TestIgnoreAsGit: for random trees and ignore files, git leaves out the same files.
func TestIgnoreAsGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	r := seed.Rand(t)
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	folders := []string{"", "a/", "b/", "a/b/", "a/a/", "a/b/a/"}
	ignored, kept := 0, 0
	for range seed.Rounds(20, 300) {
		files := map[string]string{}
		for _, f := range folders {
			for _, name := range []string{"a", "b", "ab"} {
				files[f+name+".yaml"] = svc("x")
			}
			var lines []string
			for range r.IntN(4) {
				line := pick("", "", "!") + pick("", "", "/", "**/", "a/", "b/") + pick("a", "b", "*", "?", "[ab]", "a*", "**", "*.yaml", "a.yaml", "ab.yaml", "[!a].yaml") + pick("", "", "", "/", "/**", "/b", "/*.yaml")
				lines = append(lines, line)
			}
			if len(lines) > 0 {
				files[f+IgnoreFile] = strings.Join(lines, "\n") + "\n"
			}
		}
		tree(t, files)
		if out, err := exec.CommandContext(t.Context(), git, "init", "-q").CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		cmd := exec.CommandContext(t.Context(), git, "ls-files", "--others", "--exclude-per-directory="+IgnoreFile, "*.yaml")
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(string(out))
		slices.Sort(want)
		sources, err := (&reader{}).sources([]string{"."}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range sources {
			got = append(got, filepath.ToSlash(s.path))
		}
		slices.Sort(got)
		if diff := cmp.Diff(strings.Join(want, " "), strings.Join(got, " ")); diff != "" {
			var rules []string
			for _, f := range folders {
				rules = append(rules, f+": "+strings.ReplaceAll(files[f+IgnoreFile], "\n", " "))
			}
			t.Fatalf("%q (-git +ours):\n%s", rules, diff)
		}
		kept, ignored = kept+len(got), ignored+3*len(folders)-len(got)
	}
	if kept < 20 || ignored < 20 {
		t.Errorf("%d kept, %d ignored prove little", kept, ignored)
	}
}
