package delivery

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// node is the delivery state of one node for the length of one session.
type node struct {
	// Set by newNode, then read-only.
	engine *Engine
	logger klog.Logger
	name   string
	link   Link

	mu      sync.Mutex // guards the fields below
	stopped bool
	loaded  bool // the recorded and the desired set are in objects
	objects map[desired.Key]*object
	dirty   [desired.MaxRank + 1]queue
	turn    bool               // in the engine's ready queue or being converged
	window  int                // places taken by pushes in flight and by intents
	flights map[string]*flight // by msg_id: current and earlier ones
	replies map[*object]reply  // what was handed to the session as a reply and is not confirmed yet
	timer   *time.Timer
	timerAt time.Time // zero: the timer is not armed
	auditAt time.Time
}

// reply is an object that was handed to the session as the reply to a patch.
type reply struct {
	effect
	at time.Time
}

// batch bounds how many objects of one node are looked at before other nodes get their turn.
const batch = 64

func newNode(e *Engine, logger klog.Logger, name string, link Link) *node {
	return &node{engine: e, logger: logger, name: name, link: link, objects: map[desired.Key]*object{}}
}

// load reads the recorded and the desired set and makes all of it dirty.
func (n *node) load() {
	recorded := n.engine.records.Recorded(n.name)
	var keys []desired.Key
	for _, s := range n.engine.list {
		keys = append(keys, s.Keys(n.name)...)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	for _, r := range recorded {
		n.learn(r)
	}
	for _, k := range keys {
		n.object(k)
	}
	for _, o := range n.objects {
		n.enqueue(o)
	}
	n.loaded = true
	n.schedule()
	n.auditAt = time.Now().Add(jitter(n.engine.cfg.AuditPeriod))
	n.wakeAt(n.auditAt)
}

// jitter returns d ± 50 %.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// learn adds what a record says. Records of kinds that no source answers for are left alone.
func (n *node) learn(r Record) *object {
	if _, known := n.engine.sources[r.Key.Kind]; !known {
		return nil
	}
	o := n.object(r.Key)
	if o.find(r.UID) == nil {
		n.add(o, r.UID, r.Version)
		o.unproven = time.Now().Add(n.engine.cfg.RecordGrace)
		return o
	}
	return nil
}

// add notes that the node holds or may hold an object.
func (n *node) add(o *object, uid, version string) *held {
	h := held{uid: uid, version: desired.ParseVersion(version)}
	if r, replied := n.replies[o]; replied && r.uid == uid && r.version > h.version {
		h.version, h.byReply = r.version, true
	}
	o.held = append(o.held, h)
	return &o.held[len(o.held)-1]
}

func (n *node) recordSeen(r Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	if o := n.learn(r); o != nil {
		n.enqueue(o)
	}
}

func (n *node) object(key desired.Key) *object {
	o := n.objects[key]
	if o == nil {
		o = &object{key: key}
		n.objects[key] = o
	}
	return o
}

func (n *node) touch(key desired.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	o := n.object(key)
	if o.since.IsZero() {
		o.since = time.Now()
	} else {
		n.engine.metrics.coalesced.Inc()
	}
	n.enqueue(o)
}

// resync makes every object be pushed once more. The records say so too, in case the session ends before that is done.
func (n *node) resync() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.objects {
		for i := range o.held {
			n.doubt(o, &o.held[i])
		}
		if o.flight == nil || o.flight.late {
			o.failures, o.due = 0, time.Time{}
		}
		n.enqueue(o)
	}
}

// doubt notes that the edge may not hold what h says.
func (n *node) doubt(o *object, h *held) {
	o.demand(h)
	if h.version > 0 && !h.intent {
		n.engine.records.Intend(n.name, Record{Key: o.key, UID: h.uid}, nil)
	}
}

func (n *node) enqueue(o *object) {
	if n.stopped || o.queued {
		return
	}
	o.queued = true
	n.dirty[o.key.Kind.Rank].push(o)
	n.schedule()
}

func (n *node) schedule() {
	if !n.turn && !n.stopped && n.loaded {
		n.turn = true
		n.engine.ready.push(n)
	}
}

// next returns the dirty object of the lowest rank without taking it out.
func (n *node) next() (*queue, *object) {
	for i := range n.dirty {
		if n.dirty[i].len() > 0 {
			return &n.dirty[i], n.dirty[i].peek()
		}
	}
	return nil, nil
}

// converge takes dirty objects while the window has places, at most a batch.
func (n *node) converge(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turn = false
	now := time.Now()
	for range batch {
		q, o := n.next()
		if o == nil || n.stopped || ctx.Err() != nil {
			return
		}
		if n.window >= n.engine.cfg.Window {
			return // an ack, a refusal or a deadline gives a place back and schedules
		}
		q.pop()
		o.queued = false
		n.step(now, o)
		if o.idle() {
			if _, state := n.newest(o); state == desired.Absent {
				delete(n.objects, o.key)
			}
		}
	}
	n.schedule()
}

// wakeAt arms the timer of the node for t unless it fires earlier anyway.
func (n *node) wakeAt(t time.Time) {
	if n.stopped || (!n.timerAt.IsZero() && !t.Before(n.timerAt)) {
		return
	}
	n.timerAt = t
	d := max(time.Until(t), 0)
	if n.timer == nil {
		n.timer = time.AfterFunc(d, n.tick)
		return
	}
	n.timer.Reset(d)
}

// tick handles all deadlines that have passed and arms the timer for the next one.
func (n *node) tick() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return
	}
	now := time.Now()
	n.timerAt = time.Time{}
	if !now.Before(n.auditAt) {
		n.audit(now)
	}
	next := n.auditAt
	for _, o := range n.objects {
		switch {
		case o.due.IsZero():
		case now.Before(o.due):
			if o.due.Before(next) {
				next = o.due
			}
		default:
			o.due = time.Time{}
			if f := o.flight; f != nil && !f.late {
				f.late = true
				n.release()
			}
			n.enqueue(o) // a resend may have to wait longer and sets due again
		}
	}
	n.wakeAt(next)
}

// release gives a place of the window back.
func (n *node) release() {
	n.window--
	n.schedule()
}

// audit compares everything again: the net for what an error in the bookkeeping missed. A version that the source is
// behind by for a whole period was taken back by kube-apiserver (its store was restored): the object starts anew.
func (n *node) audit(now time.Time) {
	n.auditAt = now.Add(jitter(n.engine.cfg.AuditPeriod))
	recorded := map[string]bool{} // by UID
	for _, r := range n.engine.records.Recorded(n.name) {
		n.learn(r)
		n.auditRecord(r)
		recorded[r.UID] = true
	}
	for _, s := range n.engine.list {
		for _, k := range s.Keys(n.name) {
			n.object(k)
		}
	}
	for _, o := range n.objects {
		n.expire(now, o)
		n.auditVersion(o)
		for _, h := range o.held {
			if !recorded[h.uid] && !o.intending {
				n.intend(o, h.uid) // somebody removed its record
			}
		}
		n.enqueue(o)
	}
	n.engine.metrics.audits.Inc()
}

// auditRecord sends an object again if its record lost the version that we know: another replica that had the node in
// between was about to delete it.
func (n *node) auditRecord(r Record) {
	o := n.objects[r.Key]
	if o == nil || o.intending || o.flight != nil || desired.ParseVersion(r.Version) > 0 {
		return
	}
	if h := o.find(r.UID); h != nil && h.version > 0 && !h.intent {
		o.demand(h)
	}
}

func (n *node) auditVersion(o *object) {
	obj, state := n.newest(o)
	if state != desired.Present || o.flight != nil || o.holds > 0 {
		o.behind = 0
		return
	}
	version := desired.ParseVersion(obj.Version())
	h := o.find(obj.UID())
	switch {
	case h == nil || version == 0 || version >= h.version:
		o.behind = 0
	case o.behind == version:
		n.logger.Info("Object version was taken back, delivering again", "object", o.key, "held", h.version, "version", version)
		n.doubt(o, h)
		h.version, o.behind = 0, 0
	default:
		o.behind = version
	}
}

func (n *node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
	if n.timer != nil {
		n.timer.Stop()
	}
}
