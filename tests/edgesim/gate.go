package edgesim

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gate holds back the readers of a node's connections and swallows what its writers write. Safe for concurrent use.
type gate struct {
	mu      sync.Mutex // guards the fields below
	open    chan struct{}
	discard bool
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) set(shut, discard bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.discard = discard
	select {
	case <-g.open:
		if shut {
			g.open = make(chan struct{})
		}
	default:
		if !shut {
			close(g.open)
		}
	}
}

func (g *gate) state() (open <-chan struct{}, discard bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open, g.discard
}

// gatedConn is a connection behind the gate of its node. It stands below TLS, so that a discarded write leaves the
// TLS session without its continuation, as a broken path does.
type gatedConn struct {
	net.Conn
	gate *gate
	// ended is closed when nothing is to be read any more.
	ended chan struct{}
	once  sync.Once
}

func newGatedConn(c net.Conn, g *gate) *gatedConn {
	return &gatedConn{Conn: c, gate: g, ended: make(chan struct{})}
}

func (c *gatedConn) wait() error {
	open, _ := c.gate.state()
	select {
	case <-c.ended:
		return net.ErrClosed
	default:
	}
	select {
	case <-open:
		return nil
	case <-c.ended:
		return net.ErrClosed
	}
}

// interrupt ends the reading side without waiting for anything, and leaves the close to the reader.
func (c *gatedConn) interrupt() {
	c.once.Do(func() { close(c.ended) })
	_ = c.Conn.SetReadDeadline(time.Now()) // a connection without deadlines ends with its close
}

// Read waits for the gate before and after, because bytes may come while it waits for them.
func (c *gatedConn) Read(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	count, err := c.Conn.Read(p)
	if waitErr := c.wait(); waitErr != nil {
		return 0, waitErr
	}
	return count, err
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if _, discard := c.gate.state(); discard {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// A Cut is a way to lose a TCP connection.
type Cut int

// Ways to cut.
const (
	// CutClose closes as the kernel does for a killed process: FIN, or RST if there is unread data.
	CutClose Cut = iota
	// CutReset sends RST.
	CutReset
	// CutSilent sends nothing, as a machine that loses its power. Linux only; needs CAP_NET_ADMIN.
	CutSilent
)

var errNoTCP = errors.New("connection is not TCP")

// cut closes the connection without any goodbye of TLS or WebSocket.
func (c *gatedConn) cut(how Cut) error {
	tcp, ok := c.Conn.(*net.TCPConn)
	switch {
	case how == CutClose:
	case !ok:
		return errNoTCP
	case how == CutReset:
		if err := tcp.SetLinger(0); err != nil {
			return fmt.Errorf("set linger: %w", err)
		}
	case how == CutSilent:
		if err := setRepair(tcp); err != nil {
			return fmt.Errorf("set TCP repair mode: %w", err)
		}
	}
	return c.Close()
}

// setRepair puts the socket into the mode in which its close is not told to the peer.
func setRepair(tcp *net.TCPConn) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		sockErr = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_ON)
	}); err != nil {
		return err
	}
	return sockErr
}
