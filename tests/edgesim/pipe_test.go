package edgesim

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBuffer is how much one direction of a pipe takes before its writer waits, as the buffers of a socket.
const pipeBuffer = 64 << 10

// half is one direction of a buffered pipe. Unlike net.Pipe it lets both sides say goodbye at the same time.
type half struct {
	mu      sync.Mutex // guards the fields below
	buf     []byte
	eof     bool // the writer closed
	gone    bool // the reader closed
	changed chan struct{}
}

func newHalf() *half { return &half{changed: make(chan struct{})} }

func (h *half) changedLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// bufferedPipe returns two connected ends.
func bufferedPipe() (net.Conn, net.Conn) {
	a, b := newHalf(), newHalf()
	return newPipeEnd(a, b), newPipeEnd(b, a)
}

type pipeEnd struct {
	in, out *half
	mu      sync.Mutex // guards the deadlines
	read    time.Time
	write   time.Time
	moved   chan struct{} // closed and replaced when a deadline changes
}

func newPipeEnd(in, out *half) *pipeEnd {
	return &pipeEnd{in: in, out: out, moved: make(chan struct{})}
}

// wait returns when changed is closed, or an error at the deadline.
func (e *pipeEnd) wait(changed <-chan struct{}, deadline func() time.Time) error {
	e.mu.Lock()
	at, moved := deadline(), e.moved
	e.mu.Unlock()
	var expired <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-changed:
		return nil
	case <-moved:
		return nil
	case <-expired:
		return os.ErrDeadlineExceeded
	}
}

func (e *pipeEnd) Read(p []byte) (int, error) {
	for {
		e.in.mu.Lock()
		switch {
		case e.in.gone:
			e.in.mu.Unlock()
			return 0, net.ErrClosed
		case len(e.in.buf) > 0:
			n := copy(p, e.in.buf)
			e.in.buf = e.in.buf[n:]
			e.in.changedLocked()
			e.in.mu.Unlock()
			return n, nil
		case e.in.eof:
			e.in.mu.Unlock()
			return 0, io.EOF
		}
		changed := e.in.changed
		e.in.mu.Unlock()
		if err := e.wait(changed, func() time.Time { return e.read }); err != nil {
			return 0, err
		}
	}
}

func (e *pipeEnd) Write(p []byte) (written int, err error) {
	for written < len(p) {
		e.out.mu.Lock()
		if e.out.gone || e.out.eof {
			e.out.mu.Unlock()
			return written, io.ErrClosedPipe
		}
		if room := pipeBuffer - len(e.out.buf); room > 0 {
			n := min(room, len(p)-written)
			e.out.buf = append(e.out.buf, p[written:written+n]...)
			written += n
			e.out.changedLocked()
			e.out.mu.Unlock()
			continue
		}
		changed := e.out.changed
		e.out.mu.Unlock()
		if err := e.wait(changed, func() time.Time { return e.write }); err != nil {
			return written, err
		}
	}
	return written, nil
}

func (e *pipeEnd) Close() error {
	for h, set := range map[*half]*bool{e.in: &e.in.gone, e.out: &e.out.eof} {
		h.mu.Lock()
		*set = true
		h.changedLocked()
		h.mu.Unlock()
	}
	return nil
}

func (e *pipeEnd) setDeadlines(read, write *time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if read != nil {
		e.read = *read
	}
	if write != nil {
		e.write = *write
	}
	close(e.moved)
	e.moved = make(chan struct{})
}

func (e *pipeEnd) SetDeadline(t time.Time) error      { e.setDeadlines(&t, &t); return nil }
func (e *pipeEnd) SetReadDeadline(t time.Time) error  { e.setDeadlines(&t, nil); return nil }
func (e *pipeEnd) SetWriteDeadline(t time.Time) error { e.setDeadlines(nil, &t); return nil }
func (e *pipeEnd) LocalAddr() net.Addr                { return &net.UnixAddr{Name: "pipe"} }
func (e *pipeEnd) RemoteAddr() net.Addr               { return &net.UnixAddr{Name: "pipe"} }
