package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// apiserver answers every request with an error status and remembers what came. Its network is
// memory, so that fake time works with it.
type apiserver struct {
	listener *pipeListener
	server   *http.Server

	mu   sync.Mutex // guards seen
	seen []*http.Request
}

func newAPIServer(t *testing.T) *apiserver {
	s := &apiserver{listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(s.listener) }()
	t.Cleanup(func() {
		if err := s.server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

func (s *apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Clone(context.WithoutCancel(r.Context())))
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`))
}

// last returns the newest request.
func (s *apiserver) last(t *testing.T) *http.Request {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		t.Fatal("no request came")
	}
	return s.seen[len(s.seen)-1]
}

// clients builds clients that talk to s; each gets its own transport.
func (s *apiserver) clients(t *testing.T, cfg Config, reg prometheus.Registerer) *Clients {
	t.Helper()
	if cfg.Kubeconfig == "" {
		cfg.Master = "https://apiserver.example"
	}
	base, err := load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// https, because client-go keeps credentials away from plain http; without TLS underneath.
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.listener.dial(ctx) }}
	t.Cleanup(transport.CloseIdleConnections)
	base.Transport = transport
	c, err := build(base, cfg, reg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
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

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }

// calls are one request by each client; they all fail with not found.
func calls(c *Clients) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"typed": func(ctx context.Context) error {
			_, err := c.Typed.CoreV1().Nodes().Get(ctx, "n", metav1.GetOptions{})
			return err
		},
		"crd": func(ctx context.Context) error {
			_, err := c.CRD.ReliablesyncsV1alpha1().ObjectSyncs("ns").Get(ctx, "o", metav1.GetOptions{})
			return err
		},
		"dynamic": func(ctx context.Context) error {
			_, err := c.Dynamic.Resource(schema.GroupVersionResource{Group: "example.io", Version: "v1", Resource: "things"}).Namespace("ns").Get(ctx, "t", metav1.GetOptions{})
			return err
		},
		"metadata": func(ctx context.Context) error {
			_, err := c.Metadata.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace("ns").Get(ctx, "s", metav1.GetOptions{})
			return err
		},
	}
}

func TestSpec01Check20_ImpersonationPerCall(t *testing.T) {
	for _, on := range []bool{false, true} {
		s := newAPIServer(t)
		c := s.clients(t, Config{QPS: 1000, Burst: 1000, Impersonate: on}, nil)
		for name, call := range calls(c) {
			if err := call(t.Context()); err == nil {
				t.Errorf("%s: no error", name)
			}
			if r := s.last(t); r.Header.Get("Impersonate-User") != "" || r.Header.Get("Impersonate-Group") != "" {
				t.Errorf("%s: own call is impersonated: %v", name, r.Header)
			}
			if err := call(OnBehalfOf(t.Context(), "edge-1")); err == nil {
				t.Errorf("%s: no error", name)
			}
			wantUser, wantGroup := "", []string(nil)
			if on {
				wantUser, wantGroup = "system:node:edge-1", []string{"system:nodes"}
			}
			if r := s.last(t); r.Header.Get("Impersonate-User") != wantUser || !slices.Equal(r.Header["Impersonate-Group"], wantGroup) {
				t.Errorf("%s with impersonation %v: headers %v", name, on, r.Header)
			}
		}
	}
}

func TestEncodingsAndUserAgent(t *testing.T) {
	s := newAPIServer(t)
	for _, tc := range []struct {
		contentType string
		accept      map[string]string
	}{
		{"", map[string]string{"typed": "application/vnd.kubernetes.protobuf,", "crd": "application/json", "dynamic": "application/json", "metadata": "as=PartialObjectMetadata"}},
		{"text/plain", map[string]string{"typed": "application/vnd.kubernetes.protobuf,"}},
		{"application/json", map[string]string{"typed": "application/json"}},
	} {
		c := s.clients(t, Config{QPS: 1000, Burst: 1000, UserAgent: "cloudcore/v1", ContentType: tc.contentType}, nil)
		for name, call := range calls(c) {
			if err := call(t.Context()); err == nil {
				t.Errorf("%s: no error", name)
			}
			r := s.last(t)
			if got := r.Header.Get("Accept"); !strings.Contains(got, tc.accept[name]) || name == "crd" && strings.Contains(got, "protobuf") {
				t.Errorf("%s with %q accepts %q, want %q", name, tc.contentType, got, tc.accept[name])
			}
			if r.UserAgent() != "cloudcore/v1" {
				t.Errorf("%s: user agent %q", name, r.UserAgent())
			}
		}
	}
}

func TestSpec01Check17_OneLimitForAllClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const qps, burst, seconds = 50, 100, 6
		s := newAPIServer(t)
		reg := prometheus.NewRegistry()
		all := slices.Collect(maps.Values(calls(s.clients(t, Config{QPS: qps, Burst: burst}, reg))))
		begun := time.Now()
		var wg sync.WaitGroup
		for i := range burst + qps*seconds {
			wg.Go(func() {
				if err := all[i%len(all)](t.Context()); err == nil {
					t.Error("no error")
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took < (seconds-1)*time.Second || took > (seconds+1)*time.Second {
			t.Errorf("%d requests took %v, want %d s", burst+qps*seconds, took, seconds)
		}
		if n := testutil.CollectAndCount(reg, "cloudcore_apiserver_rate_limiter_wait_seconds"); n != 1 {
			t.Errorf("%d histograms of the wait", n)
		}
	})
}

func TestSpec01Check21_RotatedTokenIsUsed(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	write := func(text string) {
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	kubeconfig := writeKubeconfig(t, "https://apiserver.example", "", fmt.Sprintf(`{"tokenFile":%q}`, token))
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer(t)
		c := s.clients(t, Config{Kubeconfig: kubeconfig, QPS: 10, Burst: 10}, nil)
		for _, want := range []string{"first", "second"} {
			write(want)
			time.Sleep(5 * time.Minute)
			for name, call := range calls(c) {
				if err := call(t.Context()); err == nil {
					t.Errorf("%s: no error", name)
				}
				if got := s.last(t).Header.Get("Authorization"); got != "Bearer "+want {
					t.Errorf("%s: %q, want token %q", name, got, want)
				}
			}
		}
	})
}

// writeKubeconfig writes a kubeconfig with one cluster and user. cluster holds more fields of
// the cluster, user those of the user, both as JSON.
func writeKubeconfig(t *testing.T, server, cluster, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}],
"clusters":[{"name":"k","cluster":{"server":%q%s}}],"users":[{"name":"u","user":%s}]}`, server, cluster, user)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const testCA = `-----BEGIN CERTIFICATE-----
MIIBdDCCARqgAwIBAgIBATAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDEwR0ZXN0MB4X
-----END CERTIFICATE-----
`

func TestSpec01Check22_ClusterCA(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	pem := selfSigned(t)
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ cluster, want string }{
		"inline": {fmt.Sprintf(`,"certificate-authority-data":%q`, base64Text(pem)), string(pem)},
		"file":   {fmt.Sprintf(`,"certificate-authority":%q`, file), string(pem)},
		"none":   {"", ""},
	} {
		c, err := New(Config{Kubeconfig: writeKubeconfig(t, "https://apiserver.example", tc.cluster, "{}"), QPS: 1, Burst: 1}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if string(c.CA) != tc.want {
			t.Errorf("%s: CA %q, want %q", name, c.CA, tc.want)
		}
	}
}

func TestWhereTheServerIs(t *testing.T) {
	kubeconfig := writeKubeconfig(t, "http://of-the-file.example", "", "{}")
	for name, tc := range map[string]struct {
		cfg  Config
		host string
	}{
		"file":            {Config{Kubeconfig: kubeconfig}, "http://of-the-file.example"},
		"file and master": {Config{Kubeconfig: kubeconfig, Master: "http://master.example"}, "http://master.example"},
		"master":          {Config{Master: "http://master.example"}, "http://master.example"},
	} {
		c, err := New(tc.cfg, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.REST.Host != tc.host {
			t.Errorf("%s: %s, want %s", name, c.REST.Host, tc.host)
		}
	}
}

func TestUnusableConfigurations(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBERNETES_SERVICE_PORT", "")
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("clusters: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"nothing, no pod": {Config{}, "names neither kubeConfig nor master"},
		"missing file":    {Config{Kubeconfig: "/no/such"}, "/no/such"},
		"broken file":     {Config{Kubeconfig: broken}, "load kubeconfig"},
		"missing CA":      {Config{Kubeconfig: writeKubeconfig(t, "https://a.example", `,"certificate-authority":"/no/ca.crt"`, "{}")}, "/no/ca.crt"},
		"CA that is none": {Config{Kubeconfig: writeKubeconfig(t, "https://a.example", fmt.Sprintf(`,"certificate-authority-data":%q`, base64Text([]byte(testCA))), "{}")}, ""},
	} {
		if _, err := New(tc.cfg, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
	reg := prometheus.NewRegistry()
	for i := range 2 {
		if _, err := New(Config{Master: "http://a.example"}, reg); (err != nil) != (i == 1) {
			t.Errorf("registering %d: %v", i, err)
		}
	}
}

func TestRequestMetrics(t *testing.T) {
	s := newAPIServer(t)
	reg := prometheus.NewRegistry()
	c := s.clients(t, Config{QPS: 1000, Burst: 1000}, reg)
	for _, call := range calls(c) {
		if err := call(t.Context()); err == nil {
			t.Error("no error")
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Typed.CoreV1().Pods("ns").UpdateStatus(cancelled, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, metav1.UpdateOptions{}); err == nil {
		t.Error("no error")
	}
	want := `
# HELP cloudcore_apiserver_requests_total Requests to kube-apiserver, by verb, resource (with subresource) and status code; code error had no answer.
# TYPE cloudcore_apiserver_requests_total counter
cloudcore_apiserver_requests_total{code="404",resource="nodes",verb="get"} 1
cloudcore_apiserver_requests_total{code="404",resource="objectsyncs",verb="get"} 1
cloudcore_apiserver_requests_total{code="404",resource="other",verb="get"} 1
cloudcore_apiserver_requests_total{code="404",resource="secrets",verb="get"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "cloudcore_apiserver_requests_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(reg, "cloudcore_apiserver_request_duration_seconds"); n != 4 {
		t.Errorf("%d durations", n)
	}
}

func TestRequestWithoutAnswerIsCounted(t *testing.T) {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	failing := &measured{next: roundTripper(func(*http.Request) (*http.Response, error) { return nil, net.ErrClosed }), metrics: m}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://a.example/api/v1/namespaces/ns/pods/p/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := failing.RoundTrip(r)
	if !errors.Is(err, net.ErrClosed) {
		_ = resp.Body.Close()
		t.Errorf("error %v", err)
	}
	if got := testutil.ToFloat64(m.requests.WithLabelValues("update", "pods/status", "error")); got != 1 {
		t.Errorf("counted %v", got)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRouteOf(t *testing.T) {
	for _, tc := range []struct {
		method, url string
		want        route
	}{
		{"GET", "/api/v1/nodes", route{"list", "nodes", ""}},
		{"GET", "/api/v1/nodes?watch=true&x=1", route{"watch", "nodes", ""}},
		{"GET", "/api/v1/nodes/n", route{"get", "nodes", ""}},
		{"GET", "/api/v1/namespaces", route{"list", "namespaces", ""}},
		{"GET", "/api/v1/namespaces/kubeedge", route{"get", "namespaces", ""}},
		{"PUT", "/api/v1/namespaces/kubeedge/status", route{"update", "namespaces", "status"}},
		{"GET", "/api/v1/namespaces/kubeedge/pods?watch=1", route{"watch", "pods", ""}},
		{"PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n", route{"update", "leases", ""}},
		{"POST", "/api/v1/namespaces/a/serviceaccounts/b/token", route{"create", "serviceaccounts", "token"}},
		{"PATCH", "/apis/devices.kubeedge.io/v1beta1/namespaces/a/devices/d/status", route{"patch", "devices", "status"}},
		{"DELETE", "/api/v1/namespaces/a/pods/p", route{"delete", "pods", ""}},
		{"DELETE", "/api/v1/namespaces/a/pods", route{"deletecollection", "pods", ""}},
		{"GET", "/apis/example.io/v1/namespaces/a/things/t/parts", route{"get", "other", "other"}},
		{"GET", "/k8s/clusters/c-1/api/v1/pods", route{"list", "pods", ""}},
		{"GET", "/api", route{"get", "nonresource", ""}},
		{"GET", "/apis", route{"get", "nonresource", ""}},
		{"GET", "/apis/apps/v1", route{"get", "nonresource", ""}},
		{"GET", "/version", route{"get", "nonresource", ""}},
		{"GET", "", route{"get", "nonresource", ""}},
		{"OPTIONS", "/api/v1/pods", route{"other", "pods", ""}},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tc.method, "http://a.example"+tc.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := routeOf(r); got != tc.want {
			t.Errorf("%s %s = %+v, want %+v", tc.method, tc.url, got, tc.want)
		}
		if n := testing.AllocsPerRun(10, func() { routeOf(r) }); n != 0 {
			t.Errorf("%s %s: %v allocations", tc.method, tc.url, n)
		}
	}
}

func TestCodeLabel(t *testing.T) {
	for code, want := range map[int]string{101: "101", 103: "1xx", 200: "200", 226: "2xx", 301: "3xx", 409: "409", 418: "4xx", 503: "503", 599: "5xx"} {
		if got := codeLabel(&http.Response{StatusCode: code}); got != want {
			t.Errorf("%d = %s, want %s", code, got, want)
		}
	}
}
