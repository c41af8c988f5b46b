package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"k8s.io/klog/v2"
)

// maxHeader bounds the headers of a request: a token has about a hundred bytes.
const maxHeader = 16 << 10

// Server is the HTTPS server. See the package documentation.
type Server struct {
	// Set by New, then read-only.
	cfg     Config
	deps    Deps
	metrics *metrics
	mux     *http.ServeMux

	joins, lookups, reports *buckets
	reportSlots             chan struct{} // one element a report in memory
}

var _ http.Handler = (*Server)(nil)

// New checks settings and dependencies. It does no I/O.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := deps.check(); err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, deps: deps, metrics: m,
		joins:       newBuckets(cfg.Joins, cfg.MaxAddresses),
		lookups:     newBuckets(cfg.Lookups, cfg.MaxAddresses),
		reports:     newBuckets(cfg.Reports, cfg.MaxAddresses),
		reportSlots: make(chan struct{}, cfg.MaxConcurrentReports),
	}
	s.mux = s.routes()
	return s, nil
}

// Run listens on the configured address and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen for HTTPS on %s: %w", s.cfg.Address, err)
	}
	return s.Serve(ctx, listener)
}

// Serve serves on a TCP listener until ctx ends, and closes the listener. It returns after every connection is gone:
// requests may go on for ShutdownTimeout, then they are cut off.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	logger := klog.FromContext(ctx)
	requests, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()

	var connections sync.WaitGroup
	server := s.httpServer(requests, &connections)
	capped := newCappedListener(listener, s.cfg.MaxConnections, s.cfg.MaxConnectionsPerAddress, s.metrics)
	served := make(chan error, 1)
	go func() { served <- server.Serve(tls.NewListener(capped, s.deps.TLS)) }()
	logger.Info("HTTPS server started", "address", listener.Addr().String())

	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve HTTPS on %s: %w", listener.Addr(), err)
		_ = server.Close()
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(requests, s.cfg.ShutdownTimeout)
		if shutdownErr := server.Shutdown(grace); shutdownErr != nil {
			logger.Info("Requests cut off at shutdown", "reason", shutdownErr.Error())
		}
		cancel()
		cutOff()
		_ = server.Close() // what Shutdown left open
		if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
			logger.Info("HTTPS listener ended with an error", "reason", serveErr.Error())
		}
	}
	cutOff()
	connections.Wait()
	logger.Info("HTTPS server stopped", "address", listener.Addr().String())
	return err
}

func (s *Server) httpServer(ctx context.Context, connections *sync.WaitGroup) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:           s,
		Protocols:         &protocols,
		ReadHeaderTimeout: s.cfg.HeaderTimeout, // also of the TLS handshake
		ReadTimeout:       s.cfg.RequestTimeout,
		WriteTimeout:      s.cfg.RequestTimeout + s.cfg.HeaderTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(peerNoise{klog.FromContext(ctx)}, "", 0),
		// New comes before the connection's goroutine starts, Closed at its end.
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				connections.Add(1)
			case http.StateClosed, http.StateHijacked:
				connections.Done()
			}
		},
	}
	server.SetKeepAlivesEnabled(false)
	return server
}

// peerNoise takes what net/http says about single connections, mostly failed handshakes of strangers.
type peerNoise struct{ logger klog.Logger }

func (n peerNoise) Write(line []byte) (int, error) {
	n.logger.V(4).Info("HTTPS connection failed", "reason", strings.TrimSpace(string(line)))
	return len(line), nil
}
