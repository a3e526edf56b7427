package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/portcullis-k8s/portcullis/pkg/check"
)

const (
	home        = "https://github.com/portcullis-k8s/portcullis"
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

	// fingerprintName ends in the version of what is hashed: readers compare only fingerprints of one name.
	fingerprintName = "portcullisFinding/v1"
)

// The parts of SARIF 2.1.0 that a report needs.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`

		Properties *sarifProperties `json:"properties,omitempty"`
	}
	sarifProperties struct {
		Inputs *Inputs `json:"inputs"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Version        string      `json:"version"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string      `json:"id"`
		ShortDescription     sarifText   `json:"shortDescription"`
		FullDescription      sarifText   `json:"fullDescription"`
		Help                 sarifText   `json:"help"`
		HelpURI              string      `json:"helpUri"`
		DefaultConfiguration sarifConfig `json:"defaultConfiguration"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID              string            `json:"ruleId"`
		RuleIndex           int               `json:"ruleIndex"`
		Level               string            `json:"level"`
		Message             sarifText         `json:"message"`
		Locations           []sarifLocation   `json:"locations"`
		PartialFingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical  `json:"physicalLocation"`
		LogicalLocations []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI         string     `json:"uri"`
		Description *sarifText `json:"description,omitempty"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name               string `json:"name"`
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
)

// WriteSARIF writes the report as SARIF 2.1.0, for code scanning and editors. Its rules are all codes of the catalogue,
// so that a rule has the same index in every report. Paths below folder become relative to it: readers match them with
// the files of a checkout. version is that of the program.
func (r *LintReport) WriteSARIF(w io.Writer, version, folder string) error {
	run := sarifRun{
		Tool:    sarifTool{sarifDriver{Name: "portcullis", InformationURI: home, Version: version, Rules: sarifRules()}},
		Results: []sarifResult{},
	}
	if r.Inputs != nil {
		run.Properties = &sarifProperties{r.Inputs}
	}
	index := map[string]int{}
	for i, rule := range run.Tool.Driver.Rules {
		index[rule.ID] = i
	}
	seen := map[string]int{}
	for _, f := range r.Findings {
		key := f.identity()
		seen[key]++
		run.Results = append(run.Results, sarifResult{
			RuleID: f.Code, RuleIndex: index[f.Code], Level: sarifLevel(f.Severity), Message: sarifText{of(f.Field, f.Message)},
			Locations: []sarifLocation{{
				PhysicalLocation: sarifPhysical{artifact(f.Source, folder), sarifRegion{max(1, f.Source.Line)}},
				LogicalLocations: f.Object.logical(),
			}},
			PartialFingerprints: map[string]string{fingerprintName: fingerprint(key, seen[key])},
		})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

// logical is an object's name; none where no object could be read.
func (o Object) logical() []sarifLogical {
	if o == (Object{}) {
		return nil
	}
	return []sarifLogical{{Name: o.Name, FullyQualifiedName: o.String(), Kind: "resource"}}
}

func sarifRules() []sarifRule {
	var rules []sarifRule
	for _, e := range check.Catalogue() {
		page := fmt.Sprintf("%s/blob/main/docs/codes/%s.md", home, e.Code)
		rules = append(rules, sarifRule{
			ID: string(e.Code), ShortDescription: sarifText{e.Title}, FullDescription: sarifText{e.Title},
			Help:    sarifText{fmt.Sprintf("Why, an example and the fix: portcullis lint --explain %s, or %s", e.Code, page)},
			HelpURI: page, DefaultConfiguration: sarifConfig{sarifLevel(e.Severity.String())},
		})
	}
	return rules
}

func sarifLevel(severity string) string {
	if severity == check.Info.String() {
		return "note"
	}
	return severity
}

// artifact is the file of a source as a URI reference. Standard input and a cluster have none: they get a name that says so.
func artifact(s Source, folder string) sarifArtifact {
	switch s.Path {
	case stdinPath:
		return sarifArtifact{"stdin", &sarifText{"standard input"}}
	case "":
		return sarifArtifact{clusterName, &sarifText{"the objects of a cluster"}}
	}
	file := s.file()
	if filepath.IsAbs(s.Path) {
		if below, err := filepath.Rel(folder, s.Path); err == nil && filepath.IsLocal(below) {
			file = filepath.ToSlash(below)
		}
	}
	uri := url.URL{Path: file}
	if path.IsAbs(file) {
		uri.Scheme = "file"
	}
	return sarifArtifact{URI: uri.String()}
}

// identity is what makes two findings of two runs the same: not its line, which moves, nor its file, which is renamed, unless
// no object could be read from it.
func (f Finding) identity() string {
	parts := []string{f.Code, f.Object.APIVersion, f.Object.Kind, f.Object.Namespace, f.Object.Name, f.Field}
	if h := f.Holder; h != nil {
		parts = append(parts, h.Kind, h.Namespace, h.Name)
	}
	if f.Object == (Object{}) {
		parts = append(parts, f.Source.file(), f.Message) // nothing else is known of it
	}
	return strings.Join(parts, "\x00")
}

// fingerprint hashes an identity; nth tells the findings of a report that share it apart.
func fingerprint(identity string, nth int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", identity, nth))
	return hex.EncodeToString(sum[:16])
}
