package kube

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_apiserver_requests_total", Help: "Requests to kube-apiserver, by HTTP method and status code; code 0 had no answer.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudcore_apiserver_request_duration_seconds", Help: "Time to the header of the answer of kube-apiserver, by HTTP method.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method"}),
	}
	if reg == nil {
		return m, nil
	}
	if err := errors.Join(reg.Register(m.requests), reg.Register(m.duration)); err != nil {
		return nil, fmt.Errorf("register client metrics: %w", err)
	}
	return m, nil
}

// measured counts and times requests.
type measured struct {
	next    http.RoundTripper
	metrics *metrics
}

func (t *measured) RoundTrip(r *http.Request) (*http.Response, error) {
	begun := time.Now()
	resp, err := t.next.RoundTrip(r)
	code := 0
	if resp != nil {
		code = resp.StatusCode
	}
	t.metrics.requests.WithLabelValues(r.Method, strconv.Itoa(code)).Inc()
	t.metrics.duration.WithLabelValues(r.Method).Observe(time.Since(begun).Seconds())
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (t *measured) WrappedRoundTripper() http.RoundTripper { return t.next }
