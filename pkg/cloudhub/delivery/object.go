package delivery

import (
	"slices"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// object is what a node is known to hold under one key and what is on its way there. All fields are guarded by the
// mutex of the node.
type object struct {
	key  desired.Key
	held []held // one for each UID; more than one only after a recreation under the same name

	flight  *flight   // the newest push that is not answered; nil if none
	earlier []*flight // pushes before it of which a copy may still be on its way, oldest first

	queued    bool      // in a dirty queue of the node
	intending bool      // an intent is being recorded; it occupies a place of the window
	holds     int       // running patches of the node itself
	failures  int       // refusals in a row
	due       time.Time // when to look again: the ack deadline or the end of a pause; zero if nothing is awaited
	unproven  time.Time // a record names what the source doesn't, which may only be behind until then; zero if not
	since     time.Time // when the change that made the object dirty was seen; zero if it came from load or audit
	behind    uint64    // the version by which the source was behind the node at the last audit
}

// held is one object of a key that the node holds or may hold. A record exists for it.
type held struct {
	uid     string
	version uint64 // the newest that the edge is known to have got; 0 if none
	digest  uint64 // of the last acknowledged push; 0 if unknown
	byReply bool   // version came to the edge as the reply to a patch, not as a push
	again   bool   // push even if the version was acknowledged: the edge may have lost or overwritten it
	intent  bool   // the durable record has no version, so that whoever reads it sends or deletes the object
}

// flight is one push. It keeps its message for resends.
type flight struct {
	object  *object
	message *message.Message
	effect
	digest uint64
	again  bool      // its ack ends held.again
	unsure bool      // something else of the same key may be processed after it: its ack proves nothing
	sent   time.Time // the first time
	resend time.Time // not before this time
	tries  int
	late   bool // timed out and without a place in the window
}

// effect is what a message does to the store of the edge.
type effect struct {
	uid     string
	version uint64
	deletes bool
}

// spoils says that the store ends up different if e is processed after f instead of before it.
func (e effect) spoils(f effect, kind *desired.Kind) bool {
	if e.deletes && f.deletes {
		return false
	}
	if e.deletes || f.deletes { // a delete by UID leaves other objects of the name alone
		return e.uid == f.uid || !kind.DeletesByUID
	}
	return e.uid != f.uid || e.version != f.version
}

const (
	// maxEarlier bounds the earlier pushes of one object that are remembered; more than one is rare.
	maxEarlier = 4
	// maxDelay is how long a push may be on its way; the edge answers within seconds or lost it.
	maxDelay = 10 * time.Minute
)

func (o *object) find(uid string) *held {
	for i := range o.held {
		if o.held[i].uid == uid {
			return &o.held[i]
		}
	}
	return nil
}

func (o *object) other(uid string) *held {
	for i := range o.held {
		if o.held[i].uid != uid {
			return &o.held[i]
		}
	}
	return nil
}

// contradicts says that the node holds something under the key that the source doesn't know.
func (o *object) contradicts(obj desired.Object, state desired.State) bool {
	switch state {
	case desired.Absent:
		return len(o.held) > 0
	case desired.Present:
		return o.other(obj.UID()) != nil
	}
	return false
}

func (o *object) forget(uid string) {
	o.held = slices.DeleteFunc(o.held, func(h held) bool { return h.uid == uid })
}

// demand asks for one more push of what h says. The ack of a push that is under way doesn't count.
func (o *object) demand(h *held) {
	h.again = true
	if o.flight != nil {
		o.flight.again = false
	}
}

// idle says that nothing is known or awaited of the object.
func (o *object) idle() bool {
	return len(o.held) == 0 && o.flight == nil && len(o.earlier) == 0 && !o.intending && o.holds == 0 && !o.queued
}

// queue is a first-in first-out list of objects that reuses its memory.
type queue struct {
	items []*object
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(o *object) {
	if q.head > 0 && len(q.items) == cap(q.items) { // a queue that is never empty must not grow either
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, o)
}

func (q *queue) peek() *object { return q.items[q.head] }

func (q *queue) pop() {
	q.items[q.head] = nil
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = nil, 0 // an idle node keeps no queue
	}
}
