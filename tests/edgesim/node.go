package edgesim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Node is one simulated edge. All methods are safe for concurrent use.
type Node struct {
	opts     Options
	rec      recorder
	fifo     fifo
	out      *outbox
	gate     *gate
	limiter  *rate.Limiter
	buffers  websocket.BufferPool
	core     *core
	faults   atomic.Pointer[Faults]
	identity atomic.Pointer[Identity]
	running  atomic.Bool

	// sessions hands a new session to the writer.
	sessions chan *session
	// commands run on the core.
	commands chan func()
	// woken tells the core that there is something in the receive queue.
	woken chan struct{}
	// skip ends a pause of the link.
	skip chan struct{}

	mu      sync.Mutex // guards the fields below
	session *session
	// on is closed while the node has power.
	on       chan struct{}
	messages ring[*message.Message]
	arrived  chan struct{} // closed and replaced at each message
}

// ErrRunning says that Run was called twice at a time.
var ErrRunning = errors.New("node is already running")

// New returns a node that does nothing until Run.
func New(o Options) (*Node, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		opts:     o,
		out:      newOutbox(o.Limits.Outbox),
		gate:     newGate(),
		limiter:  rate.NewLimiter(rate.Limit(o.Limits.Rate), o.Limits.Burst),
		buffers:  new(sync.Pool),
		sessions: make(chan *session),
		commands: make(chan func()),
		woken:    make(chan struct{}, 1),
		skip:     make(chan struct{}, 1),
		on:       make(chan struct{}),
		arrived:  make(chan struct{}),
	}
	close(n.on)
	n.messages.max = o.Limits.Messages
	n.rec.init(o.Limits.History)
	n.identity.Store(o.Identity)
	n.core = newCore(n)
	n.SetFaults(o.Faults)
	return n, nil
}

// Run joins if the node has no identity yet, and then is an edge until ctx ends. It returns nil after ctx ended and
// everything it started is gone, or the error of a failed join. It may be called again; the store outlives it.
func (n *Node) Run(ctx context.Context) error {
	if !n.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer n.running.Store(false)
	ctx = klog.NewContext(ctx, klog.LoggerWithValues(klog.FromContext(ctx), "node", n.opts.Name))
	if err := n.identify(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { n.runLink(ctx) })
	wg.Go(func() { n.runWriter(ctx) })
	n.core.run(ctx)
	wg.Wait()
	return nil
}

// identify makes sure that the node has a certificate.
func (n *Node) identify(ctx context.Context) error {
	if n.Identity() != nil {
		return nil
	}
	if n.opts.Dir != "" {
		id, err := LoadIdentity(n.opts.Dir)
		if err == nil {
			n.identity.Store(id)
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("node %s: %w", n.opts.Name, err)
		}
	}
	id, err := Join(ctx, n.opts)
	if err != nil {
		return err
	}
	return n.adopt(id)
}

func (n *Node) adopt(id *Identity) error {
	n.identity.Store(id)
	if n.opts.Dir == "" {
		return nil
	}
	if err := id.Save(n.opts.Dir); err != nil {
		return fmt.Errorf("node %s: %w", n.opts.Name, err)
	}
	return nil
}

// Name returns the node name.
func (n *Node) Name() string { return n.opts.Name }

// Identity returns the certificate in use, nil before the join.
func (n *Node) Identity() *Identity { return n.identity.Load() }

// Renew gets a new certificate now and connects again with it, as the rotation does.
func (n *Node) Renew(ctx context.Context) error {
	old := n.Identity()
	if old == nil {
		return fmt.Errorf("renew certificate of node %s: not joined", n.opts.Name)
	}
	id, err := renew(ctx, &n.opts, old)
	if err != nil {
		return err
	}
	if err := n.adopt(id); err != nil {
		return err
	}
	if s := n.currentSession(); s != nil {
		s.end(false)
	}
	return nil
}

// Reconnect drops the connection, if there is one, and dials without the usual pause.
func (n *Node) Reconnect() {
	if s := n.currentSession(); s != nil {
		s.end(true)
		return
	}
	n.skipPause()
}

// ErrNoConnection says that a node has no connection.
var ErrNoConnection = errors.New("node has no connection")

// Cut loses the TCP connection without telling the node, which finds out at its next write (spec 02 §8).
func (n *Node) Cut(how Cut) error {
	s := n.currentSession()
	if s == nil {
		return fmt.Errorf("cut node %s: %w", n.opts.Name, ErrNoConnection)
	}
	if err := s.conn.cut(how); err != nil {
		return fmt.Errorf("cut node %s: %w", n.opts.Name, err)
	}
	return nil
}

// Kill ends the simulated process: its connection is cut, its queues and its kubelet are gone. The store stays. An
// error of the cut is returned after the process is gone all the same.
func (n *Node) Kill(ctx context.Context, how Cut) error {
	n.mu.Lock()
	select {
	case <-n.on:
		n.on = make(chan struct{})
	default:
	}
	s := n.session
	n.mu.Unlock()
	var err error
	if s != nil {
		err = s.conn.cut(how)
		s.end(true)
	}
	if !n.doWait(ctx, n.core.kill) {
		return errors.Join(err, context.Cause(ctx))
	}
	return err
}

// Start starts the process of a killed node. It keeps its store and its identity.
func (n *Node) Start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.on:
	default:
		close(n.on)
		n.skipPause() // a new process dials at once
	}
}

// Restart kills and starts, with a wiped store if asked.
func (n *Node) Restart(ctx context.Context, how Cut, wipe bool) error {
	err := n.Kill(ctx, how)
	if wipe {
		n.WipeStore()
	}
	n.Start()
	return err
}

// WipeStore deletes every row, as the loss of the edge's database does.
func (n *Node) WipeStore() { n.rec.wipe() }

// Store returns the rows of the store by resource path.
func (n *Node) Store() map[string]Row { return n.rec.snapshot() }

// Pushes returns the remembered pushes, oldest first.
func (n *Node) Pushes() []Push {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	return n.rec.pushes.all()
}

// PushesOf returns the remembered pushes of one resource path, oldest first.
func (n *Node) PushesOf(resource string) []Push {
	var out []Push
	for _, p := range n.Pushes() {
		if p.Resource == resource {
			out = append(out, p)
		}
	}
	return out
}

// Counters returns the counters.
func (n *Node) Counters() Counters {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	return n.rec.counters
}

// Violations returns the first violations that were noticed.
func (n *Node) Violations() []Violation {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	return append([]Violation(nil), n.rec.violations...)
}

// PodTimes returns when things happened to the remembered pods.
func (n *Node) PodTimes() []PodTimes {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	out := make([]PodTimes, 0, len(n.rec.pods))
	for _, t := range n.rec.pods {
		out = append(out, *t)
	}
	return out
}

// Session returns the number of the newest session and whether it still stands in the eyes of the node.
func (n *Node) Session() (number int, connected bool) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	return n.rec.session, n.rec.connected
}

func (n *Node) currentSession() *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.session
}

// setSession publishes the session, or ends it if the power went meanwhile.
func (n *Node) setSession(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.session = s
	if s == nil {
		return
	}
	select {
	case <-n.on:
	default:
		s.end(true)
	}
	select {
	case <-n.skip: // a wish to reconnect that came before
	default:
	}
}

// hasPower says whether the process is to run.
func (n *Node) hasPower() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.on:
		return true
	default:
		return false
	}
}

// powered waits until the node has power.
func (n *Node) powered(ctx context.Context) bool {
	n.mu.Lock()
	on := n.on
	n.mu.Unlock()
	select {
	case <-on:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// pause waits, unless Reconnect cuts it short, and says whether ctx still lasts.
func (n *Node) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.skip:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (n *Node) skipPause() {
	select {
	case n.skip <- struct{}{}:
	default:
	}
}

// wake makes the core look at the receive queue.
func (n *Node) wake() {
	select {
	case n.woken <- struct{}{}:
	default:
	}
}

// do runs f on the core, later.
func (n *Node) do(ctx context.Context, f func()) bool {
	select {
	case n.commands <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

// doWait runs f on the core and returns after it, or false if ctx ended first.
func (n *Node) doWait(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	if !n.do(ctx, func() { defer close(done); f() }) {
		return false
	}
	<-done
	return true
}

// random returns the node's own source: the same for the same seed and name.
func (o *Options) random() *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(o.Name))
	return rand.New(rand.NewPCG(o.Seed, h.Sum64())) //nolint:gosec // faults must be repeatable, not secret
}
