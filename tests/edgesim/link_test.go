package edgesim

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// linkOnly are the options of a node without kubelet.
func linkOnly(c *fakeCloud, name string) Options {
	o := c.options(name)
	o.LinkOnly = true
	return o
}

func TestUpgradeRequestAndKeepalives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		begin := time.Now()
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		h := c.upgrades[0]
		c.mu.Unlock()
		for key, want := range map[string]string{
			"Node_id": "edge-1", "Project_id": DefaultProjectID, "Connectionuse": "msg",
			"User-Agent": "Go-http-client/1.1", "Sec-Websocket-Version": "13", "Origin": "", "Sec-Websocket-Extensions": "",
		} {
			if got := strings.Join(h[key], ","); got != want {
				t.Errorf("header %s is %q, want %q", key, got, want)
			}
		}
		for i := range 3 {
			m := c.link().expect(t, "keepalive", func(*message.Message) bool { return true })
			if m.Route != (message.Route{Source: "websocket", Group: "resource", Operation: "keepalive", Resource: "node"}) || string(m.Content) != `"ping"` {
				t.Fatalf("first frames are keepalives, got %+v %s", m.Route, m.Content)
			}
			if at := time.Since(begin); at < time.Duration(i)*15*time.Second || at > time.Duration(i)*15*time.Second+time.Second {
				t.Errorf("keepalive %d came after %s", i, at)
			}
		}
		if err := n.Cut(CutReset); !errors.Is(err, errNoTCP) {
			t.Errorf("reset of a pipe: %v", err)
		}
	})
}

func TestDialCycleAndHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		c.refuse = 7
		begin := time.Now()
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, 5*time.Minute)); err != nil {
			t.Fatal(err)
		}
		// Five dials 5 s apart, a pause of two heartbeats, then dials 6 to 8.
		if took, want := time.Since(begin), 4*5*time.Second+30*time.Second+2*5*time.Second; took < want || took > want+time.Second {
			t.Errorf("connected after %s, want %s", took, want)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, h := range c.upgrades {
			if uses := len(h["Connectionuse"]); uses != i%5+1 {
				t.Errorf("dial %d has %d times Connectionuse, want %d", i+1, uses, i%5+1)
			}
		}
		if k := n.Counters(); k.Dials != 8 || k.DialFailures != 7 || k.Sessions != 1 {
			t.Errorf("counters %+v", k)
		}
	})
}

func TestLostConnectionIsNoticedByWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		begin := time.Now()
		_ = c.link().ws.UnderlyingConn().Close()
		synctest.Wait()
		if _, connected := n.Session(); !connected {
			t.Error("the read error alone was enough to notice")
		}
		if err := n.Wait(within(t, 10*time.Minute), func(s State) bool { return s.Session() == 2 }); err != nil {
			t.Fatal(err)
		}
		// The next keepalive fails after 14 s, then comes the pause of two heartbeats.
		if took := time.Since(begin); took < 43*time.Second || took > 45*time.Second {
			t.Errorf("connected again after %s, want 44 s", took)
		}
		begin = time.Now()
		n.Reconnect()
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Session() == 3 && s.Connected() }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("Reconnect took %s", took)
		}
	})
}

func TestBadFrameEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		l := c.link()
		l.mu.Lock()
		_ = l.ws.WriteMessage(websocket.TextMessage, []byte("no json"))
		l.mu.Unlock()
		if err := n.Wait(within(t, 10*time.Minute), func(s State) bool { return s.Session() == 2 }); err != nil {
			t.Fatal(err)
		}
		if v := n.Violations(); len(v) != 1 || v[0].Kind != BadFrame {
			t.Errorf("violations %v", v)
		}
	})
}

func TestPingsAreAnsweredAndLimiterCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		ponged := make(chan struct{})
		l := c.link()
		l.ws.SetPongHandler(func(string) error { close(ponged); return nil })
		l.mu.Lock()
		_ = l.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Minute))
		l.mu.Unlock()
		<-ponged
		time.Sleep(time.Minute) // the limiter is full again
		begin := time.Now()
		const pushes = 150
		for range pushes {
			l.send(push("update", "default/configmap/a", "1", object("ConfigMap", "default", "a", "u", "1")))
		}
		ping := message.New("", message.Route{Source: "cloudhub", Operation: "ping", Resource: "node"}, nil)
		l.send(ping)
		acks, answered := 0, time.Duration(0)
		for acks < pushes {
			m := l.expect(t, "ack", func(m *message.Message) bool { return m.Route.Operation == "response" })
			if m.Header.ParentID == ping.Header.ID {
				answered = time.Since(begin)
				continue
			}
			acks++
			// Burst 60, then 30/s.
			if at, least := time.Since(begin), time.Duration(acks-60)*time.Second/30; at < least-50*time.Millisecond {
				t.Fatalf("ack %d came after %s, before %s", acks, at, least)
			}
		}
		if took := time.Since(begin); took > 3100*time.Millisecond {
			t.Errorf("150 acks took %s, want 3 s", took)
		}
		if answered > 100*time.Millisecond {
			t.Errorf("the ping was answered after %s; control messages are not limited", answered)
		}
	})
}

func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		for _, tc := range []struct {
			name, token string
			want        error
		}{
			{"no token", "abc", ErrBadToken},
			{"another cloud", "00" + c.token()[2:], ErrWrongCA},
			{"forged", c.token() + "forged", ErrTokenRefused},
		} {
			o := linkOnly(c, "edge-1")
			o.Token = tc.token
			n, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Run(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
			}
		}
		id, err := Join(t.Context(), linkOnly(c, "edge-1"))
		if err != nil {
			t.Fatal(err)
		}
		if cn := id.leaf.Subject.CommonName; cn != "system:node:edge-1" {
			t.Errorf("certificate is for %s", cn)
		}
		dir := t.TempDir()
		if _, err := LoadIdentity(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an empty directory gives %v", err)
		}
		if err := id.Save(dir); err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !loaded.Key.Equal(id.Key) || string(loaded.Certificate) != string(id.Certificate) {
			t.Error("the saved identity is another one")
		}
		o := linkOnly(c, "edge-1")
		o.Token, o.Dir = "", dir
		if err := c.start(o).WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		c.life = time.Hour
		o := linkOnly(c, "edge-1")
		o.Dir = t.TempDir()
		n := c.start(o)
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		first := n.Identity()
		begin := time.Now()
		if err := n.Wait(within(t, 2*time.Hour), func(s State) bool { return s.Session() == 2 }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 42*time.Minute || took > 55*time.Minute {
			t.Errorf("rotated after %s, want 70 to 90 %% of an hour", took)
		}
		if n.Identity() == first || n.Identity().Key.Equal(first.Key) {
			t.Error("the key is the old one")
		}
		if saved, err := LoadIdentity(o.Dir); err != nil || !saved.Key.Equal(n.Identity().Key) {
			t.Errorf("the new identity is not saved: %v", err)
		}
		if err := n.Wait(within(t, 2*time.Hour), func(s State) bool { return s.Session() == 3 }); err != nil {
			t.Fatal("no second rotation:", err)
		}
	})
}

func TestRenewalIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		c.life = time.Hour
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		c.https.down.Store(true)
		time.Sleep(54 * time.Minute)
		c.https.down.Store(false)
		if err := n.Wait(within(t, 5*time.Minute), func(s State) bool { return s.Session() == 2 }); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStalledReadsAndHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		l := c.link()
		n.SetFaults(Faults{StallReads: true})
		m := push("update", "default/configmap/a", "1", object("ConfigMap", "default", "a", "u", "1"))
		l.send(m)
		time.Sleep(time.Minute)
		if k := n.Counters(); k.Received != 0 || k.Keepalives < 4 {
			t.Fatalf("received %d messages and sent %d keepalives while reads stall", k.Received, k.Keepalives)
		}
		n.SetFaults(Faults{})
		l.answerTo(t, m.Header.ID)

		n.SetFaults(Faults{HalfOpen: true})
		before := n.Counters()
		for len(l.in) > 0 {
			<-l.in
		}
		time.Sleep(time.Minute)
		if after := n.Counters(); after.Keepalives < before.Keepalives+3 || len(l.in) != 0 {
			t.Fatalf("a half-open node believes in %d keepalives, the cloud got %d", after.Keepalives-before.Keepalives, len(l.in))
		}
		if _, connected := n.Session(); !connected {
			t.Error("a half-open node noticed")
		}
	})
}

func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		c.gate.set(true, false)
		for range 8 {
			m := message.New("", message.Route{Source: "bus", Group: "user", Operation: "upload"}, message.Text(strings.Repeat("x", pipeBuffer)))
			if err := n.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		if err := n.Wait(within(t, 10*time.Minute), func(s State) bool { return s.Counters().SendFailures > 0 }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 15*time.Second || took > 16*time.Second {
			t.Errorf("a write to a peer that does not read failed after %s, want 15 s", took)
		}
	})
}

func TestKillAndStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(c.options("edge-1"))
		if err := n.WaitReady(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := n.Kill(t.Context(), CutClose); err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return !s.Connected() && !s.Ready() }); err != nil {
			t.Fatal(err)
		}
		dials := n.Counters().Dials
		time.Sleep(10 * time.Minute)
		if now := n.Counters().Dials; now != dials {
			t.Errorf("a killed node dialled %d times", now-dials)
		}
		if _, err := n.Request(t.Context(), message.New("", message.Route{}, nil)); !errors.Is(err, errOffline) {
			t.Errorf("request of a killed node: %v", err)
		}
		begin := time.Now()
		n.Start()
		if err := n.WaitReady(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("ready %s after the start", took)
		}
		if err := n.Restart(t.Context(), CutClose, true); err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Session() == 3 }); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOnlyOneRunAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(linkOnly(c, "edge-1"))
		if err := n.WaitConnected(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := n.Run(t.Context()); !errors.Is(err, ErrRunning) {
			t.Errorf("second Run: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := n.Wait(ctx, func(State) bool { return false }); !errors.Is(err, ErrWait) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled wait: %v", err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Name: "a"}, {Cloud: "b"}} {
		if _, err := New(o); err == nil {
			t.Errorf("options %q %q were accepted", o.Name, o.Cloud)
		}
	}
	o, err := Options{Name: "a", Cloud: "b", Timing: Timing{Heartbeat: time.Second}}.withDefaults()
	if err != nil || o.Timing.Heartbeat != time.Second || o.Timing.Lease != 10*time.Second || o.Limits.FIFO != 100 || o.hubAddress() != "b:10000" {
		t.Errorf("defaults are %+v, %v", o, err)
	}
	if got := DefaultTiming().Scale(0.1); got.Heartbeat != 1500*time.Millisecond || got.RenewRetry != 200*time.Millisecond {
		t.Errorf("scaled timing is %+v", got)
	}
}
