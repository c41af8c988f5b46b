package main

import (
	"bytes"
	"flag"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

func TestParseScenarios(t *testing.T) {
	got, err := parseScenarios("500x1000,2000x4000")
	if want := []scenario{{500, 1000}, {2000, 4000}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, text := range []string{"", "500", "x", "5x", "0x1", "1x0", "1x2x3", "-1x2", "1x2,"} {
		if got, err := parseScenarios(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-bin", "x", "more"}, {"-bin", "x", "-config-style", "theirs"}, {"-bin", "x", "-creators", "0"},
		{"-bin", "x", "-steady", "0s"}, {"-bin", "x", "-scenario", "many"}, {"-unknown"},
	} {
		if code := run(t.Context(), args, io.Discard, io.Discard); code != 2 {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); err != flag.ErrHelp {
		t.Errorf("-h: got %v, want %v", err, flag.ErrHelp)
	}
}

// auditLog has a call of cloudcore of each sort, others' calls, stages that don't count and a line that is not complete.
const auditLog = `{"stage":"ResponseComplete","verb":"create","userAgent":"cloudcore/v1","objectRef":{"resource":"objectsyncs"}}
{"stage":"ResponseComplete","verb":"update","userAgent":"cloudcore/v1","objectRef":{"resource":"objectsyncs","subresource":"status"}}
{"stage":"ResponseComplete","verb":"update","userAgent":"cloudcore/v1","objectRef":{"resource":"leases"}}
{"stage":"ResponseComplete","verb":"patch","userAgent":"cloudcore/v1","objectRef":{"resource":"pods","subresource":"status"}}
{"stage":"ResponseComplete","verb":"delete","userAgent":"cloudcore/v1","objectRef":{"resource":"pods"}}
{"stage":"ResponseComplete","verb":"get","userAgent":"cloudcore/v1","objectRef":{"resource":"pods"}}
{"stage":"ResponseComplete","verb":"list","userAgent":"cloudcore/v1","objectRef":{"resource":"configmaps"}}
{"stage":"ResponseStarted","verb":"watch","userAgent":"cloudcore/v1","objectRef":{"resource":"pods"}}
{"stage":"ResponseComplete","verb":"watch","userAgent":"cloudcore/v1","objectRef":{"resource":"pods"}}
{"stage":"ResponseComplete","verb":"create","userAgent":"bench/v1","objectRef":{"resource":"pods"}}
{"stage":"ResponseComplete","verb":"get","userAgent":"cloudcore/v1"}
{"stage":"ResponseComplete","verb":"create","userAgent":"cloudc`

func TestCountCalls(t *testing.T) {
	got, err := countCalls(strings.NewReader(auditLog), "cloudcore/")
	if err != nil {
		t.Fatal(err)
	}
	want := calls{
		"create objectsyncs": 1, "update objectsyncs/status": 1, "update leases": 1, "patch pods/status": 1,
		"delete pods": 1, "get pods": 1, "list configmaps": 1, "watch pods": 1, "get ": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if writes, reads := got.own(); writes != 2 || reads != 3 {
		t.Errorf("got %d writes and %d reads, want 2 and 3", writes, reads)
	}
	if _, err := countCalls(strings.NewReader("no JSON\n"), "cloudcore/"); err == nil {
		t.Error("a line that is not JSON gave no error")
	}
}

func TestCallsSinceMark(t *testing.T) {
	file := t.TempDir() + "/audit.log"
	line, _, _ := strings.Cut(auditLog, "\n")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mark, err := markAudit(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(line+"\n"+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := callsSince(file, mark, "cloudcore/")
	if want := (calls{"create objectsyncs": 1}); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestParseProcess(t *testing.T) {
	if got, err := parseResident("Name:\tx\nVmRSS:\t   2048 kB\nThreads:\t3\n"); err != nil || got != 2<<20 {
		t.Errorf("memory: got %d, %v, want %d", got, err, 2<<20)
	}
	for _, text := range []string{"", "VmRSS: many kB\n"} {
		if got, err := parseResident(text); err == nil {
			t.Errorf("memory of %q: got %d, want an error", text, got)
		}
	}
	stat := "12 (a) name (b) S 1 12 12 0 -1 4194304 1 0 0 0 150 25 7 8 20 0 9 0 100 1 2"
	if got, err := parseCPU(stat); err != nil || got != 1750*time.Millisecond {
		t.Errorf("processor time: got %s, %v, want 1.75s", got, err)
	}
	for _, text := range []string{"", "12 (a) S 1 2", "12 (a) S 1 12 12 0 -1 4194304 1 0 0 0 x 25 7"} {
		if got, err := parseCPU(text); err == nil {
			t.Errorf("processor time of %q: got %s, want an error", text, got)
		}
	}
	if got, err := residentBytes(os.Getpid()); err != nil || got <= 0 {
		t.Errorf("memory of this process: got %d, %v", got, err)
	}
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Errorf("processor time of this process: %v", err)
	}
}

func TestParseMetrics(t *testing.T) {
	m, err := parseMetrics(`# TYPE a_total counter
a_total{x="1"} 2
a_total{x="2"} 3
# TYPE g gauge
g 7
# TYPE h histogram
h_bucket{m="POST",le="+Inf"} 4
h_sum{m="POST"} 0.5
h_count{m="POST"} 4
h_bucket{m="GET",le="+Inf"} 1
h_sum{m="GET"} 2
h_count{m="GET"} 1
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"a_total": 5, "a_total{x=2}": 3, "g": 7, "h": 5, "h_sum": 2.5, "h{m=POST}": 4, "h_sum{m=POST}": .5,
	} {
		if m[name] != want {
			t.Errorf("%s: got %v, want %v", name, m[name], want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(100-i))
	}
	for _, c := range []struct {
		p    float64
		want time.Duration
	}{{0, 1}, {.01, 1}, {.5, 50}, {.99, 99}, {1, 100}} {
		if got := percentile(d, c.p); got != c.want {
			t.Errorf("percentile %v of 1 to 100: got %d, want %d", c.p, got, c.want)
		}
	}
	if got := percentile([]time.Duration{1, 2, 3}, .5); got != 2 {
		t.Errorf("median of 1, 2, 3: got %d", got)
	}
	if got := percentile(nil, .5); got != 0 {
		t.Errorf("median of nothing: got %d, want 0", got)
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{{0, "0"}, {-3, "-3"}, {2.0001, "2"}, {2.75, "2.75"}, {12.34, "12.3"}, {-12.34, "-12.3"}, {1234.5, "1234"}, {.0005, "0.001"}} {
		if got := number(c.v); got != c.want {
			t.Errorf("%v: got %s, want %s", c.v, got, c.want)
		}
	}
}

func TestOnlyCountsFail(t *testing.T) {
	r := &result{Scenario: "1x1", Calls: calls{"create objectsyncs": 3, "update leases": 4}}
	r.info("size", 1e9, "KiB", "")
	r.limit("time", 1000, "ms", 5, "")
	r.count("calls", 2, "", 2, "")
	if r.failed() {
		t.Error("a time over its budget failed the scenario")
	}
	r.count("duplicates", 11, "", 10, "")
	if !r.failed() {
		t.Error("a count over its budget did not fail the scenario")
	}
	var out bytes.Buffer
	r.write(&out)
	lines := strings.Split(out.String(), "\n")
	for _, c := range []struct{ begin, has string }{
		{"time", "MISS"}, {"calls", "ok"}, {"duplicates", "MISS"}, {"        3 create objectsyncs", ""}, {"        4 update leases *", ""},
	} {
		i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, c.begin) })
		if i < 0 || !strings.Contains(lines[i], c.has) {
			t.Errorf("no line %q with %q in:\n%s", c.begin, c.has, out.String())
		}
	}
}

func TestArrivalsKeepTheFirst(t *testing.T) {
	a := newArrivals()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	a.push("n1", edgesim.Push{Resource: podPrefix + "p", At: at(1)})
	a.push("n1", edgesim.Push{Resource: podPrefix + "p", At: at(2)})
	a.push("n1", edgesim.Push{Resource: configPath, Version: "7", At: at(3)})
	a.push("n1", edgesim.Push{Resource: configPath, Version: "7", At: at(4)})
	a.push("n2", edgesim.Push{Resource: configPath, Version: "7", At: at(5)})
	a.push("n2", edgesim.Push{Resource: configPath, Version: "8", At: at(6)})
	a.push("n2", edgesim.Push{Resource: namespace + "/secret/s", At: at(7)})
	if got, ok := a.pod("p"); !ok || !got.Equal(at(1)) {
		t.Errorf("pod: got %v, %v", got, ok)
	}
	got := a.config("7")
	slices.SortFunc(got, time.Time.Compare)
	if want := []time.Time{at(3), at(5)}; !slices.Equal(got, want) {
		t.Errorf("ConfigMap: got %v, want %v", got, want)
	}
	if _, ok := a.pod("other"); ok {
		t.Error("a pod that never came is there")
	}
}
