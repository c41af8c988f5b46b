package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/supervise"
)

// serveTestControl serves the control endpoint for one component, which is down.
func serveTestControl(t *testing.T) *Cluster {
	t.Helper()
	c := newCluster(t, nil)
	if err := c.dir.prepare(); err != nil {
		t.Fatal(err)
	}
	process := supervise.New(supervise.Spec{
		Name: Etcd, Path: "/bin/false", Args: []string{"false"}, Log: c.dir.logOf(Etcd),
		Ready: func(context.Context) error { return errors.New("never") },
		Grace: time.Second,
		Died:  func(string, error, time.Duration) {},
	})
	g := &group{members: []member{{Process: process, url: "https://127.0.0.1:1", log: c.dir.logOf(Etcd)}}}
	ctx, cancel := context.WithCancelCause(t.Context())
	var running sync.WaitGroup
	ready := make(chan struct{})
	running.Go(func() { process.Run(ctx) })
	running.Go(func() {
		if err := c.serveControl(ctx, g, func() { close(ready) }); !errors.Is(err, context.Canceled) {
			t.Errorf("control endpoint: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel(nil)
		running.Wait()
		http.DefaultClient.CloseIdleConnections()
		if _, err := os.Stat(c.dir.control()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the control file is left behind: %v", err)
		}
	})
	<-ready
	return c
}

func TestControlEndpoint(t *testing.T) {
	c := serveTestControl(t)
	data, err := os.ReadFile(c.dir.control())
	if err != nil {
		t.Fatal(err)
	}
	base := strings.TrimSpace(string(data))
	withoutSecret := base[:strings.LastIndex(base, "/")]
	tests := []struct {
		name, method, url string
		want              int
	}{
		{"status", http.MethodGet, base + "/", http.StatusOK},
		{"stop what is down", http.MethodPost, base + "/etcd/stop", http.StatusOK},
		{"pause what is down", http.MethodPost, base + "/etcd/pause", http.StatusConflict},
		{"start what cannot start", http.MethodPost, base + "/etcd/start", http.StatusInternalServerError},
		{"unknown component", http.MethodPost, base + "/kubelet/stop", http.StatusNotFound},
		{"unknown action", http.MethodPost, base + "/etcd/explode", http.StatusNotFound},
		{"action by GET", http.MethodGet, base + "/etcd/stop", http.StatusMethodNotAllowed},
		{"status without the secret", http.MethodGet, withoutSecret + "/", http.StatusNotFound},
		{"action without the secret", http.MethodPost, withoutSecret + "/etcd/stop", http.StatusNotFound},
		{"wrong secret", http.MethodPost, withoutSecret + "/secret/etcd/stop", http.StatusNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != tt.want {
				t.Errorf("%s %s: got %s, want %d", tt.method, tt.url, resp.Status, tt.want)
			}
		})
	}
}

func TestControlClient(t *testing.T) {
	c := serveTestControl(t)
	var out bytes.Buffer
	if err := ShowStatus(t.Context(), string(c.dir), &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "etcd") || !strings.Contains(got, "down") {
		t.Errorf("status: got %q, want etcd as down", got)
	}
	if err := Control(t.Context(), string(c.dir), Etcd, "stop", &out); err != nil {
		t.Errorf("stop: %v", err)
	}
	err := Control(t.Context(), string(c.dir), Etcd, "resume", &out)
	if err == nil || !strings.Contains(err.Error(), "there is no process") {
		t.Errorf("resume: got %v, want the reason", err)
	}
	err = ShowStatus(t.Context(), t.TempDir(), &out)
	if err == nil || !strings.Contains(err.Error(), "no cluster is ready") {
		t.Errorf("folder without a cluster: got %v", err)
	}
}

func TestProbe(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode("etcd is not reachable")
	}))
	defer server.Close()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig
	healthy := probe(config, server.URL+"/readyz")
	if err := healthy(t.Context()); err != nil {
		t.Errorf("status 200: %v", err)
	}
	status = http.StatusServiceUnavailable
	if err := all(healthy, healthy)(t.Context()); err == nil || !strings.Contains(err.Error(), "etcd is not reachable") {
		t.Errorf("status 503: got %v, want the answer of the server", err)
	}
	server.Close()
	if err := healthy(t.Context()); err == nil {
		t.Error("a server that is gone was called healthy")
	}
}
