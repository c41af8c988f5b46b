package delivery_test

import (
	"errors"
	"slices"
	"sync"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// records is a delivery.Records of one replica: writes wait until apply, in order for each record; what waits is lost in
// a crash. Writes of other replicas are seen when their events are delivered.
type records struct {
	cluster *cluster

	mu      sync.Mutex // guards the fields below
	cache   map[recordID]durable
	seen    map[recordID]int // revision of the cached state
	pending map[recordID][]write
	order   []recordID // the records with pending writes
	events  []recordEvent
	merge   func() bool // whether a write may replace one that waits; nil: always
	applied int         // writes that reached kube-apiserver
	stopped bool
}

type write struct {
	op      writeOp
	version uint64
	done    func(version string, err error)
	instead *write // of an intent: the removal that it replaced, which may come back if the intent fails
}

type writeOp int

const (
	intend writeOp = iota
	store
	remove
)

type recordEvent struct {
	id       recordID
	durable  durable
	exists   bool
	revision int
}

func newRecords(c *cluster) *records {
	r := &records{cluster: c, cache: map[recordID]durable{}, seen: map[recordID]int{}, pending: map[recordID][]write{}}
	for id, d := range c.records {
		r.cache[id] = d
	}
	return r
}

func (r *records) Recorded(string) []delivery.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := map[recordID]durable{}
	for id, d := range r.cache {
		current[id] = d
	}
	for id, writes := range r.pending {
		for _, w := range writes {
			switch w.op {
			case intend:
				if _, ok := current[id]; ok { // one that is not durable yet doesn't count
					current[id] = durable{}
				}
			case store:
				current[id] = durable{max(current[id].version, w.version)}
			case remove:
				delete(current, id)
			}
		}
	}
	var out []delivery.Record
	for id, d := range current {
		out = append(out, id.record(d.version))
	}
	return out
}

func (r *records) Intend(_ string, rec delivery.Record, done func(string, error)) {
	r.add(rec, write{op: intend, done: done})
}

func (r *records) Store(_ string, rec delivery.Record) {
	r.add(rec, write{op: store, version: desired.ParseVersion(rec.Version)})
}

func (r *records) Remove(_ string, rec delivery.Record) { r.add(rec, write{op: remove}) }

func (r *records) add(rec delivery.Record, w write) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	id := recordID{rec.Key, rec.UID}
	waiting := r.pending[id]
	if len(waiting) == 0 {
		r.order = append(r.order, id)
	}
	if n := len(waiting); n > 0 && (r.merge == nil || r.merge()) {
		last := waiting[n-1]
		switch {
		case last.op == remove && w.op == intend:
			w.instead = &last
			waiting = waiting[:n-1]
		case last.op == store && w.op == store:
			w.version = max(w.version, last.version)
			waiting = waiting[:n-1]
		case last.op == store, last.op == intend && last.done == nil:
			waiting = waiting[:n-1]
		}
	}
	r.pending[id] = append(waiting, w)
}

// waiting lists the records with pending writes.
func (r *records) waiting() []recordID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.order)
}

// behind is the number of events that wait.
func (r *records) behind() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

var errWrite = errors.New("kube-apiserver is away")

// apply lets the oldest pending write of the i-th waiting record reach kube-apiserver. An intent fails if fail is set.
func (r *records) apply(i int, fail bool) write {
	r.mu.Lock()
	id := r.order[i]
	w := r.pending[id][0]
	if r.pending[id] = r.pending[id][1:]; len(r.pending[id]) == 0 {
		delete(r.pending, id)
		r.order = append(r.order[:i], r.order[i+1:]...)
	}
	if fail && w.done != nil {
		if w.instead != nil && r.merge() {
			if len(r.pending[id]) == 0 {
				r.order = append(r.order, id)
			}
			r.pending[id] = append([]write{*w.instead}, r.pending[id]...)
		}
		r.mu.Unlock()
		w.done("", errWrite)
		return w
	}
	r.applied++
	old, exists := r.cluster.records[id]
	now, keep := old, true
	switch w.op {
	case intend:
		now, keep = durable{}, exists || w.done != nil
	case store:
		now.version = max(old.version, w.version)
	case remove:
		keep = false
	}
	r.cluster.revision++
	r.seen[id] = r.cluster.revision
	if keep {
		r.cluster.records[id], r.cache[id] = now, now
	} else {
		delete(r.cluster.records, id)
		delete(r.cache, id)
	}
	r.mu.Unlock()
	if keep != exists || now != old {
		for _, other := range r.cluster.memory {
			if other != r {
				other.emit(recordEvent{id, now, keep, r.cluster.revision})
			}
		}
	}
	if w.op == intend && w.done != nil {
		w.done(text(old.version), nil)
	}
	return w
}

func (r *records) emit(e recordEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// see takes over the next event of another replica; the record is for Engine.RecordSeen.
func (r *records) see() (rec delivery.Record, exists, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return delivery.Record{}, false, false
	}
	e := r.events[0]
	r.events = r.events[1:]
	switch {
	case e.revision < r.seen[e.id]: // our own write was faster
		return e.id.record(0), false, true
	case e.exists:
		r.cache[e.id] = e.durable
	default:
		delete(r.cache, e.id)
	}
	return e.id.record(e.durable.version), e.exists, true
}

// crash loses what waits.
func (r *records) crash() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped, r.pending, r.order, r.events = true, nil, nil, nil
}
