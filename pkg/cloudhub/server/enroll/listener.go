package enroll

import (
	"net"
	"net/netip"
	"sync"
)

// cappedListener bounds the connections that exist at once. At the total bound it stops accepting, so newcomers wait in
// the kernel's backlog; at the bound of one address it closes the newcomer, so that nobody can make others wait alone.
type cappedListener struct {
	net.Listener
	metrics    *metrics
	perAddress int

	slots     chan struct{} // one element a connection
	closed    chan struct{}
	closeOnce sync.Once

	mu    sync.Mutex // guards the field below
	count map[netip.Prefix]int
}

func newCappedListener(l net.Listener, total, perAddress int, m *metrics) *cappedListener {
	return &cappedListener{
		Listener: l, metrics: m, perAddress: perAddress,
		slots: make(chan struct{}, total), closed: make(chan struct{}), count: make(map[netip.Prefix]int),
	}
}

// Accept waits for a free slot, then for a connection.
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		from := origin(conn.RemoteAddr().String())
		if l.enter(from) {
			l.metrics.connections.Inc()
			return &cappedConn{Conn: conn, listener: l, from: from}, nil
		}
		l.metrics.connectionsRefused.Inc()
		_ = conn.Close() // nothing was said on it
		<-l.slots
	}
}

func (l *cappedListener) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[from] >= l.perAddress {
		return false
	}
	l.count[from]++
	return true
}

func (l *cappedListener) leave(from netip.Prefix) {
	l.mu.Lock()
	if l.count[from]--; l.count[from] == 0 {
		delete(l.count, from)
	}
	l.mu.Unlock()
	l.metrics.connections.Dec()
	<-l.slots
}

// Close also frees an Accept that waits for a slot.
func (l *cappedListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type cappedConn struct {
	net.Conn
	listener  *cappedListener
	from      netip.Prefix
	closeOnce sync.Once
}

func (c *cappedConn) Close() error {
	err := c.Conn.Close()
	c.closeOnce.Do(func() { c.listener.leave(c.from) })
	return err
}
