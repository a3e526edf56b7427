// Package finding reads from a message what it is about, so that tests hold the finding and not its words: each sentence
// is held in one place, the tests of pkg/report.
package finding

import (
	"regexp"
	"strings"
)

var (
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
