package csisocket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// maxAcceptPause is the longest pause after an accept that failed, for lack of file descriptors most likely.
const maxAcceptPause = time.Second

// Server is the CSI socket. See the package documentation.
type Server struct {
	// Set by New, then read-only.
	cfg       Config
	endpoint  endpoint
	requester Requester
	metrics   *metrics
}

// New checks the settings. It does no I/O. A nil registerer keeps the metrics private.
func New(cfg Config, requester Requester, registerer prometheus.Registerer) (*Server, error) {
	cfg, e, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(registerer)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, endpoint: e, requester: requester, metrics: m}, nil
}

// Run opens the socket and serves until ctx ends. Requests that wait for a node then are answered with an error.
func (s *Server) Run(ctx context.Context) error {
	listener, remove, err := listen(ctx, s.endpoint)
	if err != nil {
		return fmt.Errorf("listen on CSI socket %s: %w", s.endpoint.address, err)
	}
	defer remove()
	klog.FromContext(ctx).Info("CSI socket opened", "address", s.endpoint.address)
	return s.serve(ctx, listener)
}

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()

	slots := make(chan struct{}, s.cfg.MaxConnections)
	pause := time.Millisecond
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on CSI socket: %w", err)
		case err != nil:
			<-slots
			pause = min(2*pause, maxAcceptPause)
			klog.FromContext(ctx).Error(err, "CSI socket accepts nothing for a while", "duration", pause)
			sleep(ctx, pause)
			continue
		}
		pause = time.Millisecond
		connections.Go(func() {
			defer func() { <-slots }()
			s.serveConn(ctx, conn)
		})
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// serveConn reads one request and writes one answer.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	logger := klog.FromContext(ctx)
	answer, err := s.guarded(ctx, conn)
	if err != nil {
		logger.V(2).Info("CSI connection gave no request", "reason", err.Error())
		return
	}
	err = conn.SetWriteDeadline(time.Now().Add(s.cfg.IOTimeout))
	if err == nil {
		// The driver reads once (spec 02 §4), so the answer is written in one piece.
		_, err = conn.Write(answer.Frame().Bytes())
	}
	if err != nil {
		logger.V(2).Info("CSI answer not delivered", "reason", err.Error())
	}
}

// guarded is exchange, at the border at which a panic ends.
func (s *Server) guarded(ctx context.Context, conn net.Conn) (answer *message.Message, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s.metrics.panics.Inc()
			klog.FromContext(ctx).Error(fmt.Errorf("panic: %v", cause), "CSI request failed", "stack", string(debug.Stack()))
			answer, err = errorAnswer(&request{msg: new(message.Message)}, "internal error"), nil
		}
	}()
	return s.exchange(ctx, conn)
}

// exchange returns an error only when there is nobody to answer.
func (s *Server) exchange(ctx context.Context, conn net.Conn) (*message.Message, error) {
	start := time.Now()
	if err := conn.SetReadDeadline(start.Add(s.cfg.IOTimeout)); err != nil {
		return nil, err
	}
	// At shutdown nobody waits for a driver that is slow to speak.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	request, err := readRequest(conn, s.cfg.MaxRequest)
	if errors.Is(err, errSilent) {
		return nil, err
	}
	operation := operationLabel(request)
	if err != nil {
		s.metrics.count(operation, resultInvalid, start)
		klog.FromContext(ctx).V(2).Info("CSI request refused", "operation", operation, "reason", err.Error())
		return errorAnswer(request, err.Error()), nil
	}
	answer, err := s.forward(ctx, request)
	if err != nil {
		s.metrics.count(operation, resultFailed, start)
		klog.FromContext(ctx).V(2).Info("CSI request failed", "operation", operation, "node", request.node, "msgID", request.msg.Header.ID, "reason", err.Error())
		return errorAnswer(request, err.Error()), nil
	}
	s.metrics.count(operation, resultOK, start)
	klog.FromContext(ctx).V(2).Info("CSI request answered", "operation", operation, "node", request.node, "msgID", request.msg.Header.ID, "duration", time.Since(start))
	return answer, nil
}

// forward asks the node.
func (s *Server) forward(ctx context.Context, r *request) (*message.Message, error) {
	waiting, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	reply, err := s.requester.Request(waiting, r.node, r.downstream())
	switch {
	case err == nil:
		return driverAnswer(r, reply)
	case ctx.Err() != nil:
		return nil, errors.New("cloudcore is stopping")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("node %s did not answer within %s", r.node, s.cfg.RequestTimeout)
	default:
		return nil, fmt.Errorf("ask node %s: %w", r.node, err)
	}
}
