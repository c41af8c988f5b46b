package edgesim

import (
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// FuzzReceived feeds any frame, as push and as answer, to a node with a pod.
func FuzzReceived(f *testing.F) {
	for _, name := range []string{"join.jsonl", "reconnect.jsonl"} {
		for _, r := range readRecording(f, name) {
			if r.Dir == "cloud>edge" {
				f.Add(r.Message.Frame().Bytes())
			}
		}
	}
	f.Add([]byte(`{"header":{},"route":{"group":"resource","operation":"delete","resource":"a/pod/b"},"content":[]}`))
	f.Add([]byte(`{"header":{"parent_msg_id":"w"},"route":{"group":"resource","operation":"response","resource":"a/configmap/b"},"content":{"Object":1,"Err":null}}`))
	f.Add([]byte(`{"header":{"parent_msg_id":"w"},"route":{"group":"resource","operation":"error"},"content":{"Err":{}}}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := message.Decode(frame)
		if err != nil {
			return
		}
		b := newBench(t, Options{Name: "edge2"})
		answered := 0
		b.n.core.waiters["w"] = &waiter{
			request: message.New("", message.Route{}, nil), path: remote,
			done: func(*message.Message, error) { answered++ },
		}
		b.feed(m)
		b.sent()
		b.feed(m)
		b.sent()
		if answered > 1 {
			t.Errorf("one waiter was called %d times", answered)
		}
		if isPush(m) && b.n.Counters().Pushes > 2 {
			t.Errorf("two frames count as %d pushes", b.n.Counters().Pushes)
		}
	})
}
