package downstream

import (
	"cmp"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// Config tunes a View. Zero fields take their defaults.
type Config struct {
	// Readers is how many objects are read from kube-apiserver at the same time; 8.
	Readers int
	// ReadTimeout bounds one read; 10 s.
	ReadTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause after a failed read, which doubles with each failure; 100 ms and 1 min.
	MinBackoff, MaxBackoff time.Duration
}

func (c Config) withDefaults() Config {
	c.Readers = cmp.Or(c.Readers, 8)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 10*time.Second)
	c.MinBackoff = cmp.Or(c.MinBackoff, 100*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, time.Minute)
	return c
}

// View is what nodes should hold. It implements desired.Source.
type View struct {
	// Set by New, then read-only.
	cfg       Config
	client    kubernetes.Interface
	informers Informers
	delivery  desired.Delivery
	metrics   *metrics
	kind      kinds
	seed      maphash.Seed // of the digests

	synced atomic.Bool // the handlers have seen everything that the caches held at start

	mu    sync.RWMutex // guards what follows
	nodes map[string]*node
	pods  map[desired.Key]*pod
	// configs are the ConfigMaps and Secrets that served pods refer to.
	configs map[desired.Key]*config
}

// New returns a View of the informers and sets their transforms and indexes, so it must be called before they run.
// Sources of the engine behind delivery may be added later. A nil registerer drops the metrics.
func New(cfg Config, client kubernetes.Interface, in Informers, delivery desired.Delivery, reg prometheus.Registerer) (*View, error) {
	if err := in.setup(); err != nil {
		return nil, err
	}
	v := &View{
		cfg: cfg.withDefaults(), client: client, informers: in, delivery: delivery, kind: newKinds(), seed: maphash.MakeSeed(),
		nodes: map[string]*node{}, pods: map[desired.Key]*pod{}, configs: map[desired.Key]*config{},
	}
	var err error
	v.metrics, err = newMetrics(reg, v)
	return v, err
}

var errNotSynced = errors.New("caches are not complete yet")

// Ready returns nil once the View knows all that the apiserver knew when it started. Nodes should not be served before.
func (v *View) Ready() error {
	if !v.synced.Load() {
		return errNotSynced
	}
	return nil
}

// Keys implements desired.Source.
func (v *View) Keys(nodeName string) []desired.Key {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n := v.nodes[nodeName]
	if n == nil {
		return nil
	}
	if n.class == classCloud {
		return v.cloudPodKeys(nodeName)
	}
	keys := make([]desired.Key, 0, 1+2*len(n.pods))
	if n.class == classEdge {
		keys = append(keys, v.NodeKey(nodeName))
	}
	seen := map[desired.Key]struct{}{}
	for p := range n.pods {
		keys = append(keys, p.key)
		for _, r := range p.refs {
			if _, dup := seen[r.key]; !dup {
				seen[r.key] = struct{}{}
				keys = append(keys, r.key)
			}
		}
	}
	return keys
}

// cloudPodKeys lists the pods of a cloud node, of which only the informer knows.
func (v *View) cloudPodKeys(nodeName string) []desired.Key {
	stubs, err := v.informers.Pods.GetIndexer().ByIndex(NodeIndex, nodeName)
	if err != nil { // only if the index did not exist
		return nil
	}
	keys := make([]desired.Key, 0, len(stubs))
	for _, obj := range stubs {
		if stub, ok := obj.(*corev1.Pod); ok {
			keys = append(keys, v.PodKey(stub.Namespace, stub.Name))
		}
	}
	return keys
}

// Newest implements desired.Source.
func (v *View) Newest(nodeName string, key desired.Key) (desired.Object, desired.State) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n := v.nodes[nodeName]
	if n == nil {
		return nil, desired.Absent
	}
	switch key.Kind {
	case v.kind.node:
		if n.class == classEdge && key.Name == nodeName {
			return nodeObject{node: n.object, kind: v.kind.node, seed: v.seed}, desired.Present
		}
	case v.kind.pod:
		return v.newestPod(n, nodeName, key)
	default:
		if c := v.configs[key]; c != nil && c.users[nodeName].total > 0 {
			return c.newest(v.synced.Load())
		}
	}
	return nil, desired.Absent
}

func (v *View) newestPod(n *node, nodeName string, key desired.Key) (desired.Object, desired.State) {
	if n.class == classCloud {
		if obj, exists, err := v.informers.Pods.GetStore().GetByKey(key.Namespace + "/" + key.Name); err == nil && exists {
			if p, ok := obj.(*corev1.Pod); ok && p.Spec.NodeName == nodeName {
				return nil, desired.Pending
			}
		}
		return nil, desired.Absent
	}
	p := v.pods[key]
	switch {
	case p == nil || p.node != n:
		return nil, desired.Absent
	case p.object == nil:
		return nil, desired.Pending
	}
	return podObject{pod: p.object, kind: v.kind.pod, seed: v.seed}, desired.Present
}

// Node returns an edge node. The object is shared: never change it.
func (v *View) Node(name string) (*corev1.Node, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n := v.nodes[name]
	if n == nil || n.class != classEdge {
		return nil, false
	}
	return n.object, true
}

// Pod returns a pod that is bound to the node. The object is shared: never change it.
func (v *View) Pod(nodeName, namespace, name string) (*corev1.Pod, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	p := v.pods[v.PodKey(namespace, name)]
	if p == nil || p.object == nil || p.node.name != nodeName {
		return nil, false
	}
	return p.object, true
}

// Pods returns the pods that are bound to the node. The objects are shared: never change them.
func (v *View) Pods(nodeName string) []*corev1.Pod {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n := v.nodes[nodeName]
	if n == nil {
		return nil
	}
	pods := make([]*corev1.Pod, 0, len(n.pods))
	for p := range n.pods {
		if p.object != nil {
			pods = append(pods, p.object)
		}
	}
	return pods
}

// Refers reports whether pods of the node refer to a ConfigMap or Secret, and whether one of them can't start without
// it.
func (v *View) Refers(nodeName string, key desired.Key) (refers, required bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c := v.configs[key]
	if c == nil {
		return false, false
	}
	u := c.users[nodeName]
	return u.total > 0, u.required > 0
}

// Cached returns the object of a key if it is known to be current: its content was read and the watch has not shown a
// newer version.
func (v *View) Cached(nodeName string, key desired.Key) (desired.Object, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c := v.configs[key]
	if c == nil || c.content == nil || c.stale() || c.users[nodeName].total == 0 {
		return nil, false
	}
	return c.content, true
}

func (v *View) metadata(key desired.Key) cache.SharedIndexInformer {
	if key.Kind == v.kind.secret {
		return v.informers.Secrets
	}
	return v.informers.ConfigMaps
}
