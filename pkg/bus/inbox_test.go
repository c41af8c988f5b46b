package bus_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func newInbox(t testing.TB, cfg bus.InboxConfig) *bus.Inbox {
	t.Helper()
	in, err := bus.NewInbox(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// run runs the inbox and returns a function that ends it and waits until it is gone.
func run(ctx context.Context, t testing.TB, in *bus.Inbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	return sync.OnceFunc(func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func numbered(node string, i int) *message.Message {
	return message.New(node, message.Route{Operation: message.OpUpdate}, message.Text(fmt.Sprint(i)))
}

func number(m *message.Message) string {
	s, _ := m.ContentText()
	return s
}

func put(t testing.TB, in *bus.Inbox, m *message.Message) {
	t.Helper()
	if err := in.Put(t.Context(), m); err != nil {
		t.Error(err)
	}
}

func TestNewInboxRefuses(t *testing.T) {
	handle := func(context.Context, *message.Message) {}
	lane := bus.Lane{Name: "all", Workers: 1, PerNode: 1}
	for name, cfg := range map[string]bus.InboxConfig{
		"no lane":    {Handle: handle},
		"no handler": {Lanes: []bus.Lane{lane}},
		"no worker":  {Lanes: []bus.Lane{{PerNode: 1}}, Handle: handle},
		"no place":   {Lanes: []bus.Lane{{Workers: 1}}, Handle: handle},
	} {
		if _, err := bus.NewInbox(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	reg := prometheus.NewRegistry()
	cfg := bus.InboxConfig{Module: "m", Lanes: []bus.Lane{lane}, Handle: handle, Registerer: reg}
	newInbox(t, cfg)
	if _, err := bus.NewInbox(cfg); err == nil {
		t.Error("two inboxes have the same metrics")
	}
	cfg.Module = "other"
	newInbox(t, cfg)
}

// TestInboxOrder: the messages of one node and lane are handled in the order of arrival and never two at a time, while
// other nodes and lanes go on.
func TestInboxOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, perNode = 7, 50
		type stream struct{ node, lane string }
		got := map[stream][]string{}
		running := map[stream]bool{}
		most := 0
		var mu sync.Mutex // guards the three above
		in := newInbox(t, bus.InboxConfig{
			Module: "m",
			Lanes:  []bus.Lane{{Name: "fast", Workers: 3, PerNode: 4}, {Name: "slow", Workers: 2, PerNode: 4}},
			Lane: func(m *message.Message) int {
				if m.Route.Resource == "slow" {
					return 1
				}
				return 0
			},
			Handle: func(_ context.Context, m *message.Message) {
				s := stream{m.Node, m.Route.Resource}
				mu.Lock()
				if running[s] {
					t.Errorf("two messages of %v are handled at the same time", s)
				}
				running[s] = true
				active := 0
				for _, r := range running {
					if r {
						active++
					}
				}
				most = max(most, active)
				got[s] = append(got[s], number(m))
				mu.Unlock()
				time.Sleep(time.Duration(len(number(m))) * time.Millisecond) // durations differ
				mu.Lock()
				running[s] = false
				mu.Unlock()
			},
		})
		stop := run(t.Context(), t, in)
		synctest.Wait()
		var senders sync.WaitGroup
		for n := range nodes {
			for _, lane := range []string{"fast", "slow"} {
				senders.Go(func() {
					for i := range perNode {
						m := numbered(fmt.Sprintf("n%d", n), i)
						m.Route.Resource = lane
						put(t, in, m)
					}
				})
			}
		}
		senders.Wait()
		time.Sleep(time.Minute)
		stop()
		var want []string
		for i := range perNode {
			want = append(want, fmt.Sprint(i))
		}
		if len(got) != 2*nodes {
			t.Errorf("streams: got %d, want %d", len(got), 2*nodes)
		}
		for s, g := range got {
			if !reflect.DeepEqual(g, want) {
				t.Errorf("%v: got %v, want 0 to %d", s, g, perNode-1)
			}
		}
		if most != 5 {
			t.Errorf("most messages at the same time: got %d, want the 3 + 2 workers", most)
		}
	})
}

// TestInboxFairness: a node that floods the only worker delays the messages of other nodes by nothing but the one
// message that is being handled. Counted, not timed.
func TestInboxFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards the field below
		var order []string
		step := make(chan struct{})
		in := newInbox(t, bus.InboxConfig{
			Lanes: []bus.Lane{{Workers: 1, PerNode: 100}},
			Handle: func(ctx context.Context, m *message.Message) {
				select {
				case <-step:
				case <-ctx.Done():
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, m.Node)
			},
		})
		stop := run(t.Context(), t, in)
		defer stop()
		synctest.Wait()
		flood, end := context.WithCancel(t.Context())
		var flooder sync.WaitGroup
		flooder.Go(func() {
			for i := 0; in.Put(flood, numbered("loud", i)) == nil; i++ {
			}
		})
		synctest.Wait() // the flooder has filled its queue and is blocked
		for range 10 {
			step <- struct{}{}
		}
		synctest.Wait()
		before := len(order)
		for i := range 3 {
			put(t, in, numbered(fmt.Sprintf("quiet-%d", i), 0)) // doesn't block although the other queue is full
		}
		for range 8 {
			step <- struct{}{}
		}
		synctest.Wait()
		mu.Lock()
		after := strings.Join(order[before:], " ")
		mu.Unlock()
		if want := "loud quiet-0 quiet-1 quiet-2 loud loud loud loud"; after != want {
			t.Errorf("turns after the quiet nodes came: got %q, want %q", after, want)
		}
		end()
		flooder.Wait()
	})
}

// TestInboxBackPressure: Put blocks while the queue of the node is full; other nodes and lanes have places of their own;
// ctx ends the waiting.
func TestInboxBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var handled atomic.Int64
		in := newInbox(t, bus.InboxConfig{
			Lanes:  []bus.Lane{{Name: "a", Workers: 1, PerNode: 2}, {Name: "b", Workers: 1, PerNode: 2}},
			Lane:   func(m *message.Message) int { return len(m.Route.Resource) },
			Handle: func(context.Context, *message.Message) { <-release; handled.Add(1) },
		})
		stop := run(t.Context(), t, in)
		synctest.Wait()
		put(t, in, numbered("n", 0)) // is being handled
		synctest.Wait()
		put(t, in, numbered("n", 1))
		put(t, in, numbered("n", 2))

		full := errors.New("session ended")
		ctx, cancel := context.WithCancelCause(t.Context())
		var refused error
		var blocked, later atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() { refused = in.Put(ctx, numbered("n", 3)); blocked.Store(true) })
		wg.Go(func() { put(t, in, numbered("n", 4)); later.Store(true) })
		synctest.Wait()
		if blocked.Load() || later.Load() {
			t.Fatal("Put returned although the queue of the node is full")
		}
		put(t, in, numbered("other", 0))
		other := numbered("n", 5)
		other.Route.Resource = "b"
		put(t, in, other)

		cancel(full)
		synctest.Wait()
		if !blocked.Load() || !errors.Is(refused, full) {
			t.Errorf("Put after its context ended: got %v, want %v", refused, full)
		}
		for range 3 { // the first messages of the node, of the other node and of the other lane
			release <- struct{}{}
		}
		synctest.Wait()
		if !later.Load() {
			t.Error("Put is blocked although there is a place again")
		}
		close(release)
		synctest.Wait()
		if got := handled.Load(); got != 6 {
			t.Errorf("handled: got %d, want 6", got)
		}
		stop()
		wg.Wait()
	})
}

// TestInboxCloseReopen: outside Run an inbox refuses messages, also those that wait for a place; what waits is
// forgotten; Run waits for the handlers; a second Run starts clean.
func TestInboxCloseReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var handled []string
		reg := prometheus.NewRegistry()
		in := newInbox(t, bus.InboxConfig{
			Module: "m", Registerer: reg,
			Lanes: []bus.Lane{{Name: "all", Workers: 1, PerNode: 1}},
			Handle: func(ctx context.Context, m *message.Message) {
				<-release
				handled = append(handled, number(m))
			},
		})
		if err := in.Put(t.Context(), numbered("n", 0)); !errors.Is(err, bus.ErrInboxClosed) {
			t.Errorf("before Run: got %v, want ErrInboxClosed", err)
		}
		stop := run(t.Context(), t, in)
		synctest.Wait()
		put(t, in, numbered("n", 1)) // is being handled
		synctest.Wait()
		put(t, in, numbered("n", 2)) // waits
		var blocked error
		var wg sync.WaitGroup
		wg.Go(func() { blocked = in.Put(t.Context(), numbered("n", 3)) })
		synctest.Wait()

		var stopped atomic.Bool
		wg.Go(func() { stop(); stopped.Store(true) })
		synctest.Wait()
		if stopped.Load() {
			t.Error("Run returned while a handler was running")
		}
		if !errors.Is(blocked, bus.ErrInboxClosed) {
			t.Errorf("Put that waited for a place: got %v, want ErrInboxClosed", blocked)
		}
		if err := in.Put(t.Context(), numbered("n", 4)); !errors.Is(err, bus.ErrInboxClosed) {
			t.Errorf("after the context ended: got %v, want ErrInboxClosed", err)
		}
		release <- struct{}{}
		wg.Wait()
		if want := []string{"1"}; !reflect.DeepEqual(handled, want) {
			t.Errorf("handled: got %v, want %v", handled, want)
		}

		close(release)
		stop = run(t.Context(), t, in)
		synctest.Wait()
		put(t, in, numbered("n", 5))
		synctest.Wait()
		stop()
		if want := []string{"1", "5"}; !reflect.DeepEqual(handled, want) {
			t.Errorf("handled after reopening: got %v, want %v", handled, want)
		}
	})
}

// TestInboxPanic: a panic of the handler costs one message; it is counted and logged with its stack, and the node and
// the worker go on.
func TestInboxPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged []string
		logger := funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{})
		reg := prometheus.NewRegistry()
		var handled []string
		in := newInbox(t, bus.InboxConfig{
			Module: "edgecontroller", Registerer: reg,
			Lanes: []bus.Lane{{Name: "all", Workers: 1, PerNode: 8}},
			Handle: func(_ context.Context, m *message.Message) {
				if number(m) == "1" {
					panicking()
				}
				handled = append(handled, number(m))
			},
		})
		stop := run(klog.NewContext(t.Context(), logger), t, in)
		synctest.Wait()
		for i := range 4 {
			put(t, in, numbered("n", i))
		}
		synctest.Wait()
		stop()
		if want := []string{"0", "2", "3"}; !reflect.DeepEqual(handled, want) {
			t.Errorf("handled: got %v, want %v", handled, want)
		}
		if len(logged) != 1 || !strings.Contains(logged[0], "bus_test.panicking") || !strings.Contains(logged[0], `"module"="edgecontroller"`) {
			t.Errorf("log: got %q, want one line with the module and the stack", logged)
		}
		want := `# HELP cloudcore_bus_panics_total Messages dropped because their handler panicked, by module.
# TYPE cloudcore_bus_panics_total counter
cloudcore_bus_panics_total{module="edgecontroller"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "cloudcore_bus_panics_total"); err != nil {
			t.Error(err)
		}
	})
}

func panicking() { panic("out of range") }

// TestInboxMetrics: depth and waiting time by lane.
func TestInboxMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		release := make(chan struct{})
		in := newInbox(t, bus.InboxConfig{
			Module: "m", Registerer: reg,
			Lanes:  []bus.Lane{{Name: "lease", Workers: 1, PerNode: 8}, {Name: "rest", Workers: 1, PerNode: 8}},
			Lane:   func(m *message.Message) int { return len(m.Route.Resource) },
			Handle: func(context.Context, *message.Message) { <-release },
		})
		stop := run(t.Context(), t, in)
		synctest.Wait()
		for i := range 3 {
			put(t, in, numbered("n", i))
		}
		synctest.Wait()
		compare(t, reg, "cloudcore_bus_inbox_messages", `# HELP cloudcore_bus_inbox_messages Messages that wait in the inbox of a module, by lane.
# TYPE cloudcore_bus_inbox_messages gauge
cloudcore_bus_inbox_messages{lane="lease",module="m"} 2
cloudcore_bus_inbox_messages{lane="rest",module="m"} 0
`)
		time.Sleep(2 * time.Second)
		close(release)
		synctest.Wait()
		stop()
		compare(t, reg, "cloudcore_bus_inbox_wait_seconds", `# HELP cloudcore_bus_inbox_wait_seconds Time that a message waited in the inbox of a module, by lane.
# TYPE cloudcore_bus_inbox_wait_seconds histogram
`+wait("lease", 1, 1, 1, 1, 1, 3, 3, "4", 3)+wait("rest", 0, 0, 0, 0, 0, 0, 0, "0", 0))
	})
}

func wait(lane string, b0, b1, b2, b3, b4, b5, inf int, sum string, count int) string {
	var b strings.Builder
	for i, le := range []string{"0.0001", "0.001", "0.01", "0.1", "1", "10", "+Inf"} {
		fmt.Fprintf(&b, "cloudcore_bus_inbox_wait_seconds_bucket{lane=%q,module=\"m\",le=%q} %d\n", lane, le, []int{b0, b1, b2, b3, b4, b5, inf}[i])
	}
	fmt.Fprintf(&b, "cloudcore_bus_inbox_wait_seconds_sum{lane=%q,module=\"m\"} %s\n", lane, sum)
	fmt.Fprintf(&b, "cloudcore_bus_inbox_wait_seconds_count{lane=%q,module=\"m\"} %d\n", lane, count)
	return b.String()
}

func compare(t *testing.T, reg *prometheus.Registry, name, want string) {
	t.Helper()
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), name); err != nil {
		t.Error(err)
	}
}

// TestInboxRace puts from many goroutines while the inbox opens and closes, for the race detector. What one goroutine
// puts is handled in its order.
func TestInboxRace(t *testing.T) {
	var mu sync.Mutex // guards the field below
	last := map[string]int{}
	in := newInbox(t, bus.InboxConfig{
		Lanes: []bus.Lane{{Workers: 4, PerNode: 3}},
		Handle: func(_ context.Context, m *message.Message) {
			var n int
			if _, err := fmt.Sscan(number(m), &n); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if n <= last[m.Node] {
				t.Errorf("node %s: %d after %d", m.Node, n, last[m.Node])
			}
			last[m.Node] = n
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 1; i <= 500; i++ {
				if err := in.Put(ctx, numbered(fmt.Sprintf("n%d", w), i)); err != nil && !errors.Is(err, bus.ErrInboxClosed) {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	for range 20 {
		stop := run(ctx, t, in)
		stop()
	}
	stop := run(ctx, t, in)
	wg.Wait()
	stop()
	cancel()
}

// One message through an idle inbox, put and handled: allocations are the queue, its one-element slice and the worker.
//
//	go test -bench Inbox -benchmem ./pkg/bus
func BenchmarkInbox(b *testing.B) {
	var wg sync.WaitGroup
	in := newInbox(b, bus.InboxConfig{
		Lanes:  []bus.Lane{{Workers: 4, PerNode: 16}},
		Handle: func(context.Context, *message.Message) { wg.Done() },
	})
	stop := run(b.Context(), b, in)
	m := query("n")
	wg.Add(1)
	for errors.Is(in.Put(b.Context(), m), bus.ErrInboxClosed) {
		runtime.Gosched() // Run has not opened the inbox yet
	}
	wg.Wait()
	b.ReportAllocs()
	for b.Loop() {
		wg.Add(1)
		put(b, in, m)
		wg.Wait()
	}
	stop()
}
