package pki

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// What a refresh was about, as metric label.
const (
	subjectToken   = "token"
	subjectServing = "serving_certificate"
)

type metrics struct {
	caExpiry        prometheus.Gauge
	servingExpiry   prometheus.Gauge
	tokenExpiry     prometheus.Gauge
	refreshFailures *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		caExpiry:      gauge("cloudcore_pki_ca_expiry_timestamp_seconds", "When the CA certificate expires; 0 before it is loaded."),
		servingExpiry: gauge("cloudcore_pki_serving_certificate_expiry_timestamp_seconds", "When the serving certificate in use expires; 0 before it is loaded."),
		tokenExpiry:   gauge("cloudcore_pki_token_expiry_timestamp_seconds", "When the bootstrap token in the Secret expires, as last seen; 0 before it is loaded."),
		refreshFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_pki_refresh_failures_total",
			Help: "Failed attempts to keep the token or the serving certificate fresh.",
		}, []string{"subject"}),
	}
	for _, subject := range []string{subjectToken, subjectServing} {
		m.refreshFailures.WithLabelValues(subject)
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.caExpiry, m.servingExpiry, m.tokenExpiry, m.refreshFailures} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register certificate metrics: %w", err)
		}
	}
	return m, nil
}
