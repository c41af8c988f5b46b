package websocket

import (
	"bytes"
	"log"

	"k8s.io/klog/v2"
)

// klogWriter takes what the HTTP server logs: failed handshakes of strangers, which are their problem, not ours.
func klogWriter(logger klog.Logger) *log.Logger { return log.New(&lines{logger}, "", 0) }

type lines struct{ logger klog.Logger }

func (l *lines) Write(p []byte) (int, error) {
	l.logger.V(2).Info("Connection failed", "err", string(bytes.TrimSpace(p)))
	return len(p), nil
}
