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

	flight     *flight   // the newest push that is not acknowledged; nil if none
	superseded []*flight // older unacknowledged pushes, whose acks may still come

	queued    bool      // in a dirty queue of the node
	intending bool      // a record is being made; it occupies a place of the window
	holds     int       // running patches of the node itself
	again     bool      // push even if the version was acknowledged
	failures  int       // refusals in a row
	due       time.Time // when to look again: the ack deadline or the end of a backoff; zero if nothing is awaited
	since     time.Time // when the change that made the object dirty was seen; zero if it came from load or audit
	behind    uint64    // the version by which the source was behind the node at the last audit
}

// held is one object of a key that the node holds or may hold. A record exists for it.
type held struct {
	uid     string
	version uint64 // 0: an intent, never acknowledged
	digest  uint64 // of the last acknowledged push; 0 if unknown
	byReply bool   // version came to the edge as the reply to a patch, not as a push
}

// flight is one push. It keeps its message for resends.
type flight struct {
	object  *object
	message *message.Message
	uid     string
	version uint64
	digest  uint64
	again   bool
	sent    time.Time // the first time
	tries   int
	late    bool // timed out and without a place in the window
}

func (f *flight) deletes() bool { return f.message.Route.Operation == message.OpDelete }

const (
	// maxSuperseded bounds the late acks of one object that are still understood.
	maxSuperseded = 4
	// lateAckLife is how long an ack may be late; the edge answers within seconds or lost the push.
	lateAckLife = 10 * time.Minute
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

func (o *object) forget(uid string) {
	o.held = slices.DeleteFunc(o.held, func(h held) bool { return h.uid == uid })
}

// idle says that nothing is known or awaited of the object.
func (o *object) idle() bool {
	return len(o.held) == 0 && o.flight == nil && len(o.superseded) == 0 && !o.intending && o.holds == 0 && !o.queued
}

// queue is a first-in first-out list of objects that reuses its memory.
type queue struct {
	items []*object
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(o *object) { q.items = append(q.items, o) }

func (q *queue) peek() *object { return q.items[q.head] }

func (q *queue) pop() {
	q.items[q.head] = nil
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = nil, 0 // an idle node keeps no queue
	}
}
