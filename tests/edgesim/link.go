package edgesim

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// frameBuffer is the size of EdgeCore's write buffer: longer messages leave in continuation frames (spec 02 §2.3).
const frameBuffer = 4096

// maxMessage bounds what one frame may make the simulator allocate. EdgeCore has no such bound; the cloud's own is half.
const maxMessage = 64 << 20

// session is one connection to the hub.
type session struct {
	number int
	ws     *websocket.Conn
	conn   *gatedConn
	// broken is closed when the edge has noticed that the connection is lost, which a failed read alone does not make
	// it do (spec 02 §8).
	broken chan struct{}
	once   sync.Once
	// quick skips the pause before the next dial. Set before broken is closed.
	quick bool
}

// end marks the session as lost; its reader closes the connection, which may take a while. It never waits.
func (s *session) end(quick bool) {
	s.once.Do(func() {
		s.quick = quick
		close(s.broken)
	})
	s.conn.interrupt()
}

// runLink keeps the connection: dial, read until the session is lost, pause, again.
func (n *Node) runLink(ctx context.Context) {
	logger := klog.FromContext(ctx)
	for ctx.Err() == nil {
		if !n.powered(ctx) {
			return
		}
		s, err := n.dialCycle(ctx)
		if err != nil {
			logger.V(2).Info("Connection failed", "err", err)
			n.pause(ctx, 2*n.opts.Timing.Heartbeat)
			continue
		}
		n.serve(ctx, s)
		logger.V(2).Info("Connection lost", "session", s.number)
		if !s.quick {
			n.pause(ctx, 2*n.opts.Timing.Heartbeat)
		}
	}
}

// serve runs one session to its end.
func (n *Node) serve(ctx context.Context, s *session) {
	stop := context.AfterFunc(ctx, func() { s.end(true) })
	defer stop()
	n.fifo.clear()
	n.setSession(s) // before anybody can learn of the session and ask for its end
	s.number = n.rec.sessionUp()
	n.do(ctx, n.core.connected)
	select {
	case n.sessions <- s:
	case <-s.broken:
	}
	if err := n.read(s); err != nil {
		select {
		case <-s.broken: // our own doing
		default:
			n.rec.count(func(c *Counters) { c.ReadErrors++ })
			klog.FromContext(ctx).V(2).Info("Read failed", "session", s.number, "err", err)
		}
	}
	_ = s.ws.Close() // a failed read closes the connection, and the next write finds out
	<-s.broken
	n.setSession(nil)
	n.rec.sessionDown()
	n.do(ctx, n.core.disconnected)
}

// dialCycle dials as often as EdgeCore does in one cycle (spec 02 §8).
func (n *Node) dialCycle(ctx context.Context) (*session, error) {
	header := http.Header{}
	header.Set("Node_id", n.opts.Name)
	header.Set("Project_id", n.opts.ProjectID)
	var last error
	for attempt := range n.opts.Limits.Dials {
		if attempt > 0 && !n.pause(ctx, n.opts.Timing.DialRetry) {
			return nil, context.Cause(ctx)
		}
		// EdgeCore adds the header at each dial of a cycle, so that it comes repeatedly (spec 02 §2.1).
		header.Add("Connectionuse", "msg")
		n.rec.count(func(c *Counters) { c.Dials++ })
		s, err := n.dial(ctx, header)
		if err == nil {
			return s, nil
		}
		n.rec.count(func(c *Counters) { c.DialFailures++ })
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

func (n *Node) dial(ctx context.Context, header http.Header) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.Timing.Handshake)
	defer cancel()
	var conn *gatedConn
	dialer := websocket.Dialer{
		// The TLS layer is made here because the gate belongs under it, and because the package would offer an
		// application protocol.
		NetDialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := n.opts.Dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			conn = newGatedConn(raw, n.gate)
			secured := tls.Client(conn, n.Identity().TLS(n.opts.Cloud))
			if err := secured.HandshakeContext(ctx); err != nil {
				_ = conn.Close() // the handshake error says more
				return nil, err
			}
			return secured, nil
		},
		HandshakeTimeout: n.opts.Timing.Handshake,
		ReadBufferSize:   1024,
		WriteBufferSize:  frameBuffer,
		WriteBufferPool:  n.buffers,
	}
	url := "wss://" + n.opts.hubAddress() + "/" + n.opts.ProjectID + "/" + n.opts.Name + "/events"
	ws, resp, err := dialer.DialContext(ctx, url, header.Clone())
	if err != nil {
		if resp != nil {
			defer resp.Body.Close()
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // decoration of the error only
			return nil, fmt.Errorf("dial %s: %w: %s: %s", url, err, resp.Status, firstLine(body))
		}
		return nil, fmt.Errorf("dial %s: %w", url, err)
	}
	ws.SetReadLimit(maxMessage)
	return &session{ws: ws, conn: conn, broken: make(chan struct{})}, nil
}

// read puts what comes into the receive queue until the connection fails. A frame that is no message is such a failure
// (spec 02 §2.3).
func (n *Node) read(s *session) error {
	var buf bytes.Buffer
	for {
		_, r, err := s.ws.NextReader()
		if err != nil {
			return err
		}
		buf.Reset()
		if _, err := buf.ReadFrom(r); err != nil {
			return err
		}
		m, err := message.Decode(buf.Bytes())
		if err != nil {
			n.rec.violate(BadFrame, "", "", "%v", err)
			return err
		}
		n.received(m, buf.Len())
		if buf.Cap() > 64<<10 { // thousands of readers must not each keep their largest message
			buf = bytes.Buffer{}
		}
	}
}

// received is the reader's part of a message: control messages are answered by the connection itself (spec 02 §1.5),
// the rest goes to the receive queue.
func (n *Node) received(m *message.Message, size int) {
	n.rec.count(func(c *Counters) { c.Received++; c.BytesReceived += uint64(size) })
	if m.Header.Sync {
		n.rec.violate(SyncFlag, m.Route.Resource, m.Header.ID, "EdgeCore would look for a waiter")
	}
	switch m.Route.Operation {
	case message.OpConfig, message.OpPing, message.OpPong:
		n.rec.count(func(c *Counters) { c.Pings++ })
		n.out.putUrgent(n.respond(m, message.Text(message.AckText)))
		return
	}
	a := arrival{msg: m}
	if isPush(m) {
		a.push = n.notePush(m, size)
	} else if m.Header.ParentID != "" {
		n.noteAnswer(m)
	}
	if dropped, overflow := n.fifo.put(a); overflow {
		n.rec.count(func(c *Counters) { c.Overflows++ })
		n.rec.outcome(dropped.push, Overflowed)
	}
	n.wake()
}

// respond answers m as EdgeCore does: same source, group, resource and type (spec 02 §1.1).
func (n *Node) respond(m *message.Message, content []byte) *message.Message {
	r := n.message(message.Route{
		Source: m.Route.Source, Group: m.Route.Group, Operation: message.OpResponse, Resource: m.Route.Resource,
	}, content)
	r.Header.ParentID = m.Header.ID
	r.Header.Type = m.Header.Type
	return r
}

// runWriter writes for one session after the other.
func (n *Node) runWriter(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-n.sessions:
			n.write(ctx, s)
		}
	}
}

// write sends the first keepalive at once, then keepalives and what is in the outbox, until the session is lost.
func (n *Node) write(ctx context.Context, s *session) {
	beat := time.NewTimer(0)
	defer beat.Stop()
	token := time.NewTimer(time.Hour)
	token.Stop()
	defer token.Stop()
	reserved, granted := false, false
	for {
		if o, ok := n.out.popUrgent(); ok {
			if !n.writeOne(s, o) {
				return
			}
			continue
		}
		if n.out.waiting() {
			if !reserved {
				delay := n.limiter.Reserve().Delay()
				reserved, granted = true, delay <= 0
				if !granted {
					token.Reset(delay)
				}
			}
			if granted {
				reserved, granted = false, false
				if o, ok := n.out.pop(); ok && !n.writeOne(s, o) {
					return
				}
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.broken:
			return
		case <-n.out.ready:
		case <-token.C:
			granted = true
		case <-beat.C:
			if !n.writeOne(s, outgoing{msg: n.keepalive()}) {
				return
			}
			n.rec.count(func(c *Counters) { c.Keepalives++ })
			beat.Reset(n.opts.Timing.Heartbeat)
		}
	}
}

func (n *Node) keepalive() *message.Message {
	return n.message(message.Route{
		Source: "websocket", Group: message.GroupResource, Operation: message.OpKeepalive, Resource: "node",
	}, message.Text("ping"))
}

// writeOne writes a message. One that fails is lost, and the session with it (spec 02 §8).
func (n *Node) writeOne(s *session, o outgoing) bool {
	if err := n.writeFrame(s, o.msg); err != nil {
		n.rec.count(func(c *Counters) { c.SendFailures++ })
		s.end(false)
		return false
	}
	n.rec.count(func(c *Counters) { c.Sent++ })
	if o.acks != 0 {
		n.rec.count(func(c *Counters) { c.Acks++ })
		n.rec.outcome(o.acks, Acked)
	}
	return true
}

func (n *Node) writeFrame(s *session, m *message.Message) error {
	if err := s.ws.SetWriteDeadline(time.Now().Add(n.opts.Timing.WriteDeadline)); err != nil {
		return err
	}
	w, err := s.ws.NextWriter(websocket.TextMessage)
	if err != nil {
		return err
	}
	writeErr := m.Frame().Parts(func(b []byte) error {
		_, err := w.Write(b)
		return err
	})
	return errors.Join(writeErr, w.Close())
}
