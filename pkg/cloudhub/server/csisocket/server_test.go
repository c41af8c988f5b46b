package csisocket

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func TestSpec02Check23_CreateVolumeRoundTrip(t *testing.T) {
	var sent *message.Message
	var to string
	s, file := start(t, Config{}, requesterFunc(func(ctx context.Context, node string, msg *message.Message) (*message.Message, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the wait for the node has no bound")
		}
		sent, to = msg, node
		return answering(createResponse)(ctx, node, msg)
	}))
	got := decode(t, driver(t, file, createRequest))

	if to != "edge-1" || sent.Node != "edge-1" {
		t.Errorf("asked node %q (message for %q), want edge-1", to, sent.Node)
	}
	wantRoute := message.Route{Source: "cloudhub", Group: "resource", Operation: "createvolume", Resource: "default/volume/0c8d6f0e-1"}
	if sent.Route != wantRoute || sent.Header.ID != "a1" || sent.Header.ParentID != "" || sent.Header.Sync {
		t.Errorf("sent %+v %+v, want the request's id, no sync, and %+v", sent.Header, sent.Route, wantRoute)
	}
	if text, ok := sent.ContentText(); !ok || !strings.Contains(text, `"name":"pvc-1"`) {
		t.Errorf("sent content %s, want the text of the driver", sent.Content)
	}
	if got.Route.Operation != "response" || got.Header.ParentID != "a1" {
		t.Errorf("answer %+v %+v, want a response to a1", got.Header, got.Route)
	}
	text, ok := got.ContentText()
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || string(raw) != createResponse {
		t.Errorf("answer content %s, want a base64 string of %s", got.Content, createResponse)
	}
	if n := testutil.ToFloat64(s.metrics.requests.WithLabelValues("createvolume", "ok")); n != 1 {
		t.Errorf("metric is %v", n)
	}
}

func TestSpec02Check23_DisconnectedNode(t *testing.T) {
	s, file := start(t, Config{}, requesterFunc(offline))
	got := decode(t, driver(t, file, createRequest))
	text, isText := got.ContentText()
	if got.Route.Operation != "error" || got.Route.Source != "cloudhub" || got.Route.Group != "resource" || got.Header.ParentID != "a1" ||
		!isText || !strings.Contains(text, "edge-1") || !strings.Contains(text, "not connected") {
		t.Errorf("got %+v %+v %s, want an error for a1 that names the node", got.Header, got.Route, got.Content)
	}
	if n := testutil.ToFloat64(s.metrics.requests.WithLabelValues("createvolume", "failed")); n != 1 {
		t.Errorf("metric is %v", n)
	}
}

func TestAnswerContent(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	tests := []struct {
		name, content string
		want          string // content text of a response
		err           string // or part of the text of an error
	}{
		{name: "object", content: `{"a":1}`, want: b64(`{"a":1}`)},
		{name: "empty object", content: `{}`, want: b64(`{}`)},
		{name: "list", content: `[1]`, want: b64(`[1]`)},
		{name: "number", content: `5`, want: b64(`5`)},
		{name: "base64 of JSON stays", content: `"` + b64(`{"a":1}`) + `"`, want: b64(`{"a":1}`)},
		{name: "base64 of anything stays", content: `"` + b64("\x0a\x03abc") + `"`, want: b64("\x0a\x03abc")},
		{name: "text of JSON", content: `"{\"a\":1}"`, want: b64(`{"a":1}`)},
		{name: "null", content: `null`, err: "empty"},
		{name: "absent", content: ``, err: "empty"},
		{name: "text null", content: `"null"`, err: "empty"},
		{name: "base64 of null", content: `"` + b64("null") + `"`, err: "empty"},
		{name: "empty text", content: `""`, err: "neither JSON nor base64"},
		{name: "plain text", content: `"no space left"`, err: "neither JSON nor base64"},
		{name: "longer than the driver reads", content: `{"a":"` + strings.Repeat("x", 8000) + `"}`, err: "the CSI driver reads 10480"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, file := start(t, Config{}, answering(tt.content))
			raw := driver(t, file, createRequest)
			got := decode(t, raw)
			text, ok := got.ContentText()
			switch {
			case !ok || got.Header.ParentID != "a1":
				t.Errorf("got %.200s, want a text that answers a1", raw)
			case tt.err != "" && (got.Route.Operation != "error" || !strings.Contains(text, tt.err)):
				t.Errorf("got %s %q, want an error with %q", got.Route.Operation, text, tt.err)
			case tt.err == "" && (got.Route.Operation != "response" || text != tt.want):
				t.Errorf("got %s %q, want a response with %q", got.Route.Operation, text, tt.want)
			}
		})
	}
}

func TestErrorOfTheNodeIsPassedOnAsText(t *testing.T) {
	for content, want := range map[string]string{`"no space"`: "no space", `{"code":5}`: `{"code":5}`, ``: "edge-1"} {
		_, file := start(t, Config{}, requesterFunc(func(_ context.Context, _ string, msg *message.Message) (*message.Message, error) {
			reply := message.ErrorReply(msg, "metamanager", "")
			reply.Content = json.RawMessage(content)
			return reply, nil
		}))
		got := decode(t, driver(t, file, createRequest))
		if text, ok := got.ContentText(); !ok || got.Route.Operation != "error" || !strings.Contains(text, want) {
			t.Errorf("content %s: got %s %s, want an error with %q", content, got.Route.Operation, got.Content, want)
		}
	}
}

func TestBadRequestsGetAnErrorAndTheServerLives(t *testing.T) {
	change := func(from, to string) string { return strings.Replace(createRequest, from, to, 1) }
	s, file := start(t, Config{MaxRequest: 64 << 10}, answering(createResponse))
	for name, tt := range map[string]struct{ request, want string }{
		"not JSON":               {"hello", "not JSON"},
		"not a message":          {`[1,2]`, "not a message"},
		"null":                   {"null\n", "not a message"},
		"empty object":           {`{}`, "msg_id"},
		"header of another type": {change(`"header":{"msg_id":"a1","timestamp":1700000000000}`, `"header":5`), "not a message"},
		"no id":                  {change(`"a1"`, `""`), "msg_id"},
		"endless id":             {change(`a1`, strings.Repeat("<", 5000)), "msg_id"},
		"other operation":        {change("createvolume", "delete"), "not a volume operation"},
		"no resource":            {change("node/edge-1/default/volume/0c8d6f0e-1", ""), "is not node/"},
		"another resource":       {change("/volume/", "/secret/"), "is not node/"},
		"more parts":             {change("0c8d6f0e-1", "0c8d6f0e-1/x"), "is not node/"},
		"impossible node":        {change("edge-1/", "Edge 1/"), "not a node name"},
		"no node":                {change("edge-1/", "/"), "not a node name"},
		"impossible namespace":   {change("/default/", "/../"), "not a namespace"},
		"impossible volume":      {change("0c8d6f0e-1", "?"), "not a volume id"},
		"no volume":              {change("0c8d6f0e-1", ""), "not a volume id"},
		"endless volume":         {change("0c8d6f0e-1", strings.Repeat("v", 300)), "not a volume id"},
		"no content":             {createRequest[:strings.Index(createRequest, `,"content"`)] + "}", "no content"},
		"null content":           {createRequest[:strings.Index(createRequest, `"content":`)] + `"content":null}`, "no content"},
		"too large":              {change("pvc-1", strings.Repeat("x", 65<<10)), "larger than 65536"},
		"nested deeply":          {strings.Repeat("[", 60000), "not JSON"},
		"everything too long":    {change("a1", strings.Repeat("\\u0000", 800)) + strings.Repeat(" ", 10), "msg_id"},
	} {
		got := decode(t, driver(t, file, tt.request))
		if text, ok := got.ContentText(); !ok || got.Route.Operation != "error" || !strings.Contains(text, tt.want) {
			t.Errorf("%s: got %s %.200s, want an error with %q", name, got.Route.Operation, got.Content, tt.want)
		}
	}
	if got := decode(t, driver(t, file, createRequest)); got.Route.Operation != "response" {
		t.Errorf("good request afterwards: got %s", got.Route.Operation)
	}
	if n := testutil.ToFloat64(s.metrics.requests.WithLabelValues("other", "invalid")); n < 5 {
		t.Errorf("metric is %v", n)
	}
}

func TestErrorAnswersFitTheDriver(t *testing.T) {
	nasty := strings.Repeat("<", 5000) // six bytes each in JSON
	q := &request{msg: &message.Message{Header: message.Header{ID: nasty}, Route: message.Route{Resource: nasty, Group: nasty}}}
	if n := len(errorAnswer(q, nasty).Frame().Bytes()); n > maxAnswer {
		t.Errorf("error answer has %d bytes, want at most %d", n, maxAnswer)
	}
	long := &request{msg: &message.Message{Header: message.Header{ID: "a1"}, Route: message.Route{Group: "g",
		Resource: "node/" + strings.Repeat("n", 253) + "/default/volume/" + strings.Repeat("v", 253)}}}
	if got := errorAnswer(long, "x"); got.Route.Resource != long.msg.Route.Resource || got.Route.Group != "g" {
		t.Errorf("got route %+v, want that of the request", got.Route)
	}
}

// A request of 100 KiB arrives in pieces, and the driver leaves its side open.
func TestLargeRequestInPieces(t *testing.T) {
	var size int
	_, file := start(t, Config{}, requesterFunc(func(ctx context.Context, node string, msg *message.Message) (*message.Message, error) {
		size = len(msg.Content)
		return answering(createResponse)(ctx, node, msg)
	}))
	request := strings.Replace(createRequest, "pvc-1", strings.Repeat("x", 100<<10), 1)
	conn, err := net.Dial("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for piece := range strings.SplitSeq(request, "x") {
		if _, err := io.WriteString(conn, piece); err != nil {
			t.Fatal(err)
		}
		if piece == "" {
			if _, err := io.WriteString(conn, "x"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || decode(t, string(answer)).Route.Operation != "response" || size < 99<<10 {
		t.Errorf("got %.100s (%v) for a content of %d bytes", answer, err, size)
	}
}

func TestPanicEndsOneRequestOnly(t *testing.T) {
	s, file := start(t, Config{}, requesterFunc(func(context.Context, string, *message.Message) (*message.Message, error) { panic("boom") }))
	for range 2 {
		if got := decode(t, driver(t, file, createRequest)); got.Route.Operation != "error" {
			t.Errorf("got %s, want an error", got.Route.Operation)
		}
	}
	if n := testutil.ToFloat64(s.metrics.panics); n != 2 {
		t.Errorf("panic metric is %v, want 2", n)
	}
}

func serveIn(t *testing.T, cfg Config, r Requester) (*Server, *pipes, func()) {
	t.Helper()
	cfg.Address = "unix:///unused"
	s := newServer(t, cfg, r)
	listener := newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, listener) }()
	return s, listener, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

func hanging(ctx context.Context, _ string, _ *message.Message) (*message.Message, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, listener, stop := serveIn(t, Config{}, requesterFunc(hanging))
		defer stop()

		silent := listener.dial()
		start := time.Now()
		if data, _ := io.ReadAll(silent); len(data) != 0 || time.Since(start) != 10*time.Second {
			t.Errorf("silent driver: got %q after %s, want nothing after 10 s", data, time.Since(start))
		}
		half := listener.dial()
		start = time.Now()
		if _, err := io.WriteString(half, createRequest[:50]); err != nil {
			t.Fatal(err)
		}
		if data, _ := io.ReadAll(half); !strings.Contains(string(data), "not complete") || time.Since(start) != 10*time.Second {
			t.Errorf("half a request: got %q after %s, want an error after 10 s", data, time.Since(start))
		}
		waiting := listener.dial()
		start = time.Now()
		if _, err := io.WriteString(waiting, createRequest); err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(waiting)
		if got := decode(t, string(data)); got.Route.Operation != "error" || !strings.Contains(string(got.Content), "did not answer") || time.Since(start) != time.Minute {
			t.Errorf("node that hangs: got %s after %s, want an error after a minute", data, time.Since(start))
		}
		deaf := listener.dial()
		if _, err := io.WriteString(deaf, createRequest); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + 11*time.Second) // does not read its answer
		if _, err := deaf.Write([]byte("x")); err == nil {
			t.Error("driver that does not read still has its connection")
		}
	})
}

func TestShutdownAnswersWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, listener, stop := serveIn(t, Config{}, requesterFunc(hanging))
		conn, silent := listener.dial(), listener.dial()
		if _, err := io.WriteString(conn, createRequest); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		answer := make(chan []byte, 1)
		go func() {
			data, _ := io.ReadAll(conn)
			answer <- data
		}()
		start := time.Now()
		stop()
		if took := time.Since(start); took != 0 {
			t.Errorf("shutdown took %s", took)
		}
		if got := decode(t, string(<-answer)); !strings.Contains(string(got.Content), "stopping") {
			t.Errorf("got %s, want an error that says why", got.Content)
		}
		if _, err := silent.Read(make([]byte, 1)); err == nil {
			t.Error("silent driver was answered")
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, listener, stop := serveIn(t, Config{MaxConnections: 1}, requesterFunc(hanging))
		defer stop()
		first := listener.dial()
		second := make(chan net.Conn, 1)
		go func() { second <- listener.dial() }()
		synctest.Wait()
		if len(second) != 0 {
			t.Error("second driver was accepted beside the first")
		}
		_ = first.Close()
		_ = (<-second).Close()
	})
}

// flaky fails to accept a few times, as a process without file descriptors does.
type flaky struct {
	*pipes
	failures int
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, errors.New("too many open files")
	}
	return f.pipes.Accept()
}

func TestAcceptFailuresAreSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{Address: "unix:///unused"}, answering(createResponse))
		listener := &flaky{pipes: newPipes(), failures: 20}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.serve(ctx, listener) }()
		conn := listener.dial()
		if _, err := io.WriteString(conn, createRequest); err != nil {
			t.Fatal(err)
		}
		if data, _ := io.ReadAll(conn); decode(t, string(data)).Route.Operation != "response" {
			t.Errorf("got %s", data)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		closed := newPipes()
		_ = closed.Close()
		if err := s.serve(t.Context(), closed); err == nil {
			t.Error("listener that others closed: got no error")
		}
	})
}

func TestSocketFile(t *testing.T) {
	_, file := start(t, Config{}, answering(createResponse))
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("socket has mode %s, want 0660", info.Mode())
	}
	dir, err := os.Stat(filepath.Dir(file))
	if err != nil || dir.Mode().Perm()&^0o750 != 0 {
		t.Errorf("directory has mode %s (%v), want at most 0750", dir.Mode(), err)
	}
	if _, err := os.Stat(file + newSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file under its first name is still there: %v", err)
	}
}

func TestRunReplacesWhatIsStaleOnly(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	run := func(file string) error {
		return newServer(t, Config{Address: "unix://" + file}, answering(createResponse)).Run(ended)
	}
	open := func(file string) error {
		_, remove, err := listen(t.Context(), endpoint{"unix", file})
		if err == nil {
			remove()
		}
		return err
	}
	t.Run("socket of a dead process", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "s")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: file, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		_ = dead.Close()
		if err := open(file); err != nil {
			t.Errorf("got %v, want it replaced", err)
		}
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("socket file is left behind: %v", err)
		}
	})
	t.Run("socket in use", func(t *testing.T) {
		_, file := start(t, Config{}, answering(createResponse))
		if err := run(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want an error that names it", err)
		}
		if got := decode(t, driver(t, file, createRequest)); got.Route.Operation != "response" {
			t.Errorf("its owner lost it: %s", got.Content)
		}
	})
	t.Run("something else", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want an error that names it", err)
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
			t.Errorf("file is %q, %v", data, err)
		}
	})
	t.Run("successor keeps its file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "s")
		_, removeFirst, err := listen(t.Context(), endpoint{"unix", file})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		_, removeSecond, err := listen(t.Context(), endpoint{"unix", file})
		if err != nil {
			t.Fatal(err)
		}
		removeFirst()
		if _, err := os.Lstat(file); err != nil {
			t.Errorf("the first took the second's file away: %v", err)
		}
		removeSecond()
	})
	t.Run("leftover of an interrupted start", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(file+newSuffix, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(file); err != nil {
			t.Error(err)
		}
	})
	t.Run("run removes its file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "deep", "er", "s")
		if err := run(file); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("socket file is left behind: %v", err)
		}
	})
	t.Run("loopback TCP", func(t *testing.T) {
		listener, remove, err := listen(t.Context(), endpoint{"tcp", "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		remove()
		if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listener is still open: %v", err)
		}
	})
}

func TestParseAddress(t *testing.T) {
	for address, want := range map[string]string{
		"unix:///var/lib/kubeedge/kubeedge.sock": "{unix /var/lib/kubeedge/kubeedge.sock}",
		"unix://var/lib/kubeedge.sock":           "{unix /var/lib/kubeedge.sock}",
		"UNIX:///var//lib/../x.sock":             "{unix /var/x.sock}",
		"tcp://127.0.0.1:9000":                   "{tcp 127.0.0.1:9000}",
		"tcp://[::1]:9000":                       "{tcp [::1]:9000}",
		"tcp://0.0.0.0:9000":                     "loopback",
		"tcp://192.0.2.1:9000":                   "loopback",
		"tcp://localhost:9000":                   "loopback",
		"tcp://127.0.0.1":                        "loopback",
		"unix:///var/lib/":                       "does not name a file",
		"unix://":                                "want unix://",
		"/var/lib/x.sock":                        "want unix://",
		"http://127.0.0.1:80":                    "neither unix nor tcp",
		"unix:///" + strings.Repeat("a", 120):    "longer than",
	} {
		e, err := parseAddress(address)
		got := fmt.Sprint(e)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("parseAddress(%q) = %s, want %s", address, got, want)
		}
	}
}

func TestNewChecksItsInput(t *testing.T) {
	for _, cfg := range []Config{
		{Address: "x"},
		{Address: "unix:///x", IOTimeout: -1},
		{Address: "unix:///x", MaxRequest: -1},
	} {
		if _, err := New(cfg, answering(""), nil); err == nil {
			t.Errorf("New accepted %+v", cfg)
		}
	}
	registry := prometheus.NewRegistry()
	newOn := func() error {
		_, err := New(Config{Address: "unix:///x"}, answering(""), registry)
		return err
	}
	if err := newOn(); err != nil {
		t.Fatal(err)
	}
	if err := newOn(); err == nil {
		t.Error("second server on the same registry: got no error")
	}
}
