// Package alone judges objects as if each were alone in a cluster: what ValidatingAdmissionPolicies can know. Draw and Redraw make
// random ones, valid for the API server mostly; Source reads what policies are made of, such as EveryConfig and EveryRestriction.
//
// A Comparison holds the Answer that policies gave about an object to what pkg/check finds about it, in the same words, and
// counts the codes that it met. Who asks the policies, an API server or its code in this process, is the test's business:
//
//	Draw -> the policies of Source -> Answer -> Comparison.Compare <- pkg/check
package alone

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/webhook/vap"
)

// Answer is what became of a request.
type Answer struct {
	Denied   string   // what a policy of ours said
	Warnings []string // of ours
	Audited  []string // of ours, if the test can tell
	Other    error    // somebody else refused
}

// Said returns all that our policies said to the client.
func (a Answer) Said() []string {
	if a.Denied != "" {
		return append([]string{a.Denied}, a.Warnings...)
	}
	return a.Warnings
}

// AnswerOf reads the answer to a request from its error and its warnings.
func AnswerOf(err error, warnings []string) Answer {
	a := Answer{Warnings: OfPolicies(warnings)}
	if err == nil {
		return a
	}
	if _, rest, ours := strings.Cut(err.Error(), "ValidatingAdmissionPolicy 'portcullis-"); ours && apierrors.IsInvalid(err) {
		if _, a.Denied, ours = strings.Cut(rest, " denied request: "); ours {
			return a
		}
	}
	a.Other = err
	return a
}

// OfPolicies are the sentences of our policies among warnings of the API server.
func OfPolicies(warnings []string) []string {
	var ours []string
	for _, text := range warnings {
		if policy, sentence, ok := strings.Cut(text, "': "); ok && strings.Contains(policy, "'portcullis-") {
			ours = append(ours, sentence)
		}
	}
	return ours
}

// Comparison compares answers of policies with the oracle's, and counts.
type Comparison struct {
	*oracle
	Audits bool // answers have what was audited
	count  map[string]int
}

// NewComparison returns the comparison for the policies of a source.
func NewComparison(t testing.TB, s vap.Source) *Comparison {
	t.Helper()
	return &Comparison{oracle: newOracle(t, s), count: map[string]int{}}
}

// Compare holds the answer about an object in a namespace with these labels to what pkg/check finds. old is the version before; nil
// for a create.
func (r *Comparison) Compare(t testing.TB, object, old client.Object, labels map[string]string, a Answer) {
	t.Helper()
	if a.Other != nil {
		r.count["refused by the API server itself"]++
		return
	}
	r.count["compared"]++
	want := r.judge(object, old, labels)
	for _, w := range want {
		r.count[string(w.code)]++
	}
	diff := ""
	isDenied := len(codesOf(want, check.Deny)) > 0
	switch {
	case isDenied != (a.Denied != ""):
		diff = fmt.Sprintf("denied by pkg/check: %v, by the policies: %q", isDenied, a.Denied)
	case isDenied && !slices.Contains(codesOf(want, check.Deny), Codes([]string{a.Denied})[0]):
		diff = fmt.Sprintf("denied for %q, want one of %v", a.Denied, codesOf(want, check.Deny))
	default:
		diff = cmp.Diff(codesOf(want, check.Warn), Codes(a.Warnings))
		if r.Audits {
			diff += cmp.Diff(codesOf(want, check.Audit), Codes(a.Audited))
		}
	}
	for _, w := range want {
		said := a.Warnings
		switch {
		case w.as == check.Audit && r.Audits:
			said = a.Audited
		case w.as != check.Warn:
			continue // of what is denied one is told, and which one is the API server's choice
		}
		if diff == "" && !slices.ContainsFunc(said, func(s string) bool { return sameWords(s, w) }) {
			diff = fmt.Sprintf("nobody says %q", w.sentence)
		}
	}
	if diff == "" {
		return
	}
	var texts []string
	for _, o := range []client.Object{object, old} {
		if o != nil {
			text, _ := yaml.Marshal(o) // it was sent to the API server
			texts = append(texts, string(text))
		}
	}
	t.Errorf("%s in %v:\n%s\nwant %+v\ngot %q\n%s", object.GetName(), labels, diff, want, a.Said(), strings.Join(texts, "--- before\n"))
	if r.count["differences"]++; r.count["differences"] == 3 {
		t.FailNow()
	}
}

// Tell prints what was compared, and fails if a check never found anything.
func (r *Comparison) Tell(t testing.TB) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(r.count)) {
		t.Logf("%5d %s", r.count[what], what)
	}
	for _, code := range vap.Codes() {
		if r.count[string(code)] == 0 && code != check.OutsideSmaller {
			t.Errorf("%s was never met", code)
		}
	}
	if r.count["compared"] < r.count["refused by the API server itself"] {
		t.Error("most objects were refused by the API server itself")
	}
}

// Codes returns the codes at the end of sentences, sorted, each once.
func Codes(sentences []string) []string {
	var found []string
	for _, s := range sentences {
		code := s
		if i := strings.LastIndex(s, "("); i >= 0 {
			code = strings.TrimSuffix(s[i+1:], ")")
		}
		found = append(found, code)
	}
	slices.Sort(found)
	return slices.Compact(found)
}
