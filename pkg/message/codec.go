package message

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// suffix ends the wire form after the content; EdgeCore's own encoder ends a message with a newline (spec 02 §2.3).
const suffix = "}\n"

// Frame is the wire form of one message in three parts, so that a body shared by many nodes is never copied. The parts
// are written one after another and make one WebSocket message.
type Frame struct {
	prefix []byte
	body   json.RawMessage
}

// Frame returns the JSON wire form of m (spec 02 §1.1). The body is shared with m, not copied.
func (m *Message) Frame() Frame {
	body := m.Content
	if len(body) == 0 {
		body = json.RawMessage("null")
	}
	return Frame{prefix: m.appendPrefix(make([]byte, 0, 256+len(m.Route.Resource))), body: body}
}

// Len is the number of bytes of the frame.
func (f Frame) Len() int { return len(f.prefix) + len(f.body) + len(suffix) }

// Parts calls write for each part in order and stops at the first error.
func (f Frame) Parts(write func([]byte) error) error {
	if err := write(f.prefix); err != nil {
		return err
	}
	if err := write(f.body); err != nil {
		return err
	}
	return write([]byte(suffix))
}

// Bytes returns the frame as one new slice.
func (f Frame) Bytes() []byte {
	b := make([]byte, 0, f.Len())
	b = append(b, f.prefix...)
	b = append(b, f.body...)
	return append(b, suffix...)
}

func (m *Message) appendPrefix(b []byte) []byte {
	h, r := &m.Header, &m.Route
	b = append(b, `{"header":{"msg_id":`...)
	b = appendString(b, h.ID)
	if h.ParentID != "" {
		b = append(b, `,"parent_msg_id":`...)
		b = appendString(b, h.ParentID)
	}
	b = append(b, `,"timestamp":`...)
	b = strconv.AppendInt(b, h.Timestamp, 10)
	if h.ResourceVersion != "" {
		b = append(b, `,"resourceversion":`...)
		b = appendString(b, h.ResourceVersion)
	}
	if h.Sync {
		b = append(b, `,"sync":true`...)
	}
	if h.Type != "" {
		b = append(b, `,"type":`...)
		b = appendString(b, h.Type)
	}
	b = append(b, `},"route":{`...)
	sep := ""
	for _, f := range [...]struct{ key, value string }{
		{`"source":`, r.Source}, {`"destination":`, r.Destination}, {`"group":`, r.Group},
		{`"operation":`, r.Operation}, {`"resource":`, r.Resource},
	} {
		if f.value == "" {
			continue
		}
		b = append(b, sep...)
		b = append(b, f.key...)
		b = appendString(b, f.value)
		sep = ","
	}
	return append(b, `},"content":`...)
}

// appendString appends s as a JSON string. Plain ASCII, which is nearly everything here, takes the short path.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil { // a Go string always marshals: invalid UTF-8 is replaced
				panic(err)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// ErrNoJSON says that a frame holds no JSON object.
var ErrNoJSON = errors.New("message is not a JSON object")

// Decode reads the first JSON value of data as a message (spec 02 §2.3: what follows it is ignored). The message keeps
// no reference to data. The caller bounds the size of data; nesting is bounded by encoding/json (10 000).
func Decode(data []byte) (*Message, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	var m *Message
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("decode message of %d bytes: %w", len(data), err)
	}
	if m == nil { // the JSON value null
		return nil, ErrNoJSON
	}
	if string(m.Content) == "null" {
		m.Content = nil
	}
	return m, nil
}

// ErrNoContent says that a message which needs a content has none.
var ErrNoContent = errors.New("message has no content")

// DecodeContent decodes the content into v. EdgeCore sends objects in three forms, depending on what its sender held
// (spec 02 §1.1): nested JSON, a string of JSON text, or a string of base64 of JSON text; all are accepted.
func (m *Message) DecodeContent(v any) error {
	raw, err := m.ContentJSON()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decode content of %d bytes: %w", len(raw), err)
	}
	return nil
}

// ContentJSON returns the content as JSON of an object or list, unwrapped from a string if it was sent as one.
func (m *Message) ContentJSON() (json.RawMessage, error) {
	if len(m.Content) == 0 {
		return nil, ErrNoContent
	}
	text, isText := m.ContentText()
	if !isText {
		return m.Content, nil
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text), nil
	}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil && json.Valid(b) {
		return b, nil
	}
	return nil, fmt.Errorf("content is a text of %d bytes that holds no JSON", len(text))
}

// ContentText returns the content if it is a JSON string.
func (m *Message) ContentText() (string, bool) {
	if len(m.Content) == 0 || m.Content[0] != '"' {
		return "", false
	}
	var s string
	if err := json.Unmarshal(m.Content, &s); err != nil {
		return "", false
	}
	return s, true
}
