package delivery_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// stored is one row of an edge's database.
type stored struct {
	uid     string
	version uint64
}

// pushed is what a push says about an object.
type pushed struct {
	key     desired.Key
	uid     string
	version uint64
	deletes bool
}

func decodePush(m *message.Message) (pushed, error) {
	r, err := message.ParseResource(m.Route.Resource)
	if err != nil {
		return pushed{}, err
	}
	var body struct {
		Kind, APIVersion string
		Metadata         struct{ Name, Namespace, UID, ResourceVersion string }
	}
	if err := json.Unmarshal(m.Content, &body); err != nil {
		return pushed{}, err
	}
	p := pushed{uid: body.Metadata.UID, version: desired.ParseVersion(m.Header.ResourceVersion), deletes: m.Route.Operation == message.OpDelete}
	for _, k := range kinds() {
		if k.Type == r.Type {
			p.key = desired.Key{Kind: k, Namespace: r.Namespace, Name: r.Name}
			if k.ClusterScoped {
				p.key.Namespace = ""
			}
		}
	}
	switch {
	case p.key.Kind == nil:
		return p, fmt.Errorf("no kind for %s", m.Route.Resource)
	case body.Kind != p.key.Kind.Kind || body.APIVersion != p.key.Kind.APIVersion:
		return p, fmt.Errorf("content is a %s/%s", body.APIVersion, body.Kind)
	case body.Metadata.Name != p.key.Name || body.Metadata.Namespace != p.key.Namespace || p.uid == "":
		return p, fmt.Errorf("content is not about %s: %+v", p.key, body.Metadata)
	case !p.deletes && body.Metadata.ResourceVersion != m.Header.ResourceVersion:
		return p, fmt.Errorf("header has version %q, content %q", m.Header.ResourceVersion, body.Metadata.ResourceVersion)
	case m.Route.Source != p.key.Kind.Source || m.Route.Group != message.GroupResource || m.Header.ParentID != "":
		return p, fmt.Errorf("not the route of a push: %+v", m.Route)
	case p.key.Kind.UpdateOnly && m.Route.Operation == message.OpInsert:
		return p, fmt.Errorf("insert of a kind that is only updated")
	}
	return p, nil
}

// item is one thing on the wire to the edge: a push, the reply to a patch, or a ping.
type item struct {
	push    *message.Message
	pushed  pushed // of the push; of a reply: the object in it
	ping    time.Time
	overdue bool // a neighbour was processed before it
}

func (i item) reply() bool { return i.push == nil && i.ping.IsZero() }

// answer is what the edge sends back.
type answer struct {
	id   string
	ok   bool
	pong time.Time // zero: an ack
}

// breach is a broken rule.
type breach struct {
	key  desired.Key
	text string
}

// link is one connection of the node. It implements delivery.Link and checks the order in which pushes are handed to it.
type link struct {
	mu   sync.Mutex // guards the fields below
	wire []item
	sent map[desired.Key]pushed // the newest object that was handed over
	done map[string]bool        // uids of DeletesByUID kinds whose delete was handed over
	errs []breach
	ids  map[string]pushed         // by msg_id
	acks map[desired.Key]pushed    // the last push of a key that was acknowledged, for counting duplicates
	dups []pushed                  // pushes of what was acknowledged already
	note func(string, pushed, any) // trace
}

func newLink(note func(string, pushed, any)) *link {
	return &link{
		sent: map[desired.Key]pushed{}, done: map[string]bool{}, ids: map[string]pushed{}, acks: map[desired.Key]pushed{}, note: note,
	}
}

// Push implements delivery.Link.
func (l *link) Push(m *message.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := decodePush(m)
	if err != nil {
		l.errs = append(l.errs, breach{text: fmt.Sprintf("push %s of %s: %v", m.Header.ID, m.Route.Resource, err)})
		return
	}
	l.note("push", p, m.Header.ID[:4])
	if before, ok := l.ids[m.Header.ID]; ok && before != p {
		l.errs = append(l.errs, breach{p.key, fmt.Sprintf("msg_id %s was %+v and is %+v now", m.Header.ID, before, p)})
	}
	l.ids[m.Header.ID] = p
	l.order(p)
	if l.acks[p.key] == p && !p.deletes { // a delete also takes back an intent that was never followed by a push
		l.dups = append(l.dups, p)
	}
	l.wire = append(l.wire, item{push: m, pushed: p})
}

// order checks that no older version follows a newer one of the same object, and that nothing follows the delete of a
// UID (spec 03 §8.2).
func (l *link) order(p pushed) {
	switch last := l.sent[p.key]; {
	case p.deletes:
		if p.key.Kind.DeletesByUID {
			l.done[p.uid] = true
		}
		return
	case last.uid == p.uid && p.version < last.version:
		l.errs = append(l.errs, breach{p.key, fmt.Sprintf("%s: version %d after %d", p.key, p.version, last.version)})
	case last.uid != p.uid && last.version > p.version:
		l.errs = append(l.errs, breach{p.key, fmt.Sprintf("%s: %s after its successor %s", p.key, p.uid, last.uid)})
	case l.done[p.uid]:
		l.errs = append(l.errs, breach{p.key, fmt.Sprintf("%s: %s after its delete", p.key, p.uid)})
	}
	l.sent[p.key] = p
}

// reply hands over the reply to a patch.
func (l *link) reply(p pushed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("reply", p, nil)
	l.order(p)
	l.wire = append(l.wire, item{pushed: p})
}

// replying says that a reply about key is on the wire.
func (l *link) replying(key desired.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.wire, func(i item) bool { return i.reply() && i.pushed.key == key })
}

// ping hands over a ping.
func (l *link) ping(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wire = append(l.wire, item{ping: now})
}

// take removes the first item of the wire.
func (l *link) take() (item, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wire) == 0 {
		return item{}, false
	}
	i := l.wire[0]
	l.wire = l.wire[1:]
	return i, true
}

// answered notes the answer to a push and returns the push.
func (l *link) answered(id string, ok bool) pushed {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.ids[id]
	if ok {
		l.acks[p.key] = p
	}
	return p
}

func (l *link) broken() []breach {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errs
}

// edge is EdgeCore as spec 03 §5 and §6.4 describe it: a store without version check behind a queue that drops its
// oldest message when it is full and may swap neighbours.
type edge struct {
	store    map[desired.Key]stored
	capacity int
	fifo     []item
	answers  []answer
	note     func(string, pushed, any)
	broken   []breach
	// unanswered are the patches whose reply was dropped: the client times out and tries again.
	unanswered []pushed
}

func newEdge(capacity int, note func(string, pushed, any)) *edge {
	return &edge{store: map[desired.Key]stored{}, capacity: capacity, note: note}
}

// read takes one item into the queue. Pings don't count: their pongs are only held back until what is before them is
// processed.
func (e *edge) read(i item) {
	e.fifo = append(e.fifo, i)
	count := 0
	for _, i := range e.fifo {
		if i.ping.IsZero() {
			count++
		}
	}
	for n := 0; count > e.capacity; n++ {
		if i := e.fifo[n]; i.ping.IsZero() {
			e.note("overflow", i.pushed, nil)
			if i.reply() {
				e.unanswered = append(e.unanswered, i.pushed)
			}
			e.fifo = slices.Delete(e.fifo, n, n+1)
			count--
		}
	}
}

// process handles the first message of the queue, or the second one if swap is set. A message is overtaken at most once.
func (e *edge) process(swap, refuse bool) {
	if len(e.fifo) == 0 {
		return
	}
	n := 0
	if swap && len(e.fifo) > 1 && !e.fifo[0].overdue && e.fifo[1].ping.IsZero() {
		n, e.fifo[0].overdue = 1, true
	}
	i := e.fifo[n]
	e.fifo = append(e.fifo[:n], e.fifo[n+1:]...)
	switch {
	case !i.ping.IsZero():
		e.answers = append(e.answers, answer{pong: i.ping})
		return
	case i.push != nil && refuse:
		e.note("refuse", i.pushed, i.push.Header.ID[:4])
		e.answers = append(e.answers, answer{id: i.push.Header.ID})
		return
	}
	e.apply(i.pushed)
	if i.reply() {
		e.note("took reply", i.pushed, nil)
		return // stored by the client that asked, without an ack (spec 04 §1.1)
	}
	e.note("took", i.pushed, i.push.Header.ID[:4])
	e.answers = append(e.answers, answer{id: i.push.Header.ID, ok: true})
}

func (e *edge) apply(p pushed) {
	old, exists := e.store[p.key]
	switch {
	case p.deletes && p.key.Kind.DeletesByUID && old.uid != p.uid:
	case p.deletes:
		delete(e.store, p.key)
	default:
		if exists && old.uid != p.uid && p.key.Kind.DeletesByUID {
			e.broken = append(e.broken, breach{p.key, fmt.Sprintf("%s was stored over %s, which was never deleted", p.uid, old.uid)})
		}
		e.store[p.key] = stored{p.uid, p.version}
	}
}

// lose empties the queues of a broken connection after keep more messages were processed.
func (e *edge) lose(keep int) {
	for range min(keep, len(e.fifo)) {
		e.process(false, false)
	}
	e.fifo, e.answers = nil, nil
}

var _ delivery.Link = (*link)(nil)
