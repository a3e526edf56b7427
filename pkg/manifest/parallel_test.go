package manifest

import (
	"errors"
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
			files[name] += "---\n[\n"
			wantErrors = append(wantErrors, name)
		}
	}
	tree(t, files)
	in, err := Read([]string{"."}, nil, Scheme())
	var objects, errs []string
	for _, o := range in.Objects {
		objects = append(objects, o.Path)
	}
	for _, err := range each(err) {
		if e, ok := errors.AsType[*Error](err); ok {
			errs = append(errs, e.Path)
		}
	}
	if diff := cmp.Diff(wantObjects, slices.Compact(objects)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantErrors, errs); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}
