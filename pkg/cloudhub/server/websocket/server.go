// Package websocket is the listener that edge nodes dial for their message link (spec 02 §2): mutual TLS, one upgrade
// request, then one session for as long as the connection lives.
//
// Everything about a connection is decided before the upgrade: identity comes from the certificate alone, the header
// and the path must not contradict it, and the hub may refuse. A refused peer gets an HTTP status and a closed
// connection; nothing that it sends reaches a module.
package websocket

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/session"
)

// Config describes the listener. Zero fields other than Address and TLS take defaults.
type Config struct {
	// Address is host:port to listen on.
	Address string
	// TLS must require and verify client certificates.
	TLS *tls.Config
	// NodeName returns the node that a verified certificate belongs to; claimed is the node name that the peer states,
	// which decides nothing unless the certificate is of the old kind that names no node.
	NodeName func(leaf *x509.Certificate, claimed string) (string, error)
	// WriteTimeout bounds the write of one message.
	WriteTimeout time.Duration
	// HandshakeTimeout bounds the time from accept to the end of the upgrade.
	HandshakeTimeout time.Duration
	// MaxMessage is the largest message in bytes, either way.
	MaxMessage int64
}

func (c Config) withDefaults() Config {
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 30*time.Second)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 30*time.Second)
	c.MaxMessage = cmp.Or(c.MaxMessage, 32<<20) // spec 02 §2.3
	return c
}

// Hub admits nodes and serves their sessions.
type Hub interface {
	// Admit says whether a node may have a session now. An error is told to the peer with status 503.
	Admit(node string) error
	// Serve runs the session of a node until it ends.
	Serve(ctx context.Context, node string, c session.Conn)
}

// Server accepts the connections of edge nodes.
type Server struct {
	cfg      Config
	hub      Hub
	upgrader websocket.Upgrader
	refused  *prometheus.CounterVec

	sessions  sync.WaitGroup
	listening atomic.Bool
	addr      chan net.Addr // one slot: the address once Run listens
}

// New returns a server; Run opens its listener.
func New(cfg Config, hub Hub, reg prometheus.Registerer) (*Server, error) {
	if cfg.TLS == nil || cfg.NodeName == nil {
		return nil, errors.New("the websocket server needs a TLS configuration and a way to name nodes")
	}
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, hub: hub, addr: make(chan net.Addr, 1),
		upgrader: websocket.Upgrader{
			HandshakeTimeout: cfg.HandshakeTimeout,
			WriteBufferSize:  16 << 10,
			ReadBufferSize:   1 << 10, // TLS holds a whole record anyway
			// An idle connection keeps no write buffer.
			WriteBufferPool: &sync.Pool{},
			CheckOrigin:     func(*http.Request) bool { return true }, // peers are not browsers, and have certificates
			Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
				http.Error(w, reason.Error(), status)
			},
		},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_hub_connections_refused_total",
			Help: "Connections refused after a good TLS handshake, by reason.",
		}, []string{"reason"}),
	}
	for _, r := range []string{"identity", "limit", "upgrade"} {
		s.refused.WithLabelValues(r)
	}
	if reg != nil {
		if err := reg.Register(s.refused); err != nil {
			return nil, fmt.Errorf("register metrics of the websocket server: %w", err)
		}
	}
	return s, nil
}

// Addr returns the address that Run listens on, once it does.
func (s *Server) Addr(ctx context.Context) (net.Addr, error) {
	select {
	case a := <-s.addr:
		s.addr <- a
		return a, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

var errNotListening = errors.New("not listening yet")

// Ready returns nil once the listener is open.
func (s *Server) Ready() error {
	if !s.listening.Load() {
		return errNotListening
	}
	return nil
}

// Run listens and serves until ctx ends, and returns when all sessions are over.
func (s *Server) Run(ctx context.Context) error {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true}, Control: userTimeout}
	l, err := lc.Listen(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen for edge nodes on %s: %w", s.cfg.Address, err)
	}
	return s.serve(ctx, l)
}

func (s *Server) serve(ctx context.Context, l net.Listener) error {
	logger := klog.FromContext(ctx)
	select {
	case s.addr <- l.Addr():
	default:
	}
	s.listening.Store(true)
	defer s.listening.Store(false)
	// Sessions outlive the HTTP server's view of their connections, so they get ctx and not the request's.
	hs := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.accept(ctx, w, r) }),
		ReadHeaderTimeout: s.cfg.HandshakeTimeout,
		MaxHeaderBytes:    16 << 10,
		TLSConfig:         s.cfg.TLS,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2 here (spec 02 §2.1)
		ErrorLog:          klogWriter(logger),
	}
	logger.Info("Listening for edge nodes", "address", l.Addr().String(), "transport", "websocket")
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() })
	defer stop()
	err := hs.Serve(tls.NewListener(l, s.cfg.TLS))
	_ = hs.Close()
	s.sessions.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve edge nodes on %s: %w", s.cfg.Address, err)
}

// accept decides about one upgrade request.
func (s *Server) accept(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	logger := klog.FromContext(ctx)
	node, err := s.identify(r)
	if err != nil {
		s.refused.WithLabelValues("identity").Inc()
		logger.V(2).Info("Connection refused", "remote", r.RemoteAddr, "err", err)
		refuse(w, http.StatusForbidden, err)
		return
	}
	if err := s.hub.Admit(node); err != nil {
		s.refused.WithLabelValues("limit").Inc()
		logger.V(2).Info("Connection refused", "remote", r.RemoteAddr, "node", node, "err", err)
		w.Header().Set("Retry-After", "30")
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.refused.WithLabelValues("upgrade").Inc()
		logger.V(2).Info("Upgrade refused", "remote", r.RemoteAddr, "node", node, "err", err)
		return
	}
	ws.SetReadLimit(s.cfg.MaxMessage)
	c := &conn{ws: ws, writeTimeout: s.cfg.WriteTimeout, maxMessage: s.cfg.MaxMessage}
	// A goroutine of its own: the stack that the handshake grew is not kept for the life of the session.
	s.sessions.Go(func() { s.hub.Serve(ctx, node, c) })
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Connection", "close")
	http.Error(w, err.Error(), status)
}

// identify returns the node that the peer's certificate belongs to. What the peer states elsewhere must agree with it
// (spec 02 §2.1: the header Node_id, and the path /<project>/<node>/events).
func (s *Server) identify(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", errors.New("no client certificate")
	}
	header, path := r.Header.Get("node_id"), pathNode(r.URL.Path)
	node, err := s.cfg.NodeName(r.TLS.PeerCertificates[0], cmp.Or(header, path))
	if err != nil {
		return "", err
	}
	for _, claim := range [...]struct{ where, name string }{{"header Node_id", header}, {"request path", path}} {
		if claim.name != "" && claim.name != node {
			return "", fmt.Errorf("%s names node %q, the certificate node %q", claim.where, claim.name, node)
		}
	}
	return node, nil
}

// pathNode returns the node of a path /<project>/<node>/events; other paths name none.
func pathNode(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) != 3 || parts[2] != "events" {
		return ""
	}
	return parts[1]
}

// unackedLimit is how long written bytes may stay unacknowledged by the peer's TCP before the kernel gives the
// connection up: a vanished node is noticed even if nothing is read from it (spec 02 D9).
const unackedLimit = 40 * time.Second

func userTimeout(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedLimit.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
