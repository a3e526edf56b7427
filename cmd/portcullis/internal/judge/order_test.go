package judge

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/clitest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
	"github.com/portcullis-k8s/portcullis/pkg/seed"
)

// TestOrderOfFiles: whatever order files are given in, the same is found, as badly. Of two inputs that clash the later one is
// told and the earlier one is its holder, so that a finding is about the pair. The soak tries every order.
func TestOrderOfFiles(t *testing.T) {
	r := seed.Rand(t)
	meetings, unread, placed := 0, 0, 0
	for range 200 {
		d := fileDraw{r}
		first := sameInAnyOrder(t, d.files(), seed.Rounds(4, 720), r)
		meetings += strings.Count(first, " and ")
		unread += strings.Count(first, "PC07")
		first = sameInAnyOrder(t, d.cluster(), seed.Rounds(3, 24), r)
		placed += strings.Count(first, "PC0303") + strings.Count(first, "PC040")
	}
	if meetings < 200 || unread < 50 || placed < 50 {
		t.Errorf("%d pairs, %d not read, %d of numbers and places: that proves little", meetings, unread, placed)
	}
}

// sameInAnyOrder lints files with these contents in some orders, and returns what is found in each.
func sameInAnyOrder(t *testing.T, contents []string, limit int, r *rand.Rand) string {
	t.Helper()
	files, names := map[string]string{}, []string{}
	for i, text := range contents {
		name := fmt.Sprintf("f%d.yaml", i)
		files[name], names = text, append(names, name)
	}
	clitest.Folder(t, files)
	first := pairs(t, names)
	for _, names := range orders(r, names, limit) {
		if diff := cmp.Diff(first, pairs(t, names)); diff != "" {
			var all strings.Builder
			for _, name := range names {
				fmt.Fprintf(&all, "--- %s\n%s", name, files[name])
			}
			t.Fatalf("%v (-first +in this order):\n%s\n%s", names, diff, all.String())
		}
	}
	if err := os.Chdir("/"); err != nil { // the folder goes
		t.Fatal(err)
	}
	return first
}

// orders are all orders of names, or some if there are more than limit.
func orders(r *rand.Rand, names []string, limit int) [][]string {
	all := [][]string{{}}
	for _, name := range names {
		var longer [][]string
		for _, order := range all {
			for i := range len(order) + 1 {
				longer = append(longer, slices.Insert(slices.Clone(order), i, name))
			}
		}
		all = longer
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(limit, len(all))]
}

// pairs lints files and returns a sorted line for each finding: its severity and code, and the object with its field, or both
// objects of a pair.
func pairs(t *testing.T, names []string) string {
	t.Helper()
	o := runCommand(t, "", append([]string{"lint", "-o", "json"}, names...)...)
	var r report.LintReport
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
		t.Fatalf("%v in %s%s", err, o.Stdout, o.Stderr)
	}
	var lines []string
	worst := map[string]string{} // of each pair: a finding may name others with whom one of them clashes worse
	for _, f := range r.Findings {
		who := []string{f.Object.String()}
		if f.Holder != nil {
			for _, h := range append([]report.Holder{*f.Holder}, f.Others...) {
				two := []string{who[0] + " " + f.Field, h.Kind + " " + h.Namespace + "/" + h.Name + " " + h.Field}
				slices.Sort(two)
				pair := pairCode(f.Code) + " " + strings.Join(two, " and ")
				if severity := fmt.Sprint(f.Severity); worst[pair] == "" || severity == "error" {
					worst[pair] = severity
				}
			}
			continue
		}
		switch f.Code {
		case "PC0703": // about one of two forms
		case "PC0701":
			who = []string{f.Source.String()}
		default:
			who[0] += " " + f.Field
		}
		slices.Sort(who)
		lines = append(lines, fmt.Sprintf("%s %s %s", f.Severity, f.Code, strings.Join(who, " and ")))
	}
	for pair, severity := range worst {
		lines = append(lines, severity+" "+pair)
	}
	slices.Sort(lines)
	lines = slices.Compact(lines) // of two forms of one object each may be the later, or neither
	return strings.Join(lines, "\n") + "\n" + r.Inputs.String() + fmt.Sprint("\nexit ", o.Exit)
}

// pairCode is one for the two codes of those who hold one port: which it is depends on which of them is a pod.
func pairCode(code string) string {
	if code == "PC0202" {
		return "PC0201"
	}
	return code
}

// fileDraw draws manifests from few names and numbers, so that Services, workloads and pods meet each other.
type fileDraw struct{ *rand.Rand }

func (d fileDraw) pick(from ...string) string { return from[d.IntN(len(from))] }

// cluster are nodes and what meets on them, a file each.
func (d fileDraw) cluster() []string {
	var files []string
	for _, node := range []string{"n1", "n2", "n3"}[:d.IntN(4)] {
		files = append(files, fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s, labels: {kubernetes.io/hostname: %[1]s}}}\n", node))
	}
	for i := range 2 + d.IntN(2) {
		name, port := string(rune('a'+i)), d.pick("8080", "8080", "30080")
		spec := fmt.Sprintf("containers: [{name: c, ports: [{containerPort: %s, hostPort: %[1]s, protocol: %s}]}], %s", port, d.pick("TCP", "TCP", "UDP"),
			d.pick("hostNetwork: false", "hostNetwork: true", "nodeName: n1", "nodeSelector: {kubernetes.io/hostname: n2}", "nodeSelector: {disk: ssd}"))
		template := fmt.Sprintf("selector: {matchLabels: {app: %s}}, template: {metadata: {labels: {app: %[1]s}}, spec: {%s}}", name, spec)
		kind := d.pick("Service", "Deployment", "Deployment", "StatefulSet", "DaemonSet", "Pod")
		switch kind {
		case "Service":
			spec = fmt.Sprintf("type: NodePort, ports: [{port: 80, protocol: %s, nodePort: 30080}]", d.pick("TCP", "UDP"))
		case "Deployment", "StatefulSet":
			spec = fmt.Sprintf("replicas: %d, %s", d.IntN(4), template)
		case "DaemonSet":
			spec = template
		}
		version := map[bool]string{true: "v1", false: "apps/v1"}[kind == "Service" || kind == "Pod"]
		files = append(files, fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s}, spec: {%s}}\n", version, kind, name, spec))
	}
	return files
}

// port is a number of a Service, or none.
func (d fileDraw) port() string {
	return d.pick("30000", "30001", "30002", "30010", "30011", "30012", "9100", "70000", `"http"`)
}

// files are texts of one to three documents.
func (d fileDraw) files() []string {
	var files []string
	for range 2 + d.IntN(5) {
		var documents []string
		for range 1 + d.IntN(3) {
			documents = append(documents, d.document())
		}
		files = append(files, strings.Join(documents, "\n---\n")+"\n")
	}
	return files
}

func (d fileDraw) document() string {
	i := d.IntN(6)
	name := string(rune('a' + i))
	pod := func() string {
		number := fmt.Sprint(30000 + i%3)
		port := d.pick(number, number, number, number, "70000", `"http"`)
		return fmt.Sprintf("{hostNetwork: %s, nodeName: %s, containers: [{name: c, ports: [{containerPort: %s, hostPort: %[3]s}]}]}", d.pick("false", "false", "true"), d.pick("''", "''", "n1", "n2"), port)
	}
	switch d.IntN(10) {
	case 0, 1, 2:
		return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {type: NodePort, ports: [{port: 80, nodePort: %s}]}}", name, d.port())
	case 3, 4:
		return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: %s}", name, pod())
	case 5, 6:
		return fmt.Sprintf("{apiVersion: %s, kind: DaemonSet, metadata: {name: %s}, spec: {selector: {matchLabels: {app: %[2]s}}, template: {metadata: {labels: {app: %[2]s}}, spec: %s}}}",
			d.pick("apps/v1", "extensions/v1beta1"), name, pod())
	case 7:
		return fmt.Sprintf("{apiVersion: example.com/v1, kind: Web, metadata: {name: %s}}", name)
	case 8:
		return d.pick("apiVersion: v1\nkind: Service\nspec: [", "replicas: 1", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: 1}")
	default:
		return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, uid: u, resourceVersion: \"%d\"}, spec: {type: NodePort, ports: [{port: 80, nodePort: %s}]}}",
			name, 1+d.IntN(20), d.port())
	}
}
