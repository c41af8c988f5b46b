// Package records keeps the durable memory of what every edge node holds: ObjectSync and ClusterObjectSync objects in
// kube-apiserver, named <node>.<uid of the object> (spec 03 §9).
//
// Store is both sides of it. The read side is a table that one reflector per kind keeps equal to kube-apiserver, indexed
// by node, so that nothing in the send path asks the server. The write side is level-triggered: for each record it keeps
// what should be (present with at least this version, or absent) and workers bring the server there with one call at a
// time for each record. Intents are written at once and many in parallel, because a delivery waits for them; acknowledged
// versions are written behind, so that the versions of a busy moment become one write.
//
// A version is never lowered: an update carries the resourceVersion of the record it is based on, and a conflict is
// resolved by reading the record again. Several replicas may write the same records.
package records

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/generated/clientset/versioned"
)

// Config tunes a Store. Zero fields take the values of DefaultConfig.
type Config struct {
	// IntentWriters is how many intents are written at the same time.
	IntentWriters int
	// BackgroundWriters is how many versions and removals are written at the same time.
	BackgroundWriters int
	// Delay is how long an acknowledged version waits for a newer one before it is written.
	Delay time.Duration
	// CallTimeout bounds one call of kube-apiserver.
	CallTimeout time.Duration
	// DrainTimeout bounds the writing of what is left when Run ends.
	DrainTimeout time.Duration
}

// DefaultConfig returns the values for production.
func DefaultConfig() Config {
	return Config{
		IntentWriters:     128, // a delivery waits for its intent: bounded by kube-apiserver, not by us
		BackgroundWriters: 16,
		Delay:             2 * time.Second, // a starting pod reports its status several times within this time
		CallTimeout:       15 * time.Second,
		DrainTimeout:      8 * time.Second,
	}
}

func (c Config) withDefaults() Config {
	d := DefaultConfig()
	c.IntentWriters = cmp.Or(c.IntentWriters, d.IntentWriters)
	c.BackgroundWriters = cmp.Or(c.BackgroundWriters, d.BackgroundWriters)
	c.Delay = cmp.Or(c.Delay, d.Delay)
	c.CallTimeout = cmp.Or(c.CallTimeout, d.CallTimeout)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, d.DrainTimeout)
	return c
}

// Store implements delivery.Records.
type Store struct {
	cfg     Config
	client  versioned.Interface
	kinds   map[string]*desired.Kind // by lower-case kind
	metrics *metrics
	seen    func(node string, r delivery.Record) // set before Run

	mu      sync.Mutex // guards the fields below
	nodes   map[string]map[id]*record
	synced  map[bool]bool // cluster scoped → first list complete
	intents *pool
	writes  *pool
	closing bool
}

// id names one record: namespace and name of the ObjectSync; the namespace is empty for a ClusterObjectSync.
type id struct{ namespace, name string }

// nodeAndUID splits the name of a record at its last dot: node names may have dots, UIDs don't (spec 03 §9.1).
func (i id) nodeAndUID() (node, uid string) {
	dot := strings.LastIndexByte(i.name, '.')
	if dot < 0 {
		return "", i.name
	}
	return i.name[:dot], i.name[dot+1:]
}

// New returns a store. Nothing runs before Run.
func New(cfg Config, client versioned.Interface, reg prometheus.Registerer) (*Store, error) {
	s := &Store{
		cfg: cfg.withDefaults(), client: client, kinds: map[string]*desired.Kind{},
		nodes: map[string]map[id]*record{}, synced: map[bool]bool{},
		seen: func(string, delivery.Record) {},
	}
	s.intents = newPool(s.cfg.IntentWriters)
	s.writes = newPool(s.cfg.BackgroundWriters)
	var err error
	s.metrics, err = newMetrics(reg, s)
	return s, err
}

// AddKinds makes the store give out records of these kinds; records of others are only kept and collected. It must be
// called before Run.
func (s *Store) AddKinds(kinds []*desired.Kind) {
	for _, k := range kinds {
		s.kinds[strings.ToLower(k.Kind)] = k
	}
}

// OnSeen sets the function that is told of records which appear in kube-apiserver without this store having made them.
// It must be called before Run.
func (s *Store) OnSeen(f func(node string, r delivery.Record)) { s.seen = f }

// Synced says that all records of kube-apiserver are in the table.
func (s *Store) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced[false] && s.synced[true]
}

// Run reads and writes until ctx ends, then writes what is left within the drain timeout.
func (s *Store) Run(ctx context.Context) error {
	// Writes go on after ctx: what nodes acknowledged must not be forgotten because the process stops.
	writeCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.open(writeCtx)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.reflect(gctx, namespacedSource{s.client}) })
	g.Go(func() error { return s.reflect(gctx, clusterSource{s.client}) })
	err := g.Wait()
	if left := s.drain(); left > 0 {
		klog.FromContext(ctx).Error(nil, "Records were not written in time, nodes will get these objects once more", "records", left)
	}
	stop()
	s.close()
	return err
}

// Recorded implements delivery.Records.
func (s *Store) Recorded(node string) []delivery.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []delivery.Record
	for _, r := range s.nodes[node] {
		if r.kind == nil || r.wantAbsent() || !r.exists {
			continue
		}
		out = append(out, r.delivery())
	}
	return out
}

// Nodes lists the names of the nodes that have records.
func (s *Store) Nodes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, 0, len(s.nodes))
	for n := range s.nodes {
		out = append(out, n)
	}
	return out
}

// RemoveNode deletes all records of a node, of whatever kind, some time soon. It returns their number.
func (s *Store) RemoveNode(node string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.nodes[node] {
		if r.exists && !r.wantAbsent() {
			n++
		}
		s.remove(r)
	}
	return n
}

// Intend implements delivery.Records.
func (s *Store) Intend(node string, d delivery.Record, done func(version string, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record(node, d)
	r.want = want{present: true, lower: true}
	if done == nil {
		s.enqueue(s.writes, r)
		return
	}
	r.done = append(r.done, done)
	s.enqueue(s.intents, r)
}

// Store implements delivery.Records.
func (s *Store) Store(node string, d delivery.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record(node, d)
	if r.wantAbsent() || newer(r.version, d.Version) || newer(r.want.version, d.Version) {
		return // the object is gone, or a later version is known
	}
	if r.exists && r.version == d.Version && !r.busy && len(r.done) == 0 {
		r.want.lower = false
		return
	}
	// Who waits for an intent still gets it: the version follows.
	r.want = want{present: true, lower: r.want.lower && len(r.done) > 0, version: d.Version}
	s.enqueueIn(s.cfg.Delay, r)
}

// Remove implements delivery.Records.
func (s *Store) Remove(node string, d delivery.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(s.record(node, d))
}

func (s *Store) remove(r *record) {
	r.want = want{absent: true}
	s.enqueue(s.writes, r)
}

// newer says that version a is later than b.
func newer(a, b string) bool { return desired.ParseVersion(a) > desired.ParseVersion(b) }

// record returns the entry of d, made if needed.
func (s *Store) record(node string, d delivery.Record) *record {
	ns := d.Key.Namespace
	if d.Key.Kind.ClusterScoped {
		ns = ""
	}
	r := s.entry(node, id{namespace: ns, name: node + "." + d.UID})
	if r.kind == nil {
		r.kind, r.apiVersion, r.kindName, r.object = d.Key.Kind, d.Key.Kind.APIVersion, d.Key.Kind.Kind, d.Key.Name
	}
	return r
}

func (s *Store) entry(node string, i id) *record {
	records := s.nodes[node]
	if records == nil {
		records = map[id]*record{}
		s.nodes[node] = records
	}
	r := records[i]
	if r == nil {
		r = &record{id: i}
		records[i] = r
	}
	return r
}

// tidy forgets an entry that neither exists nor should.
func (s *Store) tidy(r *record) {
	if r.exists || r.busy || r.queued || r.want.present || len(r.done) > 0 {
		return
	}
	node, _ := r.id.nodeAndUID()
	if s.nodes[node][r.id] != r {
		return
	}
	delete(s.nodes[node], r.id)
	if len(s.nodes[node]) == 0 {
		delete(s.nodes, node)
	}
}

// record is one entry of the table. Guarded by the mutex of the store.
type record struct {
	id         id
	kind       *desired.Kind // nil: a kind that no controller here answers for
	apiVersion string
	kindName   string
	object     string // name of the object

	// What kube-apiserver has, by the latest event or answer.
	exists          bool
	resourceVersion string // of the record itself
	version         string // status.objectResourceVersion

	want   want
	done   []func(version string, err error) // callers of Intend
	before string                            // the version that an intent takes back, for them

	queued   bool // in a pool or waiting for its delay
	busy     bool // a worker is calling kube-apiserver
	failures int
}

// want is what a record should be; the zero value wants nothing.
type want struct {
	present, absent bool
	lower           bool   // take back the version that kube-apiserver has; version, if any, follows
	version         string // not empty: at least this one
}

// mustLower says that kube-apiserver has a version which is to be taken back.
func (r *record) mustLower() bool {
	return r.want.present && r.want.lower && r.exists && desired.ParseVersion(r.version) != 0
}

func (r *record) wantAbsent() bool { return r.want.absent }

// cluster says that the record is a ClusterObjectSync.
func (r *record) cluster() bool { return r.id.namespace == "" }

func (r *record) delivery() delivery.Record {
	_, uid := r.id.nodeAndUID()
	version := r.version
	switch {
	case r.want.lower:
		version = r.want.version
	case newer(r.want.version, version):
		version = r.want.version
	}
	return delivery.Record{
		Key: desired.Key{Kind: r.kind, Namespace: r.id.namespace, Name: r.object},
		UID: uid, Version: version,
	}
}
