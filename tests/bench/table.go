package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what a scenario gave.
type result struct {
	Scenario string
	Setting  []string // what a reader must know to judge the numbers
	Rows     []row
	Calls    calls // of the delivery of pods
}

// row is a line of the table.
type row struct {
	What   string
	Value  float64
	Unit   string
	Budget *float64 `json:",omitempty"` // nil if there is none
	// Count rows decide about the exit code.
	Count bool   `json:",omitempty"`
	Note  string `json:",omitempty"`
}

// ok says whether the row keeps its budget.
func (r row) ok() bool { return r.Budget == nil || r.Value <= *r.Budget }

func (r row) verdict() string {
	switch {
	case r.Budget == nil:
		return ""
	case r.ok():
		return "ok"
	default:
		return "MISS"
	}
}

// info adds a row without budget.
func (r *result) info(what string, value float64, unit, note string) {
	r.Rows = append(r.Rows, row{What: what, Value: value, Unit: unit, Note: note})
}

// limit adds a row with a budget for a time or a size.
func (r *result) limit(what string, value float64, unit string, budget float64, note string) {
	r.Rows = append(r.Rows, row{What: what, Value: value, Unit: unit, Budget: &budget, Note: note})
}

// count adds a row with a budget for a count.
func (r *result) count(what string, value float64, unit string, budget float64, note string) {
	r.Rows = append(r.Rows, row{What: what, Value: value, Unit: unit, Budget: &budget, Count: true, Note: note})
}

// failed says whether a count missed its budget.
func (r *result) failed() bool {
	return slices.ContainsFunc(r.Rows, func(row row) bool { return row.Count && !row.ok() })
}

// write prints the table.
func (r *result) write(w io.Writer) {
	fmt.Fprintf(w, "\nScenario %s\n", r.Scenario)
	for _, line := range r.Setting {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tbudget\t\tnote")
	for _, row := range r.Rows {
		budget := ""
		if row.Budget != nil {
			budget = "≤ " + number(*row.Budget)
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\n", row.What, number(row.Value), row.Unit, budget, row.verdict(), row.Note)
	}
	_ = t.Flush() // a terminal that is gone is nobody's loss
	if len(r.Calls) == 0 {
		return
	}
	fmt.Fprintln(w, "\nCalls of kube-apiserver by cloudcore while the pods were delivered (* asked for by the edges)")
	for _, name := range slices.Sorted(maps.Keys(r.Calls)) {
		mark := ""
		if forEdges(name) {
			mark = " *"
		}
		fmt.Fprintf(w, "  %7d %s%s\n", r.Calls[name], name, mark)
	}
}

// number prints about three significant digits, and all of the integer part.
func number(v float64) string {
	switch {
	case v == float64(int64(v)):
		return fmt.Sprintf("%d", int64(v))
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	default:
		return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.3f", v), "0"), ".")
	}
}

// percentile is the nearest-rank percentile; p is in (0, 1]. It sorts what it is given and is 0 for nothing.
func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	rank := int(p*float64(len(d)) + 0.999999)
	return d[min(max(rank, 1), len(d))-1]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
