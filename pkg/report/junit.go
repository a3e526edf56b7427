package report

import (
	"encoding/xml"
	"io"
	"strings"
)

// Judged is one object of the input and what was found about it.
type Judged struct {
	Object   Object // zero: what cannot be read
	Source   Source
	Failures []Finding // those that make the run fail
	Notes    []Finding // the others
}

type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Skipped  int          `xml:"skipped,attr,omitempty"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr,omitempty"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		File      string        `xml:"file,attr,omitempty"`
		Failure   *junitFailure `xml:"failure"`
		Skipped   *junitSkipped `xml:"skipped"`
		Out       string        `xml:"system-out,omitempty"`
	}
	junitSkipped struct {
		Message string `xml:"message,attr"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes a JUnit report of a command: a suite for each file, a case for each object that was judged. A case fails if one
// of its findings makes the run fail, so that the report and the exit code (--fail-on) agree; other findings are output
// of the case, failed or not. A kind that is not judged is a case that is skipped. Where nothing was judged one case says
// so: a report without cases is an error to many readers. inputs may be nil.
func WriteJUnit(w io.Writer, command string, judged []Judged, inputs *Inputs) error {
	all := junitSuites{Name: "portcullis " + command, Suites: junitFiles(judged)}
	if inputs != nil && len(inputs.NotJudged) > 0 {
		all.Suites = append(all.Suites, junitNotJudged(all.Name, inputs.NotJudged))
	}
	if all.Suites == nil {
		all.Suites = []junitSuite{{Name: all.Name, Tests: 1, Cases: []junitCase{{Name: "nothing to find fault with", ClassName: all.Name}}}}
	}
	for _, s := range all.Suites {
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Skipped += s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// junitFiles makes a suite of the objects of each file, in the order of the input.
func junitFiles(judged []Judged) []junitSuite {
	var suites []junitSuite
	at := map[string]int{}
	for _, j := range judged {
		i, ok := at[j.Source.Path]
		if !ok {
			i = len(suites)
			at[j.Source.Path] = i
			suites = append(suites, junitSuite{Name: junitPath(j.Source)})
		}
		c := junitOf(j)
		suites[i].Cases = append(suites[i].Cases, c)
		suites[i].Tests++
		if c.Failure != nil {
			suites[i].Failures++
		}
	}
	return suites
}

func junitNotJudged(name string, kinds []KindCount) junitSuite {
	s := junitSuite{Name: name, Tests: len(kinds), Skipped: len(kinds)}
	for _, k := range kinds {
		s.Cases = append(s.Cases, junitCase{Name: k.String(), ClassName: name, Skipped: &junitSkipped{"this kind is not judged"}})
	}
	return s
}

func junitOf(j Judged) junitCase {
	c := junitCase{Name: j.name(), ClassName: junitPath(j.Source), Out: lines(j.Notes)}
	if j.Source.isFile() {
		c.File = junitPath(j.Source)
	}
	if len(j.Failures) > 0 {
		first := j.Failures[0]
		c.Failure = &junitFailure{Type: first.Code, Message: of(first.Field, first.Message), Text: lines(j.Failures)}
	}
	return c
}

func (j Judged) name() string {
	if j.Object == (Object{}) {
		return "what cannot be read in " + j.Source.String()
	}
	return j.Object.String()
}

func junitPath(s Source) string {
	switch s.Path {
	case stdinPath:
		return "standard input"
	case "":
		return clusterName
	}
	return Escape(s.file())
}

// lines tells findings one a line, each with its severity.
func lines(findings []Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Source.String()+": "+f.Severity+": "+of(f.Field, f.Message))
	}
	return strings.Join(all, "\n")
}
