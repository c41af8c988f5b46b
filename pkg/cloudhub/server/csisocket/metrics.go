package csisocket

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a request, as metric label.
const (
	resultOK      = "ok"
	resultInvalid = "invalid" // refused without asking the node
	resultFailed  = "failed"  // by the node, or on the way
)

const otherOperation = "other"

// operationLabel keeps what a peer wrote out of the labels.
func operationLabel(q *request) string {
	if q != nil && slices.Contains(operations(), q.msg.Route.Operation) {
		return q.msg.Route.Operation
	}
	return otherOperation
}

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	panics   prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_csisocket_requests_total", Help: "Requests of the CSI driver.",
		}, []string{"operation", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudcore_csisocket_request_duration_seconds", Help: "Time from the connection to the answer.",
			Buckets: []float64{.01, .05, .25, 1, 5, 20, 60},
		}, []string{"operation"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudcore_csisocket_panics_total", Help: "Connections that ended in a panic.",
		}),
	}
	for _, operation := range append(operations(), otherOperation) {
		m.duration.WithLabelValues(operation)
		for _, result := range []string{resultOK, resultInvalid, resultFailed} {
			m.requests.WithLabelValues(operation, result)
		}
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.panics} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the CSI socket: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(operation, result string, start time.Time) {
	m.requests.WithLabelValues(operation, result).Inc()
	m.duration.WithLabelValues(operation).Observe(time.Since(start).Seconds())
}
