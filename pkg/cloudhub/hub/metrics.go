package hub

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/session"
)

type metrics struct {
	opened, received, sent, dropped prometheus.Counter
	closed                          *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, h *Hub) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "cloudcore_hub_" + name, Help: help})
	}
	m := &metrics{
		opened:   counter("sessions_opened_total", "Sessions that began."),
		received: counter("messages_received_total", "Messages read from nodes."),
		sent:     counter("messages_sent_total", "Messages of modules handed to sessions; pushes of objects are counted by the delivery."),
		dropped:  counter("messages_dropped_total", "Messages of nodes that no module takes."),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_hub_sessions_closed_total", Help: "Sessions that ended, by reason.",
		}, []string{"reason"}),
	}
	for _, r := range session.Reasons() {
		m.closed.WithLabelValues(string(r))
	}
	if reg == nil {
		return m, nil
	}
	nodes := func() float64 { return float64(h.Connected()) }
	var errs []error
	for _, c := range []prometheus.Collector{
		m.opened, m.received, m.sent, m.dropped, m.closed,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cloudcore_hub_connected_nodes", Help: "Nodes that have a session on this replica."}, nodes),
		// The name of the original, which dashboards know (spec 01 §13).
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "KubeEdge_CloudHub_connected_nodes", Help: "Nodes that have a session on this replica."}, nodes),
	} {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register hub metrics: %w", err))
		}
	}
	return m, errors.Join(errs...)
}
