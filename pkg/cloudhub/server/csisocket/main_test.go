package csisocket

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// The request of spec 02 §4, and a response of edged over WebSocket.
const (
	createRequest  = `{"header":{"msg_id":"a1","timestamp":1700000000000},"route":{"source":"cloudhub","group":"resource","operation":"createvolume","resource":"node/edge-1/default/volume/0c8d6f0e-1"},"content":"{\"name\":\"pvc-1\",\"capacityRange\":{\"requiredBytes\":\"1073741824\"}}"}`
	createResponse = `{"volume":{"volume_id":"0c8d6f0e-1"}}`
)

// requesterFunc answers for all nodes.
type requesterFunc func(ctx context.Context, node string, msg *message.Message) (*message.Message, error)

func (f requesterFunc) Request(ctx context.Context, node string, msg *message.Message) (*message.Message, error) {
	return f(ctx, node, msg)
}

// answering is a node that answers with the given content, as edged does.
func answering(content string) requesterFunc {
	return func(_ context.Context, _ string, msg *message.Message) (*message.Message, error) {
		return message.Reply(msg, msg.Route.Source, json.RawMessage(content)), nil
	}
}

var errOffline = errors.New("not connected")

func offline(context.Context, string, *message.Message) (*message.Message, error) {
	return nil, errOffline
}

func newServer(tb testing.TB, cfg Config, r Requester) *Server {
	tb.Helper()
	s, err := New(cfg, r, prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// start runs a server on a socket of the test and returns once the socket is there.
func start(tb testing.TB, cfg Config, r Requester) (*Server, string) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "kubeedge", "kubeedge.sock")
	cfg.Address = "unix://" + file
	s := newServer(tb, cfg, r)
	// Opened here, so that no client comes too early; Run does the same two steps.
	listener, remove, err := listen(tb.Context(), s.endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() {
		defer remove()
		done <- s.serve(ctx, listener)
	}()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("serve: %v", err)
		}
	})
	return s, file
}

// driver does what the CSI driver does: one write, one read into 10480 bytes.
func driver(tb testing.TB, file, request string) string {
	tb.Helper()
	conn, err := net.Dial("unix", file)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(request)); err != nil {
		tb.Fatal(err)
	}
	buffer := make([]byte, 10480)
	n, err := conn.Read(buffer)
	if err != nil {
		tb.Fatalf("read the answer: %v", err)
	}
	return string(buffer[:n])
}

func decode(tb testing.TB, answer string) *message.Message {
	tb.Helper()
	msg := new(message.Message)
	if err := json.Unmarshal([]byte(answer), msg); err != nil {
		tb.Fatalf("answer %.200q: %v", answer, err)
	}
	return msg
}

// pipes is a listener in memory, for the clock of a bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}
