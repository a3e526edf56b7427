package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// IgnoreFile is the name of the files that say what of their folder is not read, in a part of gitignore's language, a
// pattern a line:
//
//   - empty lines, and lines that begin with #, say nothing;
//   - * is any text without /, ? one character, [ab] one of them, [!ab] any other; ** between slashes, or at an end, is any number of folders;
//   - with a / at the beginning or inside, a pattern is about paths from the folder of the file, else about names at any depth;
//   - with a / at the end it is about folders only;
//   - with ! at the beginning it takes back what an earlier pattern left out; of several that match the last one counts, and
//     those of folders further down come later.
//
// What is in a folder that is left out is left out, whatever other patterns say. Escapes by a backslash are not known, nor
// are the ignore files of folders above.
const IgnoreFile = ".portcullisignore"

// pattern is a line of an ignore file.
type pattern struct {
	base     string // the folder that it is about
	parts    []string
	isFolder bool // about folders only
	takeBack bool
}

// filter says what is left out.
type filter struct {
	excluded patterns // by --exclude
	ignored  patterns // by ignore files, those of folders further down behind the others
}

func (f filter) leavesOut(name string, isFolder bool) bool {
	return f.excluded.leaveOut(name, isFolder) || f.ignored.leaveOut(name, isFolder)
}

// patterns are asked from the last to the first.
type patterns []pattern

// parsePattern reads a line of the ignore file of a folder; false if it says nothing.
func parsePattern(base, line string) (pattern, bool, error) {
	line = strings.TrimRight(line, " \t\r")
	if line == "" || strings.HasPrefix(line, "#") {
		return pattern{}, false, nil
	}
	p := pattern{base: filepath.Clean(base)}
	rest, takeBack := strings.CutPrefix(line, "!")
	rest, isFolder := strings.CutSuffix(strings.ReplaceAll(rest, "[!", "[^"), "/")
	p.takeBack, p.isFolder = takeBack, isFolder
	p.parts = strings.Split(strings.TrimPrefix(rest, "/"), "/")
	if !strings.Contains(rest, "/") {
		p.parts = append([]string{"**"}, p.parts...)
	}
	if last := len(p.parts) - 1; p.parts[last] == "**" {
		p.parts = append(p.parts[:last], "*", "**") // what is inside, not the folder itself
	}
	for _, part := range p.parts {
		if _, err := path.Match(part, ""); err != nil || part == "" || strings.Contains(part, `\`) {
			return pattern{}, false, fmt.Errorf("the pattern %q is malformed; see docs/lint.md", line)
		}
	}
	return p, true, nil
}

// excluded returns the patterns of --exclude for a folder.
func excluded(base string, lines []string) (patterns, error) {
	var all patterns
	for _, line := range lines {
		p, ok, err := parsePattern(base, line)
		if err == nil && !ok {
			err = fmt.Errorf("the pattern %q says nothing", line)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// ignoredIn adds the patterns of a folder's ignore file to those of the folders above. What is wrong with the file is
// recorded, and its other lines count.
func (r *reader) ignoredIn(folder string, above patterns) patterns {
	name := filepath.Join(folder, IgnoreFile)
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		r.fail(name, 0, errors.New("is no regular file"))
		return above
	}
	data, err := source{path: name}.read(nil)
	if errors.Is(err, fs.ErrNotExist) {
		return above
	}
	if err != nil {
		r.fail(name, 0, err)
		return above
	}
	all := append(patterns{}, above...)
	for i, line := range strings.Split(string(data), "\n") {
		p, ok, err := parsePattern(folder, line)
		if err != nil {
			r.fail(name, i+1, err)
		} else if ok {
			all = append(all, p)
		}
	}
	return all
}

// leaveOut reports whether a file or folder is left out.
func (all patterns) leaveOut(name string, isFolder bool) bool {
	for _, p := range slices.Backward(all) {
		if p.isFolder && !isFolder {
			continue
		}
		relative, err := filepath.Rel(p.base, name)
		if err == nil && filepath.IsLocal(relative) && matches(p.parts, strings.Split(filepath.ToSlash(relative), "/")) {
			return !p.takeBack
		}
	}
	return false
}

// matches reports whether the parts of a pattern match those of a path. It goes back to the last ** only, so that no pattern
// takes long.
func matches(parts, names []string) bool {
	p, n, last, from := 0, 0, -1, 0
	for n < len(names) {
		switch {
		case p < len(parts) && parts[p] == "**":
			last, from = p, n
			p++
		case p < len(parts) && matchesName(parts[p], names[n]):
			p, n = p+1, n+1
		case last >= 0:
			from++
			p, n = last+1, from
		default:
			return false
		}
	}
	for p < len(parts) && parts[p] == "**" {
		p++
	}
	return p == len(parts)
}

func matchesName(part, name string) bool {
	ok, err := path.Match(part, name)
	return err == nil && ok
}
