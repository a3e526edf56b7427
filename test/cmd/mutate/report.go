package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// packageReport is what became of the mutants of a package.
type packageReport struct {
	folder    string
	possible  int // how many mutants the package has
	outcomes  map[outcome]int
	explained int // survivors in the list
	survivors []mutant
	outdated  []string // lines of the list that fit no mutant
	took      time.Duration
}

func (p *packageReport) add(m mutant, o outcome, isExplained bool) {
	if p.outcomes == nil {
		p.outcomes = map[outcome]int{}
	}
	p.outcomes[o]++
	switch {
	case o != survived:
	case isExplained:
		p.explained++
	default:
		p.survivors = append(p.survivors, m)
	}
}

func (p *packageReport) killed() int {
	return p.outcomes[killed] + p.outcomes[killedByTimeout] + p.outcomes[killedByOthers]
}

// tested is how many mutants were compiled and tested.
func (p *packageReport) tested() int { return p.killed() + p.outcomes[survived] }

func (p *packageReport) summary() string {
	return fmt.Sprintf("%d killed, %d survived", p.killed(), p.outcomes[survived])
}

// report is about all packages.
type report []packageReport

// isGood reports whether each survivor is explained, and each explanation is about a mutant.
func (r report) isGood() bool {
	for _, p := range r {
		if len(p.survivors) > 0 || len(p.outdated) > 0 {
			return false
		}
	}
	return true
}

// write prints a table of the packages, and then what to do something about.
func (r report) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "PACKAGE\tPOSSIBLE\tTESTED\tKILLED\tBY TIMEOUT\tBY OTHER PACKAGES\tSURVIVED\tEXPLAINED\tNOT COMPILING\tTIME")
	for _, p := range r {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", p.folder, p.possible, p.tested(), p.killed(),
			p.outcomes[killedByTimeout], p.outcomes[killedByOthers], p.outcomes[survived], p.explained,
			p.outcomes[notCompiling], p.took.Round(time.Second))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, p := range r {
		for _, m := range p.survivors {
			fmt.Fprintf(w, "survived: %s\n", m)
		}
		for _, line := range p.outdated {
			fmt.Fprintf(w, "in survivors.txt, but no mutant: %s\n", line)
		}
	}
	return nil
}
