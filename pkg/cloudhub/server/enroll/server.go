package enroll

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"k8s.io/klog/v2"
)

// Config describes the server. Zero fields other than Address and TLS take defaults.
type Config struct {
	// Address is host:port to listen on.
	Address string
	// TLS asks for client certificates without verifying them.
	TLS *tls.Config
	// Rate and Burst limit the certificate and node requests of one address, Rate in requests a second. The defaults,
	// 100 and 5 000, let a site of thousands of nodes behind one address join at once and stop a loop of retries.
	Rate, Burst int
}

// Server serves enrolment.
type Server struct {
	cfg       Config
	deps      Deps
	limits    *limits
	metrics   *metrics
	listening atomic.Bool
}

type metrics struct{ requests *prometheus.CounterVec }

// New returns a server; Run opens its listener.
func New(cfg Config, deps Deps, reg prometheus.Registerer) (*Server, error) {
	if cfg.TLS == nil || deps.Authority == nil || deps.NodeExists == nil || deps.Report == nil {
		return nil, errors.New("the enrolment server needs a TLS configuration and all its dependencies")
	}
	cfg.Rate, cfg.Burst = cmp.Or(cfg.Rate, 100), cmp.Or(cfg.Burst, 5000)
	s := &Server{
		cfg: cfg, deps: deps, limits: &limits{rate: rate.Limit(cfg.Rate), burst: cfg.Burst, addresses: map[string]*rate.Limiter{}},
		metrics: &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_enroll_requests_total", Help: "Requests on the enrolment server, by route and status code.",
		}, []string{"route", "code"})},
	}
	if reg != nil {
		if err := reg.Register(s.metrics.requests); err != nil {
			return nil, fmt.Errorf("register metrics of the enrolment server: %w", err)
		}
	}
	return s, nil
}

var errNotListening = errors.New("not listening yet")

// Ready returns nil once the listener is open.
func (s *Server) Ready() error {
	if !s.listening.Load() {
		return errNotListening
	}
	return nil
}

// Run listens and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen for joining nodes on %s: %w", s.cfg.Address, err)
	}
	return s.Serve(ctx, l)
}

// Serve serves on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	logger := klog.FromContext(ctx)
	hs := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 15 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(&lines{logger}, "", 0),
	}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() })
	defer stop()
	s.listening.Store(true)
	defer s.listening.Store(false)
	logger.Info("Listening for joining nodes", "address", l.Addr().String())
	err := hs.Serve(tls.NewListener(l, s.cfg.TLS))
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve joining nodes on %s: %w", s.cfg.Address, err)
}

// lines takes what the HTTP server logs: failed handshakes of strangers.
type lines struct{ logger klog.Logger }

func (l *lines) Write(p []byte) (int, error) {
	l.logger.V(2).Info("Connection failed", "err", string(bytes.TrimSpace(p)))
	return len(p), nil
}

// maxAddresses bounds the table of limiters. When it is full it starts anew, which forgives everybody once.
const maxAddresses = 10_000

// limits is one token bucket for each address.
type limits struct {
	rate  rate.Limit
	burst int

	mu        sync.Mutex // guards addresses
	addresses map[string]*rate.Limiter
}

func (l *limits) allow(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.addresses[address]
	if limiter == nil {
		if len(l.addresses) >= maxAddresses {
			l.addresses = map[string]*rate.Limiter{}
		}
		limiter = rate.NewLimiter(l.rate, l.burst)
		l.addresses[address] = limiter
	}
	return limiter.AllowN(now, 1)
}
