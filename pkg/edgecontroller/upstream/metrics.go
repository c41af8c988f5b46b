package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a request, the values of a metric label.
const (
	resultOK          = "ok"
	resultInvalid     = "invalid"
	resultForbidden   = "forbidden"
	resultNotFound    = "not_found"
	resultConflict    = "conflict"
	resultLimited     = "limited"
	resultUnavailable = "unavailable"
)

type metrics struct {
	duration *prometheus.HistogramVec
	requests *prometheus.CounterVec
	unknown  prometheus.Counter
	stray    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, table map[verb]route) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudcore_upstream_request_duration_seconds", Help: "Time to handle one request of a node, by type and operation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 20},
		}, []string{"type", "operation"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_upstream_requests_total", Help: "Requests of nodes that were handled, by type, operation and result.",
		}, []string{"type", "operation", "result"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudcore_upstream_unknown_total", Help: "Requests of nodes that have a malformed path or that no handler exists for.",
		}),
		stray: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudcore_upstream_stray_total", Help: "Messages of nodes that are no requests and were dropped.",
		}),
	}
	for v := range table {
		for _, result := range []string{resultOK, resultInvalid, resultForbidden, resultNotFound, resultConflict, resultLimited, resultUnavailable} {
			m.requests.WithLabelValues(v.typ, v.op, result)
		}
	}
	if reg == nil {
		return m, nil
	}
	if err := errors.Join(reg.Register(m.duration), reg.Register(m.requests), reg.Register(m.unknown), reg.Register(m.stray)); err != nil {
		return nil, fmt.Errorf("register upstream metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) handled(v verb, err error, d time.Duration) {
	m.duration.WithLabelValues(v.typ, v.op).Observe(d.Seconds())
	m.requests.WithLabelValues(v.typ, v.op, result(err)).Inc()
}

func result(err error) string {
	if err == nil {
		return resultOK
	}
	switch code := status(err).Code; {
	case code == http.StatusForbidden || code == http.StatusUnauthorized:
		return resultForbidden
	case code == http.StatusNotFound:
		return resultNotFound
	case code == http.StatusConflict:
		return resultConflict
	case code == http.StatusTooManyRequests:
		return resultLimited
	case code < http.StatusInternalServerError:
		return resultInvalid
	}
	return resultUnavailable
}
