package e2e

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLocalCluster builds localcluster and lives through the life of one cluster; its steps need each other.
func TestLocalCluster(t *testing.T) {
	executable := build(t)
	t.Run("bad input", func(t *testing.T) { testBadInput(t, executable) })

	dir := filepath.Join(t.TempDir(), "cluster")
	audit := filepath.Join(t.TempDir(), "calls.log")
	c := startCluster(t, executable, dir, "--audit-log", audit)
	t.Run("serves the version in go.mod", func(t *testing.T) { testVersion(t, c) })
	t.Run("controllers and scheduler work", func(t *testing.T) { testControllers(t, c) })
	c.kubectl(t, "create", "configmap", "kept", "--from-literal=key=value")
	t.Run("records calls", func(t *testing.T) { testAudit(t, audit) })
	t.Run("one cluster in a folder", func(t *testing.T) {
		wantFailure(t, executable, "runs in this folder already", "--dir", dir)
	})
	t.Run("outages", func(t *testing.T) { testOutages(t, c) })

	before := c.components(t)
	children := watchAll(t, before)
	c.signal(t, syscall.SIGTERM)
	if code := c.end(t); code != 0 {
		t.Errorf("exit code after SIGTERM: got %d, want 0", code)
	}
	wantGone(t, children)

	c = startCluster(t, executable, dir)
	if got := c.kubectl(t, "get", "configmap", "kept", "-o", "jsonpath={.data.key}"); got != "value" {
		t.Errorf("ConfigMap after a restart: got %q, want value", got)
	}
	after := c.components(t)
	if got, want := after["apiserver"].URL, before["apiserver"].URL; got != want {
		t.Errorf("apiserver after a restart: got %s, want %s", got, want)
	}
	children = watchAll(t, after)
	c.signal(t, syscall.SIGKILL)
	if code := c.end(t); code == 0 {
		t.Error("exit code 0 after SIGKILL")
	}
	// At once, while the kernel still ends the components.
	c = startCluster(t, executable, dir, "--without-controllers")
	wantGone(t, children)
	if got, want := c.components(t)["apiserver"].URL, before["apiserver"].URL; got != want {
		t.Errorf("apiserver after SIGKILL: got %s, want %s", got, want)
	}
	if got := c.components(t); len(got) != 2 || got["etcd"].PID == 0 || got["apiserver"].PID == 0 {
		t.Errorf("components without controllers: got %v, want etcd and apiserver", got)
	}
	c.kubectl(t, "get", "configmap", "kept")
	c.kubectl(t, "run", "pod", "--image=none")
	c.signal(t, syscall.SIGINT)
	if code := c.end(t); code != 0 {
		t.Errorf("exit code after SIGINT: got %d, want 0", code)
	}
}

func testBadInput(t *testing.T, executable string) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	wantFailure(t, executable, "port is in use", "--dir", dir, "--port", port)
	wantFailure(t, executable, "create folder", "--dir", filepath.Join(executable, "cluster"))
	wantFailure(t, executable, "unknown flag: --bogus", "--dir", dir, "--bogus")
	wantFailure(t, executable, "--dir")
	wantFailure(t, executable, "unexpected argument", "--dir", dir, "start")
	wantFailure(t, executable, "no cluster is ready", "control", "--dir", dir)
	wantFailure(t, executable, "unknown flag: --no-such-flag", "--dir", dir, "--apiserver-arg=--no-such-flag")
}

func wantFailure(t *testing.T, executable, want string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), executable, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	// The exit code says it all.
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), want) {
		t.Errorf("localcluster %s: exit code %d with %q, want 1 with %q", strings.Join(args, " "), code, stderr.String(), want)
	}
}

func testVersion(t *testing.T, c *cluster) {
	var got struct {
		ServerVersion struct{ GitVersion, Major, Minor string }
	}
	if err := json.Unmarshal([]byte(c.kubectl(t, "version", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	want := kubernetesVersion(t)
	if got.ServerVersion.GitVersion != want {
		t.Errorf("server version: got %s, want %s", got.ServerVersion.GitVersion, want)
	}
	if v := got.ServerVersion; !strings.HasPrefix(want, "v"+v.Major+"."+v.Minor+".") {
		t.Errorf("major and minor: got %s and %s of %s", v.Major, v.Minor, want)
	}
	if ok := c.kubectl(t, "get", "--raw", "/readyz"); ok != "ok" {
		t.Errorf("readyz: got %q", ok)
	}
}

func testControllers(t *testing.T, c *cluster) {
	c.kubectl(t, "create", "deployment", "web", "--image=none")
	c.kubectl(t, "wait", "--for=create", "pod", "-l", "app=web")
	// There is no node: the scheduler has looked at the pod and says so.
	c.kubectl(t, "wait", "pod", "-l", "app=web",
		`--for=jsonpath={.status.conditions[?(@.type=="PodScheduled")].reason}=Unschedulable`)
}

func testAudit(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(data)) {
		var event struct {
			Level, Stage, Verb string
			ObjectRef          struct{ Resource, Name string }
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("read %q: %v", line, err)
		}
		if event.Level != "Metadata" {
			t.Errorf("level %s in %s", event.Level, line)
		}
		if event.Verb == "create" && event.ObjectRef.Resource == "configmaps" && event.ObjectRef.Name == "kept" {
			found++
		}
	}
	if found != 1 {
		t.Errorf("the creation of the ConfigMap was recorded %d times, want once", found)
	}
}

func testOutages(t *testing.T, c *cluster) {
	before := c.components(t)
	address := strings.TrimPrefix(before["apiserver"].URL, "https://")
	if got := c.do(t, "apiserver", "stop"); got.State != "down" {
		t.Errorf("state after stop: got %s, want down", got.State)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the apiserver is stopped and something answers at its address")
	}
	if got := c.do(t, "apiserver", "start"); got.State != "up" || got.URL != before["apiserver"].URL {
		t.Errorf("after start: got %+v", got)
	}
	if got := c.do(t, "etcd", "restart"); got.PID == before["etcd"].PID {
		t.Error("etcd has the same process after a restart")
	}
	c.do(t, "etcd", "kill")
	c.do(t, "etcd", "start")
	if got := c.do(t, "apiserver", "pause"); got.State != "paused" {
		t.Errorf("state after pause: got %s, want paused", got.State)
	}
	c.do(t, "apiserver", "resume")
	c.kubectl(t, "get", "configmap", "kept")

	if err := syscall.Kill(c.components(t)["scheduler"].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.waitLine(t, "scheduler: ended by itself")
	if got := c.do(t, "scheduler", "start"); got.State != "up" || got.PID == before["scheduler"].PID {
		t.Errorf("after the death of the scheduler: got %+v", got)
	}
}

func watchAll(t *testing.T, components map[string]component) []process {
	t.Helper()
	var all []process
	for _, one := range components {
		all = append(all, watch(t, one.PID))
	}
	return all
}

func wantGone(t *testing.T, all []process) {
	t.Helper()
	for _, p := range all {
		if err := p.waitGone(); err != nil {
			t.Error(err)
		}
	}
}

// module is what `go mod edit -json` tells about go.mod.
type module struct {
	Require []struct{ Path, Version string }
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
}

func readModule(t *testing.T) module {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var m module
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func kubernetesVersion(t *testing.T) string {
	t.Helper()
	for _, r := range readModule(t).Require {
		if r.Path == "k8s.io/kubernetes" {
			return r.Version
		}
	}
	t.Fatal("go.mod does not require k8s.io/kubernetes")
	return ""
}

// TestStagingModulesMatchKubernetes keeps go.mod in step: v1.N.P of Kubernetes is v0.N.P of its staging modules.
func TestStagingModulesMatchKubernetes(t *testing.T) {
	want := strings.Replace(kubernetesVersion(t), "v1.", "v0.", 1)
	m := readModule(t)
	staging := map[string]bool{}
	for _, r := range m.Replace {
		staging[r.Old.Path] = true
		if r.New.Path != r.Old.Path || r.New.Version != want {
			t.Errorf("%s is replaced by %s %s, want %s", r.Old.Path, r.New.Path, r.New.Version, want)
		}
	}
	if len(staging) == 0 {
		t.Error("go.mod replaces no staging module")
	}
	for _, r := range m.Require {
		if staging[r.Path] && r.Version != want {
			t.Errorf("%s is required at %s, want %s", r.Path, r.Version, want)
		}
	}
}
