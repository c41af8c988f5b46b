package records

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/apis/reliablesyncs/v1alpha1"
)

// pool is a queue of records and the number of workers on it. Guarded by the mutex of the store.
type pool struct {
	limit, active int
	queue         []*record
	ctx           context.Context // nil while the store doesn't run
	workers       sync.WaitGroup
}

func newPool(limit int) *pool { return &pool{limit: limit} }

const (
	// maxRetryPause bounds the pause after failed writes.
	maxRetryPause = time.Minute
	// drainPause replaces longer pauses while the store drains.
	drainPause = 50 * time.Millisecond
)

func (s *Store) open(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = false
	for _, p := range [...]*pool{s.intents, s.writes} {
		p.ctx = ctx
		s.start(p)
	}
}

func (s *Store) close() {
	s.mu.Lock()
	for _, p := range [...]*pool{s.intents, s.writes} {
		p.ctx = nil
	}
	s.mu.Unlock()
	s.intents.workers.Wait()
	s.writes.workers.Wait()
}

func (s *Store) enqueue(p *pool, r *record) {
	if r.busy {
		return // the worker looks again when it is done
	}
	// A record that waits for its delay stays marked as queued; it may stand in a pool as well, where the second
	// visit finds nothing to do.
	r.queued = true
	p.queue = append(p.queue, r)
	s.start(p)
}

// enqueueIn puts a record into the background pool after a pause.
func (s *Store) enqueueIn(pause time.Duration, r *record) {
	if r.queued || r.busy {
		return
	}
	if s.closing {
		pause = min(pause, drainPause)
	}
	r.queued = true
	time.AfterFunc(pause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.queued && !r.busy {
			s.enqueue(s.writes, r)
		}
	})
}

func (s *Store) start(p *pool) {
	for p.ctx != nil && len(p.queue) > p.active && p.active < p.limit {
		p.active++
		ctx := p.ctx
		p.workers.Go(func() { s.work(ctx, p) })
	}
}

// drain writes everything that waits, without delays, and returns what is left after the drain timeout.
func (s *Store) drain() int {
	s.mu.Lock()
	s.closing = true
	for _, records := range s.nodes {
		for _, r := range records {
			if r.queued && !r.busy {
				s.enqueue(s.writes, r)
			}
		}
	}
	s.mu.Unlock()
	deadline := time.Now().Add(s.cfg.DrainTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := s.pending()
		if left == 0 || time.Now().After(deadline) {
			return left
		}
		<-tick.C
	}
}

func (s *Store) pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, records := range s.nodes {
		for _, r := range records {
			if r.queued || r.busy {
				n++
			}
		}
	}
	return n
}

func (s *Store) work(ctx context.Context, p *pool) {
	for {
		s.mu.Lock()
		if ctx.Err() != nil || p.ctx == nil || len(p.queue) == 0 {
			p.active--
			s.mu.Unlock()
			return
		}
		r := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		if r.busy || !r.queued {
			s.mu.Unlock()
			continue // another worker has it, or had it
		}
		r.queued, r.busy = false, true
		call := s.plan(r)
		s.mu.Unlock()

		var err error
		if call != nil {
			err = call(ctx)
		}
		s.finish(r, err)
	}
}

// call is one request of kube-apiserver that brings a record closer to what it should be. It takes the lock itself to
// note the answer.
type call func(ctx context.Context) error

// plan chooses the next call of a record; nil if it is as it should be.
func (s *Store) plan(r *record) call {
	switch {
	case r.want.absent && r.exists:
		return func(ctx context.Context) error { return s.delete(ctx, r) }
	case r.want.present && !r.exists:
		object := r.manifest()
		return func(ctx context.Context) error { return s.create(ctx, r, object) }
	case r.mustLower():
		r.before = r.version
		return s.setVersion(r, v1alpha1.VersionIntent)
	case r.want.present && newer(r.want.version, r.version) && len(r.done) == 0:
		return s.setVersion(r, r.want.version)
	}
	return nil
}

func (s *Store) setVersion(r *record, version string) call {
	object := r.manifest()
	object.ResourceVersion = r.resourceVersion
	object.Status.ObjectResourceVersion = version
	return func(ctx context.Context) error { return s.update(ctx, r, object) }
}

// errRemoved answers an intent whose record was removed before it was durable.
var errRemoved = errors.New("record was removed")

// finish notes the end of a call, tells those who wait for the intent, and plans again.
func (s *Store) finish(r *record, err error) {
	s.mu.Lock()
	r.busy = false
	intentErr := err
	if r.want.absent && !r.exists {
		intentErr = errRemoved
	}
	var tell []func(string, error)
	if intentErr != nil || r.exists && !r.mustLower() {
		tell, r.done = r.done, nil
	}
	version := r.before
	if r.exists && !r.mustLower() {
		r.want.lower, r.before = false, ""
	}
	switch {
	case err != nil:
		s.metrics.errors.Inc()
		r.failures++
		if len(tell) > 0 && !r.exists {
			r.want = want{} // the caller decides when to try again
			break
		}
		s.enqueueIn(min(time.Second<<min(r.failures-1, 10), maxRetryPause), r)
	case r.want.absent && !r.exists:
		r.want, r.failures = want{}, 0
	case s.plan(r) != nil:
		r.failures = 0
		if r.want.absent {
			s.enqueue(s.writes, r)
		} else if !r.exists || len(r.done) > 0 {
			s.enqueue(s.intents, r)
		} else {
			s.enqueueIn(s.cfg.Delay, r)
		}
	default:
		r.want, r.failures = want{}, 0
	}
	s.tidy(r)
	s.mu.Unlock()
	for _, f := range tell {
		f(version, intentErr)
	}
}

// manifest is the record as an object; cluster-scoped records travel in the same Go type.
func (r *record) manifest() *v1alpha1.ObjectSync {
	return &v1alpha1.ObjectSync{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.id.namespace, Name: r.id.name},
		Spec: v1alpha1.ObjectSyncSpec{
			ObjectAPIVersion: r.apiVersion, ObjectKind: r.kindName, ObjectName: r.object,
		},
	}
}

func (s *Store) create(ctx context.Context, r *record, object *v1alpha1.ObjectSync) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	s.metrics.writes.WithLabelValues("create").Inc()
	got, err := s.api(r).create(ctx, object)
	if apierrors.IsAlreadyExists(err) { // made by another replica, or before a restart: as good as ours (spec 03 D3)
		return s.reread(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("create record %s: %w", r.id.name, err)
	}
	s.note(r, got)
	return nil
}

func (s *Store) update(ctx context.Context, r *record, object *v1alpha1.ObjectSync) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	s.metrics.writes.WithLabelValues("status").Inc()
	got, err := s.api(r).updateStatus(ctx, object)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return s.reread(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("update record %s: %w", r.id.name, err)
	}
	s.note(r, got)
	return nil
}

func (s *Store) delete(ctx context.Context, r *record) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	s.metrics.writes.WithLabelValues("delete").Inc()
	if err := s.api(r).delete(ctx, r.id.name); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete record %s: %w", r.id.name, err)
	}
	s.note(r, nil)
	return nil
}

// reread replaces what is known of a record by what kube-apiserver has.
func (s *Store) reread(ctx context.Context, r *record) error {
	s.metrics.writes.WithLabelValues("reread").Inc()
	got, err := s.api(r).get(ctx, r.id.name)
	if apierrors.IsNotFound(err) {
		s.note(r, nil)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read record %s: %w", r.id.name, err)
	}
	s.note(r, got)
	return nil
}

// note takes over an answer of kube-apiserver; nil says that the record does not exist.
func (s *Store) note(r *record, got *v1alpha1.ObjectSync) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got == nil {
		r.exists, r.resourceVersion, r.version = false, "", ""
		return
	}
	r.exists, r.resourceVersion, r.version = true, got.ResourceVersion, got.Status.ObjectResourceVersion
}
