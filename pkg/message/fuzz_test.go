package message_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// FuzzDecode: no input panics, what is decoded is encoded as valid JSON that decodes to the same, and the content
// readers accept or refuse it.
func FuzzDecode(f *testing.F) {
	for _, r := range recorded(f) {
		f.Add([]byte(r.wire))
		f.Add([]byte(r.wire[:len(r.wire)/2])) // a split frame
	}
	f.Add([]byte(`{"header":{"msg_id":"\ud800"},"content":"e30="}`))
	f.Add([]byte(`{"CONTENT":1e400,"content":[]} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := message.Decode(data)
		if err != nil {
			return
		}
		wire := m.Frame().Bytes()
		if !json.Valid(wire) {
			t.Fatalf("encoded form is not JSON: %q of %q", wire, data)
		}
		again, err := message.Decode(wire)
		if err != nil {
			t.Fatalf("decode of the encoded form %q of %q: %v", wire, data, err)
		}
		if !reflect.DeepEqual(again, m) {
			t.Fatalf("after encode and decode\n got %+v\nwant %+v\nof %q", again, m, data)
		}
		if raw, err := m.ContentJSON(); err == nil && !json.Valid(raw) {
			t.Fatalf("ContentJSON gave %q of %q", raw, data)
		}
		if text, ok := m.ContentText(); ok && !bytes.Equal(mustText(t, message.Text(text)), []byte(text)) {
			t.Fatalf("Text(%q) is another text", text)
		}
	})
}

func mustText(t *testing.T, content json.RawMessage) []byte {
	t.Helper()
	s, ok := (&message.Message{Content: content}).ContentText()
	if !ok {
		t.Fatalf("%q is no text", content)
	}
	return []byte(s)
}

// FuzzParseResource: no path panics, and what is accepted is written back as it was.
func FuzzParseResource(f *testing.F) {
	for _, r := range recorded(f) {
		m, err := message.Decode([]byte(r.wire))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Route.Resource)
	}
	for _, s := range []string{"", "/", "//", "a//b", "a/b/", "null/node/x", "a/b/c/d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, err := message.ParseResource(path)
		if err != nil {
			return
		}
		if r.Namespace == "" || r.Type == "" {
			t.Fatalf("ParseResource(%q): got %+v with an empty part", path, r)
		}
		if got := r.String(); got != path {
			t.Fatalf("String of %+v: got %q, want %q", r, got, path)
		}
	})
}
