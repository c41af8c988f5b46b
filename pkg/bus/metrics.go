package bus

import "github.com/prometheus/client_golang/prometheus"

func newPanics(module string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name:        "cloudcore_bus_panics_total",
		Help:        "Messages dropped because their handler panicked, by module.",
		ConstLabels: prometheus.Labels{"module": module},
	})
}

func newWait(module, lane string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:        "cloudcore_bus_inbox_wait_seconds",
		Help:        "Time that a message waited in the inbox of a module, by lane.",
		ConstLabels: prometheus.Labels{"module": module, "lane": lane},
		Buckets:     []float64{.0001, .001, .01, .1, 1, 10},
	})
}

func newDepth(module string, l *lane) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "cloudcore_bus_inbox_messages",
		Help:        "Messages that wait in the inbox of a module, by lane.",
		ConstLabels: prometheus.Labels{"module": module, "lane": l.Name},
	}, l.depth)
}

// collectors are the metrics of an inbox.
func (in *Inbox) collectors() []prometheus.Collector {
	out := []prometheus.Collector{in.panics}
	for _, l := range in.lanes {
		out = append(out, l.wait, newDepth(in.module, l))
	}
	return out
}
