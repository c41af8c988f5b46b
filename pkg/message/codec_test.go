package message_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// TestFrame pins the wire form of spec 02 §1.1: which keys are always there, which only with a value, and how texts are
// escaped. EdgeCore's own encoder writes the same bytes.
func TestFrame(t *testing.T) {
	route := message.Route{Source: "edgecontroller", Group: "resource", Operation: "insert", Resource: "default/pod/a"}
	for _, tc := range []struct {
		name string
		m    message.Message
		want string
	}{
		{
			name: "empty message has all three top-level keys",
			want: `{"header":{"msg_id":"","timestamp":0},"route":{},"content":null}`,
		},
		{
			name: "push",
			m: message.Message{
				Header: message.Header{ID: "1", Timestamp: 1760000000000, ResourceVersion: "184467"},
				Route:  route, Content: json.RawMessage(`{"kind":"Pod"}`),
			},
			want: `{"header":{"msg_id":"1","timestamp":1760000000000,"resourceversion":"184467"},` +
				`"route":{"source":"edgecontroller","group":"resource","operation":"insert","resource":"default/pod/a"},` +
				`"content":{"kind":"Pod"}}`,
		},
		{
			name: "every field",
			m: message.Message{
				Header: message.Header{ID: "1", ParentID: "0", Timestamp: -1, ResourceVersion: "2", Sync: true, Type: "t"},
				Route:  message.Route{Source: "s", Destination: "d", Group: "g", Operation: "o", Resource: "r"},
			},
			want: `{"header":{"msg_id":"1","parent_msg_id":"0","timestamp":-1,"resourceversion":"2","sync":true,"type":"t"},` +
				`"route":{"source":"s","destination":"d","group":"g","operation":"o","resource":"r"},"content":null}`,
		},
		{
			name: "the node is not on the wire",
			m:    message.Message{Header: message.Header{ID: "1"}, Node: "edge-1"},
			want: `{"header":{"msg_id":"1","timestamp":0},"route":{},"content":null}`,
		},
		{
			name: "texts are escaped as encoding/json does",
			m:    message.Message{Route: message.Route{Resource: "a\"b\\c\n<>&é\u2028"}, Content: message.Text("tab\t<x>\x7f")},
			want: `{"header":{"msg_id":"","timestamp":0},"route":{"resource":"a\"b\\c\n\u003c\u003e\u0026é\u2028"},"content":"tab\t\u003cx\u003e` + "\x7f" + `"}`,
		},
		{
			name: "invalid UTF-8 is replaced",
			m:    message.Message{Route: message.Route{Resource: "a\xffb"}},
			want: `{"header":{"msg_id":"","timestamp":0},"route":{"resource":"a\ufffdb"},"content":null}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.m.Frame()
			got := f.Bytes()
			if string(got) != tc.want+"\n" {
				t.Errorf("frame\n got %s\nwant %s", got, tc.want)
			}
			if f.Len() != len(got) {
				t.Errorf("Len: got %d, want %d", f.Len(), len(got))
			}
			var parts bytes.Buffer
			if err := f.Parts(func(b []byte) error { _, err := parts.Write(b); return err }); err != nil || !bytes.Equal(parts.Bytes(), got) {
				t.Errorf("parts: got %s, %v, want %s", parts.Bytes(), err, got)
			}
		})
	}
}

// TestFrameSharesBody: one body serves any number of frames without a copy.
func TestFrameSharesBody(t *testing.T) {
	body := json.RawMessage(`{"kind":"ConfigMap"}`)
	for range 2 {
		f := message.New("n", message.Route{}, body).Frame()
		shared := false
		_ = f.Parts(func(b []byte) error { // never fails: the function doesn't
			shared = shared || &b[0] == &body[0]
			return nil
		})
		if !shared {
			t.Error("the frame holds a copy of the body")
		}
	}
}

func TestPartsStopsAtFirstError(t *testing.T) {
	boom := errors.New("boom")
	for fail := range 3 {
		calls := 0
		err := message.New("n", message.Route{}, nil).Frame().Parts(func([]byte) error {
			if calls++; calls > fail {
				return boom
			}
			return nil
		})
		if !errors.Is(err, boom) || calls != fail+1 {
			t.Errorf("error of part %d: got %v after %d calls", fail, err, calls)
		}
	}
}

func TestDecode(t *testing.T) {
	want := &message.Message{
		Header:  message.Header{ID: "1", ParentID: "0", Timestamp: 5, ResourceVersion: "7"},
		Route:   message.Route{Source: "s", Group: "g", Operation: "o", Resource: "r"},
		Content: json.RawMessage(`{"n":12345678901234567890}`),
	}
	const wire = `{"header":{"msg_id":"1","parent_msg_id":"0","timestamp":5,"resourceversion":"7"},` +
		`"route":{"source":"s","group":"g","operation":"o","resource":"r"},"content":{"n":12345678901234567890}}`
	for _, tc := range []struct{ name, wire string }{
		{"plain", wire},
		{"newline", wire + "\n"},
		{"only the first value counts", wire + `{"header":{"msg_id":"2"}}`},
		{"garbage after the first value", wire + "\x00]["},
		{"unknown keys", strings.Replace(wire, `{"header":{`, `{"router":1,"x":[{}],"header":{"y":null,`, 1)},
		{"keys in any case", strings.NewReplacer(`"header"`, `"HEADER"`, `"msg_id"`, `"Msg_Id"`).Replace(wire)},
		{"leading space", " \t\r\n" + wire},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := mustDecode(t, tc.wire); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	t.Run("missing parts are empty", func(t *testing.T) {
		for _, wire := range []string{`{}`, `{"content":null}`, `{"header":null,"route":null,"content":null}`} {
			if got := mustDecode(t, wire); !reflect.DeepEqual(got, &message.Message{}) {
				t.Errorf("%s: got %+v, want an empty message", wire, got)
			}
		}
	})
	t.Run("the message keeps no reference to the data", func(t *testing.T) {
		data := []byte(wire)
		got, err := message.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		clear(data)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after the data was overwritten: got %+v", got)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for _, tc := range []struct{ name, wire string }{
		{"nothing", ""},
		{"space", " \n"},
		{"null", "null"},
		{"number", "1"},
		{"text", `"x"`},
		{"list", `[]`},
		{"cut short", `{"header":{"msg_id":"1"`},
		{"id is a number", `{"header":{"msg_id":1}}`},
		{"timestamp is a fraction", `{"header":{"timestamp":1.5}}`},
		{"timestamp overflows", `{"header":{"timestamp":9223372036854775808}}`},
		{"route is a list", `{"route":[]}`},
		{"nesting beyond the bound", `{"content":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + `}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if m, err := message.Decode([]byte(tc.wire)); err == nil {
				t.Errorf("Decode(%.80q): got %+v, want an error", tc.wire, m)
			}
		})
	}
	if _, err := message.Decode([]byte("null")); !errors.Is(err, message.ErrNoJSON) {
		t.Errorf("Decode(null): got %v, want ErrNoJSON", err)
	}
}

// TestContentForms: EdgeCore sends an object nested, as a text of JSON, or as base64 of JSON, depending on what its
// sender held (spec 02 §1.1).
func TestContentForms(t *testing.T) {
	const object = `{"metadata":{"name":"a<b"},"n":9007199254740993}`
	quoted, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, content string }{
		{"nested", object},
		{"text", string(quoted)},
		{"base64", `"` + base64.StdEncoding.EncodeToString([]byte(object)) + `"`},
		{"text with a trailing newline", string(message.Text(object + "\n"))},
		{"base64 with a trailing newline", `"` + base64.StdEncoding.EncodeToString([]byte(object+"\n")) + `"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := mustDecode(t, `{"content":`+tc.content+`}`)
			var got struct {
				Metadata struct{ Name string }
				N        int64
			}
			if err := m.DecodeContent(&got); err != nil || got.Metadata.Name != "a<b" || got.N != 9007199254740993 {
				t.Errorf("DecodeContent: got %+v, %v", got, err)
			}
		})
	}
	t.Run("a list", func(t *testing.T) {
		var got []int
		m := &message.Message{Content: json.RawMessage(`"[1,2]"`)}
		if err := m.DecodeContent(&got); err != nil || !reflect.DeepEqual(got, []int{1, 2}) {
			t.Errorf("DecodeContent: got %v, %v", got, err)
		}
	})
}

func TestContentRefuses(t *testing.T) {
	var v struct{ A int }
	for _, tc := range []struct{ name, content string }{
		{"plain text", `"OK"`},
		{"empty text", `""`},
		{"base64 of no JSON", `"` + base64.StdEncoding.EncodeToString([]byte("no json")) + `"`},
		{"JSON of another type", `{"A":"x"}`},
		{"a list for an object", `[1]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &message.Message{Content: json.RawMessage(tc.content)}
			if err := m.DecodeContent(&v); err == nil {
				t.Errorf("DecodeContent(%s): got %+v, want an error", tc.content, v)
			}
		})
	}
	if err := (&message.Message{}).DecodeContent(&v); !errors.Is(err, message.ErrNoContent) {
		t.Errorf("DecodeContent of no content: got %v, want ErrNoContent", err)
	}
}

func TestContentText(t *testing.T) {
	for _, tc := range []struct {
		content, want string
		ok            bool
	}{
		{`"OK"`, "OK", true},
		{`"\u003c\n"`, "<\n", true},
		{`""`, "", true},
		{``, "", false},
		{`null`, "", false},
		{`{}`, "", false},
		{`1`, "", false},
	} {
		m := &message.Message{Content: json.RawMessage(tc.content)}
		if got, ok := m.ContentText(); got != tc.want || ok != tc.ok {
			t.Errorf("ContentText(%s): got %q, %v, want %q, %v", tc.content, got, ok, tc.want, tc.ok)
		}
	}
}

func TestReplies(t *testing.T) {
	req := mustDecode(t, `{"header":{"msg_id":"q","timestamp":1},"route":{"source":"edged","group":"meta","operation":"query","resource":"default/secret/s"},"content":null}`)
	req.Node = "edge-1"
	for _, tc := range []struct {
		name      string
		reply     *message.Message
		operation string
		content   string
	}{
		{"reply", message.Reply(req, "edgecontroller", json.RawMessage(`{"a":1}`)), "response", `{"a":1}`},
		{"error", message.ErrorReply(req, "edgecontroller", `no "x"`), "error", `"no \"x\""`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := tc.reply
			want := message.Route{Source: "edgecontroller", Group: "resource", Operation: tc.operation, Resource: "default/secret/s"}
			if r.Route != want || r.Header.ParentID != "q" || r.Node != "edge-1" || string(r.Content) != tc.content {
				t.Errorf("got %+v %q", r, r.Content)
			}
			if r.Header.ID == "" || r.Header.ID == "q" || r.Header.Timestamp == 0 {
				t.Errorf("the reply needs an identity of its own: %+v", r.Header)
			}
		})
	}
}

// The cost of one push: the body is never copied, the header costs one allocation.
//
//	go test -bench . -benchmem ./pkg/message
func BenchmarkFrame(b *testing.B) {
	m := message.New("edge-1", message.Route{
		Source: "edgecontroller", Group: "resource", Operation: "update", Resource: "default/configmap/config-1",
	}, json.RawMessage(`{"data":"`+strings.Repeat("x", 16<<10)+`"}`))
	m.Header.ResourceVersion = "123456"
	b.ReportAllocs()
	for b.Loop() {
		f := m.Frame()
		n := 0
		_ = f.Parts(func(p []byte) error { n += len(p); return nil })
		if n != f.Len() {
			b.Fatal("a part is missing")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, f := range recorded(b) {
		if f.name != "keepalive" && f.name != "pod-ack" && f.name != "lease-insert" && f.name != "pod-patch" {
			continue
		}
		data := []byte(f.wire)
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := message.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
