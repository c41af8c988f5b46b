package edgesim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func configMap(name, version string) *message.Message {
	return push("update", "default/configmap/"+name, version, object("ConfigMap", "default", name, "uid-"+name, version))
}

func TestFIFODropsItsOldest(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true, Faults: Faults{StallFIFO: true}})
	for i := range 103 {
		b.feed(configMap(fmt.Sprint("a", i), "1"))
	}
	if c := b.n.Counters(); c.Overflows != 3 || c.Pushes != 103 {
		t.Fatalf("%d overflows of %d pushes, want 3 of 103", c.Overflows, c.Pushes)
	}
	b.n.SetFaults(Faults{})
	b.feed()
	if acks, rows := len(b.sent()), len(b.n.Store()); acks != 100 || rows != 100 {
		t.Fatalf("%d acks and %d rows, want 100 each", acks, rows)
	}
	for i, p := range b.n.Pushes() {
		want := Acked
		if i < 3 {
			want = Overflowed
		}
		if p.Outcome != want {
			t.Errorf("push %d has outcome %d, want %d", i, p.Outcome, want)
		}
	}
	b.n.SetFaults(Faults{StallFIFO: true, FIFO: 2})
	b.feed(configMap("x", "2"), configMap("y", "2"), configMap("z", "2"))
	if c := b.n.Counters(); c.Overflows != 4 {
		t.Errorf("%d overflows with a receive queue of 2, want one more", c.Overflows)
	}
}

func TestFullInboxAndOutboxDropWhatComes(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true, Limits: Limits{Inbox: 2, Outbox: 3, StoreDelay: time.Hour}})
	for i := range 5 {
		b.feed(configMap(fmt.Sprint("a", i), "1")) // the first is processed at once, two wait
	}
	if c := b.n.Counters(); c.InboxDrops != 2 {
		t.Errorf("%d drops of the inbox, want 2", c.InboxDrops)
	}
	b = newBench(t, Options{LinkOnly: true, Limits: Limits{Outbox: 3}})
	for i := range 5 {
		b.feed(configMap(fmt.Sprint("a", i), "1"))
	}
	if c := b.n.Counters(); c.OutboxDrops != 2 || len(b.sent()) != 3 {
		t.Errorf("%d drops of the outbox, want 2", c.OutboxDrops)
	}
}

func TestStoreDelayAndVolumeBlockTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := linkOnly(c, "edge-1")
		o.Limits.StoreDelay = 100 * time.Millisecond
		n := c.start(o)
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		l := c.link()
		for i := range 10 {
			l.send(configMap(fmt.Sprint("a", i), "1"))
		}
		if err := n.WaitRow(within(t, time.Minute), "default/configmap/a9", nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 900*time.Millisecond || took > 1100*time.Millisecond {
			t.Errorf("ten messages took %s, want 0.9 s", took)
		}
		volume := message.New("", message.Route{Source: "cloudhub", Group: "resource", Operation: "createvolume", Resource: "default/volume/v"}, message.Text("{}"))
		begin = time.Now()
		l.send(volume)
		l.send(configMap("late", "1"))
		if a := l.answerTo(t, volume.Header.ID); a.Content != nil || a.Route.Operation != "response" {
			t.Errorf("an edge without driver answers %s", a.Content)
		}
		if err := n.WaitRow(within(t, time.Minute), "default/configmap/late", nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < time.Minute {
			t.Errorf("the store went on after %s", took)
		}
	})
}

func TestVolumeHook(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true, Volume: func(operation string, content []byte) []byte {
		return mustMarshal(map[string]string{operation: string(content)})
	}})
	b.feed(message.New("", message.Route{Source: "cloudhub", Group: "resource", Operation: "deletevolume", Resource: "default/volume/v"}, message.Text("x")))
	if sent := b.sent(); len(sent) != 1 || string(sent[0].Content) != `{"deletevolume":"x"}` {
		t.Errorf("sent %v", sent)
	}
}

func TestAckFaults(t *testing.T) {
	only := func(r string) bool { return r == "default/configmap/a" }
	for _, tc := range []struct {
		name   string
		faults Faults
		want   int // acks for a
	}{
		{"none", Faults{}, 1},
		{"drop", Faults{DropAcks: 1, Only: only}, 0},
		{"duplicate", Faults{DuplicateAcks: 2, Only: only}, 3},
		{"drop nothing", Faults{DropAcks: 0, Only: only}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, Options{LinkOnly: true, Faults: tc.faults})
			a, other := configMap("a", "1"), configMap("b", "1")
			b.feed(a, other)
			got := map[string]int{}
			ids := map[string]bool{}
			for _, m := range b.sent() {
				got[m.Header.ParentID]++
				ids[m.Header.ID] = true
			}
			if got[a.Header.ID] != tc.want || got[other.Header.ID] != 1 || len(ids) != tc.want+1 {
				t.Errorf("%d acks for a and %d for b, want %d and 1", got[a.Header.ID], got[other.Header.ID], tc.want)
			}
			if _, ok := b.n.Store()["default/configmap/a"]; !ok {
				t.Error("a push whose ack is lost is stored all the same")
			}
		})
	}
	b := newBench(t, Options{LinkOnly: true, Faults: Faults{DropAcks: 0.5}, Seed: 3})
	for i := range 60 {
		b.feed(configMap("a", fmt.Sprint(i+1)))
	}
	if acks := len(b.sent()); acks < 15 || acks > 45 {
		t.Errorf("half of 60 acks dropped leaves %d", acks)
	}
}

func TestDelayedAndReorderedAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := linkOnly(c, "edge-1")
		o.Faults = Faults{DelayAcks: 10 * time.Second, AckJitter: 10 * time.Second}
		n := c.start(o)
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		l := c.link()
		begin := time.Now()
		var ids []string
		for i := range 20 {
			m := configMap(fmt.Sprint("a", i), "1")
			ids = append(ids, m.Header.ID)
			l.send(m)
		}
		ordered := true
		for i := range ids {
			m := l.expect(t, "ack", func(m *message.Message) bool { return m.Route.Operation == "response" })
			ordered = ordered && m.Header.ParentID == ids[i]
			if at := time.Since(begin); at < 10*time.Second || at > 20100*time.Millisecond {
				t.Errorf("ack after %s, want 10 to 20 s", at)
			}
		}
		if ordered {
			t.Error("a jitter of 10 s left the order of 20 acks")
		}
	})
}

func TestSwap(t *testing.T) {
	order := func(b *bench) (out string) {
		for _, m := range b.sent() {
			out += m.Route.Resource[len("default/configmap/"):]
		}
		return out
	}
	b := newBench(t, Options{LinkOnly: true, Faults: Faults{Swap: SwapAlways}})
	b.feed(configMap("a", "1"), configMap("b", "1"), configMap("c", "1"), configMap("d", "1"))
	if got := order(b); got != "badc" {
		t.Errorf("order is %s, want badc", got)
	}
	// The last of two versions loses: what a cloud with two pushes of one object in flight gets.
	b.feed(configMap("x", "1"), configMap("x", "2"))
	if row := b.n.Store()["default/configmap/x"]; row.Version != "1" {
		t.Errorf("version %s won, want the first sent", row.Version)
	}
	swapped, kept := 0, 0
	b = newBench(t, Options{LinkOnly: true, Faults: Faults{Swap: SwapRandom}, Seed: 7})
	for range 50 {
		b.feed(configMap("a", "1"), configMap("b", "1"))
		b.n.core.release()
		b.feed()
		if order(b) == "ba" {
			swapped++
		} else {
			kept++
		}
	}
	if swapped < 5 || kept < 5 {
		t.Errorf("random swap gave %d swapped and %d kept pairs", swapped, kept)
	}
}

func TestSwapWaitsForANeighbourInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := linkOnly(c, "edge-1")
		o.Faults = Faults{Swap: SwapAlways}
		n := c.start(o)
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		m := configMap("a", "1")
		c.link().send(m)
		c.link().answerTo(t, m.Header.ID)
		if took := time.Since(begin); took != 20*time.Millisecond {
			t.Errorf("a lone push was processed after %s, want 20 ms", took)
		}
	})
}

func TestMessagesForOtherModules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := c.options("edge-1")
		o.Limits.Messages = 2
		n := c.start(o)
		if err := n.WaitReady(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		l := c.link()
		detail := l.expect(t, "membership request", func(m *message.Message) bool { return m.Route.Source == "twin" })
		if detail.Route.Operation != "get" || detail.Route.Resource != "membership/detail" || detail.Route.Group != "resource" {
			t.Errorf("membership request has route %+v", detail.Route)
		}
		again := l.expect(t, "repeated membership request", func(m *message.Message) bool { return m.Route.Source == "twin" })
		if again.Header.ID != detail.Header.ID {
			t.Error("a repetition has another ID")
		}
		confirm := message.New("", message.Route{Source: "devicecontroller", Group: "twin", Operation: "response", Resource: "twin"}, message.Text("OK"))
		confirm.Header.ParentID = detail.Header.ID
		l.send(confirm)
		publish := message.New("", message.Route{Source: "router_eventbus", Group: "user", Operation: "publish", Resource: "a/b"}, message.Text("x"))
		go func() {
			time.Sleep(time.Second)
			l.send(publish)
		}()
		got, err := n.WaitMessage(within(t, time.Minute), func(m *message.Message) bool { return m.Route.Source == "router_eventbus" })
		if err != nil || got.Header.ID != publish.Header.ID {
			t.Fatalf("message %v, error %v", got, err)
		}
		if kept := n.Messages(); len(kept) != 2 || kept[0].Header.ID != confirm.Header.ID {
			t.Errorf("%d messages kept", len(kept))
		}
		for len(l.in) > 0 {
			<-l.in
		}
		time.Sleep(5 * time.Minute)
		for len(l.in) > 0 {
			if m := <-l.in; m.Route.Source == "twin" {
				t.Fatal("a confirmed request was repeated")
			}
		}

		ask := message.New("", message.Route{Source: "metaserver", Group: "dynamiccontroller", Operation: "null", Resource: "null"}, []byte(`{}`))
		go func() {
			m := l.expect(t, "request", func(m *message.Message) bool { return m.Route.Source == "metaserver" })
			a := message.New("", message.Route{Source: "dynamiccontroller", Group: "resource", Operation: "applicationResponse", Resource: "ignore/Application/ignore"}, []byte(`{"x":1}`))
			a.Header.ParentID = m.Header.ID
			l.send(a)
		}()
		answer, err := n.Request(within(t, time.Minute), ask)
		if err != nil || string(answer.Content) != `{"x":1}` {
			t.Fatalf("answer %v, error %v", answer, err)
		}
		if v := n.Violations(); len(v) != 0 {
			t.Errorf("violations %v", v)
		}
		ask.Header.ID = message.NewID()
		if _, err := n.Request(within(t, 2*time.Minute), ask); err == nil {
			t.Error("a request that nobody answers ended well")
		}
	})
}
