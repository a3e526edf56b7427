package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// apiVersion is that of every report that scripts read.
const apiVersion = "portcullis.dev/v1alpha1"

// LintReport is the outcome of `portcullis lint -o json`: a versioned kind that other people's scripts read.
type LintReport struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Findings   []Finding `json:"findings"`
	Summary    Summary   `json:"summary"`
	Inputs     *Inputs   `json:"inputs,omitempty"` // of what was read; nil: not counted
}

// Finding is one finding of a report.
type Finding struct {
	Code     string   `json:"code"`
	Severity string   `json:"severity"`
	Object   Object   `json:"object"`
	Field    string   `json:"field"`
	Message  string   `json:"message"`
	Holder   *Holder  `json:"holder,omitempty"`
	Others   []Holder `json:"otherHolders,omitempty"` // who holds the port as well, on other nodes
	Nodes    []string `json:"nodes"`
	// Winners are who gets the packets of the two, by class, and OrderDependent says that they would be others if the components had
	// started in another order; both are left out where that is not known, or no matter of rules.
	Winners        []PortWinner `json:"winners,omitempty"`
	OrderDependent bool         `json:"orderDependent,omitempty"`
	At             string       `json:"at,omitempty"`      // the only address that the two share, of which Winners are
	Instead        uint16       `json:"instead,omitempty"` // a free number to have in place of one that is held
	Source         Source       `json:"source"`
}

// Object names the object that a finding is about.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
}

// Holder names who is in the way.
type Holder struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Field     string `json:"field"`
}

// Source is where the object stands in the input.
type Source struct {
	Path string `json:"path"` // "-" for standard input, "" for a cluster
	Line int    `json:"line"`
}

const (
	stdinPath   = "-"
	clusterName = "cluster" // what stands where others have a path
)

// isFile reports whether there is a file to show something beside.
func (s Source) isFile() bool { return s.Path != stdinPath && s.Path != "" }

// file is the path as other programs compare it: without detours, with forward slashes.
func (s Source) file() string { return filepath.ToSlash(filepath.Clean(s.Path)) }

// Summary counts findings by severity.
type Summary struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Infos    int `json:"infos"`
}

// NewLintReport returns an empty report.
func NewLintReport() *LintReport {
	return &LintReport{APIVersion: apiVersion, Kind: "LintReport", Findings: []Finding{}}
}

// Add appends a finding with its source, and returns it as it is reported.
func (r *LintReport) Add(f check.Finding, source Source) Finding {
	out := Finding{
		Code: string(f.Code), Severity: f.Severity.String(), Object: object(f.Object), Field: f.Field,
		Message: Message(f), Nodes: f.Nodes, Instead: f.Instead, Source: source,
	}
	if out.Nodes == nil {
		out.Nodes = []string{}
	}
	if h := f.Holder; h != nil {
		out.Holder = new(holderOf(*h))
	}
	for _, h := range f.Others {
		out.Others = append(out.Others, holderOf(h))
	}
	if p := f.Packets; p != nil {
		out.OrderDependent = p.OrderDependent
		if p.At.IsValid() {
			out.At = p.At.String()
		}
		for _, w := range p.Winners {
			out.Winners = append(out.Winners, PortWinner{Of: w.Of, Owner: ownerOf(w.Who), Assumed: p.Assumed && w.Who == p.Service})
		}
	}
	r.Findings = append(r.Findings, out)
	switch f.Severity {
	case check.Error:
		r.Summary.Errors++
	case check.Warning:
		r.Summary.Warnings++
	case check.Info:
		r.Summary.Infos++
	}
	return out
}

func holderOf(h check.Holder) Holder {
	return Holder{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name, Field: h.Field}
}

func object(r ports.Ref) Object {
	return Object{APIVersion: r.APIVersion, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
}

// WriteJSON writes the report as indented JSON.
func (r *LintReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteTable writes the report for a person, with the severities in colour or not.
func (r *LintReport) WriteTable(w io.Writer, colour bool) error {
	if len(r.Findings) == 0 {
		return r.writeSummary(w, "")
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tCODE\tOBJECT\tSOURCE\n", painted("SEVERITY", colour))
	for _, f := range r.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", painted(f.Severity, colour), f.Code, f.Object, f.Source)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, f := range r.Findings {
		fmt.Fprintln(w, f)
	}
	worst := slices.MaxFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })
	return r.writeSummary(w, worst.Code)
}

// writeSummary ends a table: how many findings there are, what was judged, and where to read more about a code, if any.
func (r *LintReport) writeSummary(w io.Writer, code string) error {
	text := r.Summary.String() + "\n"
	if r.Inputs != nil {
		text += r.Inputs.String() + "\n"
	}
	if code != "" {
		text = "\n" + text + "Explain a code: portcullis lint --explain " + code + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// rank orders findings by severity, the worst last.
func rank(f Finding) int { return slices.Index([]string{"info", "warning", "error"}, f.Severity) }

// painted puts a cell of the first column into its colour. All of them get equally many bytes, because tabwriter counts
// those too: 01 is bold as 1 is.
func painted(cell string, colour bool) string {
	if !colour {
		return cell
	}
	code := map[string]string{"error": "31", "warning": "33", "info": "36"}[cell]
	if code == "" {
		code = "01"
	}
	return "\x1b[" + code + "m" + cell + "\x1b[0m"
}

// String returns a finding in one line, as compilers do: where, what.
func (f Finding) String() string {
	return Escape(fmt.Sprintf("%s: %s", f.Source, of(f.Field, f.Message)))
}

// String returns "web.yaml:12", or "cluster".
func (s Source) String() string {
	if s.Path == "" {
		return clusterName
	}
	if s.Line == 0 { // all of the file
		return Escape(s.Path)
	}
	return fmt.Sprintf("%s:%d", Escape(s.Path), s.Line)
}

// String returns "Service default/web", "Node n1" without a namespace, or "-" where no object could be read.
func (o Object) String() string {
	if o == (Object{}) {
		return "-"
	}
	return Escape(o.Kind + " " + qualified(o))
}

func qualified(o Object) string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// String counts in words: "1 error, 2 warnings".
func (s Summary) String() string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{{s.Errors, "error"}, {s.Warnings, "warning"}, {s.Infos, "info"}} {
		switch {
		case c.n == 1:
			parts = append(parts, "1 "+c.what)
		case c.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", c.n, c.what))
		}
	}
	if parts == nil {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}

// WriteGitHub writes the findings as workflow commands, which GitHub shows beside the lines of a pull request. There is
// no line to show one of standard input or of a cluster beside: its message names the object. What was not judged is a notice.
func (r *LintReport) WriteGitHub(w io.Writer) error {
	levels := map[string]string{"error": "error", "warning": "warning", "info": "notice"}
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, f := range r.Findings {
		where, text := fmt.Sprintf("file=%s,line=%d,", property.Replace(f.Source.file()), max(1, f.Source.Line)), of(f.Field, f.Message)
		if !f.Source.isFile() {
			where, text = "", f.Object.String()+": "+text
		}
		command := fmt.Sprintf("%stitle=%s::%s", where, property.Replace(f.Code), escape.Replace(text))
		if _, err := fmt.Fprintf(w, "::%s %s\n", levels[f.Severity], Escape(command)); err != nil {
			return err
		}
	}
	if r.Inputs == nil || len(r.Inputs.NotJudged) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "::notice title=portcullis::%s\n", escape.Replace(r.Inputs.String()))
	return err
}
