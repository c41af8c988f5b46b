package enroll

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

func TestOrigin(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1234":             "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1234":    "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:443":         "fe80::/64",
		"pipe":                       "invalid Prefix",
		"host:1":                     "invalid Prefix",
	} {
		if got := origin(addr).String(); got != want {
			t.Errorf("origin(%q) = %s, want %s", addr, got, want)
		}
	}
}

func TestBuckets(t *testing.T) {
	start := time.Now()
	a, b, c := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("192.0.2.3/32")
	limits := newBuckets(Limit{PerSecond: 1, Burst: 2}, 2)
	take := func(from netip.Prefix, at time.Duration, want bool) {
		t.Helper()
		if got := limits.allow(from, start.Add(at)); got != want {
			t.Errorf("request of %s at %s: got %v, want %v", from, at, got, want)
		}
	}
	take(a, 0, true)
	take(a, 0, true)
	take(a, 0, false)
	take(b, 0, true) // one address does not use up another's
	take(a, time.Second, true)
	take(a, time.Second, false)
	take(c, time.Second, true) // the table holds two: b is forgotten, as the one seen longest ago
	take(a, time.Second, false)
	if len(limits.entries) != 2 || limits.recent.Len() != 2 {
		t.Errorf("table holds %d and %d entries, want 2", len(limits.entries), limits.recent.Len())
	}
	off := newBuckets(Limit{PerSecond: -1}, 2)
	for range 1000 {
		if !off.allow(a, start) {
			t.Fatal("a limit that is switched off refused")
		}
	}
}

// A fleet behind one address joins at once: CA, name and certificate for 2000 nodes, all allowed by default. What a
// loop does after that is not.
func TestFleetBehindOneAddressPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Config{}, pki.Config{})
		do := func(path string) (int, string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.RemoteAddr = "127.0.0.1:4711"
			w := &recorder{header: http.Header{}}
			f.server.ServeHTTP(w, r)
			return w.code, w.header.Get("Retry-After")
		}
		for i := range 2000 {
			for path, want := range map[string]int{"/ca.crt": 200, fmt.Sprintf("/node/edge-%d", i+10): 404, "/edge.crt": 401} {
				if code, _ := do(path); code != want {
					t.Fatalf("node %d, %s: got %d, want %d", i, path, code, want)
				}
			}
		}
		for range 2000 {
			do("/edge.crt")
		}
		if code, retry := do("/edge.crt"); code != http.StatusTooManyRequests || retry == "" {
			t.Errorf("after 4000 joins at once: got %d, Retry-After %q, want 429", code, retry)
		}
		if code, _ := do("/ca.crt"); code != 200 {
			t.Errorf("joins used up the lookups: got %d", code)
		}
		if got := testutil.ToFloat64(f.server.metrics.joinsRefused.WithLabelValues("rate_limited")); got != 1 {
			t.Errorf("metric is %v, want 1", got)
		}
		time.Sleep(time.Second)
		if code, _ := do("/edge.crt"); code != 401 {
			t.Errorf("a second later: got %d, want 401", code)
		}
	})
}

func TestManyNodesJoinAtOnce(t *testing.T) {
	f := startFleet(t, Config{}, pki.Config{})
	bearer := "Bearer " + f.token(t)
	var group sync.WaitGroup
	errs := make(chan error, 200)
	for i := range cap(errs) {
		node := fmt.Sprintf("edge-%d", i)
		csr := edgeRequest(t, newKey(t), node)
		group.Go(func() {
			got, err := f.try(t.Context(), request{path: "/edge.crt", body: csr, header: map[string]string{"Nodename": node, "Authorization": bearer}})
			if err == nil && got.code != 200 {
				err = fmt.Errorf("%d %s", got.code, got.body)
			}
			errs <- err
		})
	}
	group.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if got := testutil.ToFloat64(f.server.metrics.issued.WithLabelValues("token")); got != 200 {
		t.Errorf("issued %v, want 200", got)
	}
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

// serveIn serves on pipes until the returned function is called.
func serveIn(t *testing.T, f *fleet) (*pipes, func()) {
	t.Helper()
	listener := newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(ctx, listener) }()
	return listener, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// closedAfter reads until the server closes.
func closedAfter(conn io.Reader) (time.Duration, []byte) {
	start := time.Now()
	data, _ := io.ReadAll(conn) // the kind of end does not matter
	return time.Since(start), data
}

func TestSlowlorisIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Config{}, pki.Config{})
		listener, stop := serveIn(t, f)
		defer stop()

		t.Log("nothing is ever said")
		conn := listener.dial()
		if took, _ := closedAfter(conn); took < 9*time.Second || took > 20*time.Second {
			t.Errorf("silent connection lived %s, want about 10 s", took)
		}
		_ = conn.Close()

		t.Log("headers that never end")
		raw := listener.dial()
		client := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		go func() { // one header each second
			_, err := io.WriteString(client, "GET /ca.crt HTTP/1.1\r\nHost: cc\r\n")
			for i := 0; err == nil; i++ {
				time.Sleep(time.Second)
				_, err = fmt.Fprintf(client, "X-%d: y\r\n", i)
			}
		}()
		if took, data := closedAfter(client); took < 9*time.Second || took > 20*time.Second || bytes.Contains(data, []byte("200 OK")) {
			t.Errorf("endless headers lived %s, answer %q, want about 10 s", took, data)
		}
		_ = raw.Close()

		t.Log("body that never ends")
		last := listener.dial()
		slow := tls.Client(last, &tls.Config{InsecureSkipVerify: true})
		if _, err := fmt.Fprintf(slow, "GET /edge.crt HTTP/1.1\r\nHost: cc\r\nNodename: edge-1\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n", f.token(t)); err != nil {
			t.Fatal(err)
		}
		if took, data := closedAfter(slow); took < 25*time.Second || took > 45*time.Second || bytes.Contains(data, []byte("200 OK")) {
			t.Errorf("endless body lived %s, answer %q, want about 30 s", took, data)
		}
		_ = last.Close()
		synctest.Wait()
		if got := testutil.ToFloat64(f.server.metrics.connections); got != 0 {
			t.Errorf("%v connections left", got)
		}
	})
}

func TestHeadersAreBounded(t *testing.T) {
	f := startFleet(t, Config{}, pki.Config{})
	got := f.do(t, request{path: "/ca.crt", header: map[string]string{"X-Long": string(bytes.Repeat([]byte("a"), 64<<10))}})
	if got.code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want 431", got.code)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Config{MaxConnections: 3, MaxConnectionsPerAddress: 2}, pki.Config{})
		listener, stop := serveIn(t, f)
		defer stop()
		first, second := listener.dial(), listener.dial()
		third := listener.dial() // the pipes are one address
		if took, _ := closedAfter(third); took != 0 {
			t.Errorf("third connection of one address lived %s, want none", took)
		}
		synctest.Wait()
		if open, refused := testutil.ToFloat64(f.server.metrics.connections), testutil.ToFloat64(f.server.metrics.connectionsRefused); open != 2 || refused != 1 {
			t.Errorf("%v open and %v refused, want 2 and 1", open, refused)
		}
		_ = first.Close()
		synctest.Wait()
		fourth := listener.dial()
		if err := tls.Client(fourth, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context()); err != nil {
			t.Errorf("connection after one has gone: %v", err)
		}
		for _, c := range []net.Conn{second, third, fourth} {
			_ = c.Close()
		}
	})
}

func TestTotalBoundMakesNewcomersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Config{MaxConnections: 1}, pki.Config{})
		listener, stop := serveIn(t, f)
		defer stop()
		first := listener.dial()
		waiting := make(chan net.Conn, 1)
		go func() { waiting <- listener.dial() }()
		synctest.Wait()
		select {
		case <-waiting:
			t.Fatal("second connection was accepted beside the first")
		default:
		}
		_ = first.Close()
		_ = (<-waiting).Close()
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Config{AllowAnonymousReports: true}, pki.Config{})
		entered := make(chan struct{}, 2)
		f.server.deps.Reports = func(ctx context.Context, r Report) error {
			entered <- struct{}{}
			wait := time.Second // within the time that a shutdown leaves
			if r.TaskID == "stuck" {
				wait = time.Hour
			}
			select {
			case <-time.After(wait):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		listener, stop := serveIn(t, f)
		post := func(task string) <-chan string {
			answer := make(chan string, 1)
			client := tls.Client(listener.dial(), &tls.Config{InsecureSkipVerify: true})
			go func() {
				defer client.Close()
				_, err := fmt.Fprintf(client, "POST /task/upgrade/name/%s/node/edge-1/status HTTP/1.1\r\nHost: cc\r\nContent-Length: %d\r\n\r\n%s", task, len(statusBody), statusBody)
				_, data := closedAfter(client)
				answer <- fmt.Sprint(string(data), err)
			}()
			return answer
		}
		quick, stuck := post("quick"), post("stuck")
		<-entered
		<-entered
		start := time.Now()
		stop()
		if took := time.Since(start); took < 5*time.Second || took > 12*time.Second {
			t.Errorf("shutdown took %s, want the 5 s that requests have", took)
		}
		if got := <-quick; !bytes.Contains([]byte(got), []byte("200 OK")) {
			t.Errorf("request within the grace: %q, want 200", got)
		}
		if got := <-stuck; bytes.Contains([]byte(got), []byte("200 OK")) {
			t.Errorf("request beyond the grace: %q", got)
		}
	})
}

func TestRunListensAndNamesItsAddress(t *testing.T) {
	f := newFleet(t, Config{Address: "127.0.0.1:0"}, pki.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.server.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Run with an ended context: %v", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f = newFleet(t, Config{Address: taken.Addr().String()}, pki.Config{})
	if err := f.server.Run(t.Context()); err == nil || !bytes.Contains([]byte(err.Error()), []byte(taken.Addr().String())) {
		t.Errorf("port that is taken: got %v, want an error that names it", err)
	}
}

func TestListenerThatFailsEndsServe(t *testing.T) {
	f := newFleet(t, Config{}, pki.Config{})
	listener := newPipes()
	_ = listener.Close()
	if err := f.server.Serve(t.Context(), listener); err == nil {
		t.Error("got no error")
	}
}

func TestPanicEndsOneRequestOnly(t *testing.T) {
	f := startFleet(t, Config{AllowAnonymousReports: true}, pki.Config{})
	f.server.deps.Reports = func(context.Context, Report) error { panic("boom") }
	got := f.do(t, request{method: http.MethodPost, path: statusPath, body: []byte(statusBody)})
	if got.code != 500 || got.body != "internal error" {
		t.Errorf("got %d %q, want 500", got.code, got.body)
	}
	if n := testutil.ToFloat64(f.server.metrics.panics); n != 1 {
		t.Errorf("panic metric is %v", n)
	}
	if len(f.server.reportSlots) != 0 {
		t.Error("the slot of the report was not given back")
	}
	if got := f.do(t, request{path: "/ca.crt"}); got.code != 200 {
		t.Errorf("next request: %d", got.code)
	}
}

func TestNewChecksItsInput(t *testing.T) {
	f := newFleet(t, Config{}, pki.Config{})
	for name, change := range map[string]func(*Config, *Deps){
		"no TLS":           func(_ *Config, d *Deps) { d.TLS = nil },
		"no issuer":        func(_ *Config, d *Deps) { d.Issuer = nil },
		"no sink":          func(_ *Config, d *Deps) { d.Reports = nil },
		"negative timeout": func(c *Config, _ *Deps) { c.HeaderTimeout = -1 },
		"negative limit":   func(c *Config, _ *Deps) { c.MaxConnections = -1 },
	} {
		cfg, deps := Config{}, f.deps()
		change(&cfg, &deps)
		if _, err := New(cfg, deps); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	deps := f.deps()
	if _, err := New(Config{}, deps); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{}, deps); err == nil {
		t.Error("second server on the same registry: got no error")
	}
}

func TestNotLoadedAuthorityAnswers500(t *testing.T) {
	f := startFleet(t, Config{}, pki.Config{})
	empty, err := pki.New(pki.Config{AdvertiseAddresses: []string{"127.0.0.1"}}, f.api, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.server.deps.Issuer, f.server.deps.Verifier = empty, empty
	for _, path := range []string{"/ca.crt", "/edge.crt"} {
		got := f.do(t, request{path: path, header: map[string]string{"Authorization": "Bearer a.b.c", "Nodename": "edge-1"}})
		if got.code != 500 {
			t.Errorf("%s: got %d %q, want 500", path, got.code, got.body)
		}
	}
}
