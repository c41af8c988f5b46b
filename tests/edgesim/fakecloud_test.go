package edgesim

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

const fakeHost = "cloud.test"

// pipeListener connects by pipes, so that a whole test can live in a synctest bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	down   atomic.Bool // dials are refused
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if l.down.Load() {
		return nil, errors.New("connection refused")
	}
	near, far := bufferedPipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// fakeCloud is a cloud of a few lines: it joins nodes, keeps objects, and answers what a kubelet asks.
type fakeCloud struct {
	t       *testing.T
	hub     *pipeListener
	https   *pipeListener
	servers []*http.Server
	serving sync.WaitGroup

	caKey  *ecdsa.PrivateKey
	ca     *x509.Certificate
	server tls.Certificate
	life   time.Duration // of the certificates it signs
	gate   *gate         // holds back the readers

	mu       sync.Mutex // guards the fields below
	refuse   int        // this many upgrades are refused
	answers  bool       // requests of the kubelet are answered
	links    []*fakeLink
	upgrades []http.Header
	signed   int
	version  int
	objects  map[string]map[string]any
	arrivals map[string][]time.Time // by operation
}

// fakeLink is one connection of a node.
type fakeLink struct {
	ws *websocket.Conn
	mu sync.Mutex // one writer
	in chan *message.Message
}

func newFakeCloud(t *testing.T) *fakeCloud {
	t.Helper()
	c := &fakeCloud{
		t: t, hub: newPipeListener(), https: newPipeListener(), life: 365 * 24 * time.Hour, answers: true, gate: newGate(),
		objects: make(map[string]map[string]any), arrivals: make(map[string][]time.Time), version: 100,
	}
	c.makePKI()
	mux := http.NewServeMux()
	mux.HandleFunc("/ca.crt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.ca.Raw) })
	mux.HandleFunc("/edge.crt", c.sign)
	c.serve(c.https, mux, tls.RequestClientCert)
	c.serve(c.hub, http.HandlerFunc(c.upgrade), tls.RequireAndVerifyClientCert)
	t.Cleanup(c.close)
	return c
}

func (c *fakeCloud) makePKI() {
	c.caKey, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "KubeEdge"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &c.caKey.PublicKey, c.caKey)
	if err != nil {
		c.t.Fatal(err)
	}
	c.ca, _ = x509.ParseCertificate(der)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "KubeEdge"}, DNSNames: []string{fakeHost},
		NotBefore: template.NotBefore, NotAfter: template.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, c.ca, &key.PublicKey, c.caKey)
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (c *fakeCloud) serve(l net.Listener, h http.Handler, auth tls.ClientAuthType) {
	pool := x509.NewCertPool()
	pool.AddCert(c.ca)
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	c.servers = append(c.servers, s)
	config := &tls.Config{Certificates: []tls.Certificate{c.server}, ClientAuth: auth, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	c.serving.Go(func() { _ = s.Serve(tls.NewListener(l, config)) })
}

func (c *fakeCloud) close() {
	c.gate.set(false, false)
	c.mu.Lock()
	links := c.links
	c.mu.Unlock()
	for _, l := range links {
		_ = l.ws.UnderlyingConn().Close()
	}
	for _, s := range c.servers {
		_ = s.Close()
	}
	c.serving.Wait()
}

// token is what an operator would pass to the node.
func (c *fakeCloud) token() string {
	key, _ := x509.MarshalECPrivateKey(c.caKey)
	body := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"exp":`+strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)+`}`))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(body))
	sum := sha256.Sum256(c.ca.Raw)
	return hex.EncodeToString(sum[:]) + "." + body + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sign is /edge.crt: it accepts the token above or a certificate of its own.
func (c *fakeCloud) sign(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get("Nodename")
	if certs := r.TLS.PeerCertificates; len(certs) > 0 {
		if certs[0].Subject.CommonName != "system:node:"+name || certs[0].CheckSignatureFrom(c.ca) != nil {
			http.Error(w, "bad certificate", http.StatusUnauthorized)
			return
		}
	} else {
		_, jwt, _ := strings.Cut(c.token(), ".")
		header, _, _ := strings.Cut(jwt, ".")
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "+header) || strings.HasSuffix(r.Header.Get("Authorization"), "forged") {
			http.Error(w, "token validation failure", http.StatusUnauthorized)
			return
		}
	}
	body, _ := io.ReadAll(r.Body)
	csr, err := x509.ParseCertificateRequest(body)
	if err != nil || csr.CheckSignature() != nil || csr.Subject.CommonName != "system:node:"+name ||
		len(csr.Subject.Organization) != 1 || csr.Subject.Organization[0] != "system:nodes" || r.Method != http.MethodGet {
		http.Error(w, fmt.Sprintf("bad request: %v", err), http.StatusInternalServerError)
		return
	}
	c.mu.Lock()
	c.signed++
	serial := int64(100 + c.signed)
	c.mu.Unlock()
	der, _ := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: csr.Subject, NotBefore: time.Now(), NotAfter: time.Now().Add(c.life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, c.ca, csr.PublicKey, c.caKey)
	_, _ = w.Write(der)
}

func (c *fakeCloud) upgrade(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.upgrades = append(c.upgrades, r.Header.Clone())
	refused := c.refuse > 0
	if refused {
		c.refuse--
	}
	c.mu.Unlock()
	if refused {
		http.Error(w, "node limit reached", http.StatusServiceUnavailable)
		return
	}
	// Under the lock, so that the link of a node that knows it is connected can be found.
	c.mu.Lock()
	up := websocket.Upgrader{}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		c.mu.Unlock()
		return
	}
	l := &fakeLink{ws: ws, in: make(chan *message.Message, 4096)}
	c.links = append(c.links, l)
	c.mu.Unlock()
	for {
		open, _ := c.gate.state()
		<-open
		_, data, err := ws.ReadMessage()
		if err != nil {
			close(l.in)
			return
		}
		m, err := message.Decode(data)
		if err != nil {
			c.t.Errorf("edge sent no message: %v", err)
			return
		}
		c.mu.Lock()
		c.arrivals[m.Route.Operation] = append(c.arrivals[m.Route.Operation], time.Now())
		answers := c.answers
		c.mu.Unlock()
		if answers && m.Route.Source == message.SourceEdged {
			c.answer(l, m)
		}
		l.in <- m
	}
}

// answer acts on a kubelet's request as kube-apiserver would.
func (c *fakeCloud) answer(l *fakeLink, m *message.Message) {
	p := splitPath(m.Route.Resource)
	key := p.typ + "/" + p.namespace + "/" + p.name
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.typ == message.TypePod && m.Route.Operation == message.OpDelete:
		delete(c.objects, key)
		l.send(reply(m, message.Text("OK"), ""))
	case m.Route.Operation == message.OpQuery && p.typ != message.TypeLease:
		if obj, ok := c.objects[key]; ok {
			l.send(reply(m, mustMarshal(obj), ""))
			return
		}
		e := reply(m, message.Text(key+" not found"), "")
		e.Route.Operation = message.OpError
		l.send(e)
	case m.Route.Operation == message.OpQuery:
		obj, ok := c.objects[key]
		if !ok {
			l.send(reply(m, failure("NotFound", 404), ""))
			return
		}
		l.send(reply(m, mustMarshal(map[string]any{"Object": obj, "Err": nil}), ""))
	case m.Route.Operation == message.OpInsert:
		if _, ok := c.objects[key]; ok {
			l.send(reply(m, failure("AlreadyExists", 409), ""))
			return
		}
		c.write(l, m, key, decodeMap(c.t, contentData(m)))
	case m.Route.Operation == message.OpUpdate:
		obj := decodeMap(c.t, contentData(m))
		old := c.objects[key]
		if version(obj) != version(old) {
			l.send(reply(m, failure("Conflict", 409), ""))
			return
		}
		c.write(l, m, key, obj)
	case m.Route.Operation == message.OpPatch:
		key = strings.Replace(key, "patch/", "/", 1)
		old, ok := c.objects[key]
		if !ok {
			l.send(reply(m, failure("NotFound", 404), ""))
			return
		}
		patch := decodeMap(c.t, contentData(m))
		status, _ := old["status"].(map[string]any)
		if status == nil {
			status = map[string]any{}
		}
		changes, _ := patch["status"].(map[string]any)
		mergeMaps(status, changes)
		obj := map[string]any{"metadata": old["metadata"], "spec": old["spec"], "status": status}
		c.write(l, m, key, obj)
	}
}

// write stores an object with a new version and answers with it.
func (c *fakeCloud) write(l *fakeLink, m *message.Message, key string, obj map[string]any) {
	c.version++
	md, _ := obj["metadata"].(map[string]any)
	if md["uid"] == nil {
		md["uid"] = "uid-of-" + key
	}
	md["resourceVersion"] = strconv.Itoa(c.version)
	c.objects[key] = obj
	l.send(reply(m, mustMarshal(map[string]any{"Object": obj, "Err": nil}), strconv.Itoa(c.version)))
}

// put makes an object exist.
func (c *fakeCloud) put(typ, namespace, name string, obj map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[typ+"/"+namespace+"/"+name] = obj
}

func (c *fakeCloud) link() *fakeLink {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.links) == 0 {
		c.t.Fatal("no connection")
	}
	return c.links[len(c.links)-1]
}

func (l *fakeLink) send(m *message.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.ws.WriteMessage(websocket.TextMessage, m.Frame().Bytes()) // a test of a broken link expects the loss
}

// expect returns the next message that match accepts and drops those before it.
func (l *fakeLink) expect(t *testing.T, what string, match func(*message.Message) bool) *message.Message {
	t.Helper()
	timeout := time.NewTimer(10 * time.Minute)
	defer timeout.Stop()
	for {
		select {
		case m, ok := <-l.in:
			if !ok {
				t.Fatalf("connection ended before %s", what)
			}
			if match(m) {
				return m
			}
		case <-timeout.C:
			t.Fatalf("no %s", what)
		}
	}
}

func (l *fakeLink) answerTo(t *testing.T, id string) *message.Message {
	t.Helper()
	return l.expect(t, "answer to "+id, func(m *message.Message) bool { return m.Header.ParentID == id })
}

func reply(m *message.Message, content []byte, version string) *message.Message {
	r := message.Reply(m, message.ModuleEdge, content)
	r.Header.ResourceVersion = version
	return r
}

func failure(reason string, code int) []byte {
	return mustMarshal(map[string]any{"Object": map[string]any{}, "Err": map[string]any{"ErrStatus": map[string]any{
		"metadata": map[string]any{}, "status": "Failure", "reason": reason, "code": code, "message": reason,
	}}})
}

func decodeMap(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Errorf("edge sent no object: %v: %s", err, b)
	}
	return m
}

func version(obj map[string]any) string {
	md, _ := obj["metadata"].(map[string]any)
	v, _ := md["resourceVersion"].(string)
	return v
}

// mergeMaps applies as much of a strategic merge patch as the kubelet's patches use: lists replace, or, of objects with
// a type, merge by it.
func mergeMaps(into, patch map[string]any) {
	for key, value := range patch {
		if strings.HasPrefix(key, "$") {
			continue
		}
		list, isList := value.([]any)
		old, hadList := into[key].([]any)
		if !isList || !hadList || key != "conditions" {
			into[key] = value
			continue
		}
		for _, item := range list {
			old = mergeByType(old, item.(map[string]any))
		}
		into[key] = old
	}
}

func mergeByType(list []any, item map[string]any) []any {
	for _, o := range list {
		if obj := o.(map[string]any); obj["type"] == item["type"] {
			for k, v := range item {
				obj[k] = v
			}
			return list
		}
	}
	return append(list, item)
}

// options are those of a node of this cloud.
func (c *fakeCloud) options(name string) Options {
	return Options{
		Name: name, Cloud: fakeHost, Token: c.token(),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasSuffix(address, ":10002") {
				return c.https.dial(ctx, network, address)
			}
			return c.hub.dial(ctx, network, address)
		},
	}
}

// start runs a node until the test ends.
func (c *fakeCloud) start(o Options) *Node {
	c.t.Helper()
	n, err := New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("run node: %v", err)
		}
	})
	return n
}

// push returns an object message as cloudcore sends them.
func push(operation, resource, version string, obj map[string]any) *message.Message {
	m := message.New("", message.Route{
		Source: message.ModuleEdge, Group: message.GroupResource, Operation: operation, Resource: resource,
	}, mustMarshal(obj))
	m.Header.ResourceVersion = version
	return m
}

// object returns a minimal object.
func object(kind, namespace, name, uid, version string) map[string]any {
	md := map[string]any{"name": name, "uid": uid, "resourceVersion": version}
	if namespace != "" {
		md["namespace"] = namespace
	}
	return map[string]any{"kind": kind, "apiVersion": "v1", "metadata": md}
}

func podObject(node, name, uid, version string) map[string]any {
	p := object("Pod", "default", name, uid, version)
	p["spec"] = map[string]any{"nodeName": node, "containers": []any{map[string]any{"name": "c", "image": "busybox"}}}
	p["status"] = map[string]any{"phase": "Pending"}
	return p
}
