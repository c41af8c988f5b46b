package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Both belong to the process once a package that uses them is loaded.
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

// events is what happened, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf(format, args...))
}

func (e *events) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// slow is a module that becomes ready after a while and takes time to stop.
func slow(e *events, name string, start, stop time.Duration) Module {
	var up atomic.Bool
	return part{name: name, ready: waitFor(up.Load, name), run: func(ctx context.Context) error {
		e.add("start %s", name)
		time.Sleep(start)
		up.Store(true)
		<-ctx.Done()
		time.Sleep(stop)
		e.add("stop %s", name)
		return nil
	}}
}

func mustSupervisor(t *testing.T, reg prometheus.Registerer) *supervisor {
	t.Helper()
	s, err := newSupervisor(reg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func capture(t *testing.T) (klog.Logger, func() string) {
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.Verbosity(0)))
	u, ok := logger.GetSink().(ktesting.Underlier)
	if !ok {
		t.Fatal("not a testing logger")
	}
	return logger, u.GetBuffer().String
}

// checkNames returns the checks that fail.
func failing(s *supervisor) []string {
	var out []string
	for _, c := range s.checks() {
		if c.Ready() != nil {
			out = append(out, c.Name)
		}
	}
	return out
}

func TestStagesStartInOrderAndStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e events
		reg := prometheus.NewRegistry()
		s := mustSupervisor(t, reg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- s.run(ctx, [][]Module{
				{slow(&e, "a", 3*time.Second, time.Second)},
				{slow(&e, "b", time.Second, 2*time.Second), slow(&e, "c", 20*time.Second, 5*time.Second)},
				{slow(&e, "d", 0, 0)},
			}, func() { e.add("started") })
		}()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := failing(s); !slices.Equal(got, []string{"c"}) {
			t.Errorf("not ready: %q, want c", got)
		}
		want := `
# HELP cloudcore_module_ready Whether a module does its work (1) or not (0), by module.
# TYPE cloudcore_module_ready gauge
cloudcore_module_ready{module="a"} 1
cloudcore_module_ready{module="b"} 1
cloudcore_module_ready{module="c"} 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "cloudcore_module_ready"); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := failing(s); len(got) > 0 {
			t.Errorf("not ready: %q", got)
		}
		cancel()
		synctest.Wait()
		if got := failing(s); !slices.Equal(got, []string{"shutdown"}) {
			t.Errorf("not ready while stopping: %q", got)
		}
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if got, want := e.list(), []string{"start a", "start b", "start c", "start d", "started", "stop d", "stop b", "stop c", "stop a"}; !sameUnordered(got, want, 1, 2) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// sameUnordered compares, but for the order of the events at i and j.
func sameUnordered(got, want []string, i, j int) bool {
	if len(got) == len(want) && got[i] == want[j] {
		got[i], got[j] = got[j], got[i]
	}
	return slices.Equal(got, want)
}

func TestSpec01Check25_FailureAtStartEndsTheStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	var e events
	hub := listener("websocket", taken.Addr().String(), func(context.Context, net.Listener) error { return nil })
	err = mustSupervisor(t, nil).run(t.Context(), [][]Module{{slow(&e, "a", 0, 0)}, {hub}, {slow(&e, "never", 0, 0)}}, func() { t.Error("started") })
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "module websocket: listen on "+taken.Addr().String()) {
		t.Errorf("run: %v", err)
	}
	if got := e.list(); !slices.Equal(got, []string{"start a", "stop a"}) {
		t.Errorf("events %q", got)
	}
}

func TestPanicAtStartIsAnError(t *testing.T) {
	logger, lines := capture(t)
	never := part{name: "p", ready: func() error { return errors.New("not yet") }, run: func(context.Context) error { panic("boom") }}
	err := mustSupervisor(t, nil).run(klog.NewContext(t.Context(), logger), [][]Module{{never}}, func() {})
	if err == nil || err.Error() != "module p: panic: boom" {
		t.Errorf("run: %v", err)
	}
	if !strings.Contains(lines(), "supervise_test.go") {
		t.Errorf("no stack in the log:\n%s", lines())
	}
}

func TestFailedModuleIsRestartedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, lines := capture(t)
		s := mustSupervisor(t, prometheus.NewRegistry())
		var up atomic.Bool
		var starts events
		begun := time.Now()
		fails := part{name: "hub", ready: waitFor(up.Load, "port"), run: func(ctx context.Context) error {
			starts.add("%v", time.Since(begun))
			up.Store(true)
			defer up.Store(false) // not ready any more when the supervisor looks
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond):
			}
			switch len(starts.list()) {
			case 1:
				panic("boom")
			case 2:
				return nil // without being asked
			case 5:
				<-ctx.Done()
				return nil
			default:
				return errors.New("broken")
			}
		}}
		var e events
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
		done := make(chan error, 1)
		go func() { done <- s.run(ctx, [][]Module{{slow(&e, "other", 0, 0), fails}}, func() {}) }()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if got := failing(s); !slices.Equal(got, []string{"hub"}) {
			t.Errorf("not ready: %q, want hub", got)
		}
		for _, c := range s.checks() {
			if err := c.Ready(); c.Name == "hub" && (err == nil || err.Error() != "module hub: panic: boom") {
				t.Errorf("reason %v", err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := failing(s); len(got) > 0 {
			t.Errorf("not ready after the restarts: %q", got)
		}
		if got, want := starts.list(), []string{"0s", "1.1s", "3.2s", "7.3s", "15.4s"}; !slices.Equal(got, want) {
			t.Errorf("starts at %v, want %v", got, want)
		}
		if got := testutil.ToFloat64(s.restarts.WithLabelValues("hub")); got != 4 {
			t.Errorf("%v restarts", got)
		}
		if got := testutil.ToFloat64(s.restarts.WithLabelValues("other")); got != 0 {
			t.Errorf("%v restarts of the other module", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		for _, want := range []string{"panic: boom", "ended by itself", "broken"} {
			if !strings.Contains(lines(), want) {
				t.Errorf("%q is not in the log", want)
			}
		}
	})
}

func TestBackoffEndsAfterASoundLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustSupervisor(t, nil)
		var runs atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		m := part{name: "m", run: func(ctx context.Context) error {
			if runs.Add(1) < 10 {
				return errors.New("broken")
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(2 * time.Minute):
				return errors.New("after a long life")
			}
		}}
		done := make(chan error, 1)
		go func() { done <- s.run(ctx, [][]Module{{m}}, func() {}) }()
		time.Sleep((1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60) * time.Second)
		synctest.Wait()
		if got := runs.Load(); got != 10 {
			t.Errorf("%d runs, want 10 with pauses that double up to a minute", got)
		}
		time.Sleep(2*time.Minute + 2*time.Second)
		synctest.Wait()
		if got := runs.Load(); got != 11 {
			t.Errorf("%d runs, want the next one after a short pause", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSpec01Check15_StopHasOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e events
		release := make(chan struct{})
		stuck := part{name: "stuck", run: func(context.Context) error { <-release; return nil }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- mustSupervisor(t, nil).run(ctx, [][]Module{{slow(&e, "a", 0, 0)}, {stuck}, {stuckToo(release)}, {slow(&e, "b", 0, time.Second)}}, func() {})
		}()
		time.Sleep(time.Second)
		cancel()
		begun := time.Now()
		err := <-done
		if took := time.Since(begun); took != stopTimeout+lastGrace || took > 28*time.Second {
			t.Errorf("took %v", took)
		}
		if err == nil || !strings.HasSuffix(err.Error(), ": stuck, stuck-too") {
			t.Errorf("run: %v", err)
		}
		close(release)
		synctest.Wait()
		// Even after the deadline the others were asked to stop.
		if got := e.list(); !slices.Contains(got, "stop a") {
			t.Errorf("events %q", got)
		}
	})
}

func stuckToo(release chan struct{}) Module {
	return part{name: "stuck-too", run: func(context.Context) error { <-release; return nil }}
}

func TestStopWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e events
		logger, lines := capture(t)
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
		waits := part{name: "waits", ready: func() error { return errors.New("no cache") }, run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		done := make(chan error, 1)
		go func() {
			done <- mustSupervisor(t, nil).run(ctx, [][]Module{{slow(&e, "a", 0, 0)}, {waits}, {slow(&e, "never", 0, 0)}}, func() { t.Error("started") })
		}()
		time.Sleep(12 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if got := e.list(); !slices.Equal(got, []string{"start a", "stop a"}) {
			t.Errorf("events %q", got)
		}
		if n := strings.Count(lines(), "Waiting for a module"); n != 2 || !strings.Contains(lines(), "no cache") {
			t.Errorf("%d lines about waiting:\n%s", n, lines())
		}
	})
}

func TestSupervisorRegistersOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	mustSupervisor(t, reg)
	if _, err := newSupervisor(reg); err == nil {
		t.Error("metrics are registered twice")
	}
}

func TestSpec01Check15_SecondSignalEndsAtOnce(t *testing.T) {
	received := make(chan os.Signal, 2)
	code := make(chan int, 1)
	ctx, stop := onSignals(t.Context(), received, func(c int) { code <- c })
	if ctx.Err() != nil {
		t.Fatal("ended before a signal")
	}
	received <- syscall.SIGTERM
	<-ctx.Done()
	select {
	case <-code:
		t.Error("the first signal ends the process")
	default:
	}
	received <- syscall.SIGTERM
	if got := <-code; got != 1 {
		t.Errorf("exit code %d", got)
	}
	stop()

	// Without signals, and after one, stop leaves nothing behind.
	for _, signals := range []int{0, 1} {
		received := make(chan os.Signal, 1)
		ctx, stop := onSignals(t.Context(), received, func(int) { t.Error("exits") })
		if signals == 1 {
			received <- syscall.SIGHUP
			<-ctx.Done()
		}
		stop()
		if ctx.Err() == nil {
			t.Error("the context is still open")
		}
	}
	ctx, stop = Signals(t.Context(), func(int) { t.Error("exits") })
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	stop()
}

func TestNotifySystemd(t *testing.T) {
	if err := notifySystemd("", systemdReady); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@cloudcore-test-%d", os.Getpid())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		for _, state := range []string{systemdReady, systemdStopping} {
			if err := notifySystemd(name, state); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			buf := make([]byte, 64)
			n, err := l.Read(buf)
			if err != nil || string(buf[:n]) != state {
				t.Errorf("%s: got %q, %v; want %q", name, buf[:n], err, state)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := notifySystemd(name, systemdReady); err == nil {
			t.Errorf("%s: no error without a reader", name)
		}
	}
}
