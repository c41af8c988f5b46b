package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childArg makes the test executable behave as a child; the mode and a file follow.
const childArg = "supervise-test-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == childArg {
		os.Exit(beChild(os.Args[2], os.Args[3]))
	}
	goleak.VerifyTestMain(m)
}

// beChild is ready when it has created file and removes it when it obeys SIGTERM.
func beChild(mode, file string) int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Println("child in mode", mode)
	if mode == "fail" {
		return 3
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return 1
	}
	for range signals {
		if mode == "stubborn" {
			continue
		}
		if err := os.Remove(file); err != nil {
			return 1
		}
		return 0
	}
	return 1
}

type fixture struct {
	*Process
	file   string
	log    string
	deaths chan time.Duration
	stop   func()
}

func start(t *testing.T, mode string) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{
		file:   filepath.Join(dir, "ready"),
		log:    filepath.Join(dir, "log"),
		deaths: make(chan time.Duration, 100),
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f.Process = New(Spec{
		Name: mode,
		Path: executable,
		Args: []string{"child", childArg, mode, f.file},
		Dir:  dir,
		Log:  f.log,
		Ready: func(context.Context) error {
			_, err := os.Stat(f.file)
			return err
		},
		Grace: graceFor(mode),
		Died:  func(_ string, _ error, delay time.Duration) { f.deaths <- delay },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	f.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(f.stop)
	return f
}

func graceFor(mode string) time.Duration {
	if mode == "stubborn" {
		return 50 * time.Millisecond
	}
	return time.Minute
}

func (f *fixture) must(t *testing.T, action Action) {
	t.Helper()
	if err := f.Do(t.Context(), action); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) want(t *testing.T, state State) Snapshot {
	t.Helper()
	s := f.Snapshot()
	if s.State != state {
		t.Errorf("state: got %s, want %s", s.State, state)
	}
	if (s.PID != 0) != (state == Up || state == Paused) {
		t.Errorf("state %s with pid %d", s.State, s.PID)
	}
	return s
}

func (f *fixture) ready() bool {
	_, err := os.Stat(f.file)
	return err == nil
}

// waitGone returns when the process, which need not be a child of this one, has ended.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("process %d still runs (%v)", pid, err)
		}
		return
	}
}

func TestStartAndStop(t *testing.T) {
	f := start(t, "obedient")
	f.want(t, Down)
	f.must(t, Start)
	first := f.want(t, Up)
	f.must(t, Start) // is up already
	if second := f.want(t, Up); second.PID != first.PID {
		t.Errorf("a second start replaced process %d by %d", first.PID, second.PID)
	}
	f.must(t, Stop)
	f.want(t, Down)
	if f.ready() {
		t.Error("the child was not asked to stop but killed")
	}
	f.must(t, Stop) // is down already
	f.must(t, Restart)
	f.want(t, Up)
	if got, err := os.ReadFile(f.log); err != nil || strings.Count(string(got), "child in mode obedient") != 2 {
		t.Errorf("log: got %q, %v; want two starts", got, err)
	}
	if len(f.deaths) != 0 {
		t.Error("a stop that was asked for was taken for a death")
	}
}

func TestKillDoesNotAsk(t *testing.T) {
	f := start(t, "obedient")
	f.must(t, Start)
	f.must(t, Kill)
	f.want(t, Down)
	if !f.ready() {
		t.Error("the child had the time to tidy up")
	}
}

func TestStopKillsChildThatDoesNotObey(t *testing.T) {
	f := start(t, "stubborn")
	f.must(t, Start)
	pid := f.want(t, Up).PID
	f.must(t, Stop)
	f.want(t, Down)
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: got %v, want no such process", pid, err)
	}
}

func TestChildThatDiesIsStartedAgain(t *testing.T) {
	f := start(t, "obedient")
	f.must(t, Start)
	for i := range 2 {
		before := f.want(t, Up)
		if err := os.Remove(f.file); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got, want := <-f.deaths, firstBackoff<<i; got != want {
			t.Errorf("death %d: restart after %s, want %s", i, got, want)
		}
		until(t, func() bool { return f.ready() && f.Snapshot().PID != 0 })
		if after := f.want(t, Up); after.PID == before.PID || after.Restarts != i+1 {
			t.Errorf("after death %d: got pid %d, restarts %d", i, after.PID, after.Restarts)
		}
	}
}

func TestStartFailsWhenChildEndsBeforeItIsReady(t *testing.T) {
	f := start(t, "fail")
	if err := f.Do(t.Context(), Start); !errors.Is(err, ErrExited) || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("got %v, want ErrExited with the exit status", err)
	}
	<-f.deaths
	f.must(t, Stop) // also ends the attempts
	f.want(t, Down)
}

func TestStartEndsWithItsContext(t *testing.T) {
	f := start(t, "obedient")
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := f.Do(ctx, Start); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause of the cancellation", err)
	}
}

func TestPausedChild(t *testing.T) {
	f := start(t, "obedient")
	if err := f.Do(t.Context(), Pause); !errors.Is(err, ErrState) {
		t.Errorf("pause without a child: got %v, want ErrState", err)
	}
	f.must(t, Start)
	f.must(t, Pause)
	pid := f.want(t, Paused).PID
	waitStopped(t, pid)
	if err := f.Do(t.Context(), Start); !errors.Is(err, ErrState) {
		t.Errorf("start while paused: got %v, want ErrState", err)
	}
	f.must(t, Resume)
	f.want(t, Up)
	f.must(t, Pause)
	f.must(t, Stop) // must not wait for the grace to pass
	f.want(t, Down)
	if f.ready() {
		t.Error("a paused child was killed instead of asked")
	}
	f.must(t, Start)
	f.want(t, Up)
}

// waitStopped returns when the kernel shows the process as stopped by a signal.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	until(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, state, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(state, "T")
	})
}

// until asks for what the kernel offers no event for.
func until(t *testing.T, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatal("the test ended first")
		}
	}
}

func TestRunTakesItsChildAlong(t *testing.T) {
	f := start(t, "obedient")
	f.must(t, Start)
	pid := f.want(t, Up).PID
	f.stop()
	f.want(t, Down)
	waitGone(t, pid)
	if err := f.Do(t.Context(), Start); !errors.Is(err, ErrEnded) {
		t.Errorf("action after the end: got %v, want ErrEnded", err)
	}
}

func TestUnknownActionAndMissingExecutable(t *testing.T) {
	f := start(t, "obedient")
	if err := f.Do(t.Context(), Action("explode")); !errors.Is(err, ErrState) {
		t.Errorf("unknown action: got %v, want ErrState", err)
	}
	f.spec.Path = filepath.Join(t.TempDir(), "missing")
	g := New(f.spec)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() { g.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if err := g.Do(t.Context(), Start); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing executable: got %v, want ErrNotExist", err)
	}
}

// TestChildDiesWithItsParent runs this test again in a process that is killed.
func TestChildDiesWithItsParent(t *testing.T) {
	if os.Getenv("SUPERVISE_TEST_PARENT") != "" {
		f := start(t, "stubborn")
		f.must(t, Start)
		fmt.Printf("pid %d\n", f.want(t, Up).PID)
		<-t.Context().Done()
		return
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildDiesWithItsParent$", "-test.v")
	parent.Env = append(os.Environ(), "SUPERVISE_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for lines := bufio.NewScanner(out); pid == 0; {
		if !lines.Scan() {
			t.Fatalf("parent told no pid: %v", lines.Err())
		}
		if n, found := strings.CutPrefix(lines.Text(), "pid "); found {
			if pid, err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	waitGone(t, pid)
}
