package harness

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// Options describe one cloudcore.
type Options struct {
	// NodeLimit is the number of nodes that it accepts; the default of cloudcore if zero.
	NodeLimit int
	// Verbosity is the log level, 2 if zero: beginning and end of sessions are logged.
	Verbosity int
	// Allow announces errors in the log.
	Allow []Allowance
	// Kubeconfig replaces that of the environment, for example to put a proxy in between.
	Kubeconfig string
}

// Cloudcore is a real cloudcore process. It listens on loopback, on the same ports after each start.
type Cloudcore struct {
	// HubPort, HTTPSPort and MonitorPort are where it listens.
	HubPort, HTTPSPort, MonitorPort int

	env  *Environment
	args []string
	log  *logSink
	run  *child
}

// Address is the name under which edges reach a cloudcore.
const Address = "127.0.0.1"

const (
	readyTimeout = time.Minute
	readyPoll    = 50 * time.Millisecond
	stopTimeout  = 30 * time.Second
	callTimeout  = 10 * time.Second
)

// stopNoise are lines that a library writes when a stop cuts off what it does.
func stopNoise() []Allowance {
	return []Allowance{{
		Text:   `"Unexpected error when reading response body" err="context canceled"`,
		Reason: "client-go logs the end of a list or watch by its context as an error",
	}}
}

// Cloudcore starts a cloudcore and waits until it is ready. It is stopped, which must succeed, when t ends.
func (e *Environment) Cloudcore(t testing.TB, o Options) *Cloudcore {
	t.Helper()
	c, err := e.NewCloudcore(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.Alive() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopTimeout)
			defer cancel()
			if err := c.Stop(ctx); err != nil {
				t.Error(err)
			}
		}
		for _, line := range c.log.unwanted() {
			t.Errorf("cloudcore logged: %s", line)
		}
		if t.Failed() {
			t.Logf("log of the cloudcore on port %d:\n%s", c.HubPort, c.log.text())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// NewCloudcore prepares a cloudcore that keeps its files in dir. The caller starts and stops it.
func (e *Environment) NewCloudcore(dir string, o Options) (*Cloudcore, error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	c := &Cloudcore{env: e, HubPort: ports[0], HTTPSPort: ports[1], MonitorPort: ports[2], log: &logSink{allow: append(stopNoise(), o.Allow...)}}
	if o.NodeLimit == 0 {
		o.NodeLimit = 500
	}
	if o.Verbosity == 0 {
		o.Verbosity = 2
	}
	if o.Kubeconfig == "" {
		o.Kubeconfig = e.Kubeconfig
	}
	file := filepath.Join(dir, "cloudcore.yaml")
	if err := os.WriteFile(file, []byte(c.config(dir, o, ports[3])), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	c.args = []string{"--config", file, "-v", strconv.Itoa(o.Verbosity)}
	return c, nil
}

// config is the configuration file. The certificate files do not exist: what cloudcore needs is in Secrets.
func (c *Cloudcore) config(dir string, o Options, quic int) string {
	return fmt.Sprintf(`apiVersion: cloudcore.config.kubeedge.io/v1alpha1
kind: CloudCore
commonConfig:
  monitorServer:
    bindAddress: %[1]s:%[2]d
kubeAPIConfig:
  kubeConfig: %[3]s
modules:
  cloudHub:
    nodeLimit: %[4]d
    advertiseAddress: [%[1]s]
    tlsCAFile: %[5]s/missing/rootCA.crt
    tlsCAKeyFile: %[5]s/missing/rootCA.key
    tlsCertFile: %[5]s/missing/server.crt
    tlsPrivateKeyFile: %[5]s/missing/server.key
    quic: {enable: false, address: %[1]s, port: %[8]d}
    unixsocket: {enable: true, address: "unix://%[5]s/c.sock"}
    websocket: {enable: true, address: %[1]s, port: %[6]d}
    https: {address: %[1]s, port: %[7]d}
  iptablesManager: {enable: false}
`, Address, c.MonitorPort, o.Kubeconfig, o.NodeLimit, dir, c.HubPort, c.HTTPSPort, quic)
}

// freePorts returns ports that nobody listens on. They lie below those that the kernel gives to outgoing connections, so
// that they stay free while a cloudcore is down.
func freePorts(n int) ([]int, error) {
	const first, last, attempts = 20000, 32000, 200
	var ports []int
	for range attempts {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", net.JoinHostPort(Address, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close() // kept until all are found, so that no port comes twice
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("found %d free ports instead of %d", len(ports), n)
}

// Start starts the process and returns when it is ready.
func (c *Cloudcore) Start(ctx context.Context) error {
	if c.Alive() {
		return fmt.Errorf("the cloudcore on port %d runs already", c.HubPort)
	}
	run, err := startChild(c.log, c.env.binary, c.args...)
	if err != nil {
		return err
	}
	c.run = run
	return c.WaitReady(ctx)
}

// WaitReady asks the process until it says that it is ready.
func (c *Cloudcore) WaitReady(ctx context.Context) error {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	var last error
	for {
		if _, last = c.Get(ctx, "/readyz"); last == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-c.run.done:
			return fmt.Errorf("cloudcore ended while it started: %w\n%s", c.run.err, c.log.text())
		case <-ctx.Done():
			return fmt.Errorf("cloudcore is not ready: %w: %w", context.Cause(ctx), last)
		}
	}
}

// Alive says whether the process runs.
func (c *Cloudcore) Alive() bool { return c.run != nil && c.run.alive() }

// PID is the number of the newest process.
func (c *Cloudcore) PID() int { return c.run.process.Pid }

// Kill ends the process as a crash does (SIGKILL).
func (c *Cloudcore) Kill(ctx context.Context) error {
	if err := c.run.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return c.run.wait(ctx)
}

// Stop ends the process as an operator does (SIGTERM); any exit code but 0 is an error.
func (c *Cloudcore) Stop(ctx context.Context) error {
	if err := c.run.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := c.run.wait(ctx); err != nil {
		_ = c.run.signal(syscall.SIGQUIT) // shows in the log what it waits for
		<-c.run.done
		return err
	}
	if c.run.err != nil {
		return fmt.Errorf("stop cloudcore: %w", c.run.err)
	}
	return nil
}

// Log returns what the processes wrote, the end of it if it is long.
func (c *Cloudcore) Log() string { return c.log.text() }

// Unwanted returns the log lines that no test wants to see.
func (c *Cloudcore) Unwanted() []string { return c.log.unwanted() }

// Get asks the monitor server.
func (c *Cloudcore) Get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	url := "http://" + net.JoinHostPort(Address, strconv.Itoa(c.MonitorPort)) + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask cloudcore for %s: %w", path, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask cloudcore: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("read %s of cloudcore: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cloudcore answered %s with %s: %s", path, resp.Status, body)
	}
	return body, nil
}

// Metrics are the metrics of a process at one moment.
type Metrics map[string]*dto.MetricFamily

// Metrics reads all metrics.
func (c *Cloudcore) Metrics(t testing.TB) Metrics {
	t.Helper()
	text, err := c.Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("parse metrics: %v", err)
	}
	return families
}

// Sum adds the values of all series of a counter or gauge that have the given labels, as name, value, name, value.
func (m Metrics) Sum(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	family, ok := m[name]
	if !ok {
		t.Fatalf("there is no metric %s", name)
	}
	var sum float64
	for _, series := range family.GetMetric() {
		if hasLabels(series, labels) {
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue() + series.GetUntyped().GetValue()
		}
	}
	return sum
}

func hasLabels(series *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		found := false
		for _, l := range series.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// Token returns the bootstrap token.
func (e *Environment) Token(ctx context.Context) (string, error) {
	return edgesim.TokenFromCluster(ctx, e.Client)
}
