package vap

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/portcullis-k8s/portcullis/api/v1alpha1"
	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
	"github.com/portcullis-k8s/portcullis/pkg/report"
)

// somePort stands for the number of a claim in a sentence of which CEL is made.
const somePort = 54321

// said turns the sentence of a finding into CEL: pkg/report's own words, with an expression for each ⟨hole⟩ and for the
// number of the claim. The code is left out.
func said(f check.Finding, holes map[string]string) string {
	f.Severity = check.SeverityOf(f.Code, f.Case)
	text := strings.TrimSuffix(report.Sentence(f), " ("+string(f.Code)+")")
	for _, socket := range []string{"*:%d/TCP", "%d/TCP"} {
		text = strings.ReplaceAll(text, fmt.Sprintf(socket, somePort), "⟨socket⟩")
	}
	text = strings.ReplaceAll(text, fmt.Sprint(somePort), "⟨n⟩")
	text = strings.ReplaceAll(text, `"⟨a⟩"`, "⟨a⟩") // whose expression quotes
	fill := map[string]string{"f": "e.f", "n": "string(e.n)", "socket": "string(e.n) + '/' + string(e.p)"}
	maps.Copy(fill, holes)
	var parts []string
	for text != "" {
		before, rest, ok := strings.Cut(text, "⟨")
		if before != "" {
			parts = append(parts, celString(before))
		}
		if !ok {
			break
		}
		hole, after, _ := strings.Cut(rest, "⟩")
		parts = append(parts, fill[hole])
		text = after
	}
	return strings.Join(parts, " + ")
}

// finding makes the list of a rule of a list of entries: each with the key by which it is known again, and its sentence.
func finding(entries, key, sentence string) string {
	return entries + ".map(e, {'k': " + key + ", 's': " + sentence + "})"
}

// celString quotes text for CEL.
func celString(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

func celStrings[T ~string](list []T) string {
	var quoted []string
	for _, text := range list {
		quoted = append(quoted, celString(string(text)))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// anyOf joins conditions; none of them is never true.
func anyOf(conditions []string) string {
	if len(conditions) == 0 {
		return "false"
	}
	return "(" + strings.Join(conditions, " || ") + ")"
}

// within is the condition that the number of an entry lies in ranges.
func within(ranges ...ports.Range) string {
	var conditions []string
	for _, r := range ranges {
		if r.First == r.Last {
			conditions = append(conditions, fmt.Sprintf("e.n == %d", r.First))
			continue
		}
		conditions = append(conditions, fmt.Sprintf("(e.n >= %d && e.n <= %d)", r.First, r.Last))
	}
	return anyOf(conditions)
}

// selects is the condition that a selector matches labels; nil matches all.
func selects(s *v1alpha1.LabelSelector, labels string) string {
	conditions := []string{}
	if s == nil {
		return "true"
	}
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		conditions = append(conditions, fmt.Sprintf("(%s in %s && %s[%s] == %s)", celString(key), labels, labels, celString(key), celString(string(s.MatchLabels[key]))))
	}
	for _, e := range s.MatchExpressions {
		has := celString(e.Key) + " in " + labels
		switch e.Operator {
		case v1alpha1.OperatorIn:
			conditions = append(conditions, fmt.Sprintf("(%s && %s[%s] in %s)", has, labels, celString(e.Key), celStrings(e.Values)))
		case v1alpha1.OperatorNotIn:
			conditions = append(conditions, fmt.Sprintf("!(%s && %s[%s] in %s)", has, labels, celString(e.Key), celStrings(e.Values)))
		case v1alpha1.OperatorExists:
			conditions = append(conditions, has)
		case v1alpha1.OperatorDoesNotExist:
			conditions = append(conditions, "!("+has+")")
		}
	}
	if len(conditions) == 0 {
		return "true"
	}
	return "(" + strings.Join(conditions, " && ") + ")"
}

// Addresses are compared as text in one spelling: 4 or 6 for the family, then the address as IPv6, an IPv4 address below
// ::fffe:0:0. CEL's ip() reads no 4-in-6 addresses, so that they are read below that prefix too. Every address is empty.
const (
	celAllIPv4 = "4::fffe:0:0"
	celAllIPv6 = "6::"
)

// spelling is the CEL of the one spelling of the hostIP text; '!' is not an address.
func spelling(text, isHostNetwork string) string {
	mapped := text + ".lowerAscii().replace(':ffff:', ':fffe:')"
	return fmt.Sprintf("%[1]s == '' ? '' : isIP(%[1]s) ? (ip(%[1]s).family() == 4 ? '4' + string(ip('::fffe:' + %[1]s)) : "+
		"%[3]s && ip(%[1]s).isUnspecified() ? '' : '6' + string(ip(%[1]s))) : isIP(%[2]s) ? '4' + string(ip(%[2]s)) : '!'", text, mapped, isHostNetwork)
}

// spelled is an address in that spelling.
func spelled(a ports.Address) string {
	switch a {
	case ports.AllAddresses():
		return ""
	case ports.AllIPv4():
		return celAllIPv4
	case ports.AllIPv6():
		return celAllIPv6
	}
	addr, _ := a.Single()
	if !addr.Is4() {
		return "6" + addr.String()
	}
	bytes := addr.As16()
	bytes[11] = 0xfe
	return "4" + netip.AddrFrom16(bytes).String()
}

// overlap is the condition that two addresses in that spelling share one.
func overlap(a, b string) string {
	return fmt.Sprintf("(%[1]s == %[2]s || %[1]s == '' || %[2]s == '' || "+
		"%[1]s == '%[3]s' && %[2]s.startsWith('4') || %[2]s == '%[3]s' && %[1]s.startsWith('4') || "+
		"%[1]s == '%[4]s' && %[2]s.startsWith('6') || %[2]s == '%[4]s' && %[1]s.startsWith('6'))", a, b, celAllIPv4, celAllIPv6)
}

// needed collects the variables that expressions read, and those that they read in turn.
type needed struct {
	known map[string]string // expressions by name
	order []string
	is    map[string]bool
}

// newNeeded splits variables with a version now and one then into the two.
func newNeeded(variables []variable) *needed {
	n := &needed{known: map[string]string{}, is: map[string]bool{}}
	for _, v := range variables {
		name, both := strings.CutPrefix(v.name, "$")
		if !both {
			n.define(name, v.expression)
			continue
		}
		n.define("now_"+name, versioned(v.expression, "now_"))
		n.define("old_"+name, versioned(v.expression, "old_"))
	}
	return n
}

func (n *needed) define(name, expression string) {
	if _, again := n.known[name]; !again {
		n.known[name] = expression
		n.order = append(n.order, name)
	}
}

func versioned(expression, prefix string) string {
	return regexp.MustCompile(`\$([a-zA-Z])`).ReplaceAllString(expression, "variables."+prefix+"$1")
}

func (n *needed) need(expression string) {
	for _, m := range regexp.MustCompile(`variables\.(\w+)`).FindAllStringSubmatch(expression, -1) {
		if !n.is[m[1]] {
			n.is[m[1]] = true
			n.need(n.known[m[1]])
		}
	}
}

// list returns the needed variables in the order of their definition.
func (n *needed) list() []admissionregistrationv1.Variable {
	var list []admissionregistrationv1.Variable
	for _, name := range n.order {
		if n.is[name] {
			list = append(list, admissionregistrationv1.Variable{Name: name, Expression: n.known[name]})
		}
	}
	return list
}
