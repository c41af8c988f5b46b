package downstream

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// TestScenarios runs a story of writes and says what each node holds at its end.
func TestScenarios(t *testing.T) {
	type story func(w *world) (want map[string][]runtime.Object)
	for name, run := range map[string]story{
		"a node holds itself, its pods and what they refer to": func(w *world) map[string][]runtime.Object {
			n, p, cm, s := edgeNode("e"), newPod("p", "e", "cm:a", "secret:a"), newConfigMap("a"), newSecret("a")
			other := edgeNode("f")
			for _, o := range []runtime.Object{n, cm, s, p, newConfigMap("other"), newSecret("other"), other} {
				w.create(o)
			}
			return map[string][]runtime.Object{"e": {n, p, cm, s}, "f": {other}}
		},
		"references to what does not exist are served when it appears": func(w *world) map[string][]runtime.Object {
			n, p, cm := edgeNode("e"), newPod("p", "e", "cm:a"), newConfigMap("a")
			w.create(n)
			w.create(p)
			synctest.Wait()
			w.create(cm)
			return map[string][]runtime.Object{"e": {n, p, cm}}
		},
		"a new version replaces the old": func(w *world) map[string][]runtime.Object {
			n, p, cm := edgeNode("e"), newPod("p", "e", "cm:a"), newConfigMap("a")
			for _, o := range []runtime.Object{n, p, cm} {
				w.create(o)
			}
			synctest.Wait()
			for _, o := range []runtime.Object{n, p, cm} {
				w.update(o)
			}
			return map[string][]runtime.Object{"e": {n, p, cm}}
		},
		"a configmap is deleted and made again": func(w *world) map[string][]runtime.Object { // defect 9
			n, p, cm := edgeNode("e"), newPod("p", "e", "cm:a"), newConfigMap("a")
			for _, o := range []runtime.Object{n, p, cm} {
				w.create(o)
			}
			synctest.Wait()
			w.delete(cm)
			again := newConfigMap("a")
			w.create(again)
			synctest.Wait()
			w.update(again)
			return map[string][]runtime.Object{"e": {n, p, again}}
		},
		"objects leave with their last pod": func(w *world) map[string][]runtime.Object {
			n, cm, s := edgeNode("e"), newConfigMap("a"), newSecret("a")
			p1, p2 := newPod("p1", "e", "cm:a", "secret:a"), newPod("p2", "e", "cm:a?")
			for _, o := range []runtime.Object{n, cm, s, p1, p2} {
				w.create(o)
			}
			synctest.Wait()
			w.delete(p1)
			return map[string][]runtime.Object{"e": {n, cm, p2}}
		},
		"a pod that ended stays until it is deleted": func(w *world) map[string][]runtime.Object {
			n, p := edgeNode("e"), newPod("p", "e")
			p.Status.Phase = corev1.PodSucceeded
			w.create(n)
			w.create(p)
			return map[string][]runtime.Object{"e": {n, p}}
		},
		"a pod is bound later": func(w *world) map[string][]runtime.Object {
			n, p := edgeNode("e"), newPod("p", "")
			w.create(n)
			w.create(p)
			synctest.Wait()
			p.Spec.NodeName = "e"
			w.update(p)
			return map[string][]runtime.Object{"e": {n, p}}
		},
		"a pod of the same name comes back on another node": func(w *world) map[string][]runtime.Object {
			n1, n2, p, cm := edgeNode("e1"), edgeNode("e2"), newPod("p", "e1", "cm:a"), newConfigMap("a")
			for _, o := range []runtime.Object{n1, n2, cm, p} {
				w.create(o)
			}
			synctest.Wait()
			w.delete(p)
			again := newPod("p", "e2", "cm:a")
			w.create(again)
			return map[string][]runtime.Object{"e1": {n1}, "e2": {n2, again, cm}}
		},
		"a pod is there before its node": func(w *world) map[string][]runtime.Object { // defect 5
			n, p, cm := edgeNode("e"), newPod("p", "e", "cm:a"), newConfigMap("a")
			w.create(cm)
			w.create(p)
			synctest.Wait()
			w.create(n)
			return map[string][]runtime.Object{"e": {n, p, cm}}
		},
		"a node gets its edge label later": func(w *world) map[string][]runtime.Object { // defect 5
			n, p, cm := cloudNode("e"), newPod("p", "e", "cm:a"), newConfigMap("a")
			w.create(n)
			synctest.Wait()
			w.create(cm)
			w.create(p)
			synctest.Wait()
			if got := w.reads(); got != 0 {
				w.t.Errorf("%d reads for a cloud node", got)
			}
			n.Labels = map[string]string{EdgeLabel: ""}
			w.update(n)
			return map[string][]runtime.Object{"e": {n, p, cm}}
		},
		"a node loses its edge label": func(w *world) map[string][]runtime.Object {
			n, p, cm := edgeNode("e"), newPod("p", "e", "cm:a"), newConfigMap("a")
			for _, o := range []runtime.Object{n, p, cm} {
				w.create(o)
			}
			synctest.Wait()
			n.Labels = nil
			w.update(n)
			return map[string][]runtime.Object{"e": {p}} // its session ends; the pod is Pending, so it is not killed
		},
		"an edge label with a value does not count": func(w *world) map[string][]runtime.Object {
			n := edgeNode("e")
			n.Labels[EdgeLabel] = "true"
			w.create(n)
			w.create(newPod("p", "e"))
			return map[string][]runtime.Object{}
		},
		"pods outlive their node": func(w *world) map[string][]runtime.Object { // defect 7
			n, p1, p2 := edgeNode("e"), newPod("p1", "e"), newPod("p2", "e")
			for _, o := range []runtime.Object{n, p1, p2} {
				w.create(o)
			}
			synctest.Wait()
			w.delete(n)
			synctest.Wait()
			w.delete(p1)
			return map[string][]runtime.Object{"e": {p2}}
		},
		"nothing is served to a cloud node": func(w *world) map[string][]runtime.Object {
			w.create(cloudNode("c"))
			synctest.Wait()
			w.create(newSecret("a"))
			w.create(newPod("p", "c", "secret:a"))
			return map[string][]runtime.Object{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, stop := newWorld(t)
				defer stop()
				want := run(w)
				synctest.Wait()
				for _, n := range []string{"e", "f", "e1", "e2", "c"} {
					mustEqual(t, n+" holds", w.edges.holds(n), identities(want[n]...))
				}
			})
		})
	}
}

func TestObjectsThatExistAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p, cm, s := edgeNode("e"), newPod("p", "e", "cm:a", "secret:a"), newConfigMap("a"), newSecret("a")
		w, stop := newWorld(t, n, p, cm, s, cloudNode("c"), newPod("q", "c", "secret:b"), newSecret("b"))
		defer stop()
		mustEqual(t, "e holds", w.edges.holds("e"), identities(n, p, cm, s))
		if got := w.reads(); got != 2 {
			t.Errorf("%d live reads, want one per object in use", got)
		}
	})
}

func TestReadyOnlyWithAllCaches(t *testing.T) {
	w := idleWorld(t, edgeNode("e"))
	if err := w.view.Ready(); !errors.Is(err, errNotSynced) {
		t.Errorf("ready before run: %v", err)
	}
}

func TestOneReadServesAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newWorld(t)
		defer stop()
		cm := newConfigMap("a")
		w.create(cm)
		names := []string{"e1", "e2", "e3"}
		for _, n := range names {
			w.create(edgeNode(n))
			w.create(newPod("p-"+n, n, "cm:a"))
		}
		synctest.Wait()
		if got := w.reads(); got != 1 {
			t.Errorf("%d reads, want 1", got)
		}
		w.update(cm)
		synctest.Wait()
		if got := w.reads(); got != 1 {
			t.Errorf("%d reads of the new version, want 1", got)
		}
		var bodies [][]byte
		for _, n := range names {
			o, state := w.view.Newest(n, w.view.ConfigMapKey("d", "a"))
			if state != desired.Present || o.Version() != cm.ResourceVersion {
				t.Fatalf("node %s sees state %v", n, state)
			}
			body, _ := o.Body()
			bodies = append(bodies, body)
		}
		if &bodies[0][0] != &bodies[1][0] || &bodies[0][0] != &bodies[2][0] {
			t.Error("the body is not shared")
		}
	})
}

func TestReadsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newWorld(t)
		defer stop()
		failures := 3
		w.client.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			if failures > 0 {
				failures--
				return true, nil, errors.New("apiserver is away")
			}
			return false, nil, nil
		})
		n, s, p := edgeNode("e"), newSecret("a"), newPod("p", "e", "secret:a")
		for _, o := range []runtime.Object{n, s, p} {
			w.create(o)
		}
		synctest.Wait()
		if _, state := w.view.Newest("e", w.view.SecretKey("d", "a")); state != desired.Pending {
			t.Errorf("state is %v before the read, want Pending", state)
		}
		time.Sleep(time.Minute) // of the bubble: the pauses between retries
		synctest.Wait()
		mustEqual(t, "e holds", w.edges.holds("e"), identities(n, s, p))
	})
}

func TestStateOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newWorld(t, edgeNode("e"), cloudNode("c"), newPod("p", "e", "cm:missing", "cm:a"), newPod("q", "c"), newConfigMap("a"))
		defer stop()
		v := w.view
		for _, tc := range []struct {
			node string
			key  desired.Key
			want desired.State
		}{
			{"e", v.NodeKey("e"), desired.Present},
			{"e", v.NodeKey("f"), desired.Absent},
			{"c", v.NodeKey("c"), desired.Absent},
			{"nobody", v.NodeKey("nobody"), desired.Absent},
			{"e", v.PodKey("d", "p"), desired.Present},
			{"e", v.PodKey("d", "q"), desired.Absent},
			{"c", v.PodKey("d", "q"), desired.Pending},
			{"c", v.PodKey("d", "p"), desired.Absent},
			{"c", v.PodKey("d", "none"), desired.Absent},
			{"e", v.ConfigMapKey("d", "a"), desired.Present},
			{"e", v.ConfigMapKey("d", "missing"), desired.Absent},
			{"e", v.SecretKey("d", "a"), desired.Absent},
			{"c", v.ConfigMapKey("d", "a"), desired.Absent},
		} {
			if _, got := v.Newest(tc.node, tc.key); got != tc.want {
				t.Errorf("%s sees %s as %v, want %v", tc.node, tc.key, got, tc.want)
			}
		}
		if got := v.Keys("c"); len(got) != 1 || got[0] != v.PodKey("d", "q") {
			t.Errorf("keys of the cloud node are %v", got)
		}
		if got := v.Keys("e"); len(got) != 4 {
			t.Errorf("keys of the edge node are %v", got)
		}
		if got := v.Keys("nobody"); got != nil {
			t.Errorf("keys of nobody are %v", got)
		}
	})
}

func TestQueriesForUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newWorld(t, edgeNode("e"), cloudNode("c"), newPod("p", "e", "cm:a", "cm:b?"), newPod("r", "e", "cm:b?"),
			newPod("q", "c", "cm:a"), newConfigMap("a"))
		defer stop()
		v := w.view
		for _, tc := range []struct {
			node, name       string
			refers, required bool
		}{{"e", "a", true, true}, {"e", "b", true, false}, {"e", "c", false, false}, {"c", "a", false, false}} {
			if refers, required := v.Refers(tc.node, v.ConfigMapKey("d", tc.name)); refers != tc.refers || required != tc.required {
				t.Errorf("%s refers to %s: %v, required %v", tc.node, tc.name, refers, required)
			}
		}
		if _, ok := v.Pod("e", "d", "p"); !ok {
			t.Error("pod p is not found on its node")
		}
		if _, ok := v.Pod("c", "d", "p"); ok {
			t.Error("pod p is found on another node")
		}
		if _, ok := v.Pod("c", "d", "q"); ok {
			t.Error("a pod of a cloud node is found")
		}
		if got := v.Pods("e"); len(got) != 2 {
			t.Errorf("%d pods on e", len(got))
		}
		if _, ok := v.Node("e"); !ok {
			t.Error("node e is not found")
		}
		if _, ok := v.Node("c"); ok {
			t.Error("a cloud node is found")
		}
		if _, ok := v.Cached("e", v.ConfigMapKey("d", "a")); !ok {
			t.Error("content of a is not known")
		}
		if _, ok := v.Cached("c", v.ConfigMapKey("d", "a")); ok {
			t.Error("content of a is given to a node that does not refer to it")
		}
	})
}

func TestOnlyWhatMattersIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		managed := []metav1.ManagedFieldsEntry{{Manager: "x"}}
		full := func(o runtime.Object) runtime.Object {
			_, m := resourceOf(o)
			m.ManagedFields = managed
			m.Annotations = map[string]string{"big": "x"}
			return o
		}
		w, stop := newWorld(t, full(edgeNode("e")), full(cloudNode("c")), full(newPod("p", "e", "secret:a")), full(newPod("q", "c")),
			full(newPod("unbound", "")), full(newSecret("a")), full(newSecret("unused")))
		defer stop()
		in := w.view.informers
		meta := func(informer cache.SharedIndexInformer, key string) metav1.Object {
			obj, exists, err := informer.GetStore().GetByKey(key)
			if !exists || err != nil {
				t.Fatalf("%s is not cached: %v", key, err)
			}
			return obj.(metav1.Object)
		}
		for key, full := range map[string]bool{"d/p": true, "d/q": false, "d/unbound": false} {
			p := meta(in.Pods, key).(*corev1.Pod)
			if p.ManagedFields != nil || isStub(p) == full || (p.Annotations != nil) != full || p.UID == "" || p.ResourceVersion == "" {
				t.Errorf("pod %s is cached as %v", key, p)
			}
		}
		if n := meta(in.Nodes, "c"); n.GetManagedFields() != nil || n.GetUID() == "" {
			t.Errorf("cloud node is cached as %v", n)
		}
		if n := meta(in.Nodes, "e"); n.GetManagedFields() != nil || n.GetLabels() == nil {
			t.Errorf("edge node is cached as %v", n)
		}
		if s := meta(in.Secrets, "d/unused"); s.GetAnnotations() != nil || s.GetUID() == "" {
			t.Errorf("secret is cached as %v", s)
		}
		if got := len(w.view.configs); got != 1 {
			t.Errorf("%d objects held, want the one in use", got)
		}
		w.delete(newPod("p", "e"))
		synctest.Wait()
		if got := len(w.view.configs); got != 0 {
			t.Errorf("%d objects held without any pod", got)
		}
	})
}

func TestBodiesAndDigests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p, cm, s := edgeNode("e"), newPod("p", "e", "cm:a", "secret:a"), newConfigMap("a"), newSecret("a")
		w, stop := newWorld(t, n, p, cm, s)
		defer stop()
		v := w.view
		for _, tc := range []struct {
			key        desired.Key
			object     runtime.Object
			kind       string
			quiet      func() // changes nothing that the edge acts on
			meaningful func()
		}{
			{v.NodeKey("e"), n, "Node", func() { n.Status.Phase = "x"; n.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}} },
				func() { n.Spec.Taints = []corev1.Taint{{Key: "k"}} }},
			{v.PodKey("d", "p"), p, "Pod", func() { p.Status.Phase = corev1.PodRunning; p.Generation = 7 },
				func() { now := metav1.Now(); p.DeletionTimestamp = &now }},
			{v.ConfigMapKey("d", "a"), cm, "ConfigMap", func() { cm.Generation = 2 }, func() { cm.Data["k"] = "w" }},
			{v.SecretKey("d", "a"), s, "Secret", func() { s.Generation = 2 }, func() { s.Data["k"] = []byte("w") }},
		} {
			newest := func() (desired.Object, uint64) {
				o, state := v.Newest("e", tc.key)
				if state != desired.Present {
					t.Fatalf("%s is %v", tc.key, state)
				}
				d, err := o.Digest()
				if err != nil {
					t.Fatal(err)
				}
				return o, d
			}
			o, first := newest()
			body := decodeBody(t, o)
			meta := body["metadata"].(map[string]any)
			if body["kind"] != tc.kind || body["apiVersion"] != "v1" || meta["uid"] != o.UID() || meta["resourceVersion"] != o.Version() {
				t.Errorf("body of %s is %v", tc.key, body)
			}
			tc.quiet()
			w.update(tc.object)
			synctest.Wait()
			o, second := newest()
			if second != first {
				t.Errorf("%s: a change that the edge does not act on changes the digest", tc.key)
			}
			if managed := decodeBody(t, o)["metadata"].(map[string]any)["managedFields"]; managed != nil {
				t.Errorf("%s: managedFields are sent: %v", tc.key, managed)
			}
			tc.meaningful()
			w.update(tc.object)
			synctest.Wait()
			if _, d := newest(); d == first {
				t.Errorf("%s: the digest misses a change", tc.key)
			}
		}
	})
}

func TestChangesOfPodsOrder(t *testing.T) {
	w := idleWorld(t)
	v := w.view
	p := newPod("p", "e", "cm:a")
	p.UID, p.ResourceVersion = "u", "1"
	var e effects
	v.setPodLocked(&e, p)
	v.deletePodLocked(&e, p)
	cm, pod := v.ConfigMapKey("d", "a"), v.PodKey("d", "p")
	want := []change{{"e", cm}, {"e", pod}, {"e", pod}, {"e", cm}}
	if !slices.Equal(e.changed, want) {
		t.Errorf("changes are %v, want %v", e.changed, want)
	}
	if len(v.nodes)+len(v.pods)+len(v.configs) != 0 {
		t.Errorf("left over: %d nodes, %d pods, %d configs", len(v.nodes), len(v.pods), len(v.configs))
	}
}

// TestStubOfAnEdgePod covers the race between a transform and the handler of the node's relabelling.
func TestStubOfAnEdgePod(t *testing.T) {
	w := idleWorld(t)
	v := w.view
	full := newPod("p", "e")
	full.UID, full.ResourceVersion = "u", "5"
	stub := &corev1.Pod{ObjectMeta: full.ObjectMeta, Spec: corev1.PodSpec{NodeName: "e"}}
	var e effects
	v.setNodeLocked(&e, edgeNode("e"))
	v.setPodLocked(&e, stub)
	if _, state := v.Newest("e", v.PodKey("d", "p")); state != desired.Pending || len(e.read) != 1 {
		t.Fatalf("a stub is %v with %d reads", state, len(e.read))
	}
	v.setPodLocked(&e, full)
	if _, state := v.Newest("e", v.PodKey("d", "p")); state != desired.Present {
		t.Fatalf("state is %v after the pod came", state)
	}
	older := full.DeepCopy()
	older.ResourceVersion = "4"
	v.setPodLocked(&e, older)
	if o, _ := v.Newest("e", v.PodKey("d", "p")); o.Version() != "5" {
		t.Errorf("version went back to %s", o.Version())
	}
	stub.ResourceVersion = "6"
	e = effects{}
	v.setPodLocked(&e, stub)
	if o, state := v.Newest("e", v.PodKey("d", "p")); state != desired.Present || o.Version() != "5" || len(e.read) != 1 {
		t.Errorf("a newer stub shows %v, %d reads", state, len(e.read))
	}
}

func TestLateEventsOfPredecessors(t *testing.T) {
	w := idleWorld(t)
	v := w.view
	first, second := newPod("p", "e1"), newPod("p", "e2")
	first.UID, first.ResourceVersion = "1", "10"
	second.UID, second.ResourceVersion = "2", "20"
	var e effects
	v.setPodLocked(&e, second)
	v.setPodLocked(&e, first)
	v.deletePodLocked(&e, first)
	if _, state := v.Newest("e2", v.PodKey("d", "p")); state != desired.Present {
		t.Errorf("the newer pod is %v after late events of its predecessor", state)
	}
	key := v.ConfigMapKey("d", "a")
	v.useLocked(&e, "e2", ref{key: key})
	v.setMetadataLocked(&e, key, &metav1.ObjectMeta{UID: "2", ResourceVersion: "20"})
	v.setMetadataLocked(&e, key, &metav1.ObjectMeta{UID: "1", ResourceVersion: "10"})
	v.deleteMetadataLocked(&e, key, &metav1.ObjectMeta{UID: "1", ResourceVersion: "10"})
	if c := v.configs[key]; c.uid != "2" || c.version != "20" {
		t.Errorf("metadata is %s@%s after late events of its predecessor", c.uid, c.version)
	}
	if !v.setContentLocked(&e, key, &content{uid: "2", version: "25"}) || v.configs[key].version != "25" {
		t.Error("content newer than the watch is not taken")
	}
	v.setMetadataLocked(&e, key, &metav1.ObjectMeta{UID: "2", ResourceVersion: "30"})
	if v.setContentLocked(&e, key, &content{uid: "2", version: "26"}) {
		t.Error("content older than the watch counts as current")
	}
	if v.setContentLocked(&e, key, &content{uid: "1", version: "9"}) || v.configs[key].content.version != "26" {
		t.Error("content of a predecessor is taken")
	}
	if !v.setContentLocked(&e, v.ConfigMapKey("d", "unused"), &content{uid: "1", version: "9"}) || len(v.configs) != 1 {
		t.Error("content that nobody refers to is kept")
	}
}

func TestTombstones(t *testing.T) {
	p := newPod("p", "e")
	if got, ok := deleted[*corev1.Pod](cache.DeletedFinalStateUnknown{Key: "d/p", Obj: p}); !ok || got != p {
		t.Error("tombstone is not unwrapped")
	}
	if got, ok := deleted[*corev1.Pod](p); !ok || got != p {
		t.Error("object of a delete event is lost")
	}
	if _, ok := deleted[*corev1.Pod](cache.DeletedFinalStateUnknown{Key: "d/p"}); ok {
		t.Error("an empty tombstone counts as a pod")
	}
}

// TestRunAgain deletes and changes objects between two runs.
func TestRunAgain(t *testing.T) {
	w := idleWorld(t)
	n, p, q, cm := edgeNode("e"), newPod("p", "e", "cm:a"), newPod("q", "e", "cm:b"), newConfigMap("a")
	for i, o := range []runtime.Object{n, p, q, cm} {
		_, m := resourceOf(o)
		m.UID, m.ResourceVersion = "u", string(rune('1'+i))
	}
	v := w.view
	store := func(informer cache.SharedIndexInformer, obj any) {
		if err := informer.GetStore().Add(obj); err != nil {
			t.Fatal(err)
		}
	}
	store(v.informers.Nodes, n)
	store(v.informers.Pods, p)
	var e effects
	v.setNodeLocked(&e, n)
	v.setNodeLocked(&e, edgeNode("gone"))
	v.setPodLocked(&e, p)
	v.setPodLocked(&e, q)
	v.setMetadataLocked(&e, v.ConfigMapKey("d", "a"), &cm.ObjectMeta)
	r := &runner{View: v, ended: make(chan struct{})}
	r.sweep()
	if _, state := v.Newest("e", v.PodKey("d", "q")); state != desired.Absent {
		t.Errorf("pod that the cache lost is %v", state)
	}
	if _, ok := v.Node("gone"); ok {
		t.Error("node that the cache lost is still known")
	}
	if _, state := v.Newest("e", v.PodKey("d", "p")); state != desired.Present {
		t.Errorf("pod in the cache is %v", state)
	}
	if c := v.configs[v.ConfigMapKey("d", "a")]; c.version != "" {
		t.Errorf("configmap that the cache lost has version %s", c.version)
	}
}
