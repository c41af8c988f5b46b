package websocket

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// conn is a session.Conn over one WebSocket connection.
type conn struct {
	ws           *websocket.Conn
	writeTimeout time.Duration
	maxMessage   int64
}

// Read implements session.Conn. One message is one WebSocket message of any data opcode (spec 02 §2.3).
func (c *conn) Read(deadline time.Time) ([]byte, error) {
	if err := c.ws.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	_, r, err := c.ws.NextReader()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r) // bounded by the read limit of the connection
}

// Write implements session.Conn.
func (c *conn) Write(f message.Frame) error {
	if int64(f.Len()) > c.maxMessage {
		return fmt.Errorf("message of %d bytes is longer than %d", f.Len(), c.maxMessage)
	}
	if err := c.ws.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return err
	}
	w, err := c.ws.NextWriter(websocket.TextMessage)
	if err != nil {
		return err
	}
	if err := f.Parts(func(b []byte) error { _, err := w.Write(b); return err }); err != nil {
		return err
	}
	return w.Close()
}

// Ping implements session.Conn.
func (c *conn) Ping(payload string) error {
	return c.ws.WriteControl(websocket.PingMessage, []byte(payload), time.Now().Add(c.writeTimeout))
}

// OnPong implements session.Conn.
func (c *conn) OnPong(f func(string)) {
	c.ws.SetPongHandler(func(payload string) error { f(payload); return nil })
}

// Close implements session.Conn. It resets the TCP connection instead of closing it in order: EdgeCore notices a lost
// link only when a write of its own fails, and after a reset that is the next one (spec 02 §8.8, D8, D9).
func (c *conn) Close() {
	raw := c.ws.NetConn()
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // fails only on a connection that is closed already
	}
	_ = raw.Close() // nothing can be done about a failing close
}
