package manifest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadInOrder: objects and errors stand in the order of the files, however many are read at a time.
func TestReadInOrder(t *testing.T) {
	files := map[string]string{}
	var wantObjects, wantErrors []string
	for i := range 200 {
		name := fmt.Sprintf("%03d.yaml", i)
		files[name] = strings.Repeat(svc("a")+"\n---\n", 1+i*37%11) + svc(name) + "\n"
		wantObjects = append(wantObjects, name)
		if i%7 == 0 {
			files[name] += "---\napiVersion: v1\nkind: [\n"
			wantErrors = append(wantErrors, name)
		}
	}
	tree(t, files)
	in, err := Read([]string{"."}, Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	var objects, errs []string
	for _, o := range in.Objects {
		objects = append(objects, o.Path)
	}
	for _, err := range in.Unread {
		errs = append(errs, err.Path)
	}
	if diff := cmp.Diff(wantObjects, slices.Compact(objects)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantErrors, errs); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}
