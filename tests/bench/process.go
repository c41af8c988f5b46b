package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a process that dies with the bench.
type child struct {
	pid  int
	done chan struct{} // closed when the process is gone
	err  error         // of Wait, valid after done
	log  string
}

// startChild runs a program whose output goes to the file log.
func startChild(log, path string, args ...string) (*child, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("create log of %s: %w", filepath.Base(path), err)
	}
	defer out.Close() // the process has its own descriptor
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own: a Ctrl-C at the terminal is for the bench, which then ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	c := &child{done: make(chan struct{}), log: log}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread ends that started the child, so the thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return c, nil
}

const stopTimeout = time.Minute

// stop asks the process to end, and ends it if it does not in time.
func (c *child) stop() error {
	select {
	case <-c.done:
		return fmt.Errorf("ended by itself: %w\n%s", errors.Join(c.err, errors.New("see its log")), c.tail())
	default:
	}
	if err := syscall.Kill(c.pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop process %d: %w", c.pid, err)
	}
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-c.done:
		return c.err
	case <-t.C:
		_ = syscall.Kill(c.pid, syscall.SIGKILL) // it may just have ended
		<-c.done
		return fmt.Errorf("process %d did not end within %s", c.pid, stopTimeout)
	}
}

// tail is the end of the log.
func (c *child) tail() string {
	data, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	return string(data[max(0, len(data)-most):])
}

// await calls ready until it succeeds, the process ends or ctx does.
func (c *child) await(ctx context.Context, what string, ready func(context.Context) error) error {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-c.done:
			return fmt.Errorf("wait for %s: it ended: %w\n%s", what, errors.Join(c.err, err), c.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w\n%s", what, context.Cause(ctx), err, c.tail())
		}
	}
}

// residentBytes is the memory of a process that is in RAM.
func residentBytes(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	return parseResident(string(data))
}

func parseResident(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("parse memory: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("parse memory: no VmRSS")
}

// clockTick is the unit of times in /proc/PID/stat, which Linux fixes for programs on all its usual architectures.
const clockTick = 10 * time.Millisecond

// cpuTime is the processor time that a process has used.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return parseCPU(string(data))
}

func parseCPU(stat string) (time.Duration, error) {
	// The second field is the name in parentheses, which may hold anything; after it, user and system time are the
	// 12th and 13th.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("parse processor time: too few fields")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("parse processor time: %w", err)
	}
	return time.Duration(user+system) * clockTick, nil
}

// loadAverage is that of the last minute.
func loadAverage() (float64, error) {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read load average: %w", err)
	}
	first, _, _ := strings.Cut(string(data), " ")
	return strconv.ParseFloat(first, 64)
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
