package edgesim

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// bench is a node whose core is driven by the test itself: no connection, no goroutine.
type bench struct {
	*testing.T
	n *Node
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	if o.Name == "" {
		o.Name = "edge-1"
	}
	o.Cloud = fakeHost
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n.core.life = t.Context()
	n.core.boot()
	n.rec.sessionUp()
	n.core.online = true
	return &bench{t, n}
}

// feed delivers messages and lets the core work.
func (b *bench) feed(messages ...*message.Message) {
	for _, m := range messages {
		b.n.received(m, len(m.Content))
	}
	b.n.core.drain()
}

// sent returns what the node wants to send, and counts it as written.
func (b *bench) sent() []*message.Message {
	var out []*message.Message
	for {
		o, ok := b.n.out.popUrgent()
		if !ok {
			o, ok = b.n.out.pop()
		}
		if !ok {
			return out
		}
		b.n.rec.outcome(o.acks, Acked)
		out = append(out, o.msg)
	}
}

type recorded struct {
	Dir     string           `json:"dir"`
	Message *message.Message `json:"message"`
}

func readRecording(t testing.TB, name string) []recorded {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []recorded
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// requestOf returns a waiter for a recorded request of the edge, nil if EdgeCore waits for no answer in this way.
func requestOf(m *message.Message) *waiter {
	w := &waiter{request: m, path: direct, done: func(*message.Message, error) {}}
	p := splitPath(m.Route.Resource)
	switch {
	case m.Header.ParentID != "":
		return nil
	case m.Route.Source == message.SourceMetaServer:
		w.foreign = true
	case m.Route.Source != message.SourceEdged:
		return nil
	case p.typ == message.TypeNodePatch, p.typ == message.TypePodPatch, m.Route.Operation == message.OpDelete:
	default:
		w.path = remote
	}
	return w
}

type shape struct{ source, group, operation, resource, parent, content string }

func shapeOf(m *message.Message) shape {
	return shape{m.Route.Source, m.Route.Group, m.Route.Operation, m.Route.Resource, m.Header.ParentID, string(m.Content)}
}

// TestAnswersLikeRealEdgeCore feeds what a real EdgeCore received, and requires the answers that it gave.
func TestAnswersLikeRealEdgeCore(t *testing.T) {
	for _, name := range []string{"join.jsonl", "reconnect.jsonl"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Options{Name: "edge2", LinkOnly: true})
			want := make(map[shape]bool)
			got := make(map[shape]bool)
			fromCloud := make(map[string]bool)
			lines := readRecording(t, name)
			// An answer and its request may be recorded in either order.
			for _, r := range lines {
				if r.Dir == "cloud>edge" {
					fromCloud[r.Message.Header.ID] = true
				} else if w := requestOf(r.Message); w != nil {
					b.n.core.waiters[r.Message.Header.ID] = w
				}
			}
			for _, r := range lines {
				if r.Dir != "cloud>edge" {
					if r.Message.Route.Operation == message.OpResponse && fromCloud[r.Message.Header.ParentID] {
						want[shapeOf(r.Message)] = true
					}
					continue
				}
				b.feed(r.Message)
				for _, m := range b.sent() {
					got[shapeOf(m)] = true
				}
			}
			if len(want) < 20 {
				t.Fatalf("recording has %d answers, want a real one", len(want))
			}
			for _, s := range slices.Collect(maps.Keys(want)) {
				if !got[s] {
					t.Errorf("real EdgeCore answered %+v, the simulator did not", s)
				}
				delete(got, s)
			}
			for s := range got {
				t.Errorf("the simulator answered %+v, real EdgeCore did not", s)
			}
		})
	}
}

// TestStoreAfterRecording checks what the rules leave in the store at the end of the recordings.
func TestStoreAfterRecording(t *testing.T) {
	b := newBench(t, Options{Name: "edge2", LinkOnly: true})
	for _, name := range []string{"join.jsonl", "reconnect.jsonl"} {
		lines := readRecording(t, name)
		for _, r := range lines {
			if r.Dir != "cloud>edge" {
				if w := requestOf(r.Message); w != nil {
					b.n.core.waiters[r.Message.Header.ID] = w
				}
			}
		}
		for _, r := range lines {
			if r.Dir == "cloud>edge" {
				b.feed(r.Message)
			}
		}
	}
	store := b.n.Store()
	for key, version := range map[string]string{
		"null/node/edge2":                  "195585",
		"default/configmap/cfg":            "195592",
		"default/secret/sec":               "195595",
		"default/device/t1":                "195637",
		"default/devicemodel/thermo":       "195626",
		"default/service/kubernetes":       "210",
		"kube-node-lease/lease/edge2":      store["kube-node-lease/lease/edge2"].Version,
		"default/pod/web-674894d58c-4762d": "195579",
	} {
		if row, ok := store[key]; !ok || row.Version != version {
			t.Errorf("row %s has version %q (there: %t), want %q", key, row.Version, ok, version)
		}
	}
	for _, key := range []string{"default/pod/tok", "default/pod/web-674894d58c-4lngr", "default/service/svc1"} {
		if _, ok := store[key]; ok {
			t.Errorf("row %s is left over", key)
		}
	}
}
