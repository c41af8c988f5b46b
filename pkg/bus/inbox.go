package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Lane is one independent part of an Inbox. Lanes keep kinds of work apart: what fills or blocks one lane leaves the
// others alone.
type Lane struct {
	// Name is the metric label of the lane.
	Name string
	// Workers is how many messages of the lane are handled at the same time, each of another node.
	Workers int
	// PerNode is how many messages of one node may wait in the lane before a sender blocks.
	PerNode int
}

// InboxConfig describes an Inbox.
type InboxConfig struct {
	// Module is the metric label of the inbox.
	Module string
	// Lanes are the lanes of the inbox, at least one.
	Lanes []Lane
	// Lane returns the index of the lane of a message. Nil puts all into the first lane.
	Lane func(*message.Message) int
	// Handle handles one message. It is called for one message of a node and lane at a time, in the order of arrival.
	// A panic in it is logged and counted and costs only its message.
	Handle func(context.Context, *message.Message)
	// Registerer takes the metrics of the inbox; nil drops them.
	Registerer prometheus.Registerer
}

// Inbox is the bounded queue of a module. Within a lane every node has a queue of its own; workers take turns between
// the nodes, so that a busy node can't delay another. Goroutines exist only while there is work.
type Inbox struct {
	module string
	lane   func(*message.Message) int
	handle func(context.Context, *message.Message)
	lanes  []*lane
	panics prometheus.Counter
}

// ErrInboxClosed says that the module of an inbox does not run.
var ErrInboxClosed = errors.New("inbox is closed")

// NewInbox returns an inbox that takes messages while Run is running.
func NewInbox(cfg InboxConfig) (*Inbox, error) {
	if len(cfg.Lanes) == 0 || cfg.Handle == nil {
		return nil, errors.New("inbox needs a lane and a handler")
	}
	in := &Inbox{module: cfg.Module, lane: cfg.Lane, handle: cfg.Handle, panics: newPanics(cfg.Module)}
	if in.lane == nil {
		in.lane = func(*message.Message) int { return 0 }
	}
	for _, c := range cfg.Lanes {
		if c.Workers < 1 || c.PerNode < 1 {
			return nil, fmt.Errorf("lane %q needs at least one worker and one place per node", c.Name)
		}
		in.lanes = append(in.lanes, &lane{Lane: c, handle: in.call, wait: newWait(cfg.Module, c.Name), queues: map[string]*queue{}})
	}
	if cfg.Registerer == nil {
		return in, nil
	}
	for _, c := range in.collectors() {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of inbox %s: %w", cfg.Module, err)
		}
	}
	return in, nil
}

// Put adds m to the queue of its node. It blocks while that queue is full. It is a Receiver.
func (in *Inbox) Put(ctx context.Context, m *message.Message) error {
	l := in.lanes[in.lane(m)]
	for {
		wait, err := l.put(m)
		if wait == nil || err != nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("inbox of node %s is full: %w", m.Node, context.Cause(ctx))
		}
	}
}

// Run lets messages in until ctx ends, then refuses new ones, forgets the waiting ones, and returns when the last
// handler has returned. Handlers get ctx. Run may be called again after it returned.
func (in *Inbox) Run(ctx context.Context) error {
	for _, l := range in.lanes {
		l.open(ctx)
	}
	<-ctx.Done()
	for _, l := range in.lanes {
		l.close()
	}
	return nil
}

// call handles one message; a panic ends here, so that one message can't end the process.
func (in *Inbox) call(ctx context.Context, m *message.Message) {
	defer func() {
		if r := recover(); r != nil {
			in.panics.Inc()
			klog.FromContext(ctx).Error(fmt.Errorf("panic: %v", r), "Handler panicked, message dropped",
				"module", in.module, "node", m.Node, "msgID", m.Header.ID, "operation", m.Route.Operation,
				"resource", m.Route.Resource, "stack", string(debug.Stack()))
		}
	}()
	in.handle(ctx, m)
}

// lane is the set of queues of one lane and the pool of its workers.
type lane struct {
	// Set by NewInbox, then read-only.
	Lane
	handle func(context.Context, *message.Message)
	wait   prometheus.Histogram

	workers sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	ctx     context.Context
	queues  map[string]*queue // by node; a queue exists while it has messages or a worker
	ready   []*queue          // queues with messages and no worker, in turn
	active  int               // running workers
	waiting int               // messages in all queues
}

// queue holds the messages of one node in one lane.
type queue struct {
	node     string
	messages []entry
	busy     bool          // a worker handles a message of this node
	room     chan struct{} // closed when a place becomes free; nil while nobody waits
}

// entry is a waiting message.
type entry struct {
	message *message.Message
	since   time.Time
}

func (l *lane) depth() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(l.waiting)
}

func (l *lane) open(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx = ctx
}

func (l *lane) close() {
	l.mu.Lock()
	l.ctx = nil
	for _, q := range l.queues {
		if q.room != nil {
			close(q.room)
		}
	}
	l.queues, l.ready, l.waiting = map[string]*queue{}, nil, 0
	l.mu.Unlock()
	l.workers.Wait()
}

// put adds m, or returns a channel to wait on when the node's queue is full.
func (l *lane) put(m *message.Message) (wait <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil {
		return nil, ErrInboxClosed
	}
	q := l.queues[m.Node]
	if q == nil {
		q = &queue{node: m.Node}
		l.queues[m.Node] = q
	}
	if len(q.messages) >= l.PerNode {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		return q.room, nil
	}
	q.messages = append(q.messages, entry{m, time.Now()})
	l.waiting++
	if !q.busy && len(q.messages) == 1 {
		l.ready = append(l.ready, q)
	}
	if len(l.ready) > 0 && l.active < l.Workers {
		l.active++
		ctx := l.ctx
		l.workers.Go(func() { l.work(ctx) })
	}
	return nil, nil
}

// work handles messages until none is ready, then ends.
func (l *lane) work(ctx context.Context) {
	for {
		q, e := l.take(ctx)
		if q == nil {
			return
		}
		l.wait.Observe(time.Since(e.since).Seconds())
		l.handle(ctx, e.message)
		l.done(q)
	}
}

// take removes the next message in turn; a nil queue ends the worker.
func (l *lane) take(ctx context.Context) (*queue, entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil || len(l.ready) == 0 {
		l.active--
		return nil, entry{}
	}
	q := l.ready[0]
	l.ready[0] = nil
	l.ready = l.ready[1:]
	e := q.messages[0]
	q.messages[0] = entry{}
	q.messages = q.messages[1:]
	q.busy = true
	l.waiting--
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	return q, e
}

// done gives the node of q its next turn, or forgets its queue.
func (l *lane) done(q *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q.busy = false
	if l.queues[q.node] != q { // closed meanwhile
		return
	}
	if len(q.messages) > 0 {
		l.ready = append(l.ready, q)
		return
	}
	delete(l.queues, q.node)
}
