package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/flowcontrol"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	wait     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_apiserver_requests_total",
			Help: "Requests to kube-apiserver, by verb, resource (with subresource) and status code; code error had no answer.",
		}, []string{"verb", "resource", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cloudcore_apiserver_request_duration_seconds",
			Help:    "Time to the header of the answer of kube-apiserver, by verb and resource. The wait for the rate limiter comes before.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"verb", "resource"}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "cloudcore_apiserver_rate_limiter_wait_seconds",
			Help:    "Time that requests waited for kubeAPIConfig.qps and burst.",
			Buckets: []float64{.001, .005, .025, .1, .5, 1, 2.5, 5, 10, 30, 60},
		}),
	}
	if reg == nil {
		return m, nil
	}
	if err := errors.Join(reg.Register(m.requests), reg.Register(m.duration), reg.Register(m.wait)); err != nil {
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
	took := time.Since(begun)
	to := routeOf(r)
	resource := to.resource
	if to.subresource != "" {
		resource += "/" + to.subresource
	}
	t.metrics.requests.WithLabelValues(to.verb, resource, codeLabel(resp)).Inc()
	t.metrics.duration.WithLabelValues(to.verb, resource).Observe(took.Seconds())
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (t *measured) WrappedRoundTripper() http.RoundTripper { return t.next }

// codeLabel is one of a closed set: the codes that kube-apiserver uses, and classes for others.
func codeLabel(resp *http.Response) string {
	if resp == nil {
		return "error"
	}
	if text, ok := codes[resp.StatusCode]; ok {
		return text
	}
	switch resp.StatusCode / 100 {
	case 1:
		return "1xx"
	case 2:
		return "2xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	default:
		return "5xx"
	}
}

var codes = map[int]string{
	101: "101", 200: "200", 201: "201", 202: "202", 400: "400", 401: "401", 403: "403", 404: "404", 405: "405", 406: "406",
	409: "409", 410: "410", 413: "413", 415: "415", 422: "422", 429: "429", 500: "500", 501: "501", 502: "502", 503: "503", 504: "504",
}

// timedLimiter measures how long requests wait for their turn.
type timedLimiter struct {
	flowcontrol.RateLimiter
	wait prometheus.Observer
}

func (l *timedLimiter) Accept() {
	begun := time.Now()
	l.RateLimiter.Accept()
	l.wait.Observe(time.Since(begun).Seconds())
}

func (l *timedLimiter) Wait(ctx context.Context) error {
	begun := time.Now()
	err := l.RateLimiter.Wait(ctx)
	l.wait.Observe(time.Since(begun).Seconds())
	return err
}
