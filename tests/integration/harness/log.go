package harness

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
)

// keptBytes bounds the log that is printed when a test fails; the newest is kept.
const keptBytes = 256 << 10

// Allowance announces log lines of severity error that belong to what a test does.
type Allowance struct {
	// Text is part of the line.
	Text string
	// Reason says why this line is right in this test.
	Reason string
}

// logSink keeps what a child writes and finds the lines that no test wants to see. Several runs of one cloudcore share it.
type logSink struct {
	allow []Allowance

	mu   sync.Mutex // guards the fields below
	rest []byte     // the line that is not complete yet
	kept []byte
	bad  []string
}

// errorLine is the header of klog for severities error and fatal.
var errorLine = regexp.MustCompile(`^[EF]\d{4} \d\d:`)

// Write takes output in pieces of any size.
func (s *logSink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, p...)
	if len(s.kept) > 2*keptBytes {
		s.kept = append([]byte(nil), s.kept[len(s.kept)-keptBytes:]...)
	}
	s.rest = append(s.rest, p...)
	for {
		line, rest, complete := bytes.Cut(s.rest, []byte("\n"))
		if !complete {
			return len(p), nil
		}
		s.judge(string(line))
		s.rest = rest
	}
}

func (s *logSink) judge(line string) {
	switch {
	case strings.Contains(line, "DATA RACE"), strings.HasPrefix(line, "panic:"), strings.HasPrefix(line, "fatal error:"):
	case errorLine.MatchString(line):
		for _, a := range s.allow {
			if strings.Contains(line, a.Text) {
				return
			}
		}
	default:
		return
	}
	if len(s.bad) < 20 {
		s.bad = append(s.bad, line)
	}
}

func (s *logSink) unwanted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.bad...)
}

func (s *logSink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.kept[max(0, len(s.kept)-keptBytes):])
}
