// Package codes holds the page of each code, for `portcullis lint --explain`. The pages are the files PC*.md beside it,
// embedded in the program: Page returns one of them.
package codes

import "embed"

//go:embed PC*.md
var pages embed.FS

// Page returns the page of a code such as PC0201, in Markdown; false if there is none.
func Page(code string) (string, bool) {
	text, err := pages.ReadFile(code + ".md")
	return string(text), err == nil
}
