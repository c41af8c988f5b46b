package options

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

// run executes the command line and returns its exit code and output. started gets what the
// command would run with.
func run(t *testing.T, started *Startup, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runWith(t, Deps{
		Run: func(_ context.Context, s *Startup) error {
			*started = *s
			return nil
		},
		DetectAddress: detected("192.0.2.1"),
	}, args...)
}

func runWith(t *testing.T, deps Deps, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	deps.Version = apiversion.Info{GitVersion: "v1.2.3", GitCommit: "abc"}
	cmd := NewCommand(deps)
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	code = Execute(klog.NewContext(t.Context(), ktesting.NewLogger(t, ktesting.NewConfig())), cmd)
	return code, out.String(), errs.String()
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloudcore.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSpec01Check01_PrintFlags(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--minconfig"}, "nodeLimit: 1000"},
		{[]string{"--minconfig=1"}, "nodeLimit: 1000"},
		{[]string{"--defaultconfig"}, "nodeLimit: 500"},
		{[]string{"--defaultconfig=t"}, "nodeLimit: 500"},
		{[]string{"--defaultconfig", "--minconfig"}, "nodeLimit: 1000"},
		{[]string{"--defaultconfig", "--minconfig=false"}, "nodeLimit: 500"},
		{[]string{"--minconfig", "--config", "/no/such", "positional"}, "- 192.0.2.1"},
	} {
		code, stdout, stderr := runWith(t, Deps{
			Run:           func(context.Context, *Startup) error { return errors.New("started") },
			DetectAddress: detected("192.0.2.1"),
		}, tc.args...)
		if code != 0 || !strings.Contains(stdout, tc.want) || stderr != "" {
			t.Errorf("%v: exit %d, want %q in output %.100q, stderr %q", tc.args, code, tc.want, stdout, stderr)
		}
		if _, _, err := Decode([]byte(stdout)); err != nil {
			t.Errorf("%v: %v", tc.args, err)
		}
	}
	if _, stdout, _ := runWith(t, Deps{DetectAddress: detected("")}, "--minconfig"); !strings.Contains(stdout, "advertiseAddress: []") {
		t.Errorf("without a detected address: %s", stdout)
	}
}

func TestSpec01Check24_VersionAndUnknownFlags(t *testing.T) {
	var s Startup
	for args, want := range map[string]string{
		"--version": "KubeEdge v1.2.3\n", "--version=true": "KubeEdge v1.2.3\n", "--version=raw": `GitCommit:"abc"`,
	} {
		if code, stdout, stderr := run(t, &s, args); code != 0 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
	for _, args := range [][]string{{"--nosuch"}, {"--minconfig=maybe"}, {"--version=loud"}, {"--kubeconfig=x"}} {
		code, stdout, stderr := run(t, &s, args...)
		if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "Error: ") || !strings.Contains(stderr, "Usage:") {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
	if code, stdout, _ := run(t, &s, "--help"); code != 0 || !strings.Contains(stdout, "--defaultconfig") || strings.Contains(stdout, "logtostderr") {
		t.Errorf("--help: exit %d, %q", code, stdout)
	}
	if code, stdout, _ := run(t, &s, "completion", "bash"); code != 0 || !strings.Contains(stdout, "cloudcore") {
		t.Errorf("completion: exit %d, %.80q", code, stdout)
	}
}

func TestStartupIsComplete(t *testing.T) {
	path := writeConfig(t, "featureGates: {requireAuthorization: true, FutureGate: true}\nmodules: {cloudHub: {nodeLimit: 10, advertiseAddress: ['']}}\n")
	var s Startup
	code, stdout, stderr := run(t, &s, "--config", path, "ignored", "arguments")
	if code != 0 || stdout != "" || stderr != "" {
		t.Fatalf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if got := s.Config.Modules.CloudHub.AdvertiseAddress; !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("addresses %q", got)
	}
	if !s.FeatureGates.Enabled(RequireAuthorization) || s.FeatureGates.Enabled(ModuleRestart) {
		t.Error("gates are not as in the file")
	}
	if s.Config.KubeAPIConfig.QPS != 50 || s.File != path {
		t.Errorf("qps %d, file %s", s.Config.KubeAPIConfig.QPS, s.File)
	}
}

func TestFatalErrorsExitWithOne(t *testing.T) {
	for name, tc := range map[string]struct {
		text   string
		detect string
		want   []string
	}{
		"check 3: no file":         {"", "192.0.2.1", []string{"config: Required value", "/no/such"}},
		"check 6: quoted number":   {`modules: {cloudHub: {nodeLimit: "10"}}`, "192.0.2.1", []string{"modules.cloudHub.nodeLimit", "cloudcore.yaml"}},
		"check 8: several at once": {"kubeAPIConfig: {kubeConfig: x}\nmodules: {cloudHub: {websocket: {port: 0}, tokenRefreshDuration: 0}}", "192.0.2.1", []string{"[", "kubeAPIConfig.kubeConfig: Invalid value", "modules.cloudHub.websocket.port: Invalid value", "tokenRefreshDuration: Invalid value", "]"}},
		"no address":               {"modules: {cloudHub: {enable: true}}", "", []string{"modules.cloudHub.advertiseAddress: Required value"}},
	} {
		path := "/no/such"
		if tc.text != "" {
			path = writeConfig(t, tc.text)
		}
		code, stdout, stderr := runWith(t, Deps{
			Run:           func(context.Context, *Startup) error { t.Errorf("%s: started", name); return nil },
			DetectAddress: detected(tc.detect),
		}, "--config="+path)
		if code != 1 || stdout != "" || strings.Contains(stderr, "Usage:") {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
		for _, want := range tc.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: %q is not in %q", name, want, stderr)
			}
		}
	}
	code, _, stderr := runWith(t, Deps{
		Run:           func(context.Context, *Startup) error { return errors.New("listen on 10000: in use") },
		DetectAddress: detected("192.0.2.1"),
	}, "--config", writeConfig(t, ""))
	if code != 1 || stderr != "Error: listen on 10000: in use\n" {
		t.Errorf("error of Run: exit %d, stderr %q", code, stderr)
	}
}

func TestLogFlags(t *testing.T) {
	var s Startup
	path := writeConfig(t, "")
	for _, args := range [][]string{
		{"-v=0"}, {"--v", "0"}, {"--vmodule=none=1"}, {"--log-flush-frequency=1s"}, {"--log_flush_frequency=5s"},
		{"--logtostderr"}, {"--logtostderr=false"}, {"--log-dir=/x"}, {"--log_dir", "/x"}, {"--log-file=/x"}, {"--alsologtostderr"},
		{"--stderrthreshold=2"}, {"--skip-headers"}, {"--log-backtrace-at=a:1"},
	} {
		if code, _, stderr := run(t, &s, append(args, "--config", path)...); code != 0 || stderr != "" {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
	if code, _, stderr := run(t, &s, "-v=loud"); code != 1 || !strings.Contains(stderr, "Usage:") {
		t.Errorf("-v=loud: exit %d, %q", code, stderr)
	}
}

func TestIgnoredLogFlagsAreReported(t *testing.T) {
	logger, lines := capture(t)
	cmd := NewCommand(Deps{Run: func(context.Context, *Startup) error { return nil }, DetectAddress: detected("192.0.2.1")})
	cmd.SetArgs([]string{"--log_dir=/x", "--config", writeConfig(t, "modules: {nope: 1}")})
	if code := Execute(klog.NewContext(t.Context(), logger), cmd); code != 0 {
		t.Fatalf("exit %d", code)
	}
	for _, want := range []string{`flag="--log-dir"`, `key="modules.nope"`} {
		if !strings.Contains(lines(), want) {
			t.Errorf("%q is not in the log:\n%s", want, lines())
		}
	}
}

// capture returns a logger and what it has logged.
func capture(t *testing.T) (klog.Logger, func() string) {
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
	u, ok := logger.GetSink().(ktesting.Underlier)
	if !ok {
		t.Fatal("not a testing logger")
	}
	return logger, u.GetBuffer().String
}

func TestFeatureGates(t *testing.T) {
	for _, tc := range []struct {
		set                          map[string]bool
		authorization, restart, old1 bool
		warnings                     []string
	}{
		{},
		{set: map[string]bool{"requireAuthorization": true}, authorization: true},
		{set: map[string]bool{"disableNodeTaskV1alpha2": true, "moduleRestart": true}, restart: true, old1: true},
		{set: map[string]bool{"AllAlpha": true}, authorization: true, restart: true, old1: true},
		{set: map[string]bool{"AllAlpha": true, "moduleRestart": false}, authorization: true, old1: true},
		{set: map[string]bool{"AllBeta": true}},
		{set: map[string]bool{"RequireAuthorization": true, "new": false}, warnings: []string{"its name is written requireAuthorization", "featureGates.new: unknown"}},
	} {
		gates, warnings, err := FeatureGates(tc.set)
		if err != nil {
			t.Errorf("%v: %v", tc.set, err)
			continue
		}
		if gates.Enabled(RequireAuthorization) != tc.authorization || gates.Enabled(ModuleRestart) != tc.restart || gates.Enabled(DisableNodeTaskV1alpha2) != tc.old1 {
			t.Errorf("%v: gates are %v %v %v", tc.set, gates.Enabled(RequireAuthorization), gates.Enabled(ModuleRestart), gates.Enabled(DisableNodeTaskV1alpha2))
		}
		if len(warnings) != len(tc.warnings) {
			t.Errorf("%v: warnings %v, want %q", tc.set, warnings, tc.warnings)
			continue
		}
		for i, w := range warnings {
			if !strings.Contains(w.String(), tc.warnings[i]) {
				t.Errorf("%v: warning %q, want %q", tc.set, w, tc.warnings[i])
			}
		}
	}
}

func TestWatchFile(t *testing.T) {
	path := writeConfig(t, "kind: CloudCore")
	var s Startup
	if code, _, stderr := run(t, &s, "--config", path); code != 0 {
		t.Fatal(stderr)
	}
	logger, lines := capture(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(klog.NewContext(t.Context(), logger))
		done := make(chan struct{})
		go func() { defer close(done); s.WatchFile(ctx) }()
		lap := func() { time.Sleep(2 * watchPeriod); synctest.Wait() }
		write := func(text string, age time.Duration) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Error(err)
			}
			if err := os.Chtimes(path, time.Time{}, time.Unix(1_000_000_000, 0).Add(age)); err != nil {
				t.Error(err)
			}
			lap()
		}
		lap()
		if got := lines(); got != "" {
			t.Errorf("unchanged file logged: %s", got)
		}
		write("kind: CloudCore", time.Second) // only touched
		write("modules: {router: {enable: true}}", 2*time.Second)
		lap()
		write("modules: {router: {enable: 1}}", 3*time.Second)
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
		lap()
		write("kind: CloudCore", 4*time.Second)
		stop()
		<-done
	})
	got := strings.Split(strings.TrimSpace(lines()), "\n")
	want := []string{"restart cloudcore to apply it", "would not start with it", "again the one in use"}
	for i := range want {
		if i >= len(got) || !strings.Contains(lines(), want[i]) {
			t.Fatalf("log is\n%s\nwant %q", lines(), want)
		}
	}
	if n := strings.Count(lines(), "Configuration file"); n != len(want) {
		t.Errorf("%d messages, want %d:\n%s", n, len(want), lines())
	}
}

func TestPrintReportsWriteErrors(t *testing.T) {
	if err := PrintDefault(brokenPipe{}, net.IPv4zero); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
