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
	if now.Before(o.due) {
		n.wakeAt(o.due)
		return
	}
	obj, state := n.newest(o)
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
	if len(o.held) == 0 {
		n.dropFlight(o)
		return
	}
	if o.key.Kind.EndsSession {
		for _, h := range o.held {
			n.engine.records.Remove(n.name, Record{Key: o.key, UID: h.uid})
		}
		o.held = nil
		n.dropFlight(o)
		return
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
	if h == nil {
		n.intend(o, uid)
		return
	}
	if version != 0 && version < h.version {
		o.since = time.Time{} // the cache is behind what the edge got as a reply; the event will come
		return
	}
	same, err := n.converged(o, h, obj, version)
	if err != nil {
		n.fail(now, o, err)
		return
	}
	if same {
		o.since = time.Time{}
		n.dropFlight(o)
		n.dropPredecessors(o, uid)
		return
	}
	n.sendObject(now, o, h, obj, version)
}

// converged says that the edge holds this version, and that its consumers have seen what matters in it.
func (n *node) converged(o *object, h *held, obj desired.Object, version uint64) (bool, error) {
	if o.again || h.version == 0 || version != h.version {
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

// intend makes the durable record of an object that the edge is about to get.
func (n *node) intend(o *object, uid string) {
	o.intending = true
	n.window++
	n.engine.records.Intend(n.name, Record{Key: o.key, UID: uid}, func(version string, err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		o.intending = false
		n.release()
		if n.stopped {
			return
		}
		if err != nil {
			n.fail(time.Now(), o, err)
			return
		}
		if o.find(uid) == nil {
			o.held = append(o.held, held{uid: uid, version: desired.ParseVersion(version)})
		}
		n.enqueue(o)
	})
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
	if f := o.flight; f != nil && f.deletes() && f.uid == uid {
		n.resend(now, o)
		return
	}
	body, err := deleteStub(o.key, uid)
	if err != nil {
		n.fail(now, o, err)
		return
	}
	n.send(now, &flight{object: o, uid: uid, message: n.push(o.key, message.OpDelete, "", body)})
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
	if f := o.flight; f != nil && !f.deletes() && f.uid == h.uid && f.version == version {
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
		object: o, uid: h.uid, version: version, digest: digest, again: o.again,
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
	if old := o.flight; old != nil {
		o.superseded = append(o.superseded, old)
		if len(o.superseded) > maxSuperseded {
			n.dropSuperseded(o.superseded[0])
		}
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

// resend writes the same version again under the same msg_id (spec 03 §7.4).
func (n *node) resend(now time.Time, o *object) {
	o.flight.late = false
	n.engine.metrics.resends.Inc()
	n.launch(now, o.flight)
}

func (n *node) launch(now time.Time, f *flight) {
	f.tries++
	n.window++
	f.object.due = now.Add(n.backoff(n.engine.cfg.AckTimeout, f.tries))
	n.wakeAt(f.object.due)
	n.link.Push(f.message)
}

// dropFlight ends the current push of an object, if there is one.
func (n *node) dropFlight(o *object) {
	if o.flight == nil {
		return
	}
	delete(n.flights, o.flight.message.Header.ID)
	o.flight, o.due = nil, time.Time{}
	if len(n.flights) == 0 {
		n.flights = nil // an idle node keeps no table
	}
}

// dropSuperseded takes f off the superseded pushes of its object.
func (n *node) dropSuperseded(f *flight) {
	delete(n.flights, f.message.Header.ID)
	f.object.superseded = slices.DeleteFunc(f.object.superseded, func(s *flight) bool { return s == f })
}

// expire forgets superseded pushes whose acks won't come any more.
func (n *node) expire(now time.Time, o *object) {
	for _, f := range slices.Clone(o.superseded) {
		if now.Sub(f.sent) > lateAckLife {
			n.dropSuperseded(f)
		}
	}
}
