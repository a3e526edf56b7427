package main

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// explained has the survivors that need no test, "file: function: change", with the reason.
type explained map[string]string

// readExplained reads the list of them: one on each line, with its reason after " # ". Empty lines, and those that begin
// with #, are skipped.
func readExplained(file string) (explained, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := explained{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		change, reason, ok := strings.Cut(line, " # ")
		if !ok {
			return nil, fmt.Errorf("%s: %q has no reason: write \"file: function: change  # reason\"", file, line)
		}
		all[strings.TrimSpace(change)] = strings.TrimSpace(reason)
	}
	return all, nil
}

// key is a mutant as the list has it: without the line number, which other changes move.
func key(m mutant) string { return m.file + ": " + m.function + ": " + m.what }

func (e explained) explains(m mutant) bool { return e[key(m)] != "" }

// outdated returns what the list has about files of a package, and what is none of its mutants.
func (e explained) outdated(folder string, mutants []mutant) []string {
	current := map[string]bool{}
	for _, m := range mutants {
		current[key(m)] = true
	}
	var all []string
	for k := range e {
		file, _, _ := strings.Cut(k, ":")
		if path.Dir(file) == folder && !current[k] {
			all = append(all, k)
		}
	}
	slices.Sort(all)
	return all
}
