package upstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	duration *prometheus.HistogramVec
	failed   *prometheus.CounterVec
	unknown  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, table map[verb]route) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudcore_upstream_request_duration_seconds", Help: "Time to handle one request of a node, by type and operation.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 20},
		}, []string{"type", "operation"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_upstream_errors_total", Help: "Requests of nodes that were answered with an error, by type and operation.",
		}, []string{"type", "operation"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudcore_upstream_unknown_total", Help: "Requests of nodes that are malformed or that no handler exists for.",
		}),
	}
	for v := range table {
		m.failed.WithLabelValues(v.typ, v.op)
	}
	if reg == nil {
		return m, nil
	}
	if err := errors.Join(reg.Register(m.duration), reg.Register(m.failed), reg.Register(m.unknown)); err != nil {
		return nil, fmt.Errorf("register upstream metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) handled(v verb, err error, d time.Duration) {
	m.duration.WithLabelValues(v.typ, v.op).Observe(d.Seconds())
	if err != nil {
		m.failed.WithLabelValues(v.typ, v.op).Inc()
	}
}
