package records

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	writes *prometheus.CounterVec
	errors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_records_calls_total", Help: "Calls of kube-apiserver for delivery records, by call.",
		}, []string{"call"}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudcore_records_errors_total", Help: "Calls for delivery records that failed and are tried again.",
		}),
	}
	for _, call := range [...]string{"create", "status", "delete", "reread"} {
		m.writes.WithLabelValues(call)
	}
	pending := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cloudcore_records_pending", Help: "Delivery records that wait to be written.",
	}, func() float64 { return float64(s.pending()) })
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.writes, m.errors, pending} {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register record metrics: %w", err))
		}
	}
	return m, errors.Join(errs...)
}
