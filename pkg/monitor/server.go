package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	// answerTimeout bounds the writing of an answer; profiles, which run as long as the caller
	// asked, are exempt.
	answerTimeout = 30 * time.Second
	// maxScrapes bounds concurrent scrapes: gathering costs memory, and nobody is authenticated.
	maxScrapes = 4
	// listenPeriod is how often a taken address is tried again.
	listenPeriod  = 30 * time.Second
	shutdownLimit = 2 * time.Second
)

// Config says where and what to serve.
type Config struct {
	Address   string // IP:port; empty serves nothing
	Profiling bool   // serve /debug/pprof/
}

// Server is the monitor server.
type Server struct {
	address string
	handler http.Handler
	listen  func(ctx context.Context, address string) (net.Listener, error)
}

// New builds the server; it listens only when it runs. checks is asked at each request.
func New(cfg Config, registry *prometheus.Registry, checks func() []Check) *Server {
	mux := http.NewServeMux()
	metrics := promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             answerTimeout / 2,
		// One broken collector must not hide the others.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.Handle("GET /metrics", withDeadline(metrics))
	for path, count := range map[string]bool{"/livez": false, "/healthz": false, "/readyz": true} {
		h := withDeadline(&health{path: path, checks: checks, count: count})
		mux.Handle("GET "+path, h)
		mux.Handle("GET "+path+"/{check}", h)
	}
	if cfg.Profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return &Server{address: cfg.Address, handler: mux, listen: listen}
}

// Handler serves what the server would, for callers that bring their own listener.
func (s *Server) Handler() http.Handler { return s.handler }

func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// Run serves until ctx ends. An address that cannot be opened is a warning, repeated tries, and
// no reason to return.
func (s *Server) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	if s.address == "" {
		logger.Info("Monitor server is off")
		<-ctx.Done()
		return nil
	}
	l := s.open(ctx)
	if l == nil {
		return nil // ctx ended first
	}
	logger.Info("Serving metrics and health", "address", l.Addr().String())

	// Requests see values of ctx, but end with the server, not with ctx.
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          newErrorLog(logger),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics and health on %s: %w", s.address, err)
	case <-ctx.Done():
	}
	limit, stop := context.WithTimeout(requests, shutdownLimit)
	defer stop()
	if err := server.Shutdown(limit); err != nil { // a profile may still run
		cancel()
		_ = server.Close() // only ends what is left
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics and health on %s: %w", s.address, err)
	}
	return nil
}

// open listens, as often as it takes; nil when ctx ended first.
func (s *Server) open(ctx context.Context) net.Listener {
	retry := time.NewTicker(listenPeriod)
	defer retry.Stop()
	for try := 0; ; try++ {
		l, err := s.listen(ctx, s.address)
		if err == nil {
			return l
		}
		if try == 0 && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Metrics and health are not served, everything else goes on; trying again", "address", s.address, "period", listenPeriod)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
		}
	}
}

// withDeadline bounds how long a peer may take to read the answer, and to send a body that
// nobody wants. A profile has neither bound: it takes as long as was asked for.
func withDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, end := http.NewResponseController(w), time.Now().Add(answerTimeout)
		// Not every connection has deadlines; without them the answer is merely not bounded.
		_, _ = c.SetReadDeadline(end), c.SetWriteDeadline(end)
		next.ServeHTTP(w, r)
	})
}
