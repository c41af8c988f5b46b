package delivery

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func (n *node) newest(o *object) (desired.Object, desired.State) {
	return n.engine.sources[o.key.Kind].Newest(n.name, o.key)
}

// step does the next thing that brings one object closer to its desired state. Called with a free place in the window.
func (n *node) step(now time.Time, o *object) {
	if o.holds > 0 || o.intending || (o.flight != nil && !o.flight.late) {
		return // the end of each of these makes the object dirty again
	}
	obj, state := n.newest(o)
	if o.contradicts(obj, state) && now.Before(o.unproven) {
		o.due = o.unproven
		n.wakeAt(o.due)
		return
	}
	if o.due.Equal(o.unproven) {
		o.due = time.Time{}
	}
	o.unproven = time.Time{}
	if o.flight == nil && now.Before(o.due) {
		n.wakeAt(o.due)
		return
	}
	switch state {
	case desired.Absent:
		n.stepAbsent(now, o)
	case desired.Present:
		n.stepPresent(now, o, obj)
	case desired.Pending: // the source calls Changed
	}
}

func (n *node) stepAbsent(now time.Time, o *object) {
	o.since = time.Time{}
	if o.key.Kind.EndsSession {
		for _, h := range o.held {
			n.engine.records.Remove(n.name, Record{Key: o.key, UID: h.uid})
		}
		o.held = nil
	}
	if len(o.held) == 0 {
		n.abandon(o)
		return
	}
	if !o.key.Kind.DeletesByUID {
		// The object may be wanted again before we learn whether the edge took the delete, perhaps in another session:
		// the records must not claim any more that the edge has it.
		for _, h := range o.held {
			if !h.intent {
				n.intend(o, h.uid)
				return
			}
		}
	}
	n.sendDelete(now, o, o.held[0].uid)
}

func (n *node) stepPresent(now time.Time, o *object, obj desired.Object) {
	uid, version := obj.UID(), desired.ParseVersion(obj.Version())
	if old := o.other(uid); old != nil && o.key.Kind.DeletesByUID {
		n.sendDelete(now, o, old.uid)
		return
	}
	h := o.find(uid)
	if h == nil || (h.version == 0 && !h.intent) {
		n.intend(o, uid)
		return
	}
	if version != 0 && version < h.version {
		o.since = time.Time{} // the cache is behind what the edge got; the event will come
		return
	}
	same, err := n.converged(o, h, obj, version)
	if err != nil {
		n.fail(now, o, err)
		return
	}
	if same {
		o.since = time.Time{}
		n.abandon(o)
		n.dropPredecessors(o, uid)
		return
	}
	n.sendObject(now, o, h, obj, version)
}

// converged says that the edge holds this version, and that its consumers have seen what matters in it.
func (n *node) converged(o *object, h *held, obj desired.Object, version uint64) (bool, error) {
	if h.again || h.version == 0 || version != h.version {
		return false, nil
	}
	if !h.byReply {
		return true, nil
	}
	digest, err := obj.Digest()
	return digest == h.digest, err
}

// dropPredecessors forgets objects of the same name and other UIDs once their successor is on the edge: for these
// kinds the successor has overwritten them, and a delete would hit it.
func (n *node) dropPredecessors(o *object, uid string) {
	for old := o.other(uid); old != nil; old = o.other(uid) {
		n.engine.records.Remove(n.name, Record{Key: o.key, UID: old.uid})
		o.forget(old.uid)
	}
}

// intend makes a durable record without a version of an object that the edge is about to get, or to lose.
func (n *node) intend(o *object, uid string) {
	o.intending = true
	n.window++
	r := Record{Key: o.key, UID: uid}
	n.engine.records.Intend(n.name, r, func(version string, err error) {
		if !n.intended(o, uid, version, err) && err == nil {
			n.engine.RecordSeen(n.name, r) // the session has ended; the next one may have loaded the records before
		}
	})
}

// intended takes the outcome of intend. It reports false if the session has ended.
func (n *node) intended(o *object, uid, version string, err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	o.intending = false
	n.release()
	if n.stopped {
		return false
	}
	h := o.find(uid)
	if h == nil {
		h = n.add(o, uid, version)
	}
	if err != nil { // there may be a record or not: it is made again before a push, and removed if the object goes
		n.fail(time.Now(), o, err)
		return true
	}
	// A version says that the node had the object before, perhaps from another replica. Nothing older may follow, but only
	// an ack proves that the node still has it.
	h.intent, h.again = true, true
	n.enqueue(o)
	return true
}

// store records what the edge holds. An intent that is on its way must have the last word.
func (n *node) store(o *object, h *held, version string) {
	if o.intending {
		return
	}
	h.intent = false
	n.engine.records.Store(n.name, Record{Key: o.key, UID: h.uid, Version: version})
}

// fail postpones an object after an error of our own side.
func (n *node) fail(now time.Time, o *object, err error) {
	o.failures++
	pause := n.backoff(n.engine.cfg.ErrorBackoff, o.failures)
	o.due = now.Add(pause)
	n.wakeAt(o.due)
	n.engine.metrics.failures.Inc()
	n.logger.V(2).Info("Delivery of an object failed, will retry", "object", o.key, "after", pause, "err", err)
}

// backoff returns base doubled with each failure after the first, up to the maximum, less up to a fifth so that
// failures of one moment spread.
func (n *node) backoff(base time.Duration, failures int) time.Duration {
	d := min(base<<min(failures-1, 20), n.engine.cfg.MaxBackoff)
	return d - d/5 + jitter(d/5)/2
}

func (n *node) sendDelete(now time.Time, o *object, uid string) {
	if f := o.flight; f != nil && f.deletes && f.uid == uid {
		n.resend(now, o)
		return
	}
	body, err := deleteStub(o.key, uid)
	if err != nil {
		n.fail(now, o, err)
		return
	}
	for i := range o.held {
		if h := &o.held[i]; h.uid == uid || !o.key.Kind.DeletesByUID {
			h.again = true // if it is wanted again, the edge may have lost it by then
		}
	}
	n.send(now, &flight{object: o, effect: effect{uid: uid, deletes: true}, message: n.push(o.key, message.OpDelete, "", body)})
}

// deleteStub is the content of a delete: the identity of the object is all that the edge needs (spec 03 §10.2, spec 04
// §4.1), and all that is known of objects which went away while nobody watched.
func deleteStub(key desired.Key, uid string) (json.RawMessage, error) {
	type meta struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace,omitempty"`
		UID       string `json:"uid"`
	}
	return json.Marshal(struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Metadata   meta   `json:"metadata"`
	}{key.Kind.Kind, key.Kind.APIVersion, meta{key.Name, key.Namespace, uid}})
}

func (n *node) sendObject(now time.Time, o *object, h *held, obj desired.Object, version uint64) {
	e := effect{uid: h.uid, version: version}
	if f := o.flight; f != nil && f.effect == e && (f.again || !h.again) {
		n.resend(now, o)
		return
	}
	body, err := obj.Body()
	var digest uint64
	if err == nil && o.key.Kind.Patched {
		digest, err = obj.Digest()
	}
	if err != nil {
		n.fail(now, o, err)
		return
	}
	op := message.OpUpdate
	if h.version == 0 && !o.key.Kind.UpdateOnly {
		op = message.OpInsert
	}
	n.send(now, &flight{
		object: o, effect: e, digest: digest, again: h.again,
		message: n.push(o.key, op, obj.Version(), body),
	})
}

func (n *node) push(key desired.Key, op, version string, body json.RawMessage) *message.Message {
	m := message.New(n.name, message.Route{
		Source: key.Kind.Source, Group: message.GroupResource, Operation: op, Resource: key.Resource().String(),
	}, body)
	m.Header.ResourceVersion = version
	return m
}

func (n *node) send(now time.Time, f *flight) {
	o := f.object
	n.abandon(o)
	reply, replied := n.replies[o]
	f.unsure = replied && reply.spoils(f.effect, o.key.Kind)
	for _, e := range o.earlier {
		f.unsure = f.unsure || e.spoils(f.effect, o.key.Kind)
	}
	f.sent = now
	o.flight = f
	if n.flights == nil {
		n.flights = map[string]*flight{}
	}
	n.flights[f.message.Header.ID] = f
	n.engine.metrics.pushed(f, o.since, now)
	o.since = time.Time{}
	n.launch(now, f)
}

// resend writes the same version again under the same msg_id (spec 03 §7.4), once its pause is over.
func (n *node) resend(now time.Time, o *object) {
	if now.Before(o.flight.resend) {
		o.due = o.flight.resend
		n.wakeAt(o.due)
		return
	}
	o.flight.late = false
	n.engine.metrics.resends.Inc()
	n.launch(now, o.flight)
}

// launch writes a push. It keeps its place in the window for one ack timeout, however long the pause before the next
// resend is, so that objects which are never acknowledged don't hold the places of others.
func (n *node) launch(now time.Time, f *flight) {
	f.tries++
	n.window++
	place := n.backoff(n.engine.cfg.AckTimeout, 1)
	f.object.due = now.Add(place)
	f.resend = now.Add(max(place, n.backoff(n.engine.cfg.AckTimeout, f.tries)))
	n.wakeAt(f.object.due)
	n.link.Push(f.message)
}

// abandon ends the wait for the current push of an object, if there is one. The push may still be processed.
func (n *node) abandon(o *object) {
	if o.flight == nil {
		return
	}
	if len(o.earlier) == maxEarlier {
		n.untrack(o.earlier[0])
		o.earlier = slices.Delete(o.earlier, 0, 1)
	}
	o.earlier = append(o.earlier, o.flight)
	o.flight, o.due = nil, time.Time{}
}

// land ends the current push of an object, which the edge has answered. Everything that was written before it is
// processed by now, or by the time that anything written from now on is; only copies of the push itself may follow.
func (n *node) land(o *object) {
	f := o.flight
	for _, e := range o.earlier {
		n.untrack(e)
	}
	n.untrack(f)
	o.flight, o.earlier, o.due = nil, nil, time.Time{}
	if f.tries > 1 {
		o.earlier = []*flight{f}
	}
}

// untrack takes no more answers to f.
func (n *node) untrack(f *flight) {
	delete(n.flights, f.message.Header.ID)
	if len(n.flights) == 0 {
		n.flights = nil // an idle node keeps no table
	}
}

// expire forgets earlier pushes that can't be on their way any more.
func (n *node) expire(now time.Time, o *object) {
	o.earlier = slices.DeleteFunc(o.earlier, func(f *flight) bool {
		old := now.Sub(f.resend) > maxDelay
		if old {
			n.untrack(f)
		}
		return old
	})
}
