package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	register func(...prometheus.Collector) error

	pushes    *prometheus.CounterVec
	toWrite   prometheus.Histogram
	toAck     prometheus.Histogram
	resends   prometheus.Counter
	refusals  prometheus.Counter
	failures  prometheus.Counter
	coalesced prometheus.Counter
	audits    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "cloudcore_delivery_" + name, Help: help})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cloudcore_delivery_" + name, Help: help,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		})
	}
	m := &metrics{
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_delivery_pushes_total", Help: "Objects pushed to nodes, resends not counted, by type and operation.",
		}, []string{"type", "operation"}),
		toWrite:   seconds("change_to_write_seconds", "Time from seeing a change to handing its push to the session."),
		toAck:     seconds("write_to_ack_seconds", "Time from the first write of a push to its ack."),
		resends:   counter("resends_total", "Pushes written again because the ack was late."),
		refusals:  counter("refusals_total", "Pushes that the edge answered with an error."),
		failures:  counter("failures_total", "Objects postponed by an error of the cloud side."),
		coalesced: counter("coalesced_total", "Changes that were merged into a pending push of the same object."),
		audits:    counter("audits_total", "Full comparisons of one node."),
	}
	m.register = func(cs ...prometheus.Collector) error {
		if reg == nil {
			return nil
		}
		var errs []error
		for _, c := range cs {
			if err := reg.Register(c); err != nil {
				errs = append(errs, fmt.Errorf("register delivery metrics: %w", err))
			}
		}
		return errors.Join(errs...)
	}
	return m, m.register(m.pushes, m.toWrite, m.toAck, m.resends, m.refusals, m.failures, m.coalesced, m.audits)
}

// observe registers gauges that read the engine's real state when they are collected.
func (m *metrics) observe(e *Engine) error {
	gauge := func(name, help string, read func(*node) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cloudcore_delivery_" + name, Help: help}, func() float64 {
			return float64(e.sum(read))
		})
	}
	return m.register(
		gauge("in_flight", "Places of all windows taken by unacknowledged pushes and by intents.", func(n *node) int { return n.window }),
		gauge("dirty_objects", "Objects of connected nodes that wait for a look.", func(n *node) int {
			total := 0
			for i := range n.dirty {
				total += n.dirty[i].len()
			}
			return total
		}),
		gauge("objects", "Objects that connected nodes hold or should hold.", func(n *node) int { return len(n.objects) }),
	)
}

func (e *Engine) sum(read func(*node) int) int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	total := 0
	for _, n := range e.nodes {
		n.mu.Lock()
		total += read(n)
		n.mu.Unlock()
	}
	return total
}

func (m *metrics) pushed(f *flight, since, now time.Time) {
	m.pushes.WithLabelValues(f.object.key.Kind.Type, f.message.Route.Operation).Inc()
	if !since.IsZero() {
		m.toWrite.Observe(now.Sub(since).Seconds())
	}
}

func (m *metrics) acked(f *flight, now time.Time) { m.toAck.Observe(now.Sub(f.sent).Seconds()) }
