package delivery

import (
	"strconv"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// ack takes the answer to the push of the given msg_id. Acks match by that id alone (spec 03 §7.1).
func (n *node) ack(id string, ok bool) bool {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.flights[id]
	if f == nil || n.stopped {
		return false
	}
	o := f.object
	if f != o.flight {
		if ok {
			n.progress(o, f)
		}
		return true
	}
	if !f.late {
		n.release()
	}
	n.land(o)
	if !ok {
		n.refused(now, o, f)
		return true
	}
	n.engine.metrics.acked(f, now)
	o.failures = 0
	if r, replied := n.replies[o]; replied && !r.at.After(f.sent) {
		delete(n.replies, o) // processed before the push, or right after it, which makes the push unsure
	}
	n.delivered(o, f)
	if f.version != 0 || f.deletes || !o.since.IsZero() {
		n.enqueue(o) // there may be something newer, or the next UID of the name
	} // a version that is no number can't be told from the next one: it is sent when something happens
	return true
}

// refused handles a negative ack. The push ends; the object is tried again after a pause, under a new id.
func (n *node) refused(now time.Time, o *object, f *flight) {
	n.engine.metrics.refusals.Inc()
	o.failures++
	pause := n.backoff(n.engine.cfg.ErrorBackoff, o.failures)
	o.due = now.Add(pause)
	n.wakeAt(o.due)
	n.logger.V(2).Info("Node refused an object, will retry", "object", o.key, "msgID", f.message.Header.ID, "after", pause)
}

// delivered notes that the edge took the newest push of an object. An unsure push only proves that what was written
// before it is over, since the edge processes neighbours in any order (spec 03 §6.4): another push makes sure.
func (n *node) delivered(o *object, f *flight) {
	h := o.find(f.uid)
	switch {
	case h == nil:
	case f.deletes && f.unsure: // still held, so that it is deleted once more
	case f.deletes:
		o.forget(f.uid)
		n.engine.records.Remove(n.name, Record{Key: o.key, UID: f.uid})
	case f.unsure:
		h.again = true
	case h.again && !f.again: // asked for while the push was under way
	default:
		h.version, h.digest, h.byReply, h.again = f.version, f.digest, false, false
		n.store(o, h, f.message.Header.ResourceVersion)
	}
}

// progress handles a late ack of a push that is not the newest any more: progress to its version, unless something that
// came later may have undone it.
func (n *node) progress(o *object, f *flight) {
	h := o.find(f.uid)
	if f.deletes || h == nil || h.again || f.version <= h.version {
		return
	}
	h.version, h.digest, h.byReply = f.version, f.digest, false
	n.store(o, h, f.message.Header.ResourceVersion)
}

// hold defers the pushes of one object while the node's own patch of it is on its way.
func (n *node) hold(key desired.Key) desired.Hold {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return noHold{}
	}
	o := n.object(key)
	o.holds++
	return &hold{node: n, object: o}
}

type hold struct {
	node   *node
	object *object
}

// Release implements desired.Hold.
func (h *hold) Release(uid, version string) {
	n, o := h.node, h.object
	n.mu.Lock()
	defer n.mu.Unlock()
	o.holds--
	if n.stopped {
		return
	}
	if uid != "" {
		n.replied(o, effect{uid: uid, version: desired.ParseVersion(version)})
	}
	n.enqueue(o)
}

// replied notes that the edge gets an object as the reply to its patch.
func (n *node) replied(o *object, e effect) {
	if n.replies == nil {
		n.replies = map[*object]reply{}
	}
	n.replies[o] = reply{effect: e, at: time.Now()}
	h := o.find(e.uid)
	if h == nil {
		if !o.intending {
			n.intend(o, e.uid) // the edge has it from elsewhere; remember it, so that it can be deleted
		}
		return
	}
	// The reply and a push that is under way may be processed in any order.
	if f := o.flight; f != nil && f.spoils(e, o.key.Kind) {
		f.unsure = true
		o.demand(h)
	}
	for _, f := range o.earlier {
		if f.spoils(e, o.key.Kind) {
			o.demand(h)
		}
	}
	switch {
	case e.version > h.version:
		h.version, h.byReply = e.version, true
	case e.version < h.version:
		o.demand(h) // replies out of order
	}
}

// confirm records the versions of replies that the edge has read for certain.
func (n *node) confirm(before time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	for o, r := range n.replies {
		if !r.at.Before(before) {
			continue
		}
		delete(n.replies, o)
		h := o.find(r.uid)
		if h != nil && h.byReply && h.version == r.version && !h.again {
			n.store(o, h, strconv.FormatUint(r.version, 10))
		}
	}
}
