package message_test

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

//go:embed testdata/frames.txt
var framesFile string

// frame is one recorded message.
type frame struct {
	name string
	up   bool // from the edge
	wire string
}

func recorded(tb testing.TB) []frame {
	tb.Helper()
	var out []frame
	for line := range strings.Lines(framesFile) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(fields) != 3 || (fields[1] != "up" && fields[1] != "down") {
			tb.Fatalf("testdata/frames.txt: line %.60q is not <name> up|down <frame>", line)
		}
		out = append(out, frame{name: fields[0], up: fields[1] == "up", wire: fields[2]})
	}
	if len(out) == 0 {
		tb.Fatal("testdata/frames.txt holds no frame")
	}
	return out
}

func mustDecode(tb testing.TB, wire string) *message.Message {
	tb.Helper()
	m, err := message.Decode([]byte(wire))
	if err != nil {
		tb.Fatalf("Decode(%.200s): %v", wire, err)
	}
	return m
}

// TestRecordedFrames: what a real edge and a real cloud said survives decode, encode and decode, and our wire form says
// the same as theirs.
func TestRecordedFrames(t *testing.T) {
	for _, f := range recorded(t) {
		t.Run(f.name, func(t *testing.T) {
			m := mustDecode(t, f.wire)
			if m.Header.ID == "" || m.Header.Timestamp == 0 || m.Route.Operation == "" {
				t.Errorf("header or route is not read: %+v %+v", m.Header, m.Route)
			}
			wire := m.Frame().Bytes()
			if again := mustDecode(t, string(wire)); !reflect.DeepEqual(again, m) {
				t.Errorf("after encode and decode\n got %+v\nwant %+v", again, m)
			}
			if got, want := jsonValue(t, wire), jsonValue(t, []byte(f.wire)); !reflect.DeepEqual(got, want) {
				t.Errorf("our wire form\n got %v\nwant %v", got, want)
			}
		})
	}
}

func jsonValue(tb testing.TB, data []byte) any {
	tb.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		tb.Fatalf("%.200s is not JSON: %v", data, err)
	}
	return v
}

// TestRecordedContents: the contents of recorded requests decode into what they hold, in the form in which the edge sent
// each of them.
func TestRecordedContents(t *testing.T) {
	frames := map[string]string{}
	for _, f := range recorded(t) {
		frames[f.name] = f.wire
	}
	type object struct {
		Metadata struct{ Name, Namespace, UID string }
		Spec     struct {
			BoundObjectRef struct{ Kind, Name string }
		}
		Preconditions struct{ UID string }
		GroupID       string `json:"group_id"`
		Device        struct{ Name, State string }
		Verb          string
	}
	for name, check := range map[string]func(object) bool{
		"lease-insert":        func(o object) bool { return o.Metadata.Namespace == "kube-node-lease" && o.Metadata.Name == "edge2" },
		"token-query":         func(o object) bool { return o.Spec.BoundObjectRef.Kind == "Pod" && o.Spec.BoundObjectRef.Name == "tok" },
		"pod-delete-request":  func(o object) bool { return len(o.Preconditions.UID) == 36 },
		"pod-patch":           func(o object) bool { return len(o.Metadata.UID) == 36 },
		"membership-query":    func(o object) bool { return o.GroupID == "edge2" },
		"device-state-report": func(o object) bool { return o.Device.Name == "t1" && o.Device.State == "online" },
		"application":         func(o object) bool { return o.Verb == "get" },
	} {
		t.Run(name, func(t *testing.T) {
			var o object
			if err := mustDecode(t, frames[name]).DecodeContent(&o); err != nil || !check(o) {
				t.Errorf("DecodeContent of %s: %+v, %v", frames[name], o, err)
			}
		})
	}
	t.Run("texts", func(t *testing.T) {
		for name, want := range map[string]string{"keepalive": "ping", "pod-ack": message.ContentOK, "twin-confirm": message.ContentOK} {
			if got, ok := mustDecode(t, frames[name]).ContentText(); !ok || got != want {
				t.Errorf("content of %s: got %q, %v, want %q", name, got, ok, want)
			}
		}
	})
	t.Run("none", func(t *testing.T) {
		if m := mustDecode(t, frames["lease-query"]); m.Content != nil {
			t.Errorf("content null: got %q, want nil", m.Content)
		}
	})
}
