package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// calls are numbers of apiserver calls by verb and resource, for example "create objectsyncs".
type calls map[string]int

// auditMark is a place in the audit log.
type auditMark int64

// markAudit is the present end of the log.
func markAudit(file string) (auditMark, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, fmt.Errorf("look at the audit log: %w", err)
	}
	return auditMark(info.Size()), nil
}

// callsSince counts what a client, known by the begin of its user agent, called since mark.
func callsSince(file string, mark auditMark, agent string) (calls, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(int64(mark), io.SeekStart); err != nil {
		return nil, fmt.Errorf("seek in the audit log: %w", err)
	}
	return countCalls(f, agent)
}

// auditEvent is what counts of an event of the audit log.
type auditEvent struct {
	Stage, Verb, UserAgent string
	ObjectRef              struct{ Resource, Subresource string }
}

func countCalls(r io.Reader, agent string) (calls, error) {
	out := make(calls)
	lines := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil // what is behind the last newline is still being written
		}
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("parse the audit log: %w", err)
		}
		if e.Stage != "ResponseComplete" || !strings.HasPrefix(e.UserAgent, agent) {
			continue
		}
		name := e.Verb + " " + e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			name += "/" + e.ObjectRef.Subresource
		}
		out[name]++
	}
}

// forEdges says whether cloudcore makes such calls because an edge asked for them: leases and status, registration,
// tokens, and the end of a pod.
func forEdges(call string) bool {
	verb, resource, _ := strings.Cut(call, " ")
	switch resource {
	case "leases", "nodes", "nodes/status", "pods/status", "serviceaccounts/token":
		return true
	case "pods":
		return verb == "delete"
	}
	return false
}

// own sums the calls that cloudcore makes for its own bookkeeping. Watches are neither: their number does not
// depend on that of the pods.
func (c calls) own() (writes, reads int) {
	for call, count := range c {
		if forEdges(call) {
			continue
		}
		switch verb, _, _ := strings.Cut(call, " "); verb {
		case "get", "list":
			reads += count
		case "watch":
		default:
			writes += count
		}
	}
	return writes, reads
}
