package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/goleak"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

func none() []Check { return nil }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestSpec01Check09_Metrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	var connected atomic.Int64
	registry.MustRegister(collectors.NewGoCollector(), prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "KubeEdge_CloudHub_connected_nodes", Help: "Connected nodes."},
		func() float64 { return float64(connected.Load()) }))
	h := New(Config{}, registry, none).Handler()
	for _, nodes := range []int64{0, 1, 0} {
		connected.Store(nodes)
		code, body := get(t, h, "/metrics")
		if want := fmt.Sprintf("\nKubeEdge_CloudHub_connected_nodes %d\n", nodes); code != 200 || !strings.Contains(body, want) {
			t.Errorf("/metrics: %d without %q", code, want)
		}
		for _, want := range []string{"go_goroutines", "promhttp_metric_handler_requests_total"} {
			if !strings.Contains(body, want) {
				t.Errorf("/metrics lacks %s", want)
			}
		}
	}
	// Two servers in one process share nothing.
	if _, body := get(t, New(Config{}, prometheus.NewRegistry(), none).Handler(), "/metrics"); strings.Contains(body, "KubeEdge") {
		t.Error("a second registry shows metrics of the first")
	}
}

func TestSpec01Check09_ProfilesOnlyWhenEnabled(t *testing.T) {
	paths := []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol", "/debug/pprof/trace?seconds=0.01"}
	for _, on := range []bool{false, true} {
		h := New(Config{Profiling: on}, prometheus.NewRegistry(), none).Handler()
		for _, path := range paths {
			if code, _ := get(t, h, path); (code == 200) != on || !on && code != 404 {
				t.Errorf("enabled %v: %s gives %d", on, path, code)
			}
		}
		if code, _ := get(t, h, "/"); code != 404 {
			t.Errorf("/ gives %d", code)
		}
	}
}

func TestHealth(t *testing.T) {
	var hub error
	h := New(Config{}, prometheus.NewRegistry(), func() []Check {
		return []Check{{"edgecontroller", func() error { return nil }}, {"cloudhub", func() error { return hub }}}
	}).Handler()
	check := func(path string, code int, want string) {
		t.Helper()
		if got, body := get(t, h, path); got != code || body != want {
			t.Errorf("%s: %d %q, want %d %q", path, got, body, code, want)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		check(path, 200, "ok")
		check(path+"?verbose", 200, "[+]ping ok\n[+]cloudhub ok\n[+]edgecontroller ok\n"+path[1:]+" check passed\n")
	}
	check("/readyz/cloudhub", 200, "ok")
	check("/readyz/nosuch", 404, "no such check\n")

	hub = fmt.Errorf("caches:\n not %s", "synced")
	check("/readyz", 503, "[+]ping ok\n[-]cloudhub failed: caches: not synced\n[+]edgecontroller ok\nreadyz check failed\n")
	check("/readyz/cloudhub", 503, "[-]cloudhub failed: caches: not synced\nreadyz check failed\n")
	check("/readyz/edgecontroller", 200, "ok")
	for _, path := range []string{"/livez", "/healthz"} {
		check(path, 200, "ok")
		check(path+"?verbose", 200, "[+]ping ok\n[ ]cloudhub not ready (does not count here): caches: not synced\n[+]edgecontroller ok\n"+path[1:]+" check passed\n")
	}

	hub = errors.New(strings.Repeat("é", 10_000))
	if _, body := get(t, h, "/readyz"); len(body) > 500 {
		t.Errorf("answer of %d bytes", len(body))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/readyz", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST gives %d", w.Code)
	}
}

// start runs s and returns its address and a function that stops it and returns Run's error.
func start(t *testing.T, s *Server) (string, func() error) {
	t.Helper()
	opened := make(chan string, 1)
	inner := s.listen
	s.listen = func(ctx context.Context, address string) (net.Listener, error) {
		l, err := inner(ctx, address)
		if err == nil {
			opened <- l.Addr().String()
		}
		return l, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return <-opened, func() error { cancel(); return <-done }
}

func TestRunServesUntilStopped(t *testing.T) {
	s := New(Config{Address: "127.0.0.1:0"}, prometheus.NewRegistry(), none)
	address, stop := start(t, s)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "ok" {
		t.Errorf("body %q, %v", body, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("still listening")
	}
	// It can run again.
	_, stop = start(t, s)
	if err := stop(); err != nil {
		t.Errorf("second Run: %v", err)
	}
}

func TestShutdownEndsARunningProfile(t *testing.T) {
	s := New(Config{Address: "127.0.0.1:0", Profiling: true}, prometheus.NewRegistry(), none)
	address, stop := start(t, s)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /debug/pprof/trace?seconds=600 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // the answer has begun
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestSpec01Check25_TakenAddressIsAWarning(t *testing.T) {
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Address: "127.0.0.1:9091"}, prometheus.NewRegistry(), none)
		var tries atomic.Int64
		open := newPipeListener()
		s.listen = func(context.Context, string) (net.Listener, error) {
			if tries.Add(1) < 4 {
				return nil, errors.New("address already in use")
			}
			return open, nil
		}
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(2*listenPeriod + time.Second)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Run returned %v", err)
		default:
		}
		if tries := tries.Load(); tries != 3 {
			t.Errorf("%d tries", tries)
		}
		time.Sleep(listenPeriod)
		synctest.Wait()
		if tries := tries.Load(); tries != 4 {
			t.Errorf("%d tries", tries)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	sink, ok := logger.GetSink().(ktesting.Underlier)
	if !ok {
		t.Fatal("not a testing logger")
	}
	if text := sink.GetBuffer().String(); strings.Count(text, "Metrics and health are not served") != 1 || !strings.Contains(text, "already in use") {
		t.Errorf("log:\n%s", text)
	}
}

func TestStoppedWhileTheAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	s := New(Config{Address: taken.Addr().String()}, prometheus.NewRegistry(), none)
	s.listen = func(ctx context.Context, address string) (net.Listener, error) {
		l, err := listen(ctx, address)
		cancel()
		return l, err
	}
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestEmptyAddressServesNothing(t *testing.T) {
	s := New(Config{}, prometheus.NewRegistry(), none)
	s.listen = func(context.Context, string) (net.Listener, error) { t.Error("listens"); return nil, errors.New("no") }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestBrokenListenerIsAnError(t *testing.T) {
	s := New(Config{Address: "127.0.0.1:0"}, prometheus.NewRegistry(), none)
	s.listen = func(ctx context.Context, address string) (net.Listener, error) {
		l, err := listen(ctx, address)
		if err == nil {
			err = l.Close()
		}
		return l, err
	}
	if err := s.Run(t.Context()); err == nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

// pipeListener accepts nothing until it is closed; it has no socket, for use with fake time.
type pipeListener struct{ closed chan struct{} }

func newPipeListener() *pipeListener { return &pipeListener{make(chan struct{})} }

func (l *pipeListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l *pipeListener) Addr() net.Addr            { return &net.TCPAddr{} }
func (l *pipeListener) Close() error              { close(l.closed); return nil }
