package csisocket

import (
	"bytes"
	"io"
	"net"
	"time"
)

// deadConn gives out what it holds, then its end; and records what is written.
type deadConn struct {
	io.Reader
	written bytes.Buffer
	writes  int
}

func (c *deadConn) Write(b []byte) (int, error) {
	c.writes++
	return c.written.Write(b)
}

func (*deadConn) Close() error                     { return nil }
func (*deadConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (*deadConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (*deadConn) SetDeadline(time.Time) error      { return nil }
func (*deadConn) SetReadDeadline(time.Time) error  { return nil }
func (*deadConn) SetWriteDeadline(time.Time) error { return nil }
