// Package finding reads from a message what it is about, so that tests hold the finding and not its words: each sentence
// is held in one place, the tests of pkg/report.
package finding

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var (
	anyCode       = regexp.MustCompile(`PC\d{4}`)
	codePattern   = regexp.MustCompile(`\((PC\d{4})\)$`)
	fieldPattern  = regexp.MustCompile(`^([A-Za-z]+(?:[.\[][^ ]*)?): `)
	holderPattern = regexp.MustCompile(`\b(Service|Pod|Deployment|DaemonSet|StatefulSet|ReplicaSet|ReplicationController|Job|CronJob) ([a-z0-9.-]+/[a-z0-9.-]+)`)
)

// Of returns what a message has of its code, its field and the first object that it names, in this order:
//
//	PC0201 spec.ports[0].nodePort Service default/app1
//
// Further objects, as of two holders, are not told.
func Of(message string) string {
	var parts []string
	message = strings.TrimSpace(message)
	if m := codePattern.FindStringSubmatch(message); m != nil {
		parts = append(parts, m[1])
	}
	if m := fieldPattern.FindStringSubmatch(message); m != nil {
		parts = append(parts, m[1])
	}
	if m := holderPattern.FindStringSubmatch(message); m != nil {
		parts = append(parts, m[1]+" "+m[2])
	}
	return strings.Join(parts, " ")
}

// All is Of for each of several messages.
func All(messages []string) []string {
	var all []string
	for _, m := range messages {
		all = append(all, Of(m))
	}
	return all
}

// Answer is what a client gets, as tests write it: "ok", "409 AlreadyExists", "422 Invalid PC0201 Service team/a".
func Answer(err error) string {
	if err == nil {
		return "ok"
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err.Error()
	}
	s := status.Status()
	text := fmt.Sprintf("%d %s", s.Code, s.Reason)
	if code := Code(s.Message); code != "" {
		text += " " + code
		if holder := Holder(s.Message); holder != "" {
			text += " " + holder
		}
	}
	return text
}

// Code is the first code in a text; "" for none.
func Code(text string) string { return anyCode.FindString(text) }

// Holder is the first object that may hold a port in a text; "" for none.
func Holder(text string) string { return holderPattern.FindString(text) }
