package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTimeout = 5 * time.Minute
	goneTimeout  = time.Minute
)

// build makes the executable the way the project does and returns its path.
func build(t *testing.T) string {
	t.Helper()
	executable := filepath.Join(t.TempDir(), "localcluster")
	if out, err := exec.CommandContext(t.Context(), "../build.sh", executable).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	return executable
}

// cluster is a running localcluster.
type cluster struct {
	executable string
	dir        string
	cmd        *exec.Cmd
	lines      chan string
	ended      chan error
}

// startCluster starts localcluster in dir and returns when it says that it is ready.
func startCluster(t *testing.T, executable, dir string, flags ...string) *cluster {
	t.Helper()
	c := &cluster{
		executable: executable,
		dir:        dir,
		cmd:        exec.Command(executable, append([]string{"--dir", dir}, flags...)...),
		lines:      make(chan string),
		ended:      make(chan error, 1),
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			c.lines <- scanner.Text()
		}
		close(c.lines)
		c.ended <- c.cmd.Wait()
	}()
	t.Cleanup(func() {
		// Does nothing to a cluster that a test has ended.
		_ = c.cmd.Process.Kill()
		for range c.lines { // until end of output
		}
	})
	c.waitLine(t, "ready: "+filepath.Join(dir, "admin.conf"))
	return c
}

// waitLine reads progress up to the line that begins with prefix.
func (c *cluster) waitLine(t *testing.T, prefix string) {
	t.Helper()
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	for {
		select {
		case line, open := <-c.lines:
			if !open {
				t.Fatalf("localcluster ended before it printed %q: %v", prefix, <-c.ended)
			}
			t.Log(line)
			if strings.HasPrefix(line, prefix) {
				return
			}
		case <-timeout.C:
			t.Fatalf("no line %q within %s", prefix, startTimeout)
		}
	}
}

// end waits for the end of the process and returns its exit code.
func (c *cluster) end(t *testing.T) int {
	t.Helper()
	for line := range c.lines {
		t.Log(line)
	}
	var exit *exec.ExitError
	if err := <-c.ended; err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *cluster) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// kubectl runs kubectl through the link that build.sh makes and returns its standard output.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(c.executable), "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(c.dir, "admin.conf"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// component is what the control endpoint tells about a component.
type component struct {
	Name, State, URL string
	PID, Restarts    int
}

func (c *cluster) components(t *testing.T) map[string]component {
	t.Helper()
	var status struct{ Components []component }
	if err := json.Unmarshal(c.control(t, http.MethodGet, "/"), &status); err != nil {
		t.Fatal(err)
	}
	all := map[string]component{}
	for _, one := range status.Components {
		all[one.Name] = one
	}
	return all
}

// do performs an action on a component.
func (c *cluster) do(t *testing.T, name, action string) component {
	t.Helper()
	var one component
	if err := json.Unmarshal(c.control(t, http.MethodPost, "/"+name+"/"+action), &one); err != nil {
		t.Fatal(err)
	}
	return one
}

func (c *cluster) control(t *testing.T, method, path string) []byte {
	t.Helper()
	base, err := os.ReadFile(filepath.Join(c.dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSpace(string(base))+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	return data
}

// process waits for the end of a process that is not a child of the test.
type process struct {
	pid, fd int
}

func watch(t *testing.T, pid int) process {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("open process %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return process{pid: pid, fd: fd}
}

func (p process) waitGone() error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(goneTimeout.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", p.pid, err)
		case n == 0:
			return fmt.Errorf("process %d still runs after %s", p.pid, goneTimeout)
		default:
			return nil
		}
	}
}
