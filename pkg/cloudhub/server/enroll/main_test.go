package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// fleet is a server with a real authority behind it, and what it told others.
type fleet struct {
	authority *pki.Authority
	api       *fake.Clientset
	server    *Server
	addr      string

	mu      sync.Mutex // guards the fields below
	nodes   map[string]bool
	nodeErr error
	reports []Report
	sinkErr error
}

func (f *fleet) NodeExists(_ context.Context, name string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[name], f.nodeErr
}

func (f *fleet) take(_ context.Context, report Report) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sinkErr == nil {
		f.reports = append(f.reports, report)
	}
	return f.sinkErr
}

func newAuthority(tb testing.TB, cfg pki.Config, api *fake.Clientset) *pki.Authority {
	tb.Helper()
	cfg.AdvertiseAddresses = []string{"127.0.0.1"}
	a, err := pki.New(cfg, api, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := a.Load(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return a
}

// newFleet makes a server that does not listen yet.
func newFleet(tb testing.TB, cfg Config, certificates pki.Config) *fleet {
	tb.Helper()
	f := &fleet{nodes: map[string]bool{"edge-1": true}, api: fake.NewClientset()}
	f.authority = newAuthority(tb, certificates, f.api)
	server, err := New(cfg, f.deps())
	if err != nil {
		tb.Fatal(err)
	}
	f.server = server
	return f
}

func (f *fleet) deps() Deps {
	return Deps{TLS: f.authority.EnrollTLS(), Issuer: f.authority, Verifier: f.authority, Nodes: f, Reports: f.take, Registerer: prometheus.NewRegistry()}
}

// startFleet also listens on loopback, until the test ends.
func startFleet(tb testing.TB, cfg Config, certificates pki.Config) *fleet {
	tb.Helper()
	f := newFleet(tb, cfg, certificates)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f.addr = listener.Addr().String()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(ctx, listener) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	return f
}

// token is the part of the stored token that an edge sends.
func (f *fleet) token(tb testing.TB) string {
	tb.Helper()
	_, bearer, _ := strings.Cut(f.storedToken(tb), ".")
	return bearer
}

func (f *fleet) storedToken(tb testing.TB) string {
	tb.Helper()
	secret, err := f.api.CoreV1().Secrets("kubeedge").Get(tb.Context(), "tokensecret", metav1.GetOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return string(secret.Data["tokendata"])
}

// identity is a certificate with its key, as an edge holds it.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIdentity(tb testing.TB, a *pki.Authority, node string) *identity {
	tb.Helper()
	key := newKey(tb)
	der, err := a.IssueNodeCertificate(pki.NodeRequest{Node: node, CSR: edgeRequest(tb, key, node)})
	if err != nil {
		tb.Fatal(err)
	}
	return &identity{cert: parseCert(tb, der), key: key}
}

// never as an age of a certificate means that it has not ended.
const never = -time.Hour

// identityUnder signs any subject with the CA that the fleet stored. The certificate ended some time ago.
func (f *fleet) identityUnder(tb testing.TB, commonName, organization string, ended time.Duration) *identity {
	tb.Helper()
	secret, err := f.api.CoreV1().Secrets("kubeedge").Get(tb.Context(), "casecret", metav1.GetOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	caKey, err := x509.ParseECPrivateKey(secret.Data["cakeydata"])
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-max(ended, 0) - time.Minute), NotAfter: time.Now().Add(-ended),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if organization != "" {
		template.Subject.Organization = []string{organization}
	}
	key := newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, template, parseCert(tb, secret.Data["cadata"]), &key.PublicKey, caKey)
	if err != nil {
		tb.Fatal(err)
	}
	return &identity{cert: parseCert(tb, der), key: key}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func parseCert(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func edgeRequest(tb testing.TB, key *ecdsa.PrivateKey, node string) []byte {
	tb.Helper()
	return requestOf(tb, key, "system:node:"+node, "system:nodes")
}

func requestOf(tb testing.TB, key *ecdsa.PrivateKey, commonName, organization string) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{
		Country: []string{"CN"}, Province: []string{"Zhejiang"}, Locality: []string{"Hangzhou"},
		Organization: []string{organization}, CommonName: commonName,
	}}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// request is what a client does.
type request struct {
	method, path string
	header       map[string]string
	body         []byte
	as           *identity
	insecure     bool // does not verify the server, as an edge that has no CA yet
}

type response struct {
	code   int
	body   string
	header http.Header
}

// do sends one request over a connection of its own, as EdgeCore and keadm do it.
func (f *fleet) do(tb testing.TB, q request) response {
	tb.Helper()
	resp, err := f.try(tb.Context(), q)
	if err != nil {
		tb.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	return resp
}

func (f *fleet) try(ctx context.Context, q request) (response, error) {
	pool, err := f.authority.CAPool()
	if err != nil {
		return response{}, err
	}
	config := &tls.Config{RootCAs: pool, InsecureSkipVerify: q.insecure}
	if q.as != nil {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{q.as.cert.Raw}, PrivateKey: q.as.key}}
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	method := q.method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://"+f.addr+q.path, bytes.NewReader(q.body))
	if err != nil {
		return response{}, err
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return response{}, err
	}
	body, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, string(body), resp.Header}, errors.Join(err, resp.Body.Close())
}

func changed(token string) string {
	raw, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	if err != nil {
		panic(err)
	}
	raw[0] ^= 1
	return token[:strings.LastIndexByte(token, '.')+1] + base64.RawURLEncoding.EncodeToString(raw)
}
