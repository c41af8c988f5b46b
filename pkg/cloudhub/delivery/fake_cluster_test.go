package delivery_test

import (
	"encoding/json"
	"strconv"
	"sync"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// The kinds of the tests; between them they have every property that the engine looks at.
var (
	podKind = &desired.Kind{
		Type: "pod", APIVersion: "v1", Kind: "Pod", Source: message.ModuleEdge, Rank: 2, DeletesByUID: true, Patched: true,
	}
	configKind = &desired.Kind{Type: "configmap", APIVersion: "v1", Kind: "ConfigMap", Source: message.ModuleEdge, Rank: 1}
	secretKind = &desired.Kind{Type: "secret", APIVersion: "v1", Kind: "Secret", Source: message.ModuleEdge, Rank: 1, UpdateOnly: true}
	nodeKind   = &desired.Kind{
		Type: "node", APIVersion: "v1", Kind: "Node", Source: message.ModuleEdge,
		ClusterScoped: true, UpdateOnly: true, Patched: true, EndsSession: true,
	}
)

func kinds() []*desired.Kind { return []*desired.Kind{podKind, configKind, secretKind, nodeKind} }

func pod(name string) desired.Key {
	return desired.Key{Kind: podKind, Namespace: "default", Name: name}
}
func config(name string) desired.Key {
	return desired.Key{Kind: configKind, Namespace: "default", Name: name}
}
func secret(name string) desired.Key {
	return desired.Key{Kind: secretKind, Namespace: "default", Name: name}
}

// truth is one object as kube-apiserver has it.
type truth struct {
	uid     string
	version uint64
	spec    uint64 // changes when anything but the status changes
	wanted  bool   // the node should hold it
	pending bool   // its content is still being fetched
}

// object is one version of an object; it implements desired.Object.
type object struct {
	key           desired.Key
	uid           string
	version, spec uint64
}

func (o object) UID() string             { return o.uid }
func (o object) Version() string         { return strconv.FormatUint(o.version, 10) }
func (o object) Digest() (uint64, error) { return o.spec, nil }

func (o object) Body() (json.RawMessage, error) {
	return json.Marshal(map[string]any{
		"kind": o.key.Kind.Kind, "apiVersion": o.key.Kind.APIVersion,
		"metadata": map[string]any{"name": o.key.Name, "namespace": o.key.Namespace, "uid": o.uid, "resourceVersion": o.Version()},
	})
}

// view is what a Source knows about a key.
type view struct {
	object object
	state  desired.State
}

// source is a desired.Source whose cache lags behind the truth until its events are delivered.
type source struct {
	mu     sync.Mutex // guards the fields below
	cache  map[desired.Key]view
	events []event
}

type event struct {
	key  desired.Key
	view view
}

func newSource() *source { return &source{cache: map[desired.Key]view{}} }

func (s *source) Kinds() []*desired.Kind { return kinds() }

func (s *source) Keys(string) []desired.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []desired.Key
	for k, v := range s.cache {
		if v.state != desired.Absent {
			out = append(out, k)
		}
	}
	return out
}

func (s *source) Newest(_ string, key desired.Key) (desired.Object, desired.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.cache[key]
	if !ok || v.state != desired.Present {
		return nil, v.state
	}
	return v.object, desired.Present
}

// emit queues what the source will see next of a key.
func (s *source) emit(key desired.Key, v view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event{key, v})
}

// behind is the number of events that wait.
func (s *source) behind() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// see takes over the next event and returns its key.
func (s *source) see() (desired.Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return desired.Key{}, false
	}
	e := s.events[0]
	s.events = s.events[1:]
	if e.view.state == desired.Absent {
		delete(s.cache, e.key)
	} else {
		s.cache[e.key] = e.view
	}
	return e.key, true
}

// cluster is the state of kube-apiserver: objects and records. It is used by one goroutine.
type cluster struct {
	clock    uint64 // the last resourceVersion
	uids     int
	objects  map[desired.Key]*truth
	records  map[recordID]durable
	revision int // of the last write of a record
	sources  []*source
	memory   []*records
}

func newCluster() *cluster {
	return &cluster{objects: map[desired.Key]*truth{}, records: map[recordID]durable{}}
}

func (c *cluster) view(key desired.Key) view {
	o := c.objects[key]
	switch {
	case o == nil || !o.wanted:
		return view{}
	case o.pending:
		return view{state: desired.Pending}
	}
	return view{object: object{key, o.uid, o.version, o.spec}, state: desired.Present}
}

func (c *cluster) changed(key desired.Key) {
	v := c.view(key)
	for _, s := range c.sources {
		s.emit(key, v)
	}
}

// put creates an object that the node should hold, or changes its spec.
func (c *cluster) put(key desired.Key) *truth {
	c.clock++
	o := c.objects[key]
	if o == nil {
		c.uids++
		o = &truth{uid: "uid-" + strconv.Itoa(c.uids), wanted: true}
		c.objects[key] = o
	}
	o.version, o.spec = c.clock, c.clock
	c.changed(key)
	return o
}

// touch changes only the status of an object.
func (c *cluster) touch(key desired.Key) {
	c.clock++
	c.objects[key].version = c.clock
	c.changed(key)
}

func (c *cluster) remove(key desired.Key) {
	c.clock++
	delete(c.objects, key)
	c.changed(key)
}

func (c *cluster) want(key desired.Key, wanted bool) {
	c.objects[key].wanted = wanted
	c.changed(key)
}

func (c *cluster) pend(key desired.Key, pending bool) {
	c.objects[key].pending = pending
	c.changed(key)
}

// recordID names one durable record.
type recordID struct {
	key desired.Key
	uid string
}

// durable is one record in kube-apiserver; version 0 is an intent.
type durable struct {
	version uint64
}

func text(version uint64) string {
	if version == 0 {
		return ""
	}
	return strconv.FormatUint(version, 10)
}

func (id recordID) record(version uint64) delivery.Record {
	return delivery.Record{Key: id.key, UID: id.uid, Version: text(version)}
}
