package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/podrefs"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// bench is a module between a hub and an apiserver, for use in a synctest bubble.
type bench struct {
	t      testing.TB
	api    *apiserver
	view   *fakeView
	module *Module
	bus    *bus.Bus
	reg    *prometheus.Registry
	engine *engine
	hub    *hub
}

// start runs a module; the test must call stop.
func start(t testing.TB, cfg Config, objects ...metav1.Object) (b *bench, stop func()) {
	cfg.LocalAddress = cmp.Or(cfg.LocalAddress, "192.0.2.1")
	b = &bench{t: t, api: newAPIServer(t, objects...), bus: bus.New(), reg: prometheus.NewRegistry(), engine: &engine{}, hub: &hub{}}
	b.view = newFakeView(objects...)
	var err error
	if b.module, err = New(cfg, b.api.client(), b.bus, b.engine, b.view, b.reg); err != nil {
		t.Fatal(err)
	}
	unregister, err := b.bus.Register(message.ModuleHub, message.ModuleHub, b.hub.receive)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.module.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	synctest.Wait()
	return b, func() { cancel(); wg.Wait(); unregister() }
}

// send hands a message to the module as the hub does.
func (b *bench) send(node, wire string) {
	b.t.Helper()
	m, err := message.Decode([]byte(wire))
	if err != nil {
		b.t.Fatalf("decode %s: %v", wire, err)
	}
	m.Node = node
	if err := b.bus.Send(b.t.Context(), message.ModuleEdge, m); err != nil {
		b.t.Fatal(err)
	}
}

// ask sends a message and returns what the hub got for it.
func (b *bench) ask(node, wire string) []*message.Message {
	b.t.Helper()
	b.send(node, wire)
	synctest.Wait()
	return b.hub.took()
}

// hub collects what the module sends.
type hub struct {
	mu   sync.Mutex // guards what follows
	sent []*message.Message
	log  *[]string // shared with engine, or nil
	gone bool      // the session of every node has ended
}

func (h *hub) receive(_ context.Context, m *message.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return fmt.Errorf("no session")
	}
	h.sent = append(h.sent, m)
	if h.log != nil {
		*h.log = append(*h.log, "sent "+m.Route.Operation)
	}
	return nil
}

func (h *hub) took() []*message.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	sent := h.sent
	h.sent = nil
	return sent
}

// engine records the calls of desired.Delivery.
type engine struct {
	mu    sync.Mutex // guards calls
	calls []string
	log   *[]string
}

func (e *engine) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	call := fmt.Sprintf(format, args...)
	e.calls = append(e.calls, call)
	if e.log != nil {
		*e.log = append(*e.log, call)
	}
}

func (e *engine) took() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.calls
	e.calls = nil
	return c
}

func (e *engine) Changed(node string, key desired.Key) { e.note("changed %s %s", node, key) }
func (e *engine) Resync(node string)                   { e.note("resync %s", node) }
func (e *engine) Hold(node string, key desired.Key) desired.Hold {
	e.note("hold %s %s", node, key)
	return heldKey{e, key}
}

type heldKey struct {
	engine *engine
	key    desired.Key
}

func (h heldKey) Release(uid, version string) { h.engine.note("release %s %s@%s", h.key, uid, version) }

// fakeView knows all objects that it was made of, and answers from nothing else.
type fakeView struct {
	kinds  map[string]*desired.Kind
	nodes  map[string]*corev1.Node
	pods   []*corev1.Pod
	cached map[desired.Key]desired.Object
}

func newFakeView(objects ...metav1.Object) *fakeView {
	v := &fakeView{kinds: map[string]*desired.Kind{}, nodes: map[string]*corev1.Node{}, cached: map[desired.Key]desired.Object{}}
	for _, typ := range []string{message.TypeNode, message.TypePod, message.TypeConfigMap, message.TypeSecret} {
		v.kinds[typ] = &desired.Kind{Type: typ, ClusterScoped: typ == message.TypeNode}
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Node:
			if value, ok := o.Labels[edgeLabel]; ok && value == "" {
				v.nodes[o.Name] = o
			}
		case *corev1.Pod:
			v.pods = append(v.pods, o)
		}
	}
	return v
}

func (v *fakeView) key(typ, ns, name string) desired.Key {
	return desired.Key{Kind: v.kinds[typ], Namespace: ns, Name: name}
}
func (v *fakeView) NodeKey(name string) desired.Key    { return v.key(message.TypeNode, "", name) }
func (v *fakeView) PodKey(ns, name string) desired.Key { return v.key(message.TypePod, ns, name) }
func (v *fakeView) ConfigMapKey(ns, name string) desired.Key {
	return v.key(message.TypeConfigMap, ns, name)
}
func (v *fakeView) SecretKey(ns, name string) desired.Key { return v.key(message.TypeSecret, ns, name) }

func (v *fakeView) Node(name string) (*corev1.Node, bool) { n, ok := v.nodes[name]; return n, ok }

func (v *fakeView) Pods(node string) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(v.pods), func(p *corev1.Pod) bool { return p.Spec.NodeName != node })
}

func (v *fakeView) Pod(node, ns, name string) (*corev1.Pod, bool) {
	for _, p := range v.Pods(node) {
		if p.Namespace == ns && p.Name == name {
			return p, true
		}
	}
	return nil, false
}

func (v *fakeView) Refers(node string, key desired.Key) (refers, required bool) {
	for _, p := range v.Pods(node) {
		podrefs.VisitConfig(p, func(c podrefs.Config) {
			if p.Namespace == key.Namespace && c.Name == key.Name && c.Secret == (key.Kind.Type == message.TypeSecret) {
				refers, required = true, required || !c.Optional
			}
		})
	}
	return refers, required
}

func (v *fakeView) Cached(_ string, key desired.Key) (desired.Object, bool) {
	o, ok := v.cached[key]
	return o, ok
}

type cachedObject struct{ body, version string }

func (o cachedObject) UID() string                    { return "u" }
func (o cachedObject) Version() string                { return o.version }
func (o cachedObject) Body() (json.RawMessage, error) { return json.RawMessage(o.body), nil }
func (o cachedObject) Digest() (uint64, error)        { return 0, nil }

// wire is a message as on the wire, but for its own ID and time.
func wire(m *message.Message) string {
	c := *m
	c.Header.ID, c.Header.Timestamp = "-", 0
	return strings.TrimSuffix(string(c.Frame().Bytes()), "\n")
}

func wires(messages []*message.Message) []string {
	list := []string{}
	for _, m := range messages {
		list = append(list, wire(m))
	}
	return list
}

func mustEqual(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func node(name string, labels ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("node-" + name), ResourceVersion: "500", Labels: map[string]string{}}}
	for _, l := range labels {
		n.Labels[l] = ""
	}
	return n
}

func edgeNode(name string) *corev1.Node { return node(name, edgeLabel, agentLabel) }

func pod(ns, name, nodeName, uid string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(uid), ResourceVersion: "700"},
		Spec:       corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: "c", Image: "nginx"}}},
	}
}
