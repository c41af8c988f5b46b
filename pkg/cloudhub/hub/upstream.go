package hub

import (
	"context"
	"errors"
	"time"

	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// receiver hands the messages of one session to where they belong.
type receiver struct {
	hub    *Hub
	live   *live
	logger klog.Logger
}

// Read implements session.Handler.
func (r *receiver) Read(t time.Time) { r.live.delivery.Confirm(t) }

// Receive implements session.Handler. It blocks while the inbox of the module is full for this node.
func (r *receiver) Receive(ctx context.Context, m *message.Message) {
	r.hub.metrics.received.Inc()
	r.logger.V(4).Info("Message received", "msgID", m.Header.ID, "parentID", m.Header.ParentID,
		"source", m.Route.Source, "operation", m.Route.Operation, "resource", m.Route.Resource, "size", len(m.Content))
	switch m.Route.Operation {
	case message.OpKeepalive:
		return // any message is a sign of life
	case message.OpConfig, message.OpPing, message.OpPong:
		r.answerProbe(m)
		return
	}
	if m.Header.ParentID != "" && r.answer(m) {
		return
	}
	module := r.module(m)
	if module == "" {
		r.hub.metrics.dropped.Inc()
		r.logger.V(4).Info("Message dropped", "msgID", m.Header.ID, "source", m.Route.Source, "operation", m.Route.Operation)
		return
	}
	if module == message.ModuleHub {
		r.reply(message.Reply(m, message.ModuleHub, message.Text(string(r.hub.cfg.CA))))
		return
	}
	if err := r.hub.bus.Send(ctx, module, m); err != nil && ctx.Err() == nil {
		r.refuse(m, module, err)
	}
}

// answer takes a message that answers one of ours. Matching by parent comes before any other rule, so that no name of
// an object can lead an answer astray (spec 03 §4.2, D7). It reports false for what still has a receiver.
func (r *receiver) answer(m *message.Message) bool {
	op := m.Route.Operation
	if op == message.OpResponse || op == message.OpError {
		if r.live.delivery.Ack(m.Header.ParentID, op == message.OpResponse) {
			return true
		}
	}
	if r.hub.bus.Reply(m) {
		return true
	}
	// The rest are acks of our replies, and answers that nobody waits for any more.
	return op == message.OpResponse || op == message.OpError || m.Route.Group == message.GroupUser
}

// module returns the receiver of a message by the table of spec 02 §2.10; empty to drop it.
func (r *receiver) module(m *message.Message) string {
	route := &m.Route
	switch {
	case route.Operation == message.OpUpload && route.Group == message.GroupUser:
		return message.ModuleRouter
	case route.Operation == message.OpPrepull, route.Operation == message.OpUpgrade, route.Operation == message.OpUpdateNodeActionStatus:
		return message.ModuleTask
	case route.Resource == message.ResourceCA:
		return message.ModuleHub
	}
	switch route.Source {
	case message.ModuleHub, message.ModuleStream, message.ModuleDevice, message.ModuleEdge, message.ModuleSync:
		return ""
	case message.SourceMetaServer:
		return message.ModuleDynamic
	case message.SourceTwin:
		return message.ModuleDevice
	}
	return message.ModuleEdge
}

func (r *receiver) answerProbe(m *message.Message) {
	reply := message.Reply(m, m.Route.Source, message.Text(message.AckText))
	reply.Route.Group = m.Route.Group
	r.reply(reply)
}

// refuse tells the edge that a request has no receiver, so that it need not wait for its timeout (spec 02 D28).
func (r *receiver) refuse(m *message.Message, module string, err error) {
	r.hub.metrics.dropped.Inc()
	text := "cannot be handled now"
	if errors.Is(err, bus.ErrNoModule) {
		text = "module " + module + " is not enabled"
	}
	r.logger.V(4).Info("Message refused", "msgID", m.Header.ID, "module", module, "err", err)
	r.reply(message.ErrorReply(m, module, text))
}

func (r *receiver) reply(m *message.Message) {
	_ = r.live.Send(m) // fails only if the session has ended
}
