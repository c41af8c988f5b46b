package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

// Whatever arrives on its listeners, cloudcore lives on, and another node notices nothing.
func TestGarbage(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	bystander := cloud.Fleet(t, 1).Nodes()[0]
	// The node that misbehaves has an identity, and nothing else of an edge.
	ctx := within(t, 2*time.Minute)
	o := cloud.Edge(t)
	o.Name = env.Name("rogue")
	id, err := edgesim.Join(ctx, o)
	must(t, err, "join as the node that misbehaves")
	pid := cloud.PID()

	for _, c := range []struct {
		name string
		send func(ctx context.Context, t *testing.T)
	}{
		{"random bytes to the hub", func(ctx context.Context, t *testing.T) { sendRandom(ctx, t, cloud.HubPort) }},
		{"random bytes to the certificate server", func(ctx context.Context, t *testing.T) { sendRandom(ctx, t, cloud.HTTPSPort) }},
		{"random bytes to the monitor", func(ctx context.Context, t *testing.T) { sendRandom(ctx, t, cloud.MonitorPort) }},
		{"huge frame", func(ctx context.Context, t *testing.T) { sendHuge(ctx, t, cloud, id, o.Name) }},
		{"malformed messages", func(ctx context.Context, t *testing.T) { sendMalformed(ctx, t, cloud, id, o.Name) }},
		{"unknown operations", func(ctx context.Context, t *testing.T) { sendUnknown(ctx, t, cloud, id, o.Name) }},
		{"foreign certificate", func(ctx context.Context, t *testing.T) { dialForeign(ctx, t, cloud, id, o.Name) }},
		{"name of another node", func(ctx context.Context, t *testing.T) {
			dialAs(ctx, t, cloud, id, bystander.Name(), o.Name)
			dialAs(ctx, t, cloud, id, o.Name, bystander.Name())
			dialAs(ctx, t, cloud, id, bystander.Name(), bystander.Name())
		}},
		{"bad certificate requests", func(ctx context.Context, t *testing.T) { requestBadly(ctx, t, cloud, id) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t, time.Minute)
			session, _ := bystander.Session()
			c.send(ctx, t)
			leases := bystander.Counters().Leases
			err := bystander.Wait(ctx, func(s edgesim.State) bool { return s.Counters().Leases > leases })
			must(t, err, "wait until another node renews its lease")
			if now, connected := bystander.Session(); now != session || !connected {
				t.Errorf("another node is in session %d, connected %v, want its session %d", now, connected, session)
			}
			must(t, cloud.WaitReady(ctx), "ask whether cloudcore is ready")
			if !cloud.Alive() || cloud.PID() != pid {
				t.Fatal("cloudcore died")
			}
		})
	}
	if failed := bystander.Counters().LeaseErrors; failed > 0 {
		t.Errorf("another node failed to renew its lease %d times", failed)
	}
}

// sendRandom writes random bytes and waits until the peer has had enough.
func sendRandom(ctx context.Context, t *testing.T, port int) {
	t.Helper()
	const seed, connections, size = 1, 8, 64 << 10
	random := rand.NewChaCha8([32]byte{seed})
	for range connections {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", hostPort(port))
		must(t, err, "dial")
		deadline, _ := ctx.Deadline()
		must(t, c.SetDeadline(deadline), "set deadline")
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		// The peer may close before it has read everything; then these fail, and so does reading.
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("the listener on port %d keeps a connection that speaks no protocol", port)
		}
		_ = c.Close()
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// rogue is a connection whose messages nobody acknowledges.
type rogue struct {
	*websocket.Conn
	gone <-chan struct{} // closed when the connection has ended
	pong <-chan struct{} // gets a value for every pong of the hub
}

func dialRogue(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, id *edgesim.Identity, name string) *rogue {
	t.Helper()
	ws, status, err := tryDial(ctx, cloud, id, name, name)
	if err != nil {
		t.Fatalf("dial as %s: status %d: %v", name, status, err)
	}
	gone, pong := make(chan struct{}), make(chan struct{}, 1)
	ws.SetPongHandler(func(string) error {
		select {
		case pong <- struct{}{}:
		default:
		}
		return nil
	})
	go func() {
		defer close(gone)
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = ws.Close()
		<-gone
	})
	return &rogue{Conn: ws, gone: gone, pong: pong}
}

// settle returns once the hub has read everything written so far, or has closed the connection.
func (r *rogue) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	_ = r.WriteControl(websocket.PingMessage, nil, time.Now().Add(dialTimeout)) // fails if the hub has closed already
	select {
	case <-r.gone:
	case <-r.pong:
	case <-ctx.Done():
		t.Fatal("the hub neither answers nor closes")
	}
}

func sendHuge(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, id *edgesim.Identity, name string) {
	t.Helper()
	const size = 64 << 20
	r := dialRogue(ctx, t, cloud, id, name)
	_ = r.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte(" "), size)) // fails once the hub has closed
	select {
	case <-r.gone:
	case <-ctx.Done():
		t.Error("the connection was not closed after a message of 64 MiB")
	}
}

func sendMalformed(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, id *edgesim.Identity, name string) {
	t.Helper()
	for _, text := range []string{
		"", "null", "[]", `"text"`, "7", "{", "\x00\x01\x02\xff",
		`{"header":7,"route":{},"content":""}`,
		`{"header":{"msg_id":7},"route":{"resource":"a/pod/b"}}`,
		`{"header":{"msg_id":"a","timestamp":"now"},"route":{}}`,
		`{"header":{"msg_id":"a"},"route":[],"content":{}}`,
		`{"header":{"msg_id":"a"},"route":{"operation":{},"resource":[]}}`,
		strings.Repeat("[", 100_000),
		`{"content":` + strings.Repeat(`{"a":`, 50_000) + `1` + strings.Repeat("}", 50_001),
	} {
		r := dialRogue(ctx, t, cloud, id, name)
		must(t, r.WriteMessage(websocket.TextMessage, []byte(text)), "write")
		r.settle(ctx, t) // some of it may pass as a message to nobody, which is no reason to close
	}
}

func sendUnknown(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, id *edgesim.Identity, name string) {
	t.Helper()
	r := dialRogue(ctx, t, cloud, id, name)
	for _, operation := range []string{"", "explode", "insert", "update", "delete", "patch", "query", "response", "error"} {
		for _, resource := range []string{
			"", "/", "a", "a/b", "default/nothing/x", "default/pod/", "default/podpatch/missing", "null/node/" + name + "x", "node/other/membership",
			"kube-node-lease/lease/other", "../../etc", strings.Repeat("a/", 1000), "default/secret/x", "default/configmap/x",
		} {
			for _, content := range []string{"7", "null", `"text"`, "{}", `[{}]`, `{"metadata":{"name":7}}`} {
				text := fmt.Sprintf(`{"header":{"msg_id":"%d","timestamp":1},"route":{"source":"edged","group":"resource","operation":%q,"resource":%q},"content":%s}`,
					rand.Uint64(), operation, resource, content)
				if err := r.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
					return // closed for it, which is right too
				}
			}
		}
	}
	r.settle(ctx, t)
}

// dialForeign connects with a certificate of another authority that names the node, and with none.
func dialForeign(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, id *edgesim.Identity, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	must(t, err, "generate key")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject:     pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	must(t, err, "make certificate")
	for what, certificates := range map[string][]tls.Certificate{
		"a foreign certificate": {{Certificate: [][]byte{der}, PrivateKey: key}},
		"no certificate":        nil,
	} {
		config := id.TLS(harness.Address)
		config.Certificates, config.GetClientCertificate = certificates, nil
		if ws, status, err := dialTLS(ctx, cloud.HubPort, config, name, name); err == nil {
			_ = ws.Close()
			t.Errorf("dial with %s succeeded, status %d", what, status)
		}
	}
}

func dialAs(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, id *edgesim.Identity, header, path string) {
	t.Helper()
	ws, status, err := tryDial(ctx, cloud, id, header, path)
	if err == nil {
		_ = ws.Close()
		t.Errorf("dial with header %s and path %s succeeded", header, path)
	} else if status != http.StatusForbidden {
		t.Errorf("dial with header %s and path %s: status %d, want 403", header, path, status)
	}
}

// requestBadly asks the certificate server for certificates without the right to one.
func requestBadly(ctx context.Context, t *testing.T, cloud *harness.Cloudcore, id *edgesim.Identity) {
	t.Helper()
	config := id.TLS(harness.Address)
	config.Certificates, config.GetClientCertificate = nil, nil
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: dialTimeout}
	defer client.CloseIdleConnections()
	for _, c := range []struct{ token, body string }{
		{"", ""},
		{"Bearer x", "garbage"},
		{"Bearer a.b.c", strings.Repeat("x", 4<<20)},
		{"Bearer eyJhbGciOiJub25lIn0.e30.", "garbage"},
		{strings.Repeat("x", 8<<10), "garbage"},
	} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+hostPort(cloud.HTTPSPort)+"/edge.crt", strings.NewReader(c.body))
		must(t, err, "make request")
		req.Header.Set("Authorization", c.token)
		req.Header.Set("NodeName", "intruder")
		resp, err := client.Do(req)
		if err != nil {
			continue // cut off, which is right for a body that nobody wants
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("request of %d bytes with token of %d bytes: status %d, want a refusal", len(c.body), len(c.token), resp.StatusCode)
		}
	}
}
