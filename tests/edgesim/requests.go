package edgesim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// requestPath is one of the ways in which EdgeCore handles the answer to a request (spec 04 §1.1).
type requestPath int

const (
	// remote: MetaManager waits, stores an object, acknowledges the answer, and passes it on. Refused when offline.
	remote requestPath = iota
	// direct: the caller gets the answer, which is not acknowledged.
	direct
	// directOnline is direct, and refused when offline.
	directOnline
)

// waiter waits for one answer.
type waiter struct {
	request *message.Message
	path    requestPath
	// foreign answers carry another path than their request, as those of the dynamic controller do.
	foreign bool
	done    func(*message.Message, error)
	timeout *task
}

var (
	errOffline       = errors.New("not connected")
	errAnswerTimeout = errors.New("no answer in time")
)

// request sends a request of the kubelet. done is called on the core, never from within request.
func (c *core) request(operation, resource string, content []byte, via requestPath, done func(*message.Message, error)) {
	c.await(c.message(message.Route{
		Source: message.SourceEdged, Group: message.GroupMeta, Operation: operation, Resource: resource,
	}, content), &waiter{path: via, done: done})
}

func (c *core) await(m *message.Message, w *waiter) {
	if !c.online && w.path != direct {
		c.n.rec.count(func(k *Counters) { k.Unsent++ })
		c.after(0, func() { w.done(nil, errOffline) })
		return
	}
	w.request = m
	c.waiters[m.Header.ID] = w
	w.timeout = c.after(c.n.opts.Timing.Request, func() {
		delete(c.waiters, m.Header.ID)
		c.n.rec.count(func(k *Counters) { k.Timeouts++ })
		w.done(nil, errAnswerTimeout)
	})
	c.n.rec.count(func(k *Counters) { k.Requests++ })
	c.send(outgoing{msg: m})
}

// answer gives a message to the one that waits for it. If nobody does, it is dropped without acknowledgement, for ever
// (spec 03 §5.1).
func (c *core) answer(m *message.Message) {
	w, ok := c.waiters[m.Header.ParentID]
	if !ok {
		c.n.rec.count(func(k *Counters) { k.LateAnswers++ })
		return
	}
	delete(c.waiters, m.Header.ParentID)
	c.agenda.cancel(w.timeout)
	c.n.rec.count(func(k *Counters) { k.Answers++ })
	if !w.foreign && m.Route.Resource != w.request.Route.Resource {
		c.n.rec.violate(WrongReply, m.Route.Resource, m.Header.ID, "the request was for %s", w.request.Route.Resource)
	}
	if w.path == remote {
		if err := c.keepAnswer(m); err != nil {
			// Told to the local caller only, without acknowledgement to the cloud.
			w.done(nil, err)
			return
		}
		c.sendAck(m, 0)
	}
	w.done(m, nil)
}

// keepAnswer stores what an answer on the remote path gives (spec 04 §1.1).
func (c *core) keepAnswer(m *message.Message) error {
	if text, ok := m.ContentText(); ok && text == message.ContentOK {
		return nil
	}
	stored := *m
	var fields map[string]json.RawMessage
	if json.Unmarshal(m.Content, &fields) == nil {
		object, hasObject := fields["Object"]
		failure, hasErr := fields["Err"]
		if hasObject && hasErr {
			if string(failure) != "null" {
				return nil
			}
			stored.Content = object
		}
	}
	p := splitPath(m.Route.Resource)
	switch m.Route.Operation {
	case message.OpInsert, message.OpUpdate, message.OpPatch, message.OpResponse:
		c.judgeStoredAnswer(&stored, p)
		return c.store(&stored, p)
	case message.OpDelete:
		return c.drop(&stored, p)
	}
	return nil
}

// fetchCA asks for the authority of kube-apiserver (spec 02 §2.10).
func (c *core) fetchCA() {
	m := c.message(message.Route{
		Source: message.SourceMetaManager, Group: message.GroupMeta, Operation: message.OpQuery, Resource: message.ResourceCA,
	}, nil)
	c.await(m, &waiter{path: remote, done: func(*message.Message, error) {}})
}

// Send puts a message into the outbox, as a module of the edge does that expects no answer.
func (n *Node) Send(ctx context.Context, m *message.Message) error {
	if !n.doWait(ctx, func() { n.core.send(outgoing{msg: m}) }) {
		return fmt.Errorf("send from node %s: %w", n.opts.Name, context.Cause(ctx))
	}
	return nil
}

// Request sends a message and returns the answer, without storing or acknowledging it.
func (n *Node) Request(ctx context.Context, m *message.Message) (*message.Message, error) {
	type result struct {
		answer *message.Message
		err    error
	}
	results := make(chan result, 1)
	ok := n.do(ctx, func() {
		if n.core.off {
			results <- result{err: errOffline}
			return
		}
		n.core.await(m, &waiter{path: direct, foreign: true, done: func(a *message.Message, err error) {
			results <- result{a, err}
		}})
	})
	if ok {
		select {
		case r := <-results:
			if r.err != nil {
				return nil, fmt.Errorf("request %s from node %s: %w", m.Route.Resource, n.opts.Name, r.err)
			}
			return r.answer, nil
		case <-ctx.Done():
		}
	}
	return nil, fmt.Errorf("request %s from node %s: %w", m.Route.Resource, n.opts.Name, context.Cause(ctx))
}

// keep remembers a message that is for none of the simulated modules.
func (n *Node) keep(m *message.Message) {
	if n.opts.OnMessage != nil {
		n.opts.OnMessage(n.opts.Name, m)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.messages.add(m)
	close(n.arrived)
	n.arrived = make(chan struct{})
}

// Messages returns the remembered messages that are neither pushes nor answers, oldest first.
func (n *Node) Messages() []*message.Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.messages.all()
}

// WaitMessage returns the newest remembered message, neither push nor answer, that match accepts, and waits for one.
func (n *Node) WaitMessage(ctx context.Context, match func(*message.Message) bool) (*message.Message, error) {
	for {
		n.mu.Lock()
		found := n.messages.find(func(m **message.Message) bool { return match(*m) })
		arrived := n.arrived
		n.mu.Unlock()
		if found != nil {
			return *found, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, fmt.Errorf("node %s: %w: %w", n.opts.Name, ErrWait, context.Cause(ctx))
		}
	}
}
