package delivery

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Link is the write side of one session. Push must not block: a link that can't take a message closes its session.
type Link interface {
	Push(m *message.Message)
}

// Record says which version of an object a node is recorded to hold. It is the content of an ObjectSync.
type Record struct {
	Key desired.Key
	UID string
	// Version is the last acknowledged resourceVersion; empty if none was ever acknowledged.
	Version string
}

// Records is the durable memory of what nodes hold. Its methods don't block on I/O. Writes for one record take effect
// in the order of the calls, except that a newer one may replace one that is still waiting.
type Records interface {
	// Recorded lists what node is recorded to hold, including writes that are still on their way. A record that is not
	// durable yet is left out.
	Recorded(node string) []Record
	// Intend makes a record of r exist that has no version, because the node is about to get or to lose the object, and
	// calls done once that is durable, or with the error that prevents it. done gets the version that the record had
	// before, if any; it is never called from within Intend. After an error nothing is known of the record.
	//
	// If done is nil, nobody waits: if there is such a record, its version is taken back some time soon, unless a Store
	// comes first.
	Intend(node string, r Record, done func(version string, err error))
	// Store sets the version of a record, some time soon. It never lowers a version; only Intend does.
	Store(node string, r Record)
	// Remove deletes a record, some time soon.
	Remove(node string, r Record)
}

// Config tunes an Engine. Zero fields take the values of DefaultConfig.
type Config struct {
	// Window is how many pushes of one node may be unacknowledged at a time.
	Window int
	// AckTimeout is the time after which an unacknowledged push is written again. It doubles with each resend of the
	// same push up to MaxBackoff.
	AckTimeout time.Duration
	// ErrorBackoff is the first pause after the edge refused a push; it doubles with each refusal up to MaxBackoff.
	ErrorBackoff time.Duration
	// MaxBackoff bounds the pauses above.
	MaxBackoff time.Duration
	// RecordGrace is how long a record may name an object that its source doesn't know before that object counts as gone.
	// Records and objects arrive by different watches, and another replica may be ahead.
	RecordGrace time.Duration
	// AuditPeriod is the mean time between two full comparisons of one node, a net for what bugs would miss.
	AuditPeriod time.Duration
	// Workers is how many nodes are converged at the same time.
	Workers int
}

// DefaultConfig returns the values for production.
func DefaultConfig() Config {
	return Config{
		Window:       32,               // a third of the edge's queue; 32 acks take it one second (spec 02 §8.7)
		AckTimeout:   10 * time.Second, // the edge's limiter may hold an ack back for some seconds after a burst
		ErrorBackoff: time.Second,
		MaxBackoff:   2 * time.Minute,
		RecordGrace:  2 * time.Second, // deletes after a reconnect must arrive within 5 s (spec 03, check 8)
		AuditPeriod:  10 * time.Minute,
		Workers:      8,
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	pick := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	if c.Window <= 0 {
		c.Window = d.Window
	}
	if c.Workers <= 0 {
		c.Workers = d.Workers
	}
	pick(&c.AckTimeout, d.AckTimeout)
	pick(&c.ErrorBackoff, d.ErrorBackoff)
	pick(&c.MaxBackoff, d.MaxBackoff)
	pick(&c.RecordGrace, d.RecordGrace)
	pick(&c.AuditPeriod, d.AuditPeriod)
	return c
}

// Engine converges all nodes that have a session here. It implements desired.Delivery.
type Engine struct {
	cfg     Config
	records Records
	metrics *metrics

	// Set before the first session and then read-only.
	sources map[*desired.Kind]desired.Source
	list    []desired.Source

	mu    sync.RWMutex // guards nodes
	nodes map[string]*node

	ready readyQueue
}

// New returns an engine without sources. Nothing runs before Run.
func New(cfg Config, records Records, reg prometheus.Registerer) (*Engine, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: cfg.withDefaults(), records: records, metrics: m,
		sources: map[*desired.Kind]desired.Source{}, nodes: map[string]*node{},
	}
	e.ready.init()
	return e, m.observe(e)
}

// AddSource makes s responsible for its kinds. All sources must be added before the first session.
func (e *Engine) AddSource(s desired.Source) error {
	for _, k := range s.Kinds() {
		if _, taken := e.sources[k]; taken {
			return fmt.Errorf("kind %s has two sources", k.Type)
		}
		if k.Rank < 0 || k.Rank > desired.MaxRank {
			return fmt.Errorf("kind %s has rank %d, not 0 to %d", k.Type, k.Rank, desired.MaxRank)
		}
		e.sources[k] = s
	}
	e.list = append(e.list, s)
	return nil
}

// Run converges nodes until ctx ends. Sessions may be attached before; they are served once Run runs.
func (e *Engine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, e.ready.wake)
	defer stop()
	for range e.cfg.Workers {
		g.Go(func() error {
			for {
				n := e.ready.pop(ctx)
				if n == nil {
					return nil
				}
				n.converge(ctx)
			}
		})
	}
	return g.Wait()
}

// Attach starts the delivery to node over link and ends the one before, if there was any. The node gets what differs
// between its desired and its recorded set. The logger is used for what concerns this session.
func (e *Engine) Attach(logger klog.Logger, name string, link Link) *Session {
	n := newNode(e, logger, name, link)
	e.mu.Lock()
	old := e.nodes[name]
	e.nodes[name] = n
	e.mu.Unlock()
	if old != nil {
		old.stop()
	}
	n.load()
	return &Session{node: n}
}

func (e *Engine) node(name string) *node {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.nodes[name]
}

// Changed implements desired.Delivery.
func (e *Engine) Changed(name string, key desired.Key) {
	if n := e.node(name); n != nil {
		n.touch(key)
	}
}

// Resync implements desired.Delivery.
func (e *Engine) Resync(name string) {
	if n := e.node(name); n != nil {
		n.resync()
	}
}

// Hold implements desired.Delivery.
func (e *Engine) Hold(name string, key desired.Key) desired.Hold {
	if n := e.node(name); n != nil {
		return n.hold(key)
	}
	return noHold{}
}

type noHold struct{}

func (noHold) Release(string, string) {}

// RecordSeen tells the engine of a record that exists in kube-apiserver, possibly made by another replica that held
// the node before. Records that the engine knows are ignored.
func (e *Engine) RecordSeen(name string, r Record) {
	if n := e.node(name); n != nil {
		n.recordSeen(r)
	}
}

// Session is the delivery to one node over one connection. Its methods are safe for concurrent use.
type Session struct {
	node *node
}

// Ack takes the answer to a push: positive, or negative with ok false. It reports whether the push was known.
func (s *Session) Ack(pushID string, ok bool) bool { return s.node.ack(pushID, ok) }

// Confirm says that the edge has read everything that was handed to the link before the given time.
func (s *Session) Confirm(before time.Time) { s.node.confirm(before) }

// Close ends the delivery. What was in flight counts as not delivered.
func (s *Session) Close() {
	e, n := s.node.engine, s.node
	e.mu.Lock()
	if e.nodes[n.name] == n { // a newer session of the node stays
		delete(e.nodes, n.name)
	}
	e.mu.Unlock()
	n.stop()
}

// readyQueue is the queue of nodes with dirty keys; a node is in it at most once.
type readyQueue struct {
	mu    sync.Mutex // guards the fields below
	cond  *sync.Cond
	nodes []*node
}

func (q *readyQueue) init() { q.cond = sync.NewCond(&q.mu) }

func (q *readyQueue) push(n *node) {
	q.mu.Lock()
	q.nodes = append(q.nodes, n)
	q.mu.Unlock()
	q.cond.Signal()
}

func (q *readyQueue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cond.Broadcast()
}

func (q *readyQueue) pop(ctx context.Context) *node {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.nodes) == 0 {
		if ctx.Err() != nil {
			return nil
		}
		q.cond.Wait()
	}
	if ctx.Err() != nil {
		return nil
	}
	n := q.nodes[0]
	q.nodes[0] = nil
	q.nodes = q.nodes[1:]
	return n
}
