package bus_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func query(node string) *message.Message {
	return message.New(node, message.Route{Operation: message.OpQuery, Resource: "default/secret/s"}, nil)
}

// recorder is a Receiver that keeps what it gets.
type recorder struct {
	mu  sync.Mutex // guards the field below
	got []*message.Message
}

func (r *recorder) receive(_ context.Context, m *message.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
	return nil
}

func register(t *testing.T, b *bus.Bus, name, group string, receive bus.Receiver) func() {
	t.Helper()
	unregister, err := b.Register(name, group, receive)
	if err != nil {
		t.Fatal(err)
	}
	return unregister
}

func TestSend(t *testing.T) {
	b := bus.New()
	var edge, device recorder
	register(t, b, "edgecontroller", "resource", edge.receive)
	register(t, b, "devicecontroller", "twin", device.receive)
	m := query("n")
	if err := b.Send(t.Context(), "edgecontroller", m); err != nil {
		t.Fatal(err)
	}
	if len(edge.got) != 1 || edge.got[0] != m || len(device.got) != 0 {
		t.Errorf("received: %d by edgecontroller, %d by devicecontroller, want 1 and 0", len(edge.got), len(device.got))
	}
	if got, want := b.Modules(), []string{"devicecontroller", "edgecontroller"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Modules: got %v, want %v", got, want)
	}
}

func TestSendErrors(t *testing.T) {
	b := bus.New()
	if err := b.Send(t.Context(), "router", query("n")); !errors.Is(err, bus.ErrNoModule) {
		t.Errorf("send to an unknown module: got %v, want ErrNoModule", err)
	}
	if err := b.SendGroup(t.Context(), "user", query("n")); !errors.Is(err, bus.ErrNoModule) {
		t.Errorf("send to an unknown group: got %v, want ErrNoModule", err)
	}
	boom := errors.New("boom")
	register(t, b, "router", "user", func(context.Context, *message.Message) error { return boom })
	if err := b.Send(t.Context(), "router", query("n")); !errors.Is(err, boom) {
		t.Errorf("error of the receiver: got %v, want %v", err, boom)
	}
}

// TestSendGroup: all members get the message in the order of their names, also after one that fails.
func TestSendGroup(t *testing.T) {
	b := bus.New()
	var order []string
	boom := errors.New("boom")
	for _, name := range []string{"c", "a", "b"} {
		register(t, b, name, "g", func(context.Context, *message.Message) error {
			order = append(order, name)
			if name == "a" {
				return boom
			}
			return nil
		})
	}
	register(t, b, "other", "h", func(context.Context, *message.Message) error { order = append(order, "other"); return nil })
	if err := b.SendGroup(t.Context(), "g", query("n")); !errors.Is(err, boom) {
		t.Errorf("got %v, want the error of a", err)
	}
	if want := []string{"a", "b", "c"}; !reflect.DeepEqual(order, want) {
		t.Errorf("order: got %v, want %v", order, want)
	}
}

func TestRegister(t *testing.T) {
	b := bus.New()
	var first, second recorder
	unregister := register(t, b, "m", "g", first.receive)
	if _, err := b.Register("m", "other", second.receive); err == nil {
		t.Error("a name was taken twice")
	}
	unregister()
	if err := b.Send(t.Context(), "m", query("n")); !errors.Is(err, bus.ErrNoModule) {
		t.Errorf("after unregister: got %v, want ErrNoModule", err)
	}
	if err := b.SendGroup(t.Context(), "g", query("n")); !errors.Is(err, bus.ErrNoModule) {
		t.Errorf("group after unregister: got %v, want ErrNoModule", err)
	}
	register(t, b, "m", "g", second.receive)
	unregister() // belongs to the first registration and must not hit the second
	if err := b.SendGroup(t.Context(), "g", query("n")); err != nil || len(second.got) != 1 {
		t.Errorf("after a new registration: %v, %d messages", err, len(second.got))
	}
}

func TestRequestReply(t *testing.T) {
	b := bus.New()
	// The reply comes before Send has returned: the waiter must be there already.
	register(t, b, "m", "g", func(_ context.Context, m *message.Message) error {
		if !b.Reply(message.Reply(m, "edge", message.Text(message.ContentOK))) {
			t.Error("nobody waits for the reply")
		}
		return nil
	})
	req := query("n")
	reply, err := b.Request(t.Context(), "m", req)
	if err != nil || reply.Header.ParentID != req.Header.ID {
		t.Fatalf("Request: got %+v, %v", reply, err)
	}
}

// TestReplyRules: a reply counts once, only with the right id, and only from the node that was asked.
func TestReplyRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.New()
		register(t, b, "m", "g", (&recorder{}).receive)
		req := query("n")
		result := make(chan *message.Message, 1)
		go func() {
			reply, err := b.Request(t.Context(), "m", req)
			if err != nil {
				t.Error(err)
			}
			result <- reply
		}()
		synctest.Wait()

		if b.Reply(message.Reply(query("n"), "edge", nil)) {
			t.Error("a reply to an unknown request was taken")
		}
		foreign := message.Reply(req, "edge", nil)
		foreign.Node = "other"
		if b.Reply(foreign) {
			t.Error("a reply of another node was taken")
		}
		if _, err := b.Request(t.Context(), "m", req); err == nil {
			t.Error("two requests of one id may wait")
		}
		right := message.Reply(req, "edge", nil)
		if !b.Reply(right) {
			t.Fatal("the reply was refused")
		}
		if b.Reply(right) {
			t.Error("a second reply was taken")
		}
		if got := <-result; got != right {
			t.Errorf("got %+v, want %+v", got, right)
		}
		if b.Reply(right) {
			t.Error("a late second reply was taken")
		}
	})
}

func TestRequestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.New()
		register(t, b, "m", "g", (&recorder{}).receive)
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		req, start := query("n"), time.Now()
		if _, err := b.Request(ctx, "m", req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want DeadlineExceeded", err)
		}
		if took := time.Since(start); took != 60*time.Second {
			t.Errorf("waited %v, want 60s", took)
		}
		if b.Reply(message.Reply(req, "edge", nil)) {
			t.Error("the waiter of an ended request is still there")
		}
		if _, err := b.Request(t.Context(), "absent", req); !errors.Is(err, bus.ErrNoModule) {
			t.Errorf("request to an unknown module: got %v, want ErrNoModule", err)
		}
	})
}

// TestCancelNode: the end of a session answers all who wait for its node, and nobody else.
func TestCancelNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.New()
		register(t, b, "m", "g", (&recorder{}).receive)
		reqs := []*message.Message{query("gone"), query("gone"), query("stays")}
		replies := make([]*message.Message, len(reqs))
		var wg sync.WaitGroup
		for i, req := range reqs {
			wg.Go(func() {
				var err error
				if replies[i], err = b.Request(t.Context(), "m", req); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		b.CancelNode("gone", "session ended")
		synctest.Wait()
		if b.Reply(message.Reply(reqs[0], "edge", nil)) {
			t.Error("a reply of the node that is gone was taken")
		}
		if !b.Reply(message.Reply(reqs[2], "edge", nil)) {
			t.Error("the request to the other node was cancelled too")
		}
		wg.Wait()
		for i, r := range replies[:2] {
			text, _ := r.ContentText()
			if r.Route.Operation != message.OpError || r.Header.ParentID != reqs[i].Header.ID || text != "session ended" {
				t.Errorf("reply %d: got %+v %+v %q", i, r.Header, r.Route, text)
			}
		}
	})
}

// TestConcurrentUse runs everything at once, for the race detector; each request must get the reply to itself.
func TestConcurrentUse(t *testing.T) {
	b := bus.New()
	var wg sync.WaitGroup
	register(t, b, "echo", "g", func(_ context.Context, m *message.Message) error {
		for range 2 { // double replies
			wg.Go(func() { b.Reply(message.Reply(m, "edge", m.Content)) })
		}
		return nil
	})
	var canceled atomic.Int64
	for w := range 8 {
		node := fmt.Sprintf("n%d", w%4)
		wg.Go(func() {
			for i := range 200 {
				m := message.New(node, message.Route{}, message.Text(fmt.Sprint(w, i)))
				reply, err := b.Request(t.Context(), "echo", m)
				switch {
				case err != nil:
					t.Errorf("request: %v", err)
				case reply.Route.Operation == message.OpError:
					canceled.Add(1)
				case string(reply.Content) != string(m.Content):
					t.Errorf("got the reply %s to %s", reply.Content, m.Content)
				}
			}
		})
		wg.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("m%d-%d", w, i)
				unregister, err := b.Register(name, "others", (&recorder{}).receive)
				if err != nil {
					t.Errorf("register: %v", err)
					return
				}
				_ = b.SendGroup(t.Context(), "others", query(node)) // may be empty by now
				b.CancelNode(node, "ended")
				b.Modules()
				unregister()
			}
		})
	}
	wg.Wait()
	t.Logf("%d of 1600 requests were cancelled", canceled.Load())
}
