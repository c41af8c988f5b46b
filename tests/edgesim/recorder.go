package edgesim

import (
	"bytes"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"
)

// maxViolations is how many violations a node remembers; all are counted.
const maxViolations = 256

// recorder is the part of a node that others may see: its store and what was observed.
type recorder struct {
	mu sync.Mutex // guards the fields below

	rows     map[string]Row
	counters Counters

	connected  bool
	session    int
	registered bool
	nodeReady  bool
	leased     bool
	running    int

	pushes     ring[Push]
	tracks     map[string]*track
	trackOrder ring[string]
	deleted    ring[string] // UIDs, in order of their delete
	deletedSet map[string]struct{}
	pods       map[string]*PodTimes // by UID
	podOrder   ring[string]
	unacked    int
	violations []Violation

	waits map[*wait]struct{}
}

// track is what a node was given under one resource path.
type track struct {
	msgID string
	// version is the newest given, from a push or, if echoed, from an answer.
	version  uint64
	uid      string
	answered bool // version came by an answer
	acked    bool // the acknowledgement of version was written
	pending  uint64
}

func (r *recorder) init(history int) {
	r.rows = make(map[string]Row)
	r.tracks = make(map[string]*track)
	r.deletedSet = make(map[string]struct{})
	r.pods = make(map[string]*PodTimes)
	r.waits = make(map[*wait]struct{})
	r.pushes.max, r.deleted.max, r.podOrder.max, r.trackOrder.max = history, history, history, history
}

// changedLocked completes the waits whose condition holds now.
func (r *recorder) changedLocked() {
	for w := range r.waits {
		if w.cond(State{r}) {
			delete(r.waits, w)
			close(w.done)
		}
	}
}

// update runs f under the lock and tells the waiters.
func (r *recorder) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	r.changedLocked()
}

func (r *recorder) count(f func(*Counters)) { r.update(func() { f(&r.counters) }) }

func (r *recorder) violateLocked(kind ViolationKind, resource, msgID, format string, args ...any) {
	r.counters.Violations++
	if len(r.violations) < maxViolations {
		r.violations = append(r.violations, Violation{
			Kind: kind, Resource: resource, MsgID: msgID, Detail: fmt.Sprintf(format, args...), At: time.Now(),
		})
	}
}

func (r *recorder) violate(kind ViolationKind, resource, msgID, format string, args ...any) {
	r.update(func() { r.violateLocked(kind, resource, msgID, format, args...) })
}

// row returns the row of key.
func (r *recorder) row(key string) (Row, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[key]
	return row, ok
}

// rowsOf returns the keys of the rows of a type.
func (r *recorder) rowsOf(typ string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys []string
	for key, row := range r.rows {
		if row.Type == typ {
			keys = append(keys, key)
		}
	}
	return keys
}

// put overwrites a row blindly: the edge has no version check (spec 03 §6.4).
func (r *recorder) put(key, typ string, value []byte) {
	m := parseMeta(value)
	r.update(func() {
		r.rows[key] = Row{Type: typ, Value: value, UID: m.Metadata.UID, Version: m.Metadata.ResourceVersion, At: time.Now()}
	})
}

func (r *recorder) remove(key string) { r.update(func() { delete(r.rows, key) }) }

// removePod deletes a pod's row if its text contains uid, and with it the row of the pod's last status patch
// (spec 04 §4.1). An empty uid is contained in everything.
func (r *recorder) removePod(key, patchKey, uid string) {
	r.update(func() {
		if row, ok := r.rows[key]; ok && bytes.Contains(row.Value, []byte(uid)) {
			delete(r.rows, key)
			delete(r.rows, patchKey)
		}
	})
}

// pushed notes the arrival of a push and returns its sequence number.
func (r *recorder) pushed(p Push, m meta) Push {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changedLocked()
	c := &r.counters
	c.Pushes++
	p.Seq = c.Pushes
	p.Session = r.session

	t := r.trackLocked(p.Resource)
	version, _ := strconv.ParseUint(p.Version, 10, 64)
	p.Resend = p.MsgID != "" && p.MsgID == t.msgID
	if t.pending != 0 && !p.Resend {
		c.Overlaps++
	}
	if p.Operation != opDelete {
		p.Duplicate = !p.Resend && !t.answered && t.acked && t.uid == p.UID && version != 0 && version == t.version
		p.Echo = !p.Resend && t.answered && t.uid == p.UID && version != 0 && version == t.version
		if version != 0 && version < t.version {
			r.violateLocked(OlderAfterNewer, p.Resource, p.MsgID, "version %d after %d", version, t.version)
		}
		if _, gone := r.deletedSet[p.UID]; gone && p.UID != "" && !p.Resend {
			r.violateLocked(Resurrection, p.Resource, p.MsgID, "UID %s was deleted", p.UID)
		}
	} else if p.UID != "" {
		r.noteDeletedLocked(p.UID)
	}
	if !p.Resend {
		switch {
		case p.Operation == opDelete:
			*t = track{version: max(t.version, version), uid: t.uid}
		case version > t.version:
			*t = track{version: version, uid: p.UID}
		}
		t.msgID = p.MsgID
	}
	if p.Resend {
		c.Resends++
	}
	if p.Duplicate {
		c.Duplicates++
	}
	if p.Echo {
		c.Echoes++
	}
	t.pending = p.Seq
	r.unacked++
	c.MaxUnacked = max(c.MaxUnacked, uint64(r.unacked))
	if m.isPod() && p.Operation != opDelete {
		r.podArrivedLocked(p, m)
	}
	r.pushes.add(p)
	return p
}

// trackLocked returns the track of a resource path; the oldest path is forgotten for a new one when there are too many.
func (r *recorder) trackLocked(resource string) *track {
	t := r.tracks[resource]
	if t == nil {
		t = new(track)
		r.tracks[resource] = t
		if old, evicted := r.trackOrder.add(resource); evicted {
			delete(r.tracks, old)
		}
	}
	return t
}

func (r *recorder) noteDeletedLocked(uid string) {
	if _, known := r.deletedSet[uid]; known {
		return
	}
	r.deletedSet[uid] = struct{}{}
	if old, evicted := r.deleted.add(uid); evicted {
		delete(r.deletedSet, old)
	}
}

func (r *recorder) podArrivedLocked(p Push, m meta) {
	if _, known := r.pods[p.UID]; known || p.UID == "" {
		return
	}
	r.pods[p.UID] = &PodTimes{Namespace: m.Metadata.Namespace, Name: m.Metadata.Name, UID: p.UID, Arrived: p.At}
	if old, evicted := r.podOrder.add(p.UID); evicted {
		r.forgetPodLocked(old)
	}
}

func (r *recorder) forgetPodLocked(uid string) {
	if t, ok := r.pods[uid]; ok {
		if !t.Running.IsZero() && t.Deleted.IsZero() {
			r.running--
		}
		delete(r.pods, uid)
	}
}

func (r *recorder) podRunning(uid string) {
	r.update(func() {
		if t, ok := r.pods[uid]; ok && t.Running.IsZero() && t.Deleted.IsZero() {
			t.Running = time.Now()
			r.running++
		}
	})
}

func (r *recorder) podGone(uid string) {
	r.update(func() {
		if t, ok := r.pods[uid]; ok && t.Deleted.IsZero() {
			if !t.Running.IsZero() {
				r.running--
			}
			t.Deleted = time.Now()
		}
	})
}

// answeredVersion notes that an answer gave a version of a resource.
func (r *recorder) answeredVersion(resource, msgID string, m meta) {
	version, _ := strconv.ParseUint(m.Metadata.ResourceVersion, 10, 64)
	if version == 0 {
		return
	}
	r.update(func() {
		t := r.trackLocked(resource)
		_, gone := r.deletedSet[m.Metadata.UID]
		switch {
		case gone:
			r.violateLocked(Resurrection, resource, msgID, "answer with UID %s, which was deleted", m.Metadata.UID)
		case version < t.version:
			r.violateLocked(OlderAfterNewer, resource, msgID, "answer with version %d after %d", version, t.version)
		case version > t.version:
			pending, id := t.pending, t.msgID
			*t = track{version: version, uid: m.Metadata.UID, answered: true, pending: pending, msgID: id}
		}
	})
}

// outcome notes what became of a push.
func (r *recorder) outcome(seq uint64, o Outcome) {
	if seq == 0 {
		return
	}
	r.update(func() {
		p := r.pushes.find(func(p *Push) bool { return p.Seq == seq })
		if p == nil {
			return
		}
		if p.Outcome == Pending {
			r.unacked = max(0, r.unacked-1)
		}
		p.Outcome = o
		if t := r.tracks[p.Resource]; t != nil {
			if t.pending == seq {
				t.pending = 0
			}
			if o == Acked && t.msgID == p.MsgID && !t.answered {
				t.acked = true
			}
		}
	})
}

func (r *recorder) sessionUp() (session int) {
	r.update(func() {
		r.session++
		r.counters.Sessions++
		r.connected = true
		r.unacked = 0
		for _, t := range r.tracks {
			t.pending = 0
		}
		session = r.session
	})
	return session
}

func (r *recorder) sessionDown() { r.update(func() { r.connected = false }) }

// wipe deletes every row and forgets what was given, so that giving it again is right.
func (r *recorder) wipe() {
	r.update(func() {
		clear(r.rows)
		clear(r.tracks)
		r.trackOrder = ring[string]{max: r.trackOrder.max}
	})
}

// snapshot returns a copy of the rows; the values are shared and immutable.
func (r *recorder) snapshot() map[string]Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.rows)
}

// ring keeps the newest max values. Its zero value with a max is ready.
type ring[T any] struct {
	items []T
	start int
	max   int
}

// add returns the value that had to leave, if any.
func (g *ring[T]) add(v T) (old T, evicted bool) {
	if len(g.items) < g.max {
		g.items = append(g.items, v)
		return old, false
	}
	old = g.items[g.start]
	g.items[g.start] = v
	g.start = (g.start + 1) % len(g.items)
	return old, true
}

// find returns the newest value that match accepts.
func (g *ring[T]) find(match func(*T) bool) *T {
	for i := range g.items {
		v := &g.items[(g.start+len(g.items)-1-i)%len(g.items)]
		if match(v) {
			return v
		}
	}
	return nil
}

func (g *ring[T]) all() []T {
	out := make([]T, 0, len(g.items))
	for i := range g.items {
		out = append(out, g.items[(g.start+i)%len(g.items)])
	}
	return out
}
