package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	stdinPath = "-"
	maxBytes  = 64 << 20 // of one file: many times what a large cluster's Services come to
)

// source is something to be read.
type source struct{ path string }

// sources lists the files that paths stand for, but for those that exclude leaves out. The error is about paths that do
// not exist, and patterns that are malformed.
func (r *reader) sources(paths, exclude []string) ([]source, error) {
	var found []source
	var errs []error
	for _, path := range paths {
		info, err := os.Stat(path)
		folder := filepath.Dir(path)
		if err == nil && info.IsDir() {
			folder = path
		}
		left, bad := excluded(folder, exclude)
		if bad != nil {
			return nil, bad
		}
		switch {
		case path == stdinPath:
			found = append(found, source{path: path})
		case err != nil:
			errs = append(errs, &Error{Path: path, Err: plainError(err)})
		case info.IsDir():
			files := r.folder(path, filter{excluded: left})
			if len(files) == 0 {
				r.skip(path, 0, "the folder holds no *.yaml, *.yml or *.json file that is read")
			}
			found = append(found, files...)
		case left.leaveOut(path, false):
			r.skip(path, 0, "excluded")
		default:
			found = append(found, source{path: path})
		}
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(s source) bool {
		clean := filepath.Clean(s.path)
		again := seen[clean]
		seen[clean] = true
		return again
	}), errors.Join(errs...)
}

// folder lists the files below a folder, sorted by name folder by folder.
func (r *reader) folder(path string, left filter) []source {
	entries, err := os.ReadDir(path)
	if err != nil {
		r.fail(path, 0, plainError(err))
		return nil
	}
	left.ignored = r.ignoredIn(path, left.ignored)
	var found []source
	for _, entry := range entries {
		name := filepath.Join(path, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), "."), left.leavesOut(name, entry.IsDir()):
		case entry.IsDir():
			found = append(found, r.folder(name, left)...)
		case entry.Type()&fs.ModeSymlink != 0:
			found = append(found, r.link(name)...)
		case isManifest(name) && !entry.Type().IsRegular():
			r.skip(name, 0, "not a regular file; name it itself to read it")
		case isManifest(name):
			found = append(found, source{path: name})
		}
	}
	return found
}

// link follows a symbolic link to a file, as those of a mounted ConfigMap are, but not to a folder, which may hold
// the link itself.
func (r *reader) link(path string) []source {
	info, err := os.Stat(path)
	switch {
	case err != nil && isManifest(path):
		r.fail(path, 0, plainError(err))
	case err != nil:
	case info.IsDir():
		r.skip(path, 0, "a symbolic link to a folder is not followed; name it itself to read it")
	case isManifest(path) && info.Mode().IsRegular():
		return []source{{path: path}}
	}
	return nil
}

func isManifest(path string) bool { return hasExtension(path, ".yaml", ".yml", ".json") }

// hasExtension reports whether a name ends in one of extensions, in any case.
func hasExtension(path string, extensions ...string) bool {
	return slices.Contains(extensions, strings.ToLower(filepath.Ext(path)))
}

func (s source) read(stdin io.Reader) ([]byte, error) {
	in := stdin
	if s.path != stdinPath {
		file, err := os.Open(s.path)
		if err != nil {
			return nil, plainError(err)
		}
		defer file.Close()
		in = file
	}
	if in == nil {
		return nil, errors.New("there is nothing to read from")
	}
	data, err := io.ReadAll(io.LimitReader(in, maxBytes+1))
	if err != nil {
		return nil, plainError(err)
	}
	if len(data) > maxBytes {
		return nil, fmt.Errorf("is larger than %d MiB; split it into several files", maxBytes>>20)
	}
	return data, nil
}

// plainError leaves out the path, which Error says already.
func plainError(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
