package manifest

import (
	"runtime"
	"sync"
)

// readAll reads sources one after the other and makes objects of them on all processors. No more files than those being
// made objects of are kept, and one that waits. The readers that it returns have what each source holds, in their order.
func (r *reader) readAll(sources []source, read func(source) ([]byte, error)) []*reader {
	type job struct {
		into   *reader
		source source
		data   []byte
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(sources)) {
		workers.Go(func() {
			for j := range jobs {
				j.into.file(j.source, j.data)
			}
		})
	}
	var found []*reader
	for _, s := range sources {
		into := &reader{scheme: r.scheme}
		found = append(found, into)
		data, err := read(s)
		if err != nil {
			into.fail(s.path, 0, err)
			continue
		}
		jobs <- job{into, s, data}
	}
	close(jobs)
	workers.Wait()
	return found
}

// add appends what another reader has collected.
func (r *reader) add(other *reader) {
	r.input.Objects = append(r.input.Objects, other.input.Objects...)
	r.input.Skipped = append(r.input.Skipped, other.input.Skipped...)
	r.input.Unread = append(r.input.Unread, other.input.Unread...)
	r.patches, r.resources = append(r.patches, other.patches...), append(r.resources, other.resources...)
}
