package edgesim

import (
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func TestViolations(t *testing.T) {
	cm := func(op, uid, version string) *message.Message {
		return push(op, "default/configmap/a", version, object("ConfigMap", "default", "a", uid, version))
	}
	changed := func(m *message.Message, change func(*message.Message)) *message.Message {
		change(m)
		return m
	}
	for _, tc := range []struct {
		name string
		msgs []*message.Message
		want ViolationKind
	}{
		{"ordinary life", []*message.Message{cm("insert", "u", "1"), cm("update", "u", "2"), cm("delete", "u", "2"), cm("insert", "v", "5")}, ""},
		{"numeric versions", []*message.Message{cm("insert", "u", "9"), cm("update", "u", "10")}, ""},
		{"older after newer", []*message.Message{cm("insert", "u", "10"), cm("update", "u", "9")}, OlderAfterNewer},
		{"after delete", []*message.Message{cm("insert", "u", "1"), cm("delete", "u", ""), cm("update", "u", "3")}, Resurrection},
		{"delete of another", []*message.Message{cm("insert", "new", "4"), cm("delete", "old", "3")}, DeletesOther},
		{"pod without UID", []*message.Message{push("delete", "default/pod/p", "", map[string]any{"metadata": map[string]any{"name": "p"}})}, EmptyPodUID},
		{"pod stub with UID", []*message.Message{push("delete", "default/pod/p", "", map[string]any{"metadata": map[string]any{"name": "p", "uid": "u"}})}, ""},
		{"untrimmed path", []*message.Message{changed(cm("insert", "u", "1"), func(m *message.Message) { m.Route.Resource = "node/edge-1/default/configmap/a" })}, BadPath},
		{"list path", []*message.Message{changed(cm("insert", "u", "1"), func(m *message.Message) { m.Route.Resource = "default/configmap" })}, BadPath},
		{"unknown source", []*message.Message{changed(cm("update", "u", "1"), func(m *message.Message) { m.Route.Source = "synccontroller" })}, BadSource},
		{"patch", []*message.Message{cm("patch", "u", "1")}, BadOperation},
		{"event", []*message.Message{changed(cm("insert", "u", "1"), func(m *message.Message) { m.Route.Resource = "default/event/a" })}, EventPush},
		{"no kind", []*message.Message{push("insert", "default/configmap/a", "1", map[string]any{"metadata": map[string]any{"name": "a", "uid": "u", "resourceVersion": "1"}})}, NoKind},
		{"no version", []*message.Message{changed(cm("insert", "u", "1"), func(m *message.Message) { m.Header.ResourceVersion = "" })}, NoVersion},
		{"another version", []*message.Message{changed(cm("insert", "u", "1"), func(m *message.Message) { m.Header.ResourceVersion = "2" })}, NoVersion},
		{"own pod", []*message.Message{push("insert", "default/pod/p", "1", podObject("edge-1", "p", "u", "1"))}, ""},
		{"foreign pod", []*message.Message{push("insert", "default/pod/p", "1", podObject("edge-2", "p", "u", "1"))}, ForeignPod},
		{"sync flag", []*message.Message{changed(cm("insert", "u", "1"), func(m *message.Message) { m.Header.Sync = true })}, SyncFlag},
		{"unknown group", []*message.Message{changed(cm("insert", "u", "1"), func(m *message.Message) { m.Route.Group = "edgecontroller" })}, UnknownGroup},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, Options{LinkOnly: true})
			for _, m := range tc.msgs {
				b.feed(m)
				b.sent()
			}
			v := b.n.Violations()
			if tc.want == "" {
				if len(v) != 0 {
					t.Fatalf("violations %v, want none", v)
				}
				return
			}
			if len(v) != 1 || v[0].Kind != tc.want || b.n.Counters().Violations != 1 {
				t.Fatalf("violations %v, want %s", v, tc.want)
			}
			if v[0].String() == "" || v[0].MsgID != tc.msgs[len(tc.msgs)-1].Header.ID {
				t.Errorf("violation %v does not name the message", v[0])
			}
		})
	}
}

func TestAnswersCountAsVersions(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true})
	b.feed(push("insert", "default/pod/p", "5", podObject("edge-1", "p", "u", "5")))
	b.sent()
	patched := mustMarshal(map[string]any{"Object": podObject("edge-1", "p", "u", "7"), "Err": nil})
	if _, err := b.answerTo("default/podpatch/p", directOnline, "response", patched); err != nil {
		t.Fatal(err)
	}
	b.feed(push("update", "default/pod/p", "7", podObject("edge-1", "p", "u", "7")))
	b.sent()
	if c := b.n.Counters(); c.Echoes != 1 || c.Violations != 0 {
		t.Fatalf("%d echoes and %d violations, want 1 and 0", c.Echoes, c.Violations)
	}
	b.feed(push("update", "default/pod/p", "6", podObject("edge-1", "p", "u", "6")))
	if v := b.n.Violations(); len(v) != 1 || v[0].Kind != OlderAfterNewer {
		t.Fatalf("violations %v, want an older version after that of an answer", v)
	}
	old := mustMarshal(map[string]any{"Object": podObject("edge-1", "p", "u", "5"), "Err": nil})
	if _, err := b.answerTo("default/podpatch/p", directOnline, "response", old); err != nil {
		t.Fatal(err)
	}
	if v := b.n.Violations(); len(v) != 2 || v[1].Kind != OlderAfterNewer {
		t.Fatalf("violations %v, want an older answer too", v)
	}
}

func TestResendsDuplicatesAndOverlaps(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true})
	m := push("insert", "default/configmap/a", "1", object("ConfigMap", "default", "a", "u", "1"))
	b.feed(m, m) // resent before the ack was written
	if c := b.n.Counters(); c.Resends != 1 || c.Duplicates != 0 || c.Overlaps != 0 || c.MaxUnacked != 2 {
		t.Fatalf("after a resend: %+v", c)
	}
	if acks := len(b.sent()); acks != 2 {
		t.Fatalf("%d acks, want one for each copy", acks)
	}
	b.feed(push("update", "default/configmap/a", "1", object("ConfigMap", "default", "a", "u", "1")))
	if c := b.n.Counters(); c.Duplicates != 1 || c.Overlaps != 0 {
		t.Fatalf("after the same version under another ID: %+v", c)
	}
	b.feed(push("update", "default/configmap/a", "2", object("ConfigMap", "default", "a", "u", "2")))
	if c := b.n.Counters(); c.Overlaps != 1 || c.Duplicates != 1 {
		t.Fatalf("after a push before the ack of the last: %+v", c)
	}
	got := b.n.PushesOf("default/configmap/a")
	if len(got) != 4 || !got[1].Resend || !got[2].Duplicate || got[3].Version != "2" || got[3].Seq != 4 {
		t.Fatalf("history is %+v", got)
	}
	b.n.WipeStore()
	b.sent()
	b.feed(push("update", "default/configmap/a", "2", object("ConfigMap", "default", "a", "u", "2")))
	if c := b.n.Counters(); c.Duplicates != 1 {
		t.Error("giving a version again after the store was lost is no duplicate")
	}
}

func TestRing(t *testing.T) {
	r := ring[int]{max: 3}
	for i := range 3 {
		if _, evicted := r.add(i); evicted {
			t.Fatal("evicted before it was full")
		}
	}
	if old, evicted := r.add(3); !evicted || old != 0 {
		t.Errorf("evicted %d (%t), want 0", old, evicted)
	}
	if got := r.all(); len(got) != 3 || got[0] != 1 || got[2] != 3 {
		t.Errorf("holds %v, want 1 2 3", got)
	}
	if v := r.find(func(i *int) bool { return *i < 3 }); v == nil || *v != 2 {
		t.Error("find does not give the newest match")
	}
}
