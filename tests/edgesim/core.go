package edgesim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// core is the part of a node behind its hub: message dispatch, MetaManager, kubelet and device twin. Everything in it
// belongs to the goroutine of run.
type core struct {
	n      *Node
	random *rand.Rand
	agenda agenda
	off    bool
	online bool
	life   context.Context // of the current run

	// held waits to be swapped with its neighbour.
	held     *arrival
	heldTask *task
	// inbox is the queue of MetaManager, which is busy until the time below.
	inbox   []arrival
	busy    time.Time
	waiters map[string]*waiter

	kubelet  *kubelet
	twin     *twin
	renewing sync.WaitGroup
}

func newCore(n *Node) *core {
	return &core{n: n, random: n.opts.random()}
}

// run works until ctx ends.
func (c *core) run(ctx context.Context) {
	c.life = ctx
	c.boot()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c.drain()
		for t := c.agenda.due(time.Now()); t != nil; t = c.agenda.due(time.Now()) {
			t.do()
			c.drain()
		}
		if at, ok := c.agenda.next(); ok {
			timer.Reset(time.Until(at))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case <-ctx.Done():
			c.kill()
			c.renewing.Wait()
			return
		case <-c.n.woken:
		case <-timer.C:
		case f := <-c.n.commands:
			f()
		}
	}
}

// boot is the start of the simulated process.
func (c *core) boot() {
	c.off = false
	c.waiters = make(map[string]*waiter)
	if !c.n.opts.NoRotate {
		c.planRenewal()
	}
	if c.n.opts.LinkOnly {
		return
	}
	c.kubelet = newKubelet(c)
	c.kubelet.loadPods()
	if !c.n.opts.NoTwin {
		c.twin = &twin{c: c}
	}
}

// kill is its end.
func (c *core) kill() {
	c.off, c.online = true, false
	for _, w := range c.waiters {
		if w.foreign { // a caller outside of the process; those inside are gone with it
			w.done(nil, errOffline)
		}
	}
	c.agenda, c.held, c.heldTask, c.inbox, c.waiters = nil, nil, nil, nil, nil
	c.busy = time.Time{}
	c.kubelet, c.twin = nil, nil
	c.n.fifo.clear()
	c.n.out.clear()
	c.n.rec.update(func() {
		c.n.rec.registered, c.n.rec.nodeReady, c.n.rec.leased = false, false, false
		for _, t := range c.n.rec.pods {
			t.Running = time.Time{}
		}
		c.n.rec.running = 0
	})
}

// connected is called at the start of a session.
func (c *core) connected() {
	if !c.n.hasPower() {
		return // killed before this session was known to the core
	}
	if c.off {
		c.boot()
	}
	c.online = true
	if c.n.opts.FetchCA {
		c.fetchCA()
	}
	if c.twin != nil {
		c.twin.connected()
	}
	if c.kubelet != nil {
		c.kubelet.connected()
	}
}

// disconnected is called at the end of a session. What waits for an answer goes on waiting, as in EdgeCore.
func (c *core) disconnected() { c.online = false }

// after adds to the agenda.
func (c *core) after(d time.Duration, do func()) *task { return c.agenda.add(time.Now().Add(d), do) }

// send puts a message into the outbox.
func (c *core) send(o outgoing) {
	if !c.n.out.put(o) {
		c.n.rec.count(func(k *Counters) { k.OutboxDrops++ })
	}
}

// now is the node's own clock.
func (n *Node) now() time.Time { return time.Now().Add(n.faults.Load().ClockSkew) }

func (c *core) now() time.Time { return c.n.now() }

// message makes a message with the node's clock.
func (n *Node) message(route message.Route, content []byte) *message.Message {
	m := message.New(n.opts.Name, route, content)
	m.Header.Timestamp = n.now().UnixMilli()
	return m
}

func (c *core) message(route message.Route, content []byte) *message.Message {
	return c.n.message(route, content)
}

// drain takes everything out of the receive queue and the inbox.
func (c *core) drain() {
	for !c.off && !c.n.faults.Load().StallFIFO {
		a, ok := c.n.fifo.pop()
		if !ok {
			break
		}
		c.dispatch(a)
	}
	c.work()
}

// dispatch routes one message by group (spec 02 §2.8).
func (c *core) dispatch(a arrival) {
	m := a.msg
	switch m.Route.Group {
	case message.GroupResource, "func":
		c.order(a)
	case message.GroupTwin:
		if c.twin != nil {
			c.twin.confirm(m.Header.ParentID)
		}
		c.n.keep(m)
	case message.GroupUser:
		if m.Header.ParentID != "" {
			c.answer(m)
			return
		}
		c.n.keep(m)
	case message.GroupTask:
		c.n.keep(m)
	default:
		c.n.rec.violate(UnknownGroup, m.Route.Resource, m.Header.ID, "group %q", m.Route.Group)
	}
}

// order hands a message over, after its later neighbour if it is to be swapped (spec 03 §6.4).
func (c *core) order(a arrival) {
	f := c.n.faults.Load()
	swappable := a.push != 0 || f.SwapAnswers
	switch {
	case c.held != nil && swappable:
		c.hand(a)
		c.release()
	case swappable && f.swaps(c.random):
		c.held = &a
		c.heldTask = c.after(c.n.opts.Timing.SwapHold, c.release)
	default:
		c.hand(a)
	}
}

func (c *core) release() {
	if c.held == nil {
		return
	}
	a := *c.held
	c.held = nil
	c.agenda.cancel(c.heldTask)
	c.hand(a)
}

func (c *core) hand(a arrival) {
	if a.push == 0 {
		c.answer(a.msg)
		return
	}
	if len(c.inbox) >= c.n.opts.Limits.Inbox {
		c.n.rec.count(func(k *Counters) { k.InboxDrops++ })
		c.n.rec.outcome(a.push, Overflowed)
		return
	}
	c.inbox = append(c.inbox, a)
}

// work lets MetaManager process its inbox as far as it has time.
func (c *core) work() {
	for len(c.inbox) > 0 && !c.off {
		if time.Until(c.busy) > 0 {
			return // the task that block made will call again
		}
		a := c.inbox[0]
		c.inbox[0] = arrival{}
		c.inbox = c.inbox[1:]
		if len(c.inbox) == 0 {
			c.inbox = nil
		}
		c.process(a)
		if d := c.n.opts.Limits.StoreDelay; d > 0 {
			c.block(d)
		}
	}
}

// block keeps MetaManager busy for d.
func (c *core) block(d time.Duration) {
	if until := time.Now().Add(d); until.After(c.busy) {
		c.busy = until
	}
	c.agenda.add(c.busy, func() {}) // its time makes run drain
}
