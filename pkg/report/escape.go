package report

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns text as a part of one line, for terminals and for the logs of CI systems. Everything that a person reads
// goes through it, because names in files can be anything: what is not printable is written as Go writes it ("\n", "\x1b",
// "\u202e"), and so is the first character of what a CI system would take for a command: "::error" at the beginning, and
// "##[error" and "##vso[" anywhere. Text that is escaped already stays as it is.
func Escape(text string) string {
	if isPlain(text) {
		return text
	}
	var b strings.Builder
	command := beginOfCommand(text)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case i == command || isHashCommand(text[i:]), r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case !unicode.IsPrint(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteString(text[i : i+size])
		}
		i += size
	}
	return b.String()
}

// isPlain reports whether there is nothing to escape, which is the rule.
func isPlain(text string) bool {
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return !strings.Contains(text, "::") && !strings.Contains(text, "##")
}

// beginOfCommand returns where a text begins that is a workflow command of GitHub in a line of its own, or -1. IPv6 addresses
// are none: no command has a name of hexadecimal digits alone.
func beginOfCommand(text string) int {
	rest := strings.TrimLeftFunc(text, unicode.IsSpace)
	name, ok := strings.CutPrefix(rest, "::")
	if !ok {
		return -1
	}
	name = strings.TrimLeft(name, "0123456789abcdefABCDEF:.")
	if name == "" || strings.ContainsRune(" /%,)]", rune(name[0])) {
		return -1
	}
	return len(text) - len(rest)
}

// isHashCommand reports whether a text begins as the older commands of GitHub, and those of Azure Pipelines and TeamCity.
func isHashCommand(text string) bool {
	name, ok := strings.CutPrefix(text, "##")
	if !ok {
		return false
	}
	name = strings.TrimLeftFunc(name, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
	return strings.HasPrefix(name, "[")
}

// EscapeError returns the text of an error, escaped. Only errors that were joined stand on lines of their own.
func EscapeError(err error) string {
	lines := strings.Split(escapeError(err), "\n")
	for i := range lines {
		lines[i] = Escape(lines[i])
	}
	return strings.Join(lines, "\n")
}

func escapeError(err error) string {
	text := err.Error()
	if many, joined := err.(interface{ Unwrap() []error }); joined {
		var texts, escaped []string
		for _, one := range many.Unwrap() {
			texts, escaped = append(texts, one.Error()), append(escaped, escapeError(one))
		}
		if text == strings.Join(texts, "\n") {
			return strings.Join(escaped, "\n")
		}
	}
	if inner := errors.Unwrap(err); inner != nil {
		if before, ok := strings.CutSuffix(text, inner.Error()); ok {
			return Escape(before) + escapeError(inner)
		}
	}
	return Escape(text)
}

// textLines are lines for a person.
type textLines struct{ strings.Builder }

// add adds a line, escaped.
func (l *textLines) add(format string, args ...any) {
	l.WriteString(Escape(fmt.Sprintf(format, args...)))
	l.WriteByte('\n')
}

// gap puts an empty line between what was added and what follows.
func (l *textLines) gap() {
	if l.Len() > 0 {
		l.WriteByte('\n')
	}
}
