package report_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"unicode"

	"github.com/portcullis-k8s/portcullis/pkg/report"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"deploy/web.yaml":           "deploy/web.yaml",
		"Größe 1 – 世界 😀":            "Größe 1 – 世界 😀",
		`C:\new\x1b`:                `C:\new\x1b`,
		"a\nb\tc\r":                 `a\nb\tc\r`,
		"\x1b[31mred\x1b[0m\a\x7f":  `\x1b[31mred\x1b[0m\a\x7f`,
		"\u009b31m\u202etxt\u2028":  `\u009b31m\u202etxt\u2028`,
		"\U000e0001":                `\U000e0001`,
		"\xff\x00\xc3":              `\xff\x00\xc3`,
		"\ufffd":                    "\ufffd",
		"::error::x":                `\x3a:error::x`,
		"  ::add-mask::x":           `  \x3a:add-mask::x`,
		"\n::debug::x":              `\n\x3a:debug::x`,
		"::é":                       `\x3a:é`,
		"a ::error::x":              "a ::error::x",
		"::":                        "::",
		"::1:80/TCP":                "::1:80/TCP",
		"::ffff:192.0.2.1 to [::1]": "::ffff:192.0.2.1 to [::1]",
		"a ##[error]x":              `a \x23#[error]x`,
		"##vso[task.complete]":      `\x23#vso[task.complete]`,
		"###[error]":                `#\x23#[error]`,
		"## a heading [1]":          "## a heading [1]",
	} {
		got := report.Escape(text)
		if got != want {
			t.Errorf("%q is escaped as %q, want %q", text, got, want)
		}
		if again := report.Escape(got); again != got {
			t.Errorf("%q escaped twice is %q", got, again)
		}
	}
}

func TestEscapeError(t *testing.T) {
	missing := &fs.PathError{Op: "open", Path: "a\n::error::b", Err: fs.ErrNotExist}
	command := errors.New("::error::x")
	for _, c := range []struct {
		err  error
		want string
	}{
		{missing, `open a\n::error::b: file does not exist`},
		{command, `\x3a:error::x`},
		{errors.Join(missing, command), "open a\\n::error::b: file does not exist\n\\x3a:error::x"},
		{fmt.Errorf("a\x1bb: %w", errors.Join(errors.New("1\r"), errors.Join(command, errors.New("3")))), "a\\x1bb: 1\\r\n\\x3a:error::x\n3"},
		{fmt.Errorf("%w; see\nbelow", errors.Join(missing, command)), `open a\n::error::b: file does not exist\n::error::x; see\nbelow`},
		{fmt.Errorf("%w and\n%w", missing, command), `open a\n::error::b: file does not exist and\n::error::x`},
		{fmt.Errorf("#%w", errors.New("#[error]x")), `\x23#[error]x`},
	} {
		if got := report.EscapeError(c.err); got != c.want {
			t.Errorf("%q is escaped as\n%s\nwant\n%s", c.err, got, c.want)
		}
	}
}

// FuzzEscape: whatever the text, it is one line of printable characters, and no command of a CI system.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"a", "\n::error::x", "##[error]", "\xff\x1b[31m", " \u00a0::a\u202e", "::a::b", "####vso["} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := report.Escape(text)
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is escaped as %q", text, got)
		}
		if begin := strings.TrimSpace(got); strings.HasPrefix(begin, "::error") || strings.HasPrefix(begin, "::add-mask") || strings.Contains(got, "##[") {
			t.Errorf("%q is escaped as %q", text, got)
		}
		if again := report.Escape(got); again != got {
			t.Errorf("%q is escaped as %q, and that as %q", text, got, again)
		}
	})
}
