package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// address is where everything listens.
const address = "127.0.0.1"

// cloudcore is the process that is measured.
type cloudcore struct {
	*child
	hub, https, monitor int
	agent               string // the begin of its user agent
}

// startCloudcore returns a cloudcore that is ready. It is not nil, and must be stopped, if its process was started.
func startCloudcore(ctx context.Context, s *settings, dir string, c *cluster, nodes int) (*cloudcore, error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	cc := &cloudcore{hub: ports[0], https: ports[1], monitor: ports[2], agent: "cloudcore/"}
	if s.style == styleOriginal {
		cc.agent = filepath.Base(s.cloudcore) + "/" // client-go's default
	}
	file := filepath.Join(dir, "cloudcore.yaml")
	if err := os.WriteFile(file, []byte(cc.config(dir, c.kubeconfig, nodes, ports[3])), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	if cc.child, err = startChild(filepath.Join(dir, "cloudcore.log"), s.cloudcore, "--config", file); err != nil {
		return nil, err
	}
	return cc, cc.await(ctx, "cloudcore", func(ctx context.Context) error {
		if s.style == styleOurs {
			_, err := cc.get(ctx, "/readyz")
			return err
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(cc.https)))
		if err != nil {
			return err
		}
		_, tokenErr := edgesim.TokenFromCluster(ctx, c.client)
		return errors.Join(conn.Close(), tokenErr)
	})
}

// config is the configuration file. The certificate files do not exist: what cloudcore needs is in Secrets.
func (c *cloudcore) config(dir, kubeconfig string, nodes, quic int) string {
	return fmt.Sprintf(`apiVersion: cloudcore.config.kubeedge.io/v1alpha1
kind: CloudCore
commonConfig:
  monitorServer: {bindAddress: "%[1]s:%[2]d", enableProfiling: true}
kubeAPIConfig:
  kubeConfig: %[3]s
modules:
  cloudHub:
    nodeLimit: %[4]d
    advertiseAddress: [%[1]s]
    tlsCAFile: %[5]s/none/rootCA.crt
    tlsCAKeyFile: %[5]s/none/rootCA.key
    tlsCertFile: %[5]s/none/server.crt
    tlsPrivateKeyFile: %[5]s/none/server.key
    quic: {enable: false, address: %[1]s, port: %[8]d}
    unixsocket: {enable: true, address: "unix://%[5]s/c.sock"}
    websocket: {enable: true, address: %[1]s, port: %[6]d}
    https: {address: %[1]s, port: %[7]d}
  iptablesManager: {enable: false}
`, address, c.monitor, kubeconfig, nodes+100, dir, c.hub, c.https, quic)
}

// freePorts returns ports that nobody listens on, below those that the kernel gives to outgoing connections.
func freePorts(n int) ([]int, error) {
	const first, last, attempts = 20000, 32000, 200
	var ports []int
	for range attempts {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
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

// get asks the monitor server.
func (c *cloudcore) get(ctx context.Context, path string) ([]byte, error) {
	return get(ctx, "http://"+net.JoinHostPort(address, strconv.Itoa(c.monitor))+path)
}

// metrics are the sums over the series of each metric; of a histogram, its number of observations. What name_sum has is
// the sum of its observations, and name{label=value} is that of the series with this label alone.
type metrics map[string]float64

func (c *cloudcore) metrics(ctx context.Context) (metrics, error) {
	text, err := c.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return parseMetrics(string(text))
}

func parseMetrics(text string) (metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("parse metrics: %w", err)
	}
	m := make(metrics, len(families))
	for name, family := range families {
		for _, series := range family.GetMetric() {
			observed := series.GetHistogram().GetSampleSum()
			m[name] += value(series)
			m[name+"_sum"] += observed
			for _, l := range series.GetLabel() {
				label := "{" + l.GetName() + "=" + l.GetValue() + "}"
				m[name+label] += value(series)
				m[name+"_sum"+label] += observed
			}
		}
	}
	return m, nil
}

// value is that of a counter, a gauge or an untyped series, and the number of observations of others.
func value(series *dto.Metric) float64 {
	return series.GetCounter().GetValue() + series.GetGauge().GetValue() + series.GetUntyped().GetValue() +
		float64(series.GetHistogram().GetSampleCount()+series.GetSummary().GetSampleCount())
}

// memory is what a process holds.
type memory struct {
	RSS, Heap int64
}

// memory reads the memory in RAM and the heap in use; a cloudcore without metrics of its heap has none.
func (c *cloudcore) memory(ctx context.Context) (memory, error) {
	rss, err := residentBytes(c.pid)
	if err != nil {
		return memory{}, err
	}
	m, err := c.metrics(ctx)
	if err != nil {
		return memory{}, err
	}
	return memory{rss, int64(m["go_memstats_heap_inuse_bytes"])}, nil
}

// profile writes a profile to a file, for example heap, or profile?seconds=20. It does nothing without a folder.
func (c *cloudcore) profile(ctx context.Context, dir, name, query string) error {
	if dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	data, err := c.get(ctx, "/debug/pprof/"+query)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of profiles: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".pprof"), data, 0o644); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}
