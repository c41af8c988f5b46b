package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/loopback"
	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/pki"
	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/supervise"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCluster(t *testing.T, change func(*Config)) *Cluster {
	t.Helper()
	cfg := Config{
		Dir:          filepath.Join(t.TempDir(), "cluster"),
		Executable:   "/proc/self/exe",
		StartTimeout: time.Minute,
		Progress:     io.Discard,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func preparedFolder(t *testing.T) folder {
	t.Helper()
	dir := folder(t.TempDir())
	if err := dir.prepare(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	good := Config{Dir: "x", StartTimeout: time.Second}
	tests := []struct {
		name   string
		change func(*Config)
		want   string // part of the error; empty: accepted
	}{
		{"good", func(*Config) {}, ""},
		{"no folder", func(c *Config) { c.Dir = "" }, "--dir"},
		{"negative port", func(c *Config) { c.Port = -1 }, "port -1"},
		{"port too high", func(c *Config) { c.Port = 65536 }, "port 65536"},
		{"no time", func(c *Config) { c.StartTimeout = 0 }, "timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			_, err := New(cfg)
			if tt.want == "" && err != nil {
				t.Errorf("got %v, want none", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestRunRefusesFolderThatItCannotMake(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, func(cfg *Config) { cfg.Dir = filepath.Join(file, "cluster") })
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "create folder") {
		t.Errorf("got %v, want an error about the folder", err)
	}
}

func TestRunRefusesPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	c := newCluster(t, func(cfg *Config) { cfg.Port = listener.Addr().(*net.TCPAddr).Port })
	if err := c.Run(t.Context()); !errors.Is(err, loopback.ErrPortInUse) {
		t.Errorf("got %v, want ErrPortInUse", err)
	}
}

func TestFolderHasOneClusterAtATime(t *testing.T) {
	c := newCluster(t, nil)
	if err := c.dir.prepare(); err != nil {
		t.Fatal(err)
	}
	unlock, err := c.dir.lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v, want ErrRunning", err)
	}
	unlock()
	unlock, err = c.dir.lock()
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	unlock()
}

func TestComponentsOfTheLastRunAreWaitedFor(t *testing.T) {
	dir := preparedFolder(t)
	lock, err := dir.lockComponents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A child that holds the lock until its input ends stands for a component that is not gone yet.
	child := exec.CommandContext(t.Context(), "cat")
	child.ExtraFiles = []*os.File{lock}
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockPoll)
	defer cancel()
	if _, err := dir.lockComponents(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a component: got %v, want to wait until the deadline", err)
	}
	if err := errors.Join(input.Close(), child.Wait()); err != nil {
		t.Fatal(err)
	}
	lock, err = dir.lockComponents(t.Context())
	if err != nil {
		t.Fatalf("without a component: %v", err)
	}
	_ = lock.Close()
}

func TestRunTellsWhyComponentDidNotStart(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.Executable = "/bin/false" })
	err := c.Run(t.Context())
	if !errors.Is(err, supervise.ErrExited) || !strings.Contains(err.Error(), c.dir.logOf(Etcd)) {
		t.Errorf("got %v, want ErrExited and the log of etcd", err)
	}
}

func TestAskedToStopDuringStartIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stops := progressFunc(func(line string) {
		if strings.HasPrefix(line, "etcd: starting") {
			cancel(errors.New("stopped by a test"))
		}
	})
	c := newCluster(t, func(cfg *Config) {
		cfg.Executable = "/bin/false"
		cfg.Progress = stops
	})
	if err := c.Run(ctx); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

type progressFunc func(line string)

func (f progressFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

func TestKubeconfigStandsAlone(t *testing.T) {
	dir := preparedFolder(t)
	const server = "https://127.0.0.1:12345"
	if _, err := openCredentials(dir, server, time.Now()); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", dir.adminConf())
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != server {
		t.Errorf("server: got %s, want %s", config.Host, server)
	}
	for what, pair := range map[string][2]string{
		"CA":          {string(config.CAData), pki.Pair(dir.pki(), "ca").Cert},
		"certificate": {string(config.CertData), pki.Pair(dir.pki(), "admin").Cert},
		"key":         {string(config.KeyData), pki.Pair(dir.pki(), "admin").Key},
	} {
		want, err := os.ReadFile(pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if pair[0] != string(want) {
			t.Errorf("%s in the kubeconfig is not that of %s", what, pair[1])
		}
	}
	if port, err := dir.lastPort(); err != nil || port != 12345 {
		t.Errorf("last port: got %d, %v, want 12345", port, err)
	}
}

func TestCredentialsAreKept(t *testing.T) {
	dir := preparedFolder(t)
	open := func(server string) []byte {
		if _, err := openCredentials(dir, server, time.Now()); err != nil {
			t.Fatal(err)
		}
		var all []byte
		for _, file := range []string{"ca.crt", "admin.crt", "apiserver.crt", "sa.key", "etcd/ca.crt", "etcd/server.crt"} {
			data, err := os.ReadFile(filepath.Join(dir.pki(), file))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, data...)
		}
		return all
	}
	first := open("https://127.0.0.1:1")
	if second := open("https://127.0.0.1:2"); !bytes.Equal(first, second) {
		t.Error("keys or certificates changed at the second start")
	}
	if port, err := dir.lastPort(); err != nil || port != 2 {
		t.Errorf("last port: got %d, %v, want 2", port, err)
	}
}

func TestPortOfTheLastRun(t *testing.T) {
	last, err := loopback.Pick()
	if err != nil {
		t.Fatal(err)
	}
	defer last.Release()
	var out bytes.Buffer
	c := newCluster(t, func(cfg *Config) { cfg.Progress = &out })
	if err := c.dir.prepare(); err != nil {
		t.Fatal(err)
	}
	if _, err := openCredentials(c.dir, "https://"+last.Address(), time.Now()); err != nil {
		t.Fatal(err)
	}

	reserve := func() *ports {
		p, err := c.reservePorts()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.release)
		return p
	}
	taken := reserve()
	if got := taken.of[APIServer].Number(); got == last.Number() {
		t.Errorf("port %d is in use and was taken", got)
	}
	if !strings.Contains(out.String(), strconv.Itoa(last.Number())+" of the last run is in use") {
		t.Errorf("progress %q does not tell that the port changes", out.String())
	}
	last.Release()
	if got := reserve().of[APIServer].Number(); got != last.Number() {
		t.Errorf("got port %d, want %d of the last run", got, last.Number())
	}

	if err := os.WriteFile(c.dir.adminConf(), []byte("clusters: 7"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.reservePorts(); err == nil || !strings.Contains(err.Error(), "port of the last run") {
		t.Errorf("damaged admin.conf: got %v, want an error", err)
	}
}

func TestFlags(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Config)
		of      string
		with    []string
		without []string // beginnings
	}{
		{name: "apiserver", of: APIServer,
			with:    []string{"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"},
			without: []string{"--audit", "--disable-admission-plugins"}},
		{name: "audit", of: APIServer, change: func(c *Config) { c.AuditLog = "/tmp/calls" },
			with: []string{"--audit-log-path=/tmp/calls"}},
		{name: "no controllers", of: APIServer, change: func(c *Config) { c.WithoutControllers = true },
			with: []string{"--disable-admission-plugins=ServiceAccount"}},
		{name: "etcd", of: Etcd, with: []string{"--fsync=false"}},
		{name: "etcd with fsync", of: Etcd, change: func(c *Config) { c.Fsync = true }, with: []string{"--fsync=true"}},
		{name: "controller manager", of: ControllerManager,
			with: []string{"--leader-elect=false", "--use-service-account-credentials=true"}},
		{name: "scheduler with more flags", of: Scheduler,
			change: func(c *Config) { c.ExtraArgs = map[string][]string{Scheduler: {"--leader-elect=true", "-v=4"}} },
			with:   []string{"--leader-elect=false", "--leader-elect=true", "-v=4"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t, tt.change)
			p := &ports{of: map[string]*loopback.Port{}}
			defer p.release()
			for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler} {
				port, err := loopback.Pick()
				if err != nil {
					t.Fatal(err)
				}
				p.of[name] = port
			}
			args := c.spec(tt.of, launch{ports: p, creds: &credentials{}}).Args
			if want := []string{"localcluster", RunComponent, tt.of}; !slices.Equal(args[:3], want) {
				t.Errorf("arguments begin with %q, want %q", args[:3], want)
			}
			for _, flag := range tt.with {
				if !slices.Contains(args, flag) {
					t.Errorf("%s is missing in %q", flag, args)
				}
			}
			for _, prefix := range tt.without {
				if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, prefix) }) {
					t.Errorf("%s must not be in %q", prefix, args)
				}
			}
			if more := c.cfg.ExtraArgs[tt.of]; !slices.Equal(args[len(args)-len(more):], more) {
				t.Errorf("%q are not the last of %q, so they may not win", more, args)
			}
		})
	}
}

func TestLogsOfTheLastRunAreKept(t *testing.T) {
	dir := preparedFolder(t)
	if err := os.WriteFile(dir.logOf(APIServer), []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tailOf(dir.logOf(APIServer)); got != "one\ntwo" {
		t.Errorf("tail: got %q", got)
	}
	if err := dir.rotateLogs(); err != nil {
		t.Fatal(err)
	}
	if got := tailOf(dir.logOf(APIServer)); got != "" {
		t.Errorf("tail of a log that is not there: got %q", got)
	}
	if got := tailOf(dir.logOf(APIServer) + ".old"); got != "one\ntwo" {
		t.Errorf("tail of the old log: got %q", got)
	}
	long := strings.Repeat("x", 1000) + "\n"
	if err := os.WriteFile(dir.logOf(Etcd), []byte(strings.Repeat(long, 100)+"end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tailOf(dir.logOf(Etcd)); len(got) > 4096 || !strings.HasSuffix(got, "x\nend") {
		t.Errorf("tail of a long log has %d bytes", len(got))
	}
}
