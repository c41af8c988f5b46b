package downstream

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a live read, the values of a metric label.
const (
	readOK     = "ok"
	readGone   = "gone"
	readUnused = "unused" // nobody wants the object any more
	readBehind = "behind" // the answer is older than what the watch has shown
	readError  = "error"
)

type metrics struct {
	reads *prometheus.CounterVec // by kind and result
}

func newMetrics(reg prometheus.Registerer, v *View) (*metrics, error) {
	m := &metrics{reads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudcore_edgecontroller_reads_total",
		Help: "Objects read live from kube-apiserver because a served pod refers to them or because only a stub was cached.",
	}, []string{"kind", "result"})}
	for _, k := range v.Kinds() {
		if k == v.kind.node {
			continue
		}
		for _, result := range []string{readOK, readGone, readUnused, readBehind, readError} {
			m.reads.WithLabelValues(k.Type, result)
		}
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, size func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			v.mu.RLock()
			defer v.mu.RUnlock()
			return float64(size())
		})
	}
	for _, c := range []prometheus.Collector{
		m.reads,
		gauge("cloudcore_edgecontroller_pods", "Pods of edge nodes.", func() int { return len(v.pods) }),
		gauge("cloudcore_edgecontroller_configs", "ConfigMaps and Secrets that pods of edge nodes refer to.", func() int { return len(v.configs) }),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the downstream view: %w", err)
		}
	}
	return m, nil
}
