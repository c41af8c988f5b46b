package monitor

import (
	"bytes"
	"cmp"
	"fmt"
	"log"
	"net/http"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

// Check is one named condition of readiness.
type Check struct {
	Name string
	// Ready returns what is missing. It is quick and safe for concurrent use.
	Ready func() error
}

// maxReason bounds what of a check's error is shown.
const maxReason = 300

// health answers for all checks; whether they decide is what tells readiness from life.
type health struct {
	path   string
	checks func() []Check
	count  bool
}

// ServeHTTP answers 200 "ok" or 503 with the checks; ?verbose lists them always.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	checks := append([]Check{{Name: "ping", Ready: func() error { return nil }}}, h.checks()...)
	slices.SortStableFunc(checks[1:], func(a, b Check) int { return cmp.Compare(a.Name, b.Name) })
	name := r.PathValue("check")
	var report bytes.Buffer
	found, failed := false, false
	for _, c := range checks {
		if name != "" && c.Name != name {
			continue
		}
		found = true
		switch err := c.Ready(); {
		case err == nil:
			fmt.Fprintf(&report, "[+]%s ok\n", c.Name)
		case h.count:
			failed = true
			fmt.Fprintf(&report, "[-]%s failed: %s\n", c.Name, reason(err))
		default:
			fmt.Fprintf(&report, "[ ]%s not ready (does not count here): %s\n", c.Name, reason(err))
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	what := strings.TrimPrefix(h.path, "/")
	switch {
	case !found:
		http.Error(w, "no such check", http.StatusNotFound)
	case failed:
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(&report, "%s check failed\n", what)
		_, _ = w.Write(report.Bytes()) // the peer is gone, nobody to tell
	case r.URL.Query().Has("verbose"):
		fmt.Fprintf(&report, "%s check passed\n", what)
		_, _ = w.Write(report.Bytes())
	default:
		_, _ = w.Write([]byte("ok"))
	}
}

// reason is an error on one line.
func reason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// newErrorLog leads what net/http wants to say about single connections to a quiet level: it is
// the peer's doing.
func newErrorLog(logger klog.Logger) *log.Logger {
	return log.New(errorWriter{logger.V(2)}, "", 0)
}

type errorWriter struct{ logger klog.Logger }

func (w errorWriter) Write(p []byte) (int, error) {
	w.logger.Info("Monitor connection failed", "reason", strings.TrimSpace(string(p)))
	return len(p), nil
}
