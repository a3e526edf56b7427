package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

// Inputs counts what a report is about, so that what was not judged is no secret.
type Inputs struct {
	Judged       int         `json:"judged"`       // objects that can claim ports
	WithoutPorts int         `json:"withoutPorts"` // objects of kinds that claim none, as ConfigMaps and Nodes
	NotJudged    []KindCount `json:"notJudged"`    // objects of other kinds: whether they lead to claims is not known
	Skipped      int         `json:"skipped"`      // documents that are no Kubernetes objects
	Unread       int         `json:"unread"`       // files and documents that cannot be read
}

// KindCount counts the objects of a kind.
type KindCount struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Count      int    `json:"count"`
}

// NewInputs returns counts of nothing.
func NewInputs() *Inputs { return &Inputs{NotJudged: []KindCount{}} }

// CountNotJudged adds an object of a kind that is not judged.
func (in *Inputs) CountNotJudged(apiVersion, kind string) {
	i, known := slices.BinarySearchFunc(in.NotJudged, KindCount{APIVersion: apiVersion, Kind: kind}, func(a, b KindCount) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.APIVersion, b.APIVersion))
	})
	if !known {
		in.NotJudged = slices.Insert(in.NotJudged, i, KindCount{apiVersion, kind, 0})
	}
	in.NotJudged[i].Count++
}

// String counts in words: "judged 212 objects; not judged: 3 HelmRelease (helm.toolkit.fluxcd.io/v2)".
func (in *Inputs) String() string {
	text := "judged " + plural(in.Judged, "object")
	if in.WithoutPorts > 0 {
		text += fmt.Sprintf(", and %d of kinds that claim no ports", in.WithoutPorts)
	}
	if len(in.NotJudged) > 0 {
		text += "; " + in.Unjudged()
	}
	if in.Unread > 0 {
		text += fmt.Sprintf("; not read: %d", in.Unread)
	}
	if in.Skipped > 0 {
		text += fmt.Sprintf("; skipped, being no objects: %d", in.Skipped)
	}
	return text
}

// Unjudged counts what is not judged: "not judged: 3 HelmRelease (helm.toolkit.fluxcd.io/v2)".
func (in *Inputs) Unjudged() string {
	const few = 10
	var kinds []string
	for _, k := range in.NotJudged[:min(few, len(in.NotJudged))] {
		kinds = append(kinds, k.String())
	}
	if more := len(in.NotJudged) - few; more > 0 {
		kinds = append(kinds, fmt.Sprintf("and %s more", plural(more, "kind")))
	}
	return "not judged: " + strings.Join(kinds, ", ")
}

// String returns "3 HelmRelease (helm.toolkit.fluxcd.io/v2)".
func (k KindCount) String() string {
	return Escape(fmt.Sprintf("%d %s (%s)", k.Count, k.Kind, k.APIVersion))
}

// ofReading tells what is not read, and what becomes of the rest.
func ofReading(f check.Finding) (what, way string) {
	switch {
	case f.Code == check.Unread:
		return detail[check.Unreadable](f).Err.Error(), "correct it, or exclude the file with --exclude"
	case f.Code == check.RestrictionInvalid:
		return detail[check.Unreadable](f).Err.Error(), "until it is corrected nothing is held to it"
	case f.Code == check.NameTwice && f.Case == check.FormTaken:
		return fmt.Sprintf("%s at %s is another one of this name, and only one of them can exist", f.Object, detail[check.Duplicate](f).Position),
			"this one is taken, being the later; leave one of the two out"
	case f.Code == check.NameTwice:
		return fmt.Sprintf("%s at %s is another one of this name, and only one of them can exist", f.Object, detail[check.Duplicate](f).Position),
			"both are judged, but not against each other; leave one of the two out, or rename it"
	case f.Case == check.TooManySockets:
		d := detail[check.SocketCount](f)
		return fmt.Sprintf("the %d sockets of these addresses are more than %d, and not looked at", d.Sockets, d.Most), "split the Service into several"
	case f.Case == check.WholeObject:
		return detail[check.Unreadable](f).Err.Error(), "until it is corrected nothing is held to the " + f.Object.Kind
	case f.Case == check.NoMatterOfPorts:
		return detail[check.Unreadable](f).Err.Error(), "no port depends on it"
	default:
		return detail[check.Unreadable](f).Err.Error(), "everything else in the object is judged"
	}
}
