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
	if f == o.flight && !f.late {
		n.release()
	}
	switch {
	case !ok:
		n.refused(now, o, f)
		return true
	case f == o.flight:
		n.dropFlight(o)
		n.delivered(o, f)
	default:
		n.dropSuperseded(f)
		n.deliveredLate(o, f)
	}
	n.engine.metrics.acked(f, now)
	o.failures = 0
	n.enqueue(o) // there may be something newer, or the next UID of the name
	return true
}

// refused handles a negative ack. The push ends; the object is tried again after a pause, under a new id.
func (n *node) refused(now time.Time, o *object, f *flight) {
	n.engine.metrics.refusals.Inc()
	if f != o.flight {
		n.dropSuperseded(f)
		return
	}
	n.dropFlight(o)
	o.failures++
	pause := n.backoff(n.engine.cfg.ErrorBackoff, o.failures)
	o.due = now.Add(pause)
	n.wakeAt(o.due)
	n.logger.V(2).Info("Node refused an object, will retry", "object", o.key, "msgID", f.message.Header.ID, "after", pause)
}

// delivered notes that the edge took the newest push of an object.
func (n *node) delivered(o *object, f *flight) {
	if f.deletes() {
		o.forget(f.uid)
		n.engine.records.Remove(n.name, Record{Key: o.key, UID: f.uid})
		return
	}
	h := o.find(f.uid)
	if h == nil {
		return
	}
	if f.again {
		o.again = false
	}
	if h.version > f.version {
		// A reply with a newer version overtook this push on our side, but maybe not on the edge, which processes
		// neighbours in any order (spec 03 §6.4): only another push makes sure that the newer one is last.
		o.again = true
		return
	}
	h.version, h.digest, h.byReply = f.version, f.digest, false
	delete(n.replies, o)
	n.engine.records.Store(n.name, Record{Key: o.key, UID: h.uid, Version: f.message.Header.ResourceVersion})
}

// deliveredLate handles the ack of a push that was superseded meanwhile. If its successor is done already, the edge
// may have processed the two in the wrong order; then the object is sent, or deleted, once more.
func (n *node) deliveredLate(o *object, f *flight) {
	if f.deletes() {
		if o.flight == nil {
			o.again = true // may have hit what came after it
		}
		return
	}
	h := o.find(f.uid)
	switch {
	case h == nil:
		o.held = append(o.held, held{uid: f.uid, version: f.version})
	case h.version < f.version:
		h.version, h.digest, h.byReply = f.version, f.digest, false
		n.engine.records.Store(n.name, Record{Key: o.key, UID: h.uid, Version: f.message.Header.ResourceVersion})
	case h.version > f.version:
		o.again = true
	}
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
	if held, number := o.find(uid), desired.ParseVersion(version); held != nil && number > held.version && held.version > 0 {
		held.version, held.byReply = number, true
		if n.replies == nil {
			n.replies = map[*object]reply{}
		}
		n.replies[o] = reply{uid: uid, version: version, at: time.Now()}
	}
	n.enqueue(o)
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
		if h := o.find(r.uid); h != nil && strconv.FormatUint(h.version, 10) == r.version {
			n.engine.records.Store(n.name, Record{Key: o.key, UID: r.uid, Version: r.version})
		}
	}
}
