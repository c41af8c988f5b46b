package integration

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudcore-io/cloudcore/pkg/message"
	"github.com/cloudcore-io/cloudcore/tests/edgesim"
	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

// connection is a bare connection to the hub, with which tests do what no edge would.
type connection struct {
	*websocket.Conn
	closed   chan struct{} // closed when the hub has ended the connection
	messages chan *message.Message
}

const dialTimeout = 10 * time.Second

// tryDial connects with a certificate, stating the given node in header and path.
func tryDial(ctx context.Context, cloud *harness.Cloudcore, id *edgesim.Identity, header, path string) (*websocket.Conn, int, error) {
	return dialTLS(ctx, cloud.HubPort, id.TLS(harness.Address), header, path)
}

func dialTLS(ctx context.Context, port int, config *tls.Config, header, path string) (*websocket.Conn, int, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := websocket.Dialer{TLSClientConfig: config, HandshakeTimeout: dialTimeout}
	url := fmt.Sprintf("wss://%s/%s/%s/events", hostPort(port), edgesim.DefaultProjectID, path)
	ws, resp, err := dialer.DialContext(ctx, url, http.Header{"Node_id": {header}, "Project_id": {edgesim.DefaultProjectID}})
	status := 0
	if resp != nil {
		status = resp.StatusCode
		_ = resp.Body.Close()
	}
	return ws, status, err
}

func hostPort(port int) string { return net.JoinHostPort(harness.Address, strconv.Itoa(port)) }

// dialHub connects with the identity of a node and acknowledges what comes.
func dialHub(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, n *edgesim.Node) *connection {
	t.Helper()
	ws, status, err := tryDial(ctx, cloud, n.Identity(), n.Name(), n.Name())
	if err != nil {
		t.Fatalf("dial as %s: status %d: %v", n.Name(), status, err)
	}
	c := &connection{Conn: ws, closed: make(chan struct{}), messages: make(chan *message.Message, 1024)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read()
	}()
	t.Cleanup(func() {
		_ = ws.Close()
		<-read
	})
	return c
}

func (c *connection) read() {
	defer close(c.closed)
	for {
		_, data, err := c.ReadMessage()
		if err != nil {
			return
		}
		m, err := message.Decode(data)
		if err != nil {
			return
		}
		if m.Route.Group == message.GroupResource && m.Header.ParentID == "" {
			if c.WriteMessage(websocket.TextMessage, acknowledge(m)) != nil {
				return
			}
		}
		select {
		case c.messages <- m:
		default: // nobody looks at this connection any more
		}
	}
}

// acknowledge is the answer of an edge that stored m (spec 03 §5.1).
func acknowledge(m *message.Message) []byte {
	ack := message.New(m.Node, message.Route{
		Source: "metamanager", Group: m.Route.Group, Operation: message.OpResponse, Resource: m.Route.Resource,
	}, json.RawMessage(`"OK"`))
	ack.Header.ParentID = m.Header.ID
	return ack.Frame().Bytes()
}

var errClosed = errors.New("the connection was closed")

func (c *connection) waitClosed(ctx context.Context) error {
	select {
	case <-c.closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waitAnnotation waits for the push of a pod with the value that annotate wrote.
func (c *connection) waitAnnotation(ctx context.Context, resource, value string) error {
	for {
		select {
		case m := <-c.messages:
			var p corev1.Pod
			if m.Route.Resource == resource && json.Unmarshal(m.Content, &p) == nil && p.Annotations["test/step"] == value {
				return nil
			}
		case <-c.closed:
			return errClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// gateway sends the connections of an edge to one of several cloudcores.
type gateway struct {
	first int // the port that the edge knows
	port  atomic.Int64
}

func newSwitch(first int) *gateway {
	g := &gateway{first: first}
	g.to(first)
	return g
}

func (g *gateway) to(port int) { g.port.Store(int64(port)) }

func (g *gateway) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address == hostPort(g.first) {
		address = hostPort(int(g.port.Load()))
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}
