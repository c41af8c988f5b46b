// Package bus carries messages between the modules of one cloudcore, in process.
//
// A module registers under its name, and under a group that may hold several modules, with a Receiver. Send hands a
// message to one module, SendGroup to all of a group, Request waits for the reply to a message, and Reply delivers that
// reply. A Receiver either handles a message at once or puts it into an Inbox: a bounded queue that is fair between
// nodes and keeps the messages of one node in order.
//
// Guarantees: messages that one goroutine sends to one module arrive in order. Nothing is dropped: a full inbox blocks
// the sender until there is room or its context ends, which is how back-pressure reaches the socket of the node that
// sends too much. All methods are safe for concurrent use.
//
// The bus holds no object state (that travels through the interfaces of the delivery package) and encodes nothing.
package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Receiver takes a message for a module. It may block while the module is busy, at most until ctx ends.
type Receiver func(ctx context.Context, m *message.Message) error

// ErrNoModule says that no module is registered under a name or group, usually because the configuration disables it.
var ErrNoModule = errors.New("no such module")

// Bus connects modules. The zero value is not usable; call New.
type Bus struct {
	mu      sync.RWMutex // guards the fields below
	modules map[string]Receiver
	groups  map[string][]string // group → names of modules, sorted
	waiters map[string]*waiter  // ID of a request → who waits for its reply
}

type waiter struct {
	node  string
	reply chan *message.Message // one slot, filled at most once
}

// New returns an empty bus.
func New() *Bus {
	return &Bus{modules: map[string]Receiver{}, groups: map[string][]string{}, waiters: map[string]*waiter{}}
}

// Register makes a module reachable under name and as a member of group. It returns a function that takes the module
// off again and does nothing when it is called once more. A name can be taken only once.
func (b *Bus) Register(name, group string, receive Receiver) (unregister func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.modules[name]; taken {
		return nil, fmt.Errorf("register module %q: the name is taken", name)
	}
	b.modules[name] = receive
	members := append(slices.Clone(b.groups[group]), name)
	slices.Sort(members)
	b.groups[group] = members
	return sync.OnceFunc(func() { b.unregister(name, group) }), nil
}

func (b *Bus) unregister(name, group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.modules, name)
	b.groups[group] = slices.DeleteFunc(slices.Clone(b.groups[group]), func(n string) bool { return n == name })
}

// Modules returns the registered names, sorted.
func (b *Bus) Modules() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Sorted(maps.Keys(b.modules))
}

// Send hands m to the module called name.
func (b *Bus) Send(ctx context.Context, name string, m *message.Message) error {
	b.mu.RLock()
	receive, ok := b.modules[name]
	b.mu.RUnlock()
	if !ok {
		return fmt.Errorf("send to %q: %w", name, ErrNoModule)
	}
	if err := receive(ctx, m); err != nil {
		return fmt.Errorf("send to %q: %w", name, err)
	}
	return nil
}

// SendGroup hands m to each module of group in the order of their names. It tries all and returns their joined errors.
func (b *Bus) SendGroup(ctx context.Context, group string, m *message.Message) error {
	b.mu.RLock()
	members := b.groups[group] // never changed in place
	b.mu.RUnlock()
	if len(members) == 0 {
		return fmt.Errorf("send to group %q: %w", group, ErrNoModule)
	}
	var errs []error
	for _, name := range members {
		errs = append(errs, b.Send(ctx, name, m))
	}
	return errors.Join(errs...)
}

// Request sends m to the module called name and waits until Reply delivers an answer from the same node, or until ctx
// ends. The waiter exists before the message is sent, so no answer is missed.
func (b *Bus) Request(ctx context.Context, name string, m *message.Message) (*message.Message, error) {
	w := &waiter{node: m.Node, reply: make(chan *message.Message, 1)}
	b.mu.Lock()
	if _, taken := b.waiters[m.Header.ID]; taken {
		b.mu.Unlock()
		return nil, fmt.Errorf("request %s: a request of this id is waiting already", m.Header.ID)
	}
	b.waiters[m.Header.ID] = w
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.waiters, m.Header.ID)
		b.mu.Unlock()
	}()

	if err := b.Send(ctx, name, m); err != nil {
		return nil, err
	}
	select {
	case reply := <-w.reply:
		return reply, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the reply to %s: %w", m.Header.ID, context.Cause(ctx))
	}
}

// Reply delivers m to the request that it answers. It reports false when nobody waits for m, or when m comes from
// another node than the request went to.
func (b *Bus) Reply(m *message.Message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	w, ok := b.waiters[m.Header.ParentID]
	if !ok || w.node != m.Node {
		return false
	}
	delete(b.waiters, m.Header.ParentID) // a second answer finds nobody
	w.reply <- m                         // has a free slot: this is the only send
	return true
}

// CancelNode ends the requests that wait for node, because its session ended: their replies can't come any more.
// The waiting callers get a message of operation error with the given reason as its text.
func (b *Bus) CancelNode(node, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, w := range b.waiters {
		if w.node != node {
			continue
		}
		delete(b.waiters, id)
		m := message.New(node, message.Route{Source: message.ModuleHub, Operation: message.OpError}, message.Text(reason))
		m.Header.ParentID = id
		w.reply <- m
	}
}
