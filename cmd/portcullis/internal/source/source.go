// Package source reads the objects that the commands look at: from files, by pkg/manifest, or from a cluster, page by page.
//
// FileFlags.Read reads files; Connect makes a Reader, which reads a cluster; Objects does whichever the flags ask for.
// Either way there is an Input, in which each object stands once, or in the forms that differ. A command that makes
// findings gets from it what was not read as findings of their own (UnreadFindings, TwinFindings, WithUnread), each
// Located in a file. Another command calls Existing or ExistingForms, which print the same to standard error, and
// return an error that ends the command with an exit code of its own. The Input counts what is judged and what is not.
//
// What the objects mean for ports is no matter of this package: that is for pkg/extract and pkg/audit.
package source

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/portcullis-k8s/portcullis/cmd/portcullis/internal/cli"
	"github.com/portcullis-k8s/portcullis/pkg/manifest"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// FileFlags are the flags of the commands that read files.
type FileFlags struct {
	Exclude          []string
	DefaultNamespace string // of objects that name none; "": default
}

// AddFlags adds the flag --exclude.
func (r *FileFlags) AddFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&r.Exclude, "exclude", nil, "leave out what `GLOB` matches of the files, as a line of "+manifest.IgnoreFile+" does; may be repeated")
}

// Input is what was read of files, or of a cluster.
type Input struct {
	manifest.Input
	twice   []twin // what stands there in two forms
	OfFiles bool
}

// Read reads the objects of paths. Of an object that stands there several times the newest resourceVersion is taken, and
// equal ones once. The error is about the paths; what cannot be read is in the input.
func (r *FileFlags) Read(paths []string, stdin io.Reader, p *cli.Progress) (*Input, error) {
	in, err := manifest.Read(paths, manifest.Options{
		Stdin: stdin, Scheme: Scheme(), Exclude: r.Exclude, Tell: func(now manifest.Progress) {
			p.Say(fmt.Sprintf("reading file %s of %s, %s MB so far", cli.Grouped(now.Files), cli.Grouped(now.All), cli.Grouped(int(now.Bytes/1e6))))
		},
	})
	if err != nil {
		return nil, err
	}
	for _, skipped := range in.Skipped {
		if skipped.Line == 0 { // documents that are no objects are counted
			p.Println("skipped " + skipped.String())
		}
	}
	if r.DefaultNamespace != "" {
		for _, o := range in.Objects {
			if m, err := meta.Accessor(o.Object); err == nil && m.GetNamespace() == "" && !isClusterScoped(o.Object) {
				m.SetNamespace(r.DefaultNamespace)
			}
		}
	}
	out := &Input{Input: in, OfFiles: true}
	out.Objects, out.twice = once(in.Objects)
	return out, nil
}

// ReadWhole is Read for a command that makes nothing of a part: its error is about everything that is not read.
func (r *FileFlags) ReadWhole(paths []string, stdin io.Reader, p *cli.Progress) ([]*manifest.Object, error) {
	in, err := r.Read(paths, stdin, p)
	if err != nil {
		return nil, err
	}
	for _, f := range in.UnreadFindings() {
		err = errors.Join(err, errors.New(f.Line()))
	}
	TellTwins(p, in, isLatest)
	TellTooWide(p, in.Objects)
	return in.latest(), err
}

// Existing returns the objects for a command that makes no findings. It prints what was not read, what stands there
// twice, and of which kinds nothing is known. incomplete ends the command with cli.ExitFindings once it has said what it can; err is that there is nothing.
func (in *Input) Existing(p *cli.Progress) (objects []*manifest.Object, incomplete, err error) {
	incomplete, err = in.tell(p, isLatest)
	return in.latest(), incomplete, err
}

// ExistingForms is Existing with every form of what claims ports.
func (in *Input) ExistingForms(p *cli.Progress) (objects []*manifest.Object, incomplete, err error) {
	incomplete, err = in.tell(p, IsNoForm)
	return in.Forms(), incomplete, err
}

func (in *Input) tell(p *cli.Progress, isTaken func(*manifest.Object) bool) (incomplete, err error) {
	unread := in.UnreadFindings()
	for _, f := range unread {
		p.Println(f.Line())
	}
	TellTwins(p, in, isTaken)
	if in.OfFiles {
		TellTooWide(p, in.Objects)
		if c := in.Counts(); len(c.NotJudged) > 0 {
			p.Println(c.Unjudged())
		}
	}
	if len(unread) > 0 {
		incomplete = &cli.FindingsError{N: len(unread)}
	}
	return incomplete, in.NothingRead()
}

// NothingRead is an error if there is no object in the files, with the reasons as far as they are known.
func (in *Input) NothingRead() error {
	if len(in.Objects) > 0 || !in.OfFiles {
		return nil
	}
	const few = 3
	parts := []string{"nothing could be judged: no Kubernetes object could be read"}
	reasons := slices.Clone(in.Skipped)
	slices.SortStableFunc(reasons, func(a, b manifest.Skipped) int { return cmp.Compare(a.Path, b.Path) })
	for i, s := range reasons {
		if i == few {
			parts = append(parts, fmt.Sprintf("and %d more", len(reasons)-few))
			break
		}
		parts = append(parts, s.String())
	}
	return errors.New(strings.Join(parts, "; "))
}

// Counts returns how many objects are judged, and what is not.
func (in *Input) Counts() *report.Inputs {
	c := report.NewInputs()
	c.Skipped, c.Unread = len(in.Skipped), len(in.Unread)
	for _, o := range in.Objects {
		gvk := o.Object.GetObjectKind().GroupVersionKind()
		switch {
		case ClaimsPorts(o.Object):
			c.Judged++
		case isKnown(o.Object, gvk):
			c.WithoutPorts++
		default:
			c.CountNotJudged(gvk.GroupVersion().String(), gvk.Kind)
		}
	}
	return c
}

// CountsWith returns the counts of inputs, and what is not judged, not read or skipped of the state too.
func (in *Input) CountsWith(state *Input) *report.Inputs {
	c, of := in.Counts(), state.Counts()
	c.Skipped, c.Unread = c.Skipped+of.Skipped, c.Unread+of.Unread
	for _, k := range of.NotJudged {
		for range k.Count {
			c.CountNotJudged(k.APIVersion, k.Kind)
		}
	}
	return c
}

// FileCounts returns the counts of files, for a report that tells nothing of a cluster's.
func (in *Input) FileCounts() *report.Inputs {
	if !in.OfFiles {
		return nil
	}
	return in.Counts()
}
