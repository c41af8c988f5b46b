package csisocket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(createRequest))
	f.Add([]byte(createRequest + createRequest))
	f.Add([]byte(strings.Replace(createRequest, "edge-1", "../..", 1)))
	f.Add([]byte(`{"header":null,"route":{"resource":"node////"},"content":1}`))
	f.Add([]byte(`[[[[`))
	const limit = 4 << 10
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readRequest(bytes.NewReader(data), limit)
		split, splitErr := readRequest(iotest.OneByteReader(bytes.NewReader(data)), limit)
		if (err == nil) != (splitErr == nil) {
			t.Fatalf("at once: %v, byte by byte: %v", err, splitErr)
		}
		if err != nil {
			if errors.Is(err, errSilent) != (got == nil) {
				t.Fatalf("got request %v with error %v", got, err)
			}
			if got != nil && errorAnswer(got, err.Error()).Frame().Len() > maxAnswer {
				t.Error("error answer is longer than the driver reads")
			}
			return
		}
		sent := got.downstream()
		if sent.Header.ID != split.msg.Header.ID || sent.Header.Sync || sent.Header.ParentID != "" {
			t.Errorf("sent header %+v", sent.Header)
		}
		path, err := message.ParseResource(sent.Route.Resource)
		if err != nil || path.Type != message.TypeVolume || path.Name != got.volume {
			t.Errorf("sent resource %q (%v)", sent.Route.Resource, err)
		}
		if decoded, err := message.Decode(sent.Frame().Bytes()); err != nil || decoded.Route != sent.Route {
			t.Errorf("sent message does not decode: %v", err)
		}
	})
}

func FuzzDriverAnswer(f *testing.F) {
	f.Add("response", []byte(createResponse))
	f.Add("response", []byte(`"eyJhIjoxfQ=="`))
	f.Add("error", []byte(`"no"`))
	f.Add("response", []byte(`null`))
	q, err := readRequest(strings.NewReader(createRequest), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, operation string, content []byte) {
		if !json.Valid(content) {
			return // what the hub decoded is JSON
		}
		reply := message.Reply(q.downstream(), message.ModuleHub, bytes.TrimSpace(content))
		reply.Route.Operation = operation
		answer, err := driverAnswer(q, reply)
		if err != nil {
			answer = errorAnswer(q, err.Error())
		}
		if _, ok := answer.ContentText(); !ok || answer.Frame().Len() > maxAnswer || answer.Header.ParentID != "a1" {
			t.Errorf("answer %.200s cannot be read by the driver", answer.Frame().Bytes())
		}
	})
}

func FuzzConnection(f *testing.F) {
	f.Add([]byte(createRequest))
	f.Add([]byte(`{`))
	s := newServer(f, Config{Address: "unix:///unused"}, requesterFunc(func(_ context.Context, _ string, msg *message.Message) (*message.Message, error) {
		return message.Reply(msg, message.ModuleHub, msg.Content), nil
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		conn := &deadConn{Reader: bytes.NewReader(data)}
		s.serveConn(t.Context(), conn)
		if conn.written.Len() == 0 {
			return
		}
		if decode(t, conn.written.String()).Route.Operation == "" || conn.written.Len() > maxAnswer || conn.writes != 1 {
			t.Errorf("answer %q in %d writes", conn.written.String(), conn.writes)
		}
	})
}
