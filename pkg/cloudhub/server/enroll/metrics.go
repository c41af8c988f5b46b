package enroll

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

// Reasons to refuse a join that are decided here, beside those of package pki.
const (
	reasonRateLimited   pki.Reason = "rate_limited"
	reasonNoCredentials pki.Reason = "no_credentials"
	reasonNodeMismatch  pki.Reason = "node_mismatch"
	reasonNodeUnknown   pki.Reason = "node_unknown"
	reasonBody          pki.Reason = "body"
)

func refusalReasons() []pki.Reason {
	return append(pki.Reasons(), reasonRateLimited, reasonNoCredentials, reasonNodeMismatch, reasonNodeUnknown, reasonBody)
}

// What a certificate was given for.
type credential string

const (
	byToken       credential = "token"
	byCertificate credential = "certificate"
	byExpired     credential = "expired_certificate"
	byLegacy      credential = "legacy_certificate"
)

type metrics struct {
	requests           *prometheus.CounterVec
	duration           *prometheus.HistogramVec
	joinsRefused       *prometheus.CounterVec
	issued             *prometheus.CounterVec
	panics             prometheus.Counter
	connections        prometheus.Gauge
	connectionsRefused prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_enroll_requests_total", Help: "Requests answered by the HTTPS server.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudcore_enroll_request_duration_seconds", Help: "Time from the last header of a request to its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 30},
		}, []string{"route"}),
		joinsRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_enroll_joins_refused_total", Help: "Requests for a certificate that were refused.",
		}, []string{"reason"}),
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_enroll_certificates_issued_total", Help: "Certificates given to nodes, by what the node showed for it.",
		}, []string{"credential"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudcore_enroll_panics_total", Help: "Requests that ended in a panic.",
		}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cloudcore_enroll_connections", Help: "Open connections of the HTTPS server.",
		}),
		connectionsRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudcore_enroll_connections_refused_total", Help: "Connections closed because their address had too many.",
		}),
	}
	for _, r := range routes() {
		m.duration.WithLabelValues(string(r))
	}
	for _, r := range refusalReasons() {
		m.joinsRefused.WithLabelValues(string(r))
	}
	for _, c := range []credential{byToken, byCertificate, byExpired, byLegacy} {
		m.issued.WithLabelValues(string(c))
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.joinsRefused, m.issued, m.panics, m.connections, m.connectionsRefused} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the HTTPS server: %w", err)
		}
	}
	return m, nil
}
