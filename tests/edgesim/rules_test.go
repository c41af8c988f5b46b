package edgesim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// routed is a push of a ConfigMap with another route.
func routed(source, group, operation, resource string) *message.Message {
	m := push(operation, resource, "7", object("ConfigMap", "default", "app", "u1", "7"))
	m.Route.Source, m.Route.Group = source, group
	return m
}

func TestAnswersToPushes(t *testing.T) {
	const cm = "default/configmap/app"
	ack := func(source, group string) string { return source + " " + group + " response OK" }
	for _, tc := range []struct {
		name   string
		msg    *message.Message
		want   string // source group operation text, or "bounce", or nothing
		stored bool
	}{
		{"insert", routed("edgecontroller", "resource", "insert", cm), ack("edgecontroller", "resource"), true},
		{"insert from any source", routed("synccontroller", "resource", "insert", cm), ack("synccontroller", "resource"), true},
		{"insert to group func", routed("edgecontroller", "func", "insert", cm), ack("edgecontroller", "func"), true},
		{"insert of a device", routed("devicecontroller", "resource", "insert", "default/device/d"), ack("meta", "twin"), true},
		{"update", routed("edgecontroller", "resource", "update", cm), ack("edgecontroller", "resource"), true},
		{"update by the dynamic controller", routed("dynamiccontroller", "resource", "update", cm), ack("dynamiccontroller", "resource"), true},
		{"update by the policy controller", routed("policycontroller", "resource", "update", cm), ack("policycontroller", "resource"), true},
		{"update of a device", routed("devicecontroller", "resource", "update", "default/device/d"), ack("devicecontroller", "resource"), true},
		{"update by another source", routed("cloudhub", "resource", "update", cm), "", true},
		{"delete", routed("edgecontroller", "resource", "delete", cm), ack("edgecontroller", "resource"), false},
		{"delete of a device", routed("devicecontroller", "resource", "delete", "default/device/d"), ack("meta", "twin"), false},
		{"delete of a pod by the edge itself", routed("edged", "resource", "delete", "default/pod/p"), "bounce", false},
		{"insert of an event", routed("dynamiccontroller", "resource", "insert", "default/event/e"), "bounce", false},
		{"update of an event", routed("edgecontroller", "resource", "update", "default/event/e"), "bounce", false},
		{"delete of an event", routed("edgecontroller", "resource", "delete", "default/event/e"), ack("edgecontroller", "resource"), false},
		{"patch", routed("edgecontroller", "resource", "patch", cm), "bounce", true},
		{"query", routed("edgecontroller", "resource", "query", cm), "", false},
		{"response without parent", routed("edgecontroller", "resource", "response", cm), "", true},
		{"response without parent from another", routed("cloudhub", "resource", "response", cm), "bounce", true},
		{"untrimmed path", routed("edgecontroller", "resource", "update", "node/edge-1/"+cm), ack("edgecontroller", "resource"), true},
		{"ping", routed("cloudhub", "x", "ping", "node"), "cloudhub x response ack", false},
		{"config", routed("cloudhub", "x", "config", "node"), "cloudhub x response ack", false},
		{"group twin", routed("devicecontroller", "twin", "update", "membership"), "", false},
		{"group user", routed("router_eventbus", "user", "publish", "a/b"), "", false},
		{"group taskmanager", routed("taskmanager", "taskmanager", "upgrade", "x"), "", false},
		{"unknown group", routed("edgecontroller", "cloudhub", "update", cm), "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, Options{LinkOnly: true})
			b.feed(tc.msg)
			got := ""
			for _, m := range b.sent() {
				text, _ := m.ContentText()
				switch {
				case m == tc.msg:
					got += "bounce"
				case m.Header.ParentID != tc.msg.Header.ID || m.Route.Resource != tc.msg.Route.Resource || m.Header.ID == "":
					t.Errorf("answer has header %+v and resource %s", m.Header, m.Route.Resource)
				default:
					got += fmt.Sprintf("%s %s %s %s", m.Route.Source, m.Route.Group, m.Route.Operation, text)
				}
			}
			if got != tc.want {
				t.Errorf("answer is %q, want %q", got, tc.want)
			}
			if _, ok := b.n.Store()[tc.msg.Route.Resource]; ok != tc.stored {
				t.Errorf("stored: %t, want %t", ok, tc.stored)
			}
		})
	}
}

func TestFailedStoreIsRefused(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true, Faults: Faults{FailStore: 1, Only: func(r string) bool { return !strings.Contains(r, "secret") }}})
	bad, good := routed("edgecontroller", "resource", "update", "default/configmap/app"), routed("edgecontroller", "resource", "update", "default/secret/s")
	b.feed(bad, good)
	sent := b.sent()
	if len(sent) != 2 {
		t.Fatalf("sent %d messages, want a refusal and an ack", len(sent))
	}
	r := sent[0]
	if text, ok := r.ContentText(); !ok || text == "" || r.Route.Operation != "error" || r.Route.Source != "metamanager" ||
		r.Route.Group != "resource" || r.Header.ParentID != bad.Header.ID {
		t.Errorf("refusal is %+v %+v %s", r.Header, r.Route, r.Content)
	}
	if _, ok := b.n.Store()["default/configmap/app"]; ok {
		t.Error("a refused push was stored")
	}
	if p := b.n.Pushes(); p[0].Outcome != Refused || p[1].Outcome != Acked {
		t.Errorf("outcomes are %v and %v", p[0].Outcome, p[1].Outcome)
	}
}

func TestPodDeleteRules(t *testing.T) {
	for _, tc := range []struct {
		name, uid string
		gone      bool
	}{
		{"its own UID", "u1", true},
		{"another UID", "u2", false},
		{"no UID hits whatever is there", "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, Options{LinkOnly: true})
			b.n.rec.put("default/podpatch/web", "podpatch", []byte("{}"))
			b.feed(push("insert", "default/pod/web", "5", podObject("edge-1", "web", "u1", "5")))
			b.feed(push("delete", "default/pod/web", "", object("Pod", "default", "web", tc.uid, "")))
			if acks := len(b.sent()); acks != 2 {
				t.Errorf("%d acks, want 2: a delete is acknowledged even if nothing was deleted", acks)
			}
			_, pod := b.n.Store()["default/pod/web"]
			_, patch := b.n.Store()["default/podpatch/web"]
			if pod == tc.gone || patch == tc.gone {
				t.Errorf("rows of pod and patch are there: %t, %t; want gone: %t", pod, patch, tc.gone)
			}
		})
	}
}

func TestStoreHasNoVersionCheck(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true})
	b.feed(push("update", "default/configmap/a", "9", object("ConfigMap", "default", "a", "u", "9")))
	b.feed(push("update", "default/configmap/a", "8", object("ConfigMap", "default", "a", "u", "8")))
	if row := b.n.Store()["default/configmap/a"]; row.Version != "8" {
		t.Errorf("row has version %s, want the last written, 8", row.Version)
	}
	b.feed(push("delete", "default/configmap/a", "", object("ConfigMap", "default", "a", "other", "")))
	if _, ok := b.n.Store()["default/configmap/a"]; ok {
		t.Error("a delete of anything but pods goes by key")
	}
}

// answerTo makes an answer of the cloud to a request that waits on the given path.
func (b *bench) answerTo(resource string, via requestPath, operation string, content []byte) (answered *message.Message, err error) {
	called := false
	b.n.core.request("query", resource, nil, via, func(m *message.Message, e error) { answered, err, called = m, e, true })
	requests := b.sent()
	a := message.Reply(requests[len(requests)-1], "edgecontroller", content)
	a.Route.Operation = operation
	b.feed(a)
	if !called {
		b.Fatal("the answer did not reach its waiter")
	}
	return answered, err
}

func TestAnswersToRequests(t *testing.T) {
	const cm = "default/configmap/app"
	object := `{"metadata":{"name":"app","uid":"u1","resourceVersion":"4"}}`
	for _, tc := range []struct {
		name, operation, content string
		via                      requestPath
		stored                   string
		acked                    bool
		violation                ViolationKind
	}{
		{"bare object", "response", object, remote, object, true, ""},
		{"wrapped object", "response", `{"Object":` + object + `,"Err":null}`, remote, object, true, ""},
		{"wrapped error", "response", `{"Object":{},"Err":{"ErrStatus":{"code":404}}}`, remote, "", true, ""},
		{"OK", "response", `"OK"`, remote, "", true, ""},
		{"error operation", "error", `"not found"`, remote, "", true, ""},
		{"text with response is stored", "response", `"not found"`, remote, "not found", true, StoredError},
		{"status with response is stored", "response", `{"ErrStatus":{"code":404}}`, remote, `{"ErrStatus":{"code":404}}`, true, StoredError},
		{"metav1.Status is stored", "response", `{"status":"Failure"}`, remote, `{"status":"Failure"}`, true, StoredError},
		{"empty object is stored", "response", `{"Object":{},"Err":null}`, remote, "{}", true, FalseSuccess},
		{"direct answers are not acknowledged", "response", object, direct, "", false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, Options{LinkOnly: true})
			if _, err := b.answerTo(cm, tc.via, tc.operation, []byte(tc.content)); err != nil {
				t.Fatal(err)
			}
			if got := string(b.n.Store()[cm].Value); got != tc.stored {
				t.Errorf("stored %q, want %q", got, tc.stored)
			}
			if acked := len(b.sent()) == 1; acked != tc.acked {
				t.Errorf("acknowledged: %t, want %t", acked, tc.acked)
			}
			if v := b.n.Violations(); (len(v) > 0) != (tc.violation != "") || (len(v) > 0 && v[0].Kind != tc.violation) {
				t.Errorf("violations %v, want %q", v, tc.violation)
			}
		})
	}
}

func TestAnswerWithoutWaiterIsDropped(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true})
	m := routed("edgecontroller", "resource", "response", "default/configmap/app")
	m.Header.ParentID = "nobody"
	b.feed(m)
	if sent := b.sent(); len(sent) != 0 || len(b.n.Store()) != 0 || b.n.Counters().LateAnswers != 1 {
		t.Errorf("sent %d messages, stored %d rows, counted %d; want nothing but the count", len(sent), len(b.n.Store()), b.n.Counters().LateAnswers)
	}
}

func TestDecodeObject(t *testing.T) {
	b := newBench(t, Options{LinkOnly: true})
	for _, tc := range []struct {
		content, err string
		violation    ViolationKind
	}{
		{`{"Object":{"metadata":{"name":"x"}},"Err":null}`, "", ""},
		{`{"Object":{},"Err":{"ErrStatus":{"reason":"NotFound","message":"gone","code":404}}}`, "gone", ""},
		{`{"Object":null,"Err":{"ErrStatus":{"reason":"NotFound","message":"gone","code":404}}}`, "gone", ""},
		{`{"Object":null,"Err":null}`, "no object", WouldCrash},
		{`{"Object":{},"Err":{}}`, "", FalseSuccess},
		{`"text"`, "cannot unmarshal", ""},
	} {
		before := len(b.n.Violations())
		m := routed("edgecontroller", "resource", "response", "null/node/edge-1")
		m.Content = []byte(tc.content)
		_, err := decodeObject[struct {
			Metadata map[string]any `json:"metadata"`
		}](b.n.core, m)
		switch {
		case (err == nil) != (tc.err == ""):
			t.Errorf("%s: error %v, want %q", tc.content, err, tc.err)
		case err != nil && !strings.Contains(err.Error(), tc.err) && !strings.Contains(err.Error(), "invalid character"):
			t.Errorf("%s: error %v, want %q", tc.content, err, tc.err)
		}
		got := b.n.Violations()[before:]
		if (len(got) > 0) != (tc.violation != "") || (len(got) > 0 && got[0].Kind != tc.violation) {
			t.Errorf("%s: violations %v, want %q", tc.content, got, tc.violation)
		}
	}
}
