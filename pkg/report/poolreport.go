package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/portcullis-k8s/portcullis/pkg/pool"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

// PoolReport is the outcome of `portcullis pool status -o json`: a versioned kind that other people's scripts read. Its
// figures are called as in the status of a PortPool.
type PoolReport struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Pools      []PoolState `json:"pools"`            // in the order in which they serve
	Inputs     *Inputs     `json:"inputs,omitempty"` // of the files; nil: of a cluster
}

// PoolState is one pool and what has become of its numbers.
type PoolState struct {
	Name               string       `json:"name"`
	For                string       `json:"for"`
	State              string       `json:"state"`
	Sharing            string       `json:"sharing"`
	Enforcement        string       `json:"enforcement"`
	Priority           int          `json:"priority"`
	EffectiveRanges    []string     `json:"effectiveRanges"` // "30000-30009", sorted
	Usage              PoolUsage    `json:"usage"`
	UtilizationPercent int          `json:"utilizationPercent"`
	OutOfPoolCount     int          `json:"outOfPoolCount"`
	Numbers            []PoolNumber `json:"numbers,omitempty"` // of one pool that is asked for: those that are not free, and out of pool
	Notes              []string     `json:"notes"`             // what else is worth knowing, a sentence each
}

// PoolUsage counts the numbers that a pool has.
type PoolUsage struct {
	Total       int `json:"total"`
	Allocated   int `json:"allocated"`
	Available   int `json:"available"`
	Quarantined int `json:"quarantined"`
	Foreign     int `json:"foreign"`
}

// PoolNumber is a number that somebody holds, or that cannot be given away.
type PoolNumber struct {
	Port     int        `json:"port"`
	Protocol string     `json:"protocol,omitempty"`
	Use      NumberUse  `json:"use"`
	Holder   *Object    `json:"holder,omitempty"` // left out where a PortClaim, or a daemon of the nodes, is all there is
	Since    string     `json:"since,omitempty"`  // RFC 3339
	Claim    *PoolClaim `json:"claim,omitempty"`
}

// NumberUse says what a number of a pool is used for.
type NumberUse string

// The uses. OutOfPool is not a number of the pool: somebody whom it serves holds it.
const (
	NumberAllocated   NumberUse = "Allocated"
	NumberForeign     NumberUse = "Foreign"
	NumberQuarantined NumberUse = "Quarantined"
	NumberOutOfPool   NumberUse = "OutOfPool"
)

// PoolClaim is the PortClaim of a number.
type PoolClaim struct {
	Name    string `json:"name"`
	Phase   string `json:"phase"`
	Service string `json:"service"` // "namespace/name"; "namespace/prefix*" while its name is not known
}

// NewPoolReport returns an empty report.
func NewPoolReport() *PoolReport {
	return &PoolReport{APIVersion: apiVersion, Kind: "PoolReport", Pools: []PoolState{}}
}

// Add appends a pool with its usage, and returns it to be completed.
func (r *PoolReport) Add(m *pool.Member, u pool.Usage) *PoolState {
	sharing := "Shared"
	if m.Exclusive {
		sharing = "Exclusive"
	}
	s := PoolState{
		Name: m.Name, For: string(m.For), State: string(m.State), Sharing: sharing, Enforcement: m.Enforcement.String(), Priority: m.Priority,
		EffectiveRanges: []string{}, UtilizationPercent: u.UtilizationPercent(), Notes: []string{},
		Usage: PoolUsage{Total: u.Total, Allocated: u.Allocated, Available: u.Available, Quarantined: u.Quarantined, Foreign: u.Foreign},
	}
	for _, e := range m.Effective {
		s.EffectiveRanges = append(s.EffectiveRanges, e.String())
	}
	if m.State != pool.Disabled {
		s.Notes = append(s.Notes, overlapNotes(m)...)
	}
	r.Pools = append(r.Pools, s)
	return &r.Pools[len(r.Pools)-1]
}

// overlapNotes tell what a pool names and does not have.
func overlapNotes(m *pool.Member) []string {
	var notes []string
	if len(m.Outside) > 0 {
		notes = append(notes, fmt.Sprintf("spec.ranges: PortPool %s names %s, which the cluster does not accept as nodePorts; choose numbers inside its node port range", m.Name, few(m.Outside)))
	}
	for _, o := range m.Overlaps {
		if !o.Won && m.Exclusive {
			notes = append(notes, fmt.Sprintf("spec.ranges: PortPool %s names %s, which PortPool %s has; take the numbers out of one of the two", m.Name, few(o.Ports), o.With))
		}
	}
	return notes
}

// few names the first ranges and counts the rest.
func few(ranges ports.Ranges) string {
	const most = 3
	if len(ranges) <= most {
		return ranges.String()
	}
	return fmt.Sprintf("%s and %d more", ranges[:most], len(ranges)-most)
}

// WriteJSON writes the report as JSON.
func (r *PoolReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a person: a line for each pool, then the numbers of the one that was asked for, then
// notes. Ages are as of now.
func (r *PoolReport) WriteTable(w io.Writer, now time.Time) error {
	if len(r.Pools) == 0 {
		_, err := fmt.Fprintln(w, "no pools")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "POOL\tFOR\tSTATE\tRANGES\tTOTAL\tALLOCATED\tAVAILABLE\tQUARANTINED\tFOREIGN\tUSED%\tOUT OF POOL")
	for _, s := range r.Pools {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", Escape(s.Name), s.For, s.State, s.ranges(), s.Usage.Total,
			s.Usage.Allocated, s.Usage.Available, s.Usage.Quarantined, s.Usage.Foreign, s.UtilizationPercent, s.OutOfPoolCount)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range r.Pools {
		if err := s.writeNumbers(w, now); err != nil {
			return err
		}
	}
	for _, s := range r.Pools {
		for _, note := range s.Notes {
			if _, err := fmt.Fprintln(w, Escape(note)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ranges names the first ranges and counts the rest.
func (s PoolState) ranges() string {
	const most = 3
	if len(s.EffectiveRanges) <= most {
		return cmp.Or(strings.Join(s.EffectiveRanges, ","), "-")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(s.EffectiveRanges[:most], ","), len(s.EffectiveRanges)-most)
}

func (s PoolState) writeNumbers(w io.Writer, now time.Time) error {
	if len(s.Numbers) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nPORT\tUSE\tHELD BY\tSINCE\tCLAIM")
	for _, n := range s.Numbers {
		port, holder, claim := fmt.Sprint(n.Port), "-", "-"
		if n.Protocol != "" {
			port += "/" + n.Protocol
		}
		if n.Holder != nil {
			holder = n.Holder.String()
		}
		if c := n.Claim; c != nil {
			claim = fmt.Sprintf("%s (%s, Service %s)", c.Name, c.Phase, c.Service)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", port, n.Use, holder, cmp.Or(age(n.Since, now), "-"), Escape(claim))
	}
	return t.Flush()
}
