package downstream

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/metadata/metadatainformer"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

var (
	nodesGVR      = corev1.SchemeGroupVersion.WithResource("nodes")
	podsGVR       = corev1.SchemeGroupVersion.WithResource("pods")
	configMapsGVR = corev1.SchemeGroupVersion.WithResource("configmaps")
	secretsGVR    = corev1.SchemeGroupVersion.WithResource("secrets")
)

// world is an apiserver with a View of it, for use in a synctest bubble.
type world struct {
	t      testing.TB
	client *fake.Clientset
	store  clienttesting.ObjectTracker // behind client
	meta   *metadatafake.FakeMetadataClient
	view   *View
	edges  *edges
	rv     int
}

// newWorld starts a View; stop ends it and its informers.
func newWorld(t testing.TB, objects ...runtime.Object) (w *world, stop func()) {
	w = idleWorld(t, objects...)
	ctx, cancel := context.WithCancel(t.Context())
	in := w.view.informers
	var wg sync.WaitGroup
	wg.Go(func() { in.Nodes.RunWithContext(ctx) })
	synctest.Wait() // nodes first, as Informers asks for
	wg.Go(func() { in.Pods.RunWithContext(ctx) })
	wg.Go(func() { in.ConfigMaps.RunWithContext(ctx) })
	wg.Go(func() { in.Secrets.RunWithContext(ctx) })
	wg.Go(func() {
		if err := w.view.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	synctest.Wait()
	if err := w.view.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	return w, func() { cancel(); wg.Wait(); synctest.Wait() }
}

// idleWorld makes a View that does not run.
func idleWorld(t testing.TB, objects ...runtime.Object) *world {
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, rv: 100, meta: metadatafake.NewSimpleMetadataClient(scheme),
		edges: &edges{stores: map[string]map[desired.Key]string{}},
	}
	w.client, w.store = newClient()
	for _, o := range objects {
		w.create(o)
	}
	factory := informers.NewSharedInformerFactory(w.client, 0)
	metaFactory := metadatainformer.NewSharedInformerFactory(w.meta, 0)
	in := Informers{
		Nodes: factory.Core().V1().Nodes().Informer(), Pods: factory.Core().V1().Pods().Informer(),
		ConfigMaps: metaFactory.ForResource(configMapsGVR).Informer(), Secrets: metaFactory.ForResource(secretsGVR).Informer(),
	}
	v, err := New(Config{}, w.client, in, w.edges, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.view, w.edges.view = v, v
	return w
}

// newClient returns a client over a plain tracker. That of fake.NewClientset keeps managedFields, which takes most of
// the time of these tests.
func newClient() (*fake.Clientset, clienttesting.ObjectTracker) {
	tracker := clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	client := &fake.Clientset{}
	client.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	client.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		var options metav1.ListOptions
		if w, ok := a.(clienttesting.WatchActionImpl); ok {
			options = w.ListOptions
		}
		w, err := tracker.Watch(a.GetResource(), a.GetNamespace(), options)
		return true, w, err
	})
	return client, tracker
}

func resourceOf(o runtime.Object) (schema.GroupVersionResource, *metav1.ObjectMeta) {
	switch o := o.(type) {
	case *corev1.Node:
		return nodesGVR, &o.ObjectMeta
	case *corev1.Pod:
		return podsGVR, &o.ObjectMeta
	case *corev1.ConfigMap:
		return configMapsGVR, &o.ObjectMeta
	case *corev1.Secret:
		return secretsGVR, &o.ObjectMeta
	}
	panic(fmt.Sprintf("no resource for %T", o))
}

// create gives o a new version, and a UID unless it has one.
func (w *world) create(o runtime.Object) {
	w.t.Helper()
	w.write(o, func(tr clienttesting.ObjectTracker, gvr schema.GroupVersionResource, o runtime.Object, ns string) error {
		return tr.Create(gvr, o, ns)
	})
}

func (w *world) update(o runtime.Object) {
	w.t.Helper()
	w.write(o, func(tr clienttesting.ObjectTracker, gvr schema.GroupVersionResource, o runtime.Object, ns string) error {
		return tr.Update(gvr, o, ns)
	})
}

func (w *world) write(o runtime.Object, op func(clienttesting.ObjectTracker, schema.GroupVersionResource, runtime.Object, string) error) {
	w.t.Helper()
	gvr, m := resourceOf(o)
	w.rv++
	m.ResourceVersion = strconv.Itoa(w.rv)
	if m.UID == "" {
		m.UID = types.UID("uid-" + m.ResourceVersion)
	}
	write := func(tracker clienttesting.ObjectTracker, o runtime.Object) {
		w.t.Helper()
		if err := op(tracker, gvr, o.DeepCopyObject(), m.Namespace); err != nil {
			w.t.Fatal(err)
		}
	}
	write(w.store, o)
	if kind := map[schema.GroupVersionResource]string{configMapsGVR: "ConfigMap", secretsGVR: "Secret"}[gvr]; kind != "" {
		write(w.meta.Tracker(), &metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: kind}, ObjectMeta: *m.DeepCopy()})
	}
}

func (w *world) delete(o runtime.Object) {
	w.t.Helper()
	gvr, m := resourceOf(o)
	if err := w.store.Delete(gvr, m.Namespace, m.Name); err != nil {
		w.t.Fatal(err)
	}
	if gvr == configMapsGVR || gvr == secretsGVR {
		if err := w.meta.Tracker().Delete(gvr, m.Namespace, m.Name); err != nil {
			w.t.Fatal(err)
		}
	}
}

// reads counts the live reads of objects since the last call.
func (w *world) reads() int {
	n := 0
	for _, a := range w.client.Actions() {
		if a.GetVerb() == "get" {
			n++
		}
	}
	w.client.ClearActions()
	return n
}

// edges is a delivery engine that is always connected to every node and delivers at once: what a node holds changes
// only when the View says that something changed.
type edges struct {
	view *View

	mu      sync.Mutex // guards what follows
	stores  map[string]map[desired.Key]string
	changes []string
	resync  []string
}

func (e *edges) Changed(nodeName string, key desired.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changes = append(e.changes, nodeName+" "+key.String())
	if e.stores[nodeName] == nil {
		e.stores[nodeName] = map[desired.Key]string{}
	}
	store := e.stores[nodeName]
	if key.Kind != e.view.kind.node {
		e.converge(nodeName, store, key)
		return
	}
	for _, k := range slices.Concat(e.view.Keys(nodeName), slices.Collect(maps.Keys(store)), []desired.Key{key}) {
		e.converge(nodeName, store, k) // the end or begin of a session
	}
}

func (e *edges) converge(nodeName string, store map[desired.Key]string, key desired.Key) {
	o, state := e.view.Newest(nodeName, key)
	switch state {
	case desired.Absent:
		delete(store, key)
	case desired.Present:
		store[key] = o.UID() + "@" + o.Version()
	}
}

func (e *edges) Resync(nodeName string)                             { e.resync = append(e.resync, nodeName) }
func (e *edges) Hold(nodeName string, key desired.Key) desired.Hold { return nil }

// holds lists what a node holds, sorted.
func (e *edges) holds(nodeName string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return sorted(e.stores[nodeName])
}

func sorted(store map[desired.Key]string) []string {
	list := []string{}
	for key, version := range store {
		list = append(list, key.String()+" "+version)
	}
	slices.Sort(list)
	return list
}

func edgeNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{EdgeLabel: ""}}}
}

func cloudNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// newPod makes a pod in namespace d with references written as "cm:name", "secret:name", with "?" after optional ones.
func newPod(name, nodeName string, refs ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Spec: corev1.PodSpec{
		NodeName: nodeName, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	for _, r := range refs {
		kind, object, _ := strings.Cut(r, ":")
		object, optional := strings.CutSuffix(object, "?")
		from := corev1.EnvFromSource{}
		local := corev1.LocalObjectReference{Name: object}
		if kind == "cm" {
			from.ConfigMapRef = &corev1.ConfigMapEnvSource{LocalObjectReference: local, Optional: &optional}
		} else {
			from.SecretRef = &corev1.SecretEnvSource{LocalObjectReference: local, Optional: &optional}
		}
		p.Spec.Containers[0].EnvFrom = append(p.Spec.Containers[0].EnvFrom, from)
	}
	return p
}

func newConfigMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Data: map[string]string{"k": "v"}}
}

func newSecret(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Data: map[string][]byte{"k": []byte("v")}}
}

// identity is how a store shows a version of an object.
func identity(o runtime.Object) string {
	gvr, m := resourceOf(o)
	ns := m.Namespace
	if ns == "" {
		ns = "null"
	}
	return fmt.Sprintf("%s/%s/%s %s@%s", ns, strings.TrimSuffix(gvr.Resource, "s"), m.Name, m.UID, m.ResourceVersion)
}

func identities(objects ...runtime.Object) []string {
	list := []string{}
	for _, o := range objects {
		list = append(list, identity(o))
	}
	slices.Sort(list)
	return list
}

func mustEqual(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func decodeBody(t testing.TB, o desired.Object) map[string]any {
	t.Helper()
	body, err := o.Body()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
