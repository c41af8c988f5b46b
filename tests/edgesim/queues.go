package edgesim

import (
	"sync"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// arrival is a message with what the reader noted about it.
type arrival struct {
	msg *message.Message
	// push is the sequence number in the history, 0 if the message is not a push.
	push uint64
}

// fifo is the receive queue of an edge: when full it drops its oldest message silently (spec 02 §2.4).
type fifo struct {
	mu    sync.Mutex // guards the fields below
	items []arrival
	max   int
}

// put appends a and returns the message dropped for it, if any.
func (q *fifo) put(a arrival) (dropped arrival, overflow bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.max {
		dropped, overflow = q.items[0], true
		q.items[0] = arrival{}
		q.items = q.items[1:]
	}
	q.items = append(q.items, a)
	return dropped, overflow
}

func (q *fifo) pop() (arrival, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return arrival{}, false
	}
	a := q.items[0]
	q.items[0] = arrival{}
	q.items = q.items[1:]
	if len(q.items) == 0 {
		q.items = nil // an idle node holds no buffer
	}
	return a, true
}

func (q *fifo) setCap(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max = limit
}

// clear empties the queue, as the end of a connection does.
func (q *fifo) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = nil
}

// outgoing is a message to write.
type outgoing struct {
	msg *message.Message
	// acks is the sequence number of the push that this acknowledges, 0 if none.
	acks uint64
}

// outbox holds what the writer sends: control answers first, then the limited rest in order. Like EdgeHub's channel it
// outlives the connection, and drops what comes when full.
type outbox struct {
	mu     sync.Mutex // guards the fields below
	urgent []outgoing
	rest   []outgoing
	max    int
	// ready wakes the writer.
	ready chan struct{}
}

func newOutbox(limit int) *outbox { return &outbox{max: limit, ready: make(chan struct{}, 1)} }

// put says whether there was room.
func (q *outbox) put(o outgoing) bool {
	q.mu.Lock()
	full := len(q.rest) >= q.max
	if !full {
		q.rest = append(q.rest, o)
	}
	q.mu.Unlock()
	q.kick()
	return !full
}

func (q *outbox) putUrgent(m *message.Message) {
	q.mu.Lock()
	if len(q.urgent) < q.max {
		q.urgent = append(q.urgent, outgoing{msg: m})
	}
	q.mu.Unlock()
	q.kick()
}

func (q *outbox) kick() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *outbox) popUrgent() (outgoing, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return popFirst(&q.urgent)
}

func (q *outbox) pop() (outgoing, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return popFirst(&q.rest)
}

func (q *outbox) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.rest) > 0
}

func (q *outbox) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.urgent, q.rest = nil, nil
}

func popFirst(items *[]outgoing) (outgoing, bool) {
	if len(*items) == 0 {
		return outgoing{}, false
	}
	o := (*items)[0]
	(*items)[0] = outgoing{}
	*items = (*items)[1:]
	if len(*items) == 0 {
		*items = nil
	}
	return o, true
}
