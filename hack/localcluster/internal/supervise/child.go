package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// child is one running or ended operating system process. All fields but done are read-only; err is set before done
// is closed.
type child struct {
	cmd     *exec.Cmd
	started time.Time
	done    chan struct{}
	err     error
}

// startChild must be called with the goroutine locked to its thread and that thread must outlive the child: the
// parent-death signal is sent when the thread that forked ends.
func startChild(spec Spec) (*child, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", spec.Name, err)
	}
	// The child has its own descriptor once it is started.
	defer func() { _ = log.Close() }()

	cmd := exec.Command(spec.Path)
	cmd.Args = spec.Args
	cmd.Dir = spec.Dir
	cmd.Stdout = log
	cmd.Stderr = log
	if spec.Inherit != nil {
		cmd.ExtraFiles = []*os.File{spec.Inherit}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return &child{cmd: cmd, started: time.Now(), done: make(chan struct{})}, nil
}

// wait reaps the child; it returns when the child has ended.
func (c *child) wait() {
	c.err = c.cmd.Wait()
	close(c.done)
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *child) signal(s syscall.Signal) {
	// The only failure is that the child has ended, which done tells.
	_ = c.cmd.Process.Signal(s)
}

// terminate asks the child to end, kills it after grace and returns when it is gone. It reports whether the child
// obeyed.
func (c *child) terminate(grace time.Duration) bool {
	c.signal(syscall.SIGTERM)
	// A paused child gets SIGTERM only once it runs again.
	c.signal(syscall.SIGCONT)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		c.kill()
		return false
	}
}

func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	<-c.done
}
