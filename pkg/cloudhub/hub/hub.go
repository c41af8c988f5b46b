// Package hub is the module "cloudhub" without its listeners: it holds the session of every connected node, hands what
// nodes send to the modules, and what modules send to the nodes.
//
// A node has one session: the newest connection wins, and the one that it replaces is taken out of the table before it
// is closed, so that its end can't touch the new one. Object state reaches a node through the delivery engine alone;
// everything else (replies, requests, router traffic) arrives here as messages of the bus and is written once.
//
// Listeners call Admit before they upgrade a connection and Serve after it. The node name that they give comes from the
// certificate of the peer and is the only identity that any message gets (spec 02 §2.10).
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/session"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Config tunes the hub.
type Config struct {
	// NodeLimit is how many different nodes may be connected.
	NodeLimit int
	// Silence is how long a session lives without any message of its node.
	Silence time.Duration
	// PingPeriod is the time between WebSocket pings of one session.
	PingPeriod time.Duration
	// OutboxMessages and OutboxBytes bound what waits to be written to one node.
	OutboxMessages, OutboxBytes int
	// CA is the certificate authority of kube-apiserver in PEM, which nodes may ask for.
	CA []byte
}

func (c Config) withDefaults() Config {
	c.Silence = cmp.Or(c.Silence, 30*time.Second)
	c.PingPeriod = cmp.Or(c.PingPeriod, 20*time.Second)
	c.OutboxMessages = cmp.Or(c.OutboxMessages, 1024)
	c.OutboxBytes = cmp.Or(c.OutboxBytes, 64<<20)
	return c
}

// Delivery starts the delivery of object state to a node.
type Delivery interface {
	Attach(logger klog.Logger, node string, link delivery.Link) *delivery.Session
}

// Hub is the module. Its methods are safe for concurrent use.
type Hub struct {
	cfg       Config
	bus       *bus.Bus
	delivery  Delivery
	connected func(node string) // told of every new session, must not block
	metrics   *metrics

	mu       sync.Mutex // guards the fields below
	running  bool
	sessions map[string]*live
}

// live is the session of one node and the delivery over it.
type live struct {
	*session.Session
	delivery *delivery.Session
}

// New returns a hub; connected is called with the name of each node that gets a session.
func New(cfg Config, b *bus.Bus, d Delivery, connected func(node string), reg prometheus.Registerer) (*Hub, error) {
	h := &Hub{cfg: cfg.withDefaults(), bus: b, delivery: d, connected: connected, sessions: map[string]*live{}}
	var err error
	h.metrics, err = newMetrics(reg, h)
	return h, err
}

// Name implements the module interface of the composition root.
func (h *Hub) Name() string { return message.ModuleHub }

// Run makes the hub reachable on the bus until ctx ends. Listeners should run under the same ctx; their sessions end
// with it.
func (h *Hub) Run(ctx context.Context) error {
	unregister, err := h.bus.Register(message.ModuleHub, message.ModuleHub, h.send)
	if err != nil {
		return err
	}
	defer unregister()
	h.setRunning(true)
	<-ctx.Done()
	h.setRunning(false)
	return nil
}

func (h *Hub) setRunning(running bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = running
}

var errNotRunning = errors.New("hub is not running")

// Ready implements the module interface of the composition root.
func (h *Hub) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running {
		return errNotRunning
	}
	return nil
}

// Connected is the number of nodes that have a session.
func (h *Hub) Connected() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

// Holds says whether the node has a session here.
func (h *Hub) Holds(node string) bool { return h.session(node) != nil }

// Admit says whether a node may connect. A node that has a session may always replace it (spec 02 D25).
func (h *Hub) Admit(node string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running {
		return errNotRunning
	}
	if _, has := h.sessions[node]; !has && len(h.sessions) >= h.cfg.NodeLimit {
		return fmt.Errorf("node limit of %d is reached", h.cfg.NodeLimit)
	}
	return nil
}

// Serve runs the session of a node until it ends.
func (h *Hub) Serve(ctx context.Context, node string, c session.Conn) {
	logger := klog.LoggerWithValues(klog.FromContext(ctx), "node", node)
	l := &live{Session: session.New(klog.NewContext(ctx, logger), node, c, session.Config{
		Silence: h.cfg.Silence, PingPeriod: h.cfg.PingPeriod,
		OutboxMessages: h.cfg.OutboxMessages, OutboxBytes: h.cfg.OutboxBytes,
	})}
	begun := time.Now()
	if err := h.install(logger, l); err != nil {
		logger.V(2).Info("Connection refused", "err", err)
		c.Close()
		return
	}
	logger.V(2).Info("Session began")
	h.connected(node)

	err := l.Run(&receiver{hub: h, live: l, logger: logger})

	h.remove(l)
	reason := session.ReasonPeer
	var ended *session.Ended
	if errors.As(err, &ended) {
		reason = ended.Reason
	}
	h.metrics.closed.WithLabelValues(string(reason)).Inc()
	logger.V(2).Info("Session ended", "reason", reason, "duration", time.Since(begun).Round(time.Millisecond), "err", errors.Unwrap(err))
}

// install makes l the session of its node and closes the one before it.
func (h *Hub) install(logger klog.Logger, l *live) error {
	node := l.Node()
	h.mu.Lock()
	old := h.sessions[node]
	if old == nil && len(h.sessions) >= h.cfg.NodeLimit { // several were admitted for the last place
		h.mu.Unlock()
		return fmt.Errorf("node limit of %d is reached", h.cfg.NodeLimit)
	}
	// Attached under the lock: of two racing connections the one in the table is also the one that is delivered to.
	l.delivery = h.delivery.Attach(logger, node, l.Session)
	h.sessions[node] = l
	h.mu.Unlock()
	h.metrics.opened.Inc()
	if old != nil {
		old.Close(session.ReasonReplaced)
		h.bus.CancelNode(node, "node connected again")
	}
	return nil
}

// remove takes l out of the table unless a newer session has its place (spec 02 D6).
func (h *Hub) remove(l *live) {
	l.delivery.Close()
	h.mu.Lock()
	current := h.sessions[l.Node()] == l
	if current {
		delete(h.sessions, l.Node())
	}
	h.mu.Unlock()
	if current {
		h.bus.CancelNode(l.Node(), "node disconnected")
	}
}

func (h *Hub) session(node string) *live {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[node]
}

// ErrNotConnected says that a node has no session on this replica.
var ErrNotConnected = errors.New("node is not connected")

// send is the receiver of the hub on the bus: it writes m to its node, once.
func (h *Hub) send(_ context.Context, m *message.Message) error {
	l := h.session(m.Node)
	if l == nil {
		return fmt.Errorf("node %q: %w", m.Node, ErrNotConnected)
	}
	h.metrics.sent.Inc()
	if m.Header.ResourceVersion != "" && m.Header.ParentID != "" {
		// The object in this reply counts as delivered. A pong soon after lets its version be recorded together with
		// the push before it, in one write.
		l.PingSoon()
	}
	return l.Send(m)
}

// Disconnect ends the session of a node, if it has one.
func (h *Hub) Disconnect(node string, reason session.Reason) {
	if l := h.session(node); l != nil {
		l.Close(reason)
	}
}
