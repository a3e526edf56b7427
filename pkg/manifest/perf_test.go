package manifest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPerf(t *testing.T) {
	one := "apiVersion: v1\nkind: Service\nmetadata:\n  name: abc # hi\nspec:\n  type: NodePort\n  ports:\n  - port: 80\n    nodePort: 30000\n    targetPort: 8080\n---\n"
	j := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"abc"},"spec":{"ports":[{"port":80,"nodePort":30000}]}}` + "\n"
	ind := "- apiVersion: v1\n  kind: Service\n  spec:\n    ports:\n    - port: 80\n"
	for name, text := range map[string]string{
		"yaml 4M": strings.Repeat(one, 4<<20/len(one)), "json 20M": strings.Repeat(j, 20<<20/len(j)),
		"list 4M": "apiVersion: v1\nkind: List\nitems:\n" + strings.Repeat(ind, 4<<20/len(ind)),
		"broken 4M": strings.Repeat(one, 4<<20/len(one)-10) + "a: [",
		"broken 4M mid": strings.Repeat(one, 2<<20/len(one)-10) + "a: [}\n"+strings.Repeat(one, 2<<20/len(one)-10),
		"broken list 4M": "apiVersion: v1\nkind: List\nitems:\n" + strings.Repeat(ind, 4<<20/len(ind)-10)+"  x: [",
		"comments": strings.Repeat("# aaaaaaaaaaaaaaaaaaaaaa\n", 4<<20/25),
		"comments in": "a:\n"+strings.Repeat("# aaaaaaaaaaaaaaaaaaaaaa\n- 1\n", 4<<20/29),
		"wrong": "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n"+strings.Repeat("  - {ports: [{hostPort: a}]}\n", 20000),
		"tmpl": strings.Repeat("{{ x }}\n---\n", 20000),
		"dups": "apiVersion: v1\nkind: Pod\n"+strings.Repeat("a: b\n", 200000),
		"flow": "["+strings.Repeat("{a: b},", 500000)+"]",
		"1line": "a: "+strings.Repeat("b", 10<<20),
		"folded": "a: >\n"+strings.Repeat("  b\n", 1<<20),
	} {
		start := time.Now()
		in, err := Parse("f", []byte(text), Scheme())
		s := fmt.Sprint(err)
		if len(s) > 80 { s = s[:80] }
		fmt.Printf("%-16s %6.2fs %8.1f MB %d objects %s\n", name, time.Since(start).Seconds(), float64(len(text))/1e6, len(in.Objects), s)
	}
}
