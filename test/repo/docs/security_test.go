package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// TestRights holds the table of rights to the manifests that grant them. Why is what stands above each role.
func TestRights(t *testing.T) {
	want := [][]string{{"Right", "Where", "Why"}}
	files, err := filepath.Glob(filepath.Join(root, "config/rbac/*role.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for document := range strings.SplitSeq(string(must(os.ReadFile(file))), "\n---\n") {
			var role rbacv1.ClusterRole // a Role has no other fields
			if err := yaml.Unmarshal([]byte(document), &role); err != nil {
				t.Fatal(file, err)
			}
			if role.Kind != "Role" && role.Kind != "ClusterRole" {
				continue
			}
			where, why := "everywhere", reason(document)
			if role.Kind == "Role" {
				where = "namespace `" + role.Namespace + "`"
			}
			if why == "" {
				t.Errorf("%s: nothing says why %s is needed", file, role.Name)
			}
			for _, rule := range role.Rules {
				named := where
				if len(rule.ResourceNames) > 0 {
					named += ", named `" + strings.Join(rule.ResourceNames, "`, `") + "`"
				}
				want = append(want, []string{strings.Join(rule.Verbs, ", ") + " " + strings.Join(granted(rule), ", "), named, why})
				why = "as above" // of the same role
			}
		}
	}
	read(t, "docs/security.md").holdTable(t, want)
}

// reason is the comment above a role.
func reason(document string) string {
	var words []string
	for line := range strings.Lines(document) {
		text, is := strings.CutPrefix(line, "#")
		if !is {
			break
		}
		words = append(words, strings.TrimSpace(text))
	}
	return strings.Join(words, " ")
}

func granted(rule rbacv1.PolicyRule) []string {
	var all []string
	for _, r := range rule.Resources {
		if group := strings.Join(rule.APIGroups, ", "); group != "" {
			name, sub, _ := strings.Cut(r, "/")
			r = strings.TrimSuffix(name+"."+group+"/"+sub, "/")
		}
		all = append(all, r)
	}
	return all
}

func must(text []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return text
}

var testNames = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")

// TestNamedTests: each test that a document names exists.
func TestNamedTests(t *testing.T) {
	exist := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, d.Name()) {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range declared.FindAllStringSubmatch(string(must(os.ReadFile(path))), -1) {
			exist[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for page, least := range map[string]int{"docs/security.md": 15, webhookPage: 25} {
		named := testNames.FindAllStringSubmatch(read(t, page).text(), -1)
		for _, m := range named {
			if !exist[m[1]] {
				t.Errorf("%s names %s, and there is no such test", page, m[1])
			}
		}
		if len(named) < least {
			t.Errorf("%s names %d tests", page, len(named))
		}
	}
}
