package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	readyPoll    = 50 * time.Millisecond
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 5 * time.Second
	// A child that lived this long has recovered: its next death starts with the first backoff again.
	backoffReset = 30 * time.Second
)

var (
	// ErrEnded is wrapped by the error of an action that came after Run had returned.
	ErrEnded = errors.New("supervision has ended")
	// ErrState is wrapped by the error of an action that makes no sense in the present state.
	ErrState = errors.New("not possible in this state")
	// ErrExited is wrapped by the error of an action that waited for a child that ended before it was ready.
	ErrExited = errors.New("process ended before it was ready")
)

// Action is what Do makes a Process do.
type Action string

// The actions. Start and Restart wait until the process is ready.
const (
	Start   Action = "start"   // up, unless it is up already
	Stop    Action = "stop"    // down, with SIGTERM
	Kill    Action = "kill"    // down, with SIGKILL
	Restart Action = "restart" // Stop, then Start
	Pause   Action = "pause"   // SIGSTOP: connections stay open and nobody answers
	Resume  Action = "resume"  // SIGCONT
)

// Actions returns all actions.
func Actions() []Action { return []Action{Start, Stop, Kill, Restart, Pause, Resume} }

// State is what a Process is about.
type State string

// The states.
const (
	Down    State = "down"
	Up      State = "up"
	Paused  State = "paused"
	Backoff State = "backoff" // died by itself, waits for its next start
)

// Spec describes a Process. It is read-only after New.
type Spec struct {
	Name string
	Path string   // of the executable
	Args []string // with the program's name as the first
	Dir  string   // working directory
	Log  string   // file that standard output and error are appended to
	// Inherit is handed to each child as an open file, so that a lock on it lasts as long as any of them. May be nil.
	Inherit *os.File
	// Ready asks once whether the process serves. It must return soon after ctx ended.
	Ready func(ctx context.Context) error
	// Grace is how long the process may take to obey SIGTERM.
	Grace time.Duration
	// Died is told that the process ended by itself and will be started again after delay. It must not block and
	// not call the Process.
	Died func(name string, err error, delay time.Duration)
}

// Snapshot is the state of a Process at one moment.
type Snapshot struct {
	State    State
	PID      int // 0 without a child
	Restarts int // starts after the process had died by itself
}

// Process is one supervised child.
type Process struct {
	spec     Spec
	requests chan request
	ended    chan struct{}

	mu       sync.Mutex // guards the field below
	snapshot Snapshot
}

type request struct {
	action Action
	reply  chan reply // has room for the one reply
}

type reply struct {
	child *child
	err   error
}

// New returns a process that is down. It does nothing before Run.
func New(spec Spec) *Process {
	return &Process{
		spec:     spec,
		requests: make(chan request),
		ended:    make(chan struct{}),
		snapshot: Snapshot{State: Down},
	}
}

// Name returns the name in the Spec.
func (p *Process) Name() string { return p.spec.Name }

// Snapshot returns the present state.
func (p *Process) Snapshot() Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot
}

func (p *Process) publish(s Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshot = s
}

// Do performs action and returns when it is done. When ctx ends while it waits for the process to become ready, the
// process stays up.
func (p *Process) Do(ctx context.Context, action Action) error {
	if action == Restart {
		if err := p.Do(ctx, Stop); err != nil {
			return err
		}
		return p.Do(ctx, Start)
	}
	req := request{action: action, reply: make(chan reply, 1)}
	select {
	case p.requests <- req:
	case <-p.ended:
		return fmt.Errorf("%s %s: %w", action, p.spec.Name, ErrEnded)
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", action, p.spec.Name, context.Cause(ctx))
	}
	// Run answers every request that it took, after Spec.Grace at the latest.
	answer := <-req.reply
	if answer.err != nil {
		return fmt.Errorf("%s %s: %w", action, p.spec.Name, answer.err)
	}
	if action != Start {
		return nil
	}
	if err := p.waitReady(ctx, answer.child); err != nil {
		return fmt.Errorf("%s %s: %w", action, p.spec.Name, err)
	}
	return nil
}

func (p *Process) waitReady(ctx context.Context, c *child) error {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		err := p.spec.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%w (%s)", ErrExited, c.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("wait until ready: %w (last: %w)", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// Run performs actions until ctx ends, then ends the child as Stop does, and returns when it is gone. It may be
// called once. It keeps one thread to itself, which all children are started from.
func (p *Process) Run(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.ended)
	r := runner{spec: p.spec, backoff: firstBackoff, restart: time.NewTimer(0)}
	r.restart.Stop()
	defer r.restart.Stop()
	defer r.reapers.Wait()
	for {
		p.publish(r.snapshot())
		select {
		case <-ctx.Done():
			r.stop()
			p.publish(r.snapshot())
			return
		case req := <-p.requests:
			c, err := r.perform(req.action)
			// The state is published before the answer: who asks after Do sees its effect.
			p.publish(r.snapshot())
			req.reply <- reply{child: c, err: err}
		case <-r.died():
			r.scheduleRestart()
		case <-r.restart.C:
			r.restartNow()
		}
	}
}

// runner is the state of a running Process. It is owned by Run.
type runner struct {
	spec     Spec
	child    *child // nil without one
	paused   bool
	backoff  time.Duration
	waiting  bool // restart is set
	restart  *time.Timer
	restarts int
	reapers  sync.WaitGroup
}

func (r *runner) snapshot() Snapshot {
	s := Snapshot{State: Down, Restarts: r.restarts}
	switch {
	case r.child != nil && r.paused:
		s.State = Paused
	case r.child != nil:
		s.State = Up
	case r.waiting:
		s.State = Backoff
	}
	if r.child != nil {
		s.PID = r.child.cmd.Process.Pid
	}
	return s
}

// died returns a channel that is closed when the child has ended; nil without a child.
func (r *runner) died() <-chan struct{} {
	if r.child == nil {
		return nil
	}
	return r.child.done
}

func (r *runner) perform(action Action) (*child, error) {
	if r.child != nil && r.child.ended() {
		// The death has not been handled yet; the action acts on what comes after it.
		r.scheduleRestart()
	}
	switch action {
	case Start:
		return r.start()
	case Stop:
		r.stop()
		return nil, nil
	case Kill:
		r.cancelRestart()
		if r.child != nil {
			r.child.kill()
			r.child = nil
		}
		return nil, nil
	case Pause, Resume:
		if r.child == nil {
			return nil, fmt.Errorf("%w: there is no process", ErrState)
		}
		r.paused = action == Pause
		if r.paused {
			r.child.signal(syscall.SIGSTOP)
		} else {
			r.child.signal(syscall.SIGCONT)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("%w: unknown action", ErrState)
}

func (r *runner) start() (*child, error) {
	if r.child != nil {
		if r.paused {
			return nil, fmt.Errorf("%w: it is paused", ErrState)
		}
		return r.child, nil
	}
	r.cancelRestart()
	c, err := startChild(r.spec)
	if err != nil {
		return nil, err
	}
	r.child = c
	r.paused = false
	r.reapers.Go(c.wait)
	return c, nil
}

func (r *runner) stop() {
	r.cancelRestart()
	if r.child != nil {
		r.child.terminate(r.spec.Grace)
		r.child = nil
	}
}

func (r *runner) cancelRestart() {
	r.restart.Stop()
	r.waiting = false
}

func (r *runner) scheduleRestart() {
	if time.Since(r.child.started) >= backoffReset {
		r.backoff = firstBackoff
	}
	cause := r.child.err
	if cause == nil {
		cause = errors.New("exit status 0")
	}
	r.child = nil
	r.scheduleAfter(cause)
}

func (r *runner) scheduleAfter(cause error) {
	r.spec.Died(r.spec.Name, cause, r.backoff)
	r.waiting = true
	r.restart.Reset(r.backoff)
	r.backoff = min(2*r.backoff, maxBackoff)
}

func (r *runner) restartNow() {
	if _, err := r.start(); err != nil {
		r.scheduleAfter(err)
		return
	}
	r.restarts++
}
