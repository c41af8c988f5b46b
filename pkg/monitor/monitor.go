// Package monitor is the HTTP server for operators: metrics, health, readiness, and profiles if they are enabled.
//
// It is never a reason to stop: if its port is taken, cloudcore says so and goes on without it.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
)

// Config describes the server.
type Config struct {
	// Address is IP:port; empty switches the server off.
	Address string
	// Profiling serves Go profiles under /debug/pprof/.
	Profiling bool
}

// Check is one named condition of readiness.
type Check struct {
	Name  string
	Ready func() error
}

// Server is the monitor server.
type Server struct {
	cfg    Config
	gather prometheus.Gatherer
	checks func() []Check
}

// New returns a server; checks are asked at each request.
func New(cfg Config, gather prometheus.Gatherer, checks func() []Check) *Server {
	return &Server{cfg: cfg, gather: gather, checks: checks}
}

// Handler returns the routes of the server.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.gather, promhttp.HandlerOpts{}))
	alive := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /readyz", s.readyz)
	if s.cfg.Profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// readyz answers 200 if all checks pass. With ?verbose, or if one fails, it names each.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	checks := s.checks()
	slices.SortFunc(checks, func(a, b Check) int { return strings.Compare(a.Name, b.Name) })
	var text strings.Builder
	failed := false
	for _, c := range checks {
		if err := c.Ready(); err != nil {
			failed = true
			fmt.Fprintf(&text, "[-]%s: %v\n", c.Name, err)
			continue
		}
		fmt.Fprintf(&text, "[+]%s ok\n", c.Name)
	}
	switch {
	case failed:
		http.Error(w, text.String()+"readyz check failed", http.StatusServiceUnavailable)
	case r.URL.Query().Has("verbose"):
		_, _ = w.Write([]byte(text.String() + "readyz check passed\n"))
	default:
		_, _ = w.Write([]byte("ok"))
	}
}

// Run serves until ctx ends. A port that can't be opened is logged and not an error (spec 01 §17.11).
func (s *Server) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	if s.cfg.Address == "" {
		<-ctx.Done()
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Address)
	if err != nil {
		logger.Error(err, "Metrics and health are not served", "key", "commonConfig.monitorServer.bindAddress", "address", s.cfg.Address)
		<-ctx.Done()
		return nil
	}
	hs := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() })
	defer stop()
	logger.Info("Serving metrics and health", "address", l.Addr().String())
	if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics and health: %w", err)
	}
	return nil
}
