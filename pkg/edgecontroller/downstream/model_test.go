package downstream

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/podrefs"
)

// TestRandomEvents makes random writes, with coalesced events and failing reads, and compares what nodes hold, and what
// the View says they should hold, with a plain model.
func TestRandomEvents(t *testing.T) {
	for i := range 30 {
		seed := uint64(i) + 1
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 0))
				w, stop := newWorld(t)
				defer stop()
				var gets atomic.Int64
				w.client.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
					if gets.Add(1)%4 == 0 {
						return true, nil, errors.New("apiserver is busy")
					}
					return false, nil, nil
				})
				m := &model{world: w, rnd: rnd, nodes: map[string]*corev1.Node{}, clouds: map[string]bool{},
					pods:    map[string]*corev1.Pod{},
					configs: map[string]runtime.Object{}}
				for range 40 {
					for range 1 + rnd.IntN(6) {
						m.write()
					}
					synctest.Wait()
					if rnd.IntN(3) == 0 {
						time.Sleep(2 * time.Minute) // of the bubble: longer than any pause between retries
						synctest.Wait()
						m.check(t)
					}
					if t.Failed() {
						t.Fatalf("seed %d", seed)
					}
				}
			})
		})
	}
}

// model is the plain truth: all objects by name.
type model struct {
	*world
	rnd     *rand.Rand
	nodes   map[string]*corev1.Node
	clouds  map[string]bool // nodes that were cloud nodes last
	pods    map[string]*corev1.Pod
	configs map[string]runtime.Object
}

func (m *model) write() {
	switch m.rnd.IntN(10) {
	case 0, 1:
		m.writeNode(fmt.Sprint("n", m.rnd.IntN(3)))
	case 2, 3, 4, 5, 6:
		m.writePod(fmt.Sprint("p", m.rnd.IntN(6)))
	default:
		m.writeConfig(m.rnd.IntN(2) == 0, fmt.Sprint("o", m.rnd.IntN(3)))
	}
}

func (m *model) writeNode(name string) {
	n := m.nodes[name]
	switch {
	case n == nil:
		n = cloudNode(name)
		if m.rnd.IntN(3) > 0 {
			n = edgeNode(name)
		}
		m.nodes[name] = n
		m.create(n)
	case m.rnd.IntN(4) == 0:
		delete(m.nodes, name)
		m.delete(n)
	default:
		if m.rnd.IntN(2) == 0 {
			if IsEdge(n.Labels) {
				n.Labels = nil
			} else {
				n.Labels = map[string]string{EdgeLabel: ""}
			}
		}
		m.update(n)
	}
	m.clouds[name] = !IsEdge(n.Labels)
}

func (m *model) writePod(name string) {
	p := m.pods[name]
	switch {
	case p == nil:
		m.createPod(name)
	case m.rnd.IntN(4) == 0: // the node of the same name may see its successor at once
		delete(m.pods, name)
		m.delete(p)
		if m.rnd.IntN(2) == 0 {
			m.createPod(name)
		}
	case p.Spec.NodeName == "":
		p.Spec.NodeName = fmt.Sprint("n", m.rnd.IntN(3))
		m.update(p)
	case m.rnd.IntN(4) == 0:
		from := []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: fmt.Sprint("o", m.rnd.IntN(3))}}}}
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", EnvFrom: from}})
		m.update(p)
	default:
		m.update(p)
	}
}

func (m *model) createPod(name string) {
	node := ""
	if m.rnd.IntN(4) > 0 {
		node = fmt.Sprint("n", m.rnd.IntN(3))
	}
	var refs []string
	for range m.rnd.IntN(3) {
		refs = append(refs, []string{"cm", "secret"}[m.rnd.IntN(2)]+fmt.Sprint(":o", m.rnd.IntN(3)))
	}
	m.pods[name] = newPod(name, node, refs...)
	m.create(m.pods[name])
}

func (m *model) writeConfig(secret bool, name string) {
	key := fmt.Sprint(secret, name)
	o := m.configs[key]
	switch {
	case o == nil:
		o = runtime.Object(newConfigMap(name))
		if secret {
			o = newSecret(name)
		}
		m.configs[key] = o
		m.create(o)
	case m.rnd.IntN(3) == 0:
		delete(m.configs, key)
		m.delete(o)
	default:
		m.update(o)
	}
}

// checkFrozen says that no existing pod of a node that was a cloud node last may be taken from it.
func (m *model) checkFrozen(t *testing.T, name string) {
	keys := m.view.Keys(name)
	for _, p := range m.pods {
		key := m.view.PodKey(p.Namespace, p.Name)
		if _, state := m.view.Newest(name, key); p.Spec.NodeName == name && (state == desired.Absent || !slices.Contains(keys, key)) {
			t.Errorf("pod %s of cloud node %s is %v, keys %v", p.Name, name, state, keys)
		}
	}
}

// check compares all nodes that are not cloud nodes with the model.
func (m *model) check(t *testing.T) {
	for i := range 3 {
		name := fmt.Sprint("n", i)
		n := m.nodes[name]
		if m.clouds[name] {
			m.checkFrozen(t, name)
			continue
		}
		want := map[string]bool{}
		if n != nil {
			want[identity(n)] = true
		}
		for _, p := range m.pods {
			if p.Spec.NodeName != name {
				continue
			}
			want[identity(p)] = true
			podrefs.VisitConfig(p, func(c podrefs.Config) {
				if o := m.configs[fmt.Sprint(c.Secret, c.Name)]; o != nil {
					want[identity(o)] = true
				}
			})
		}
		mustEqual(t, name+" holds", m.edges.holds(name), slices.Sorted(maps.Keys(want)))
		present := map[desired.Key]string{}
		for _, key := range m.view.Keys(name) {
			if o, state := m.view.Newest(name, key); state == desired.Present {
				present[key] = o.UID() + "@" + o.Version()
			} else if state == desired.Pending {
				t.Errorf("%s: %s is pending for ever", name, key)
			}
		}
		mustEqual(t, name+" should hold", sorted(present), slices.Sorted(maps.Keys(want)))
	}
}

type nobody struct{}

func (nobody) Changed(string, desired.Key)           {}
func (nobody) Resync(string)                         {}
func (nobody) Hold(string, desired.Key) desired.Hold { return nil }

// BenchmarkPodEvent measures a status update of a pod with three references, from the handler to Changed.
//
//	go test -bench PodEvent -run xxx ./pkg/edgecontroller/downstream/
func BenchmarkPodEvent(b *testing.B) {
	w := idleWorld(b)
	w.view.delivery = nobody{}
	r := &runner{View: w.view, ended: make(chan struct{})}
	n := edgeNode("e")
	n.UID, n.ResourceVersion = "n", "1"
	r.onNode(n)
	versions := make([]*corev1.Pod, 1024)
	for i := range versions {
		p := newPod("p", "e", "cm:a", "secret:b", "cm:kube-root-ca.crt")
		p.UID = "u"
		versions[i] = p
	}
	b.ReportAllocs()
	version := 0
	for b.Loop() {
		p := versions[version%len(versions)]
		version++
		p.ResourceVersion = fmt.Sprint(version)
		r.onPod(p)
	}
}

// BenchmarkBody measures encoding a pod once.
func BenchmarkBody(b *testing.B) {
	w := idleWorld(b)
	p := newPod("p", "e", "cm:a", "secret:b")
	p.CreationTimestamp = metav1.Now()
	o := podObject{pod: p, kind: w.view.kind.pod, seed: w.view.seed}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Body(); err != nil {
			b.Fatal(err)
		}
	}
}
