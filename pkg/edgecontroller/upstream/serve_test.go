package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// TestEveryRequestIsAnswered sends what no honest edge sends (spec 04 §8, check 18).
func TestEveryRequestIsAnswered(t *testing.T) {
	for name, tc := range map[string]struct{ op, resource, content, want string }{
		"unknown type":           {"query", "shop/gadget/x", `null`, `no handler for operation \"query\" of \"gadget\"`},
		"unknown operation":      {"insert", "shop/configmap/x", `{}`, `no handler for operation \"insert\" of \"configmap\"`},
		"no operation":           {"", "shop/configmap/x", `{}`, `no handler`},
		"empty namespace":        {"update", "/lease/edge-1", `{}`, `is not \u003cnamespace`},
		"two tokens":             {"update", "kube-node-lease/lease", `{}`, `names no object`},
		"four tokens":            {"update", "a/lease/b/c", `{}`, `is not \u003cnamespace`},
		"one token":              {"update", "lease", `{}`, `is not \u003cnamespace`},
		"empty path":             {"update", "", `{}`, `is not \u003cnamespace`},
		"dots":                   {"query", "shop/configmap/..", `null`, `may not be '..'`},
		"percent":                {"query", "sh%6fp/configmap/x", `null`, `may not contain '%'`},
		"insert without content": {"insert", "kube-node-lease/lease/edge-1", `null`, `message has no content`},
		"list for an object":     {"insert", "null/node/edge-1", `[]`, `cannot unmarshal array`},
		"text for an object":     {"update", "default/nodestatus/edge-1", `"x"`, `holds no JSON`},
		"patch of nothing":       {"patch", "null/nodepatch/edge-1", `null`, `message has no content`},
		"patch that is no JSON":  {"patch", "shop/podpatch/p", `"{"`, `holds no JSON`},
		"patch that is a number": {"patch", "shop/podpatch/p", `"7"`, `cannot unmarshal number`},
		"delete without options": {"delete", "shop/pod/p", `null`, `message has no content`},
		"delete with a list":     {"delete", "shop/pod/p", `[]`, `cannot unmarshal array`},
		"statuses of a bad name": {"update", "shop/podstatus", `[{"Name":"../x"}]`, `may not contain '/'`},
		"statuses of no name":    {"update", "shop/podstatus", `[{}]`, `pod name`},
		"too many statuses":      {"update", "shop/podstatus", `[` + strings.Repeat(`{},`, maxPodReports) + `{}]`, `more than`},
		"huge content":           {"insert", "null/node/edge-1", `{"metadata":{"annotations":{"a":"` + strings.Repeat("x", 2<<20) + `"}},"spec":7}`, `cannot unmarshal number`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, stop := start(t, Config{})
				defer stop()
				answers := b.ask("edge-1", req(tc.op, tc.resource, tc.content))
				if len(answers) != 1 || answers[0].Header.ParentID != "q" || answers[0].Node != "edge-1" {
					t.Fatalf("answers are %v", wires(answers))
				}
				if got := wire(answers[0]); !strings.Contains(got, tc.want) {
					t.Errorf("answer is %s", got)
				}
				if calls := b.api.took(); len(calls) > 0 {
					t.Errorf("kube-apiserver was asked to %v", calls)
				}
			})
		})
	}
}

func TestStraysAreNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{})
		defer stop()
		for _, wire := range []string{
			`{"header":{"msg_id":"a","parent_msg_id":"b"},"route":{"operation":"response","resource":"shop/pod/x"},"content":"OK"}`,
			`{"header":{"msg_id":"a"},"route":{"operation":"response","resource":"shop/pod/x"},"content":"OK"}`,
			`{"header":{"msg_id":"a"},"route":{"operation":"error","resource":"shop/pod/x"},"content":"no"}`,
			`{"header":{"msg_id":"a","parent_msg_id":"b"},"route":{"operation":"query","resource":"shop/configmap/x"},"content":null}`,
			`{"header":{},"route":{"operation":"query","resource":"shop/configmap/x"},"content":null}`,
		} {
			mustEqual(t, wire, wires(b.ask("edge-1", wire)), []string{})
		}
		if got := testutil.ToFloat64(b.module.metrics.stray); got != 5 {
			t.Errorf("%v strays counted", got)
		}
	})
}

func TestPanicEndsOnlyItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{}, edgeNode("edge-1"))
		defer stop()
		b.api.fail = func(r *http.Request) error {
			if r.Method == http.MethodPatch {
				panic("on purpose")
			}
			return nil
		}
		answers := wires(b.ask("edge-1", req("patch", "null/nodepatch/edge-1", `"{}"`)))
		if len(answers) != 1 || !strings.Contains(answers[0], `"Object":{},"Err"`) || !strings.Contains(answers[0], `"code":500`) {
			t.Errorf("answers are %v", answers)
		}
		mustEqual(t, "delivery", b.engine.took(), []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 @"})
		if answers := b.ask("edge-1", req("query", "default/node/edge-1", `null`)); len(answers) != 1 || answers[0].Route.Operation != message.OpResponse {
			t.Errorf("the next request is answered with %v", wires(answers))
		}
	})
}

// TestAPIServerAway looks at what every row tells the edge while kube-apiserver does not answer (spec 04 §1.2, check 4).
func TestAPIServerAway(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	requests := map[verb]string{}
	own := pod("shop", "web-0", "edge-1", "u1")
	own.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "x"}, Optional: new(true)}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "x"}, Optional: new(true)}},
	}
	content := map[verb]string{
		{"podpatch", "patch"}:                   `"{\"metadata\":{\"uid\":\"u1\"}}"`,
		{"nodepatch", "patch"}:                  `"{}"`,
		{"pod", "insert"}:                       `{"metadata":{"annotations":{"kubernetes.io/config.mirror":"h"}},"spec":{"nodeName":"edge-1"}}`,
		{"podstatus", "update"}:                 `{"UID":"u1"}`,
		{"node", "update"}:                      `{"metadata":{"labels":{"new":"x"}}}`,
		{"certificatesigningrequest", "insert"}: csrContent(t, "edge-1", "system:nodes"),
	}
	paths := map[string]string{
		"lease": "kube-node-lease/lease/edge-1", "node": "null/node/edge-1", "nodepatch": "null/nodepatch/edge-1", "nodestatus": "default/nodestatus/edge-1",
		"pod": "shop/pod/web-0", "podpatch": "shop/podpatch/web-0", "podstatus": "shop/podstatus/web-0", "serviceaccounttoken": "shop/serviceaccounttoken/default",
	}
	for v := range (&Module{}).routes() {
		path, ok := paths[v.typ]
		if !ok {
			path = "shop/" + v.typ + "/x"
		}
		body, ok := content[v]
		if !ok {
			body = `{}`
		}
		requests[v] = req(v.op, path, body)
	}
	for name, tc := range map[string]struct {
		fail error
		code int
		text string
	}{
		"refused connection": {refused, 503, "kube-apiserver cannot be reached"},
		"no answer in time":  {context.DeadlineExceeded, 504, "kube-apiserver did not answer in time"},
		"starting":           {apierrors.NewServiceUnavailable("starting"), 503, "starting"},
		"too busy":           {apierrors.NewTooManyRequestsError("wait"), 429, "wait"},
	} {
		for v, request := range requests {
			if v.typ == message.TypeEvent || (v == verb{"node", "query"}) { // has no answer; is answered from the cache
				continue
			}
			t.Run(fmt.Sprintf("%s, %s %s", name, v.typ, v.op), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, stop := start(t, Config{}, edgeNode("edge-1"), own)
					defer stop()
					b.api.fail = func(*http.Request) error { return tc.fail }
					b.send("edge-1", request)
					time.Sleep(30 * time.Second) // of the bubble: retries of the client
					synctest.Wait()
					answers := b.hub.took()
					if len(answers) != 1 {
						t.Fatalf("answers are %v", wires(answers))
					}
					got := wire(answers[0])
					if b.module.table[v].refuse == asText {
						if answers[0].Route.Operation != message.OpError || !strings.Contains(got, tc.text) {
							t.Errorf("answer is %s", got)
						}
						return
					}
					want := fmt.Sprintf(`,"code":%d}}}`, tc.code)
					if !strings.Contains(got, `"content":{"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure","message":`) || !strings.Contains(got, want) {
						t.Errorf("answer is %s", got)
					}
				})
			})
		}
	}
}

// TestAnswerAfterTheDeadline: the answer that a call took too long must not fall victim to the same deadline.
func TestAnswerAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{CallTimeout: 5 * time.Second})
		defer stop()
		b.api.fail = func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }
		b.send("edge-1", req("query", "kube-node-lease/lease/edge-1", `null`))
		time.Sleep(5 * time.Second) // of the bubble
		synctest.Wait()
		answers := wires(b.hub.took())
		if len(answers) != 1 || !strings.Contains(answers[0], `"code":504`) {
			t.Errorf("answers are %v", answers)
		}
	})
}

func TestStatus(t *testing.T) {
	group := schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
	for name, tc := range map[string]struct {
		err    error
		code   int32
		reason metav1.StatusReason
	}{
		"api error":          {apierrors.NewConflict(group, "n", errors.New("x")), 409, metav1.StatusReasonConflict},
		"wrapped api error":  {fmt.Errorf("get: %w", apierrors.NewNotFound(group, "n")), 404, metav1.StatusReasonNotFound},
		"api error of zero":  {&apierrors.StatusError{}, 500, metav1.StatusReasonInternalError},
		"answer of a proxy":  {&apierrors.StatusError{ErrStatus: metav1.Status{Code: 502, Message: "bad gateway"}}, 502, metav1.StatusReasonInternalError},
		"deadline":           {fmt.Errorf("call: %w", context.DeadlineExceeded), 504, metav1.StatusReasonTimeout},
		"cancelled":          {context.Canceled, 503, metav1.StatusReasonServiceUnavailable},
		"no route":           {errors.New("no route to host"), 503, metav1.StatusReasonServiceUnavailable},
		"invalid request":    {invalid(errors.New("x")), 400, metav1.StatusReasonBadRequest},
		"network timeout":    {&net.DNSError{IsTimeout: true}, 504, metav1.StatusReasonTimeout},
		"a success as error": {&apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusSuccess, Code: 500}}, 500, metav1.StatusReasonInternalError},
	} {
		s := status(tc.err)
		if s.Code != tc.code || s.Reason != tc.reason || s.Status != metav1.StatusFailure || s.Message == "" {
			t.Errorf("%s: status is %+v", name, s)
		}
	}
}

func TestStaleRequestsAreShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{}, lease("1400"))
		defer stop()
		release := make(chan struct{})
		b.api.fail = func(r *http.Request) error {
			if r.Method == http.MethodPut {
				<-release
			}
			return nil
		}
		b.module.cfg.CallTimeout = time.Hour
		update := req("update", "kube-node-lease/lease/edge-1", `{`+leaseSpec+`}`)
		for range 3 {
			b.send("edge-1", update)
		}
		time.Sleep(time.Minute) // of the bubble
		close(release)
		synctest.Wait()
		if calls := b.api.took(); len(calls) != 1 {
			t.Errorf("calls for requests that nobody waits for: %v", calls)
		}
		answers := wires(b.hub.took())
		if len(answers) != 3 || !strings.Contains(answers[2], `"reason":"Timeout"`) {
			t.Errorf("answers are %v", answers)
		}
	})
}

// TestFloodDoesNotDelayLeases blocks every lane but that of leases, for many nodes.
func TestFloodDoesNotDelayLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{Workers: 2}, edgeNode("edge-1"), pod("shop", "web-0", "edge-1", "u1"), lease("1400"))
		release := make(chan struct{})
		defer stop()
		defer close(release)
		b.api.fail = func(r *http.Request) error {
			if !strings.Contains(r.URL.Path, "/leases/") {
				b.api.mu.Unlock()
				<-release
				b.api.mu.Lock()
			}
			return nil
		}
		for i := range 10 {
			n := fmt.Sprint("other-", i)
			for range 5 {
				b.send(n, req("insert", "null/node/"+n, `{}`))
				b.send(n, req("patch", "shop/podpatch/x", `"{}"`))
				b.send(n, req("query", "shop/secret/x", `null`))
				b.send(n, req("insert", "shop/event/x", `{"metadata":{"name":"x","namespace":"shop"}}`))
			}
		}
		synctest.Wait()
		answers := b.ask("edge-1", req("query", "kube-node-lease/lease/edge-1", `null`))
		if len(answers) != 1 {
			t.Errorf("the lease is answered with %v", wires(answers))
		}
	})
}

// TestOrderOfOneNode sends patches of one pod; they reach kube-apiserver in their order (defect 13).
func TestOrderOfOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{Waiting: 100}, pod("shop", "web-0", "edge-1", "u1"))
		defer stop()
		var want []string
		for i := range 50 {
			b.send("edge-1", req("patch", "shop/podpatch/web-0", fmt.Sprintf(`"{\"status\":{\"message\":\"%d\"}}"`, i)))
			want = append(want, fmt.Sprintf(`PATCH /api/v1/namespaces/shop/pods/web-0/status strategic-merge-patch {"status":{"message":"%d"}}`, i))
		}
		synctest.Wait()
		mustEqual(t, "calls", b.api.took(), want)
	})
}

// TestHoldSpansCallAndAnswer: the push of a change is let go only after the answer with it went out.
func TestHoldSpansCallAndAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{}, pod("shop", "web-0", "edge-1", "u1"))
		defer stop()
		var log []string
		b.engine.log, b.hub.log = &log, &log
		b.api.fail = func(r *http.Request) error { log = append(log, r.Method); return nil }
		patch := req("patch", "shop/podpatch/web-0", `"{\"metadata\":{\"uid\":\"u1\"}}"`)
		b.ask("edge-1", patch)
		mustEqual(t, "order", log, []string{"hold edge-1 shop/pod/web-0", "PATCH", "sent response", "release shop/pod/web-0 u1@1001"})
		b.hub.gone, log = true, nil
		b.ask("edge-1", patch)
		mustEqual(t, "order without a session", log, []string{"hold edge-1 shop/pod/web-0", "PATCH", "release shop/pod/web-0 @"})
	})
}

func TestImpersonation(t *testing.T) {
	type mark struct{}
	cfg := Config{OnBehalfOf: func(ctx context.Context, node string) context.Context { return context.WithValue(ctx, mark{}, node) }}
	synctest.Test(t, func(t *testing.T) {
		own := pod("shop", "web-0", "edge-1", "u1")
		b, stop := start(t, cfg, own)
		defer stop()
		b.api.caller = func(r *http.Request) string {
			if node, ok := r.Context().Value(mark{}).(string); ok {
				return "node:" + node
			}
			return "self"
		}
		answers := wires(b.ask("edge-1", req("insert", "null/node/edge-1", `{"metadata":{"labels":{"kubernetes.io/hostname":"h","topology.kubernetes.io/zone":"z","zone":"a","example.com/x":"y"}}}`)))
		mustEqual(t, "registration", b.api.took(), []string{"node:edge-1 POST /api/v1/nodes",
			`self PATCH /api/v1/nodes/edge-1 merge-patch {"metadata":{"labels":{"kubernetes.io/hostname":"h","node-role.kubernetes.io/agent":"","node-role.kubernetes.io/edge":"","topology.kubernetes.io/zone":"z"}}}`})
		if len(answers) != 1 || !strings.Contains(answers[0], `"labels":{"example.com/x":"y","kubernetes.io/hostname":"h","node-role.kubernetes.io/agent":"","node-role.kubernetes.io/edge":"","topology.kubernetes.io/zone":"z","zone":"a"}`) {
			t.Errorf("answers are %v", answers)
		}
		b.ask("edge-1", req("patch", "shop/podpatch/web-0", `"{}"`))
		b.ask("edge-1", req("insert", "kube-node-lease/lease/edge-1", `{}`))
		b.ask("edge-1", req("insert", "shop/event/x", `{"metadata":{"name":"x","namespace":"shop"}}`))
		b.ask("edge-1", req("query", "shop/secret/x", `null`))
		mustEqual(t, "calls", b.api.took(), []string{
			"node:edge-1 PATCH /api/v1/namespaces/shop/pods/web-0/status strategic-merge-patch {}",
			"node:edge-1 POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
			"self POST /api/v1/namespaces/shop/events",
			"self GET /api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1",
		})
	})
}

// TestLabelsAreTriedAgain: a Node without its labels is not served and not created a second time (defect 4).
func TestLabelsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{OnBehalfOf: func(ctx context.Context, _ string) context.Context { return ctx }})
		defer stop()
		failures := 2
		b.api.fail = func(r *http.Request) error {
			if r.Method == http.MethodPatch && failures > 0 {
				failures--
				return errors.New("connection reset")
			}
			return nil
		}
		b.send("edge-1", req("insert", "null/node/edge-1", `{}`))
		time.Sleep(10 * time.Second) // of the bubble
		synctest.Wait()
		answers := wires(b.hub.took())
		if len(answers) != 1 || !strings.Contains(answers[0], `"node-role.kubernetes.io/edge":""`) {
			t.Errorf("answers are %v", answers)
		}
	})
}

func TestMetricsByResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{}, lease("1400"))
		defer stop()
		b.ask("edge-1", req("query", "kube-node-lease/lease/edge-1", `null`))
		b.ask("edge-2", req("query", "kube-node-lease/lease/edge-2", `null`))
		b.ask("edge-2", req("query", "kube-node-lease/lease/edge-1", `null`))
		b.ask("edge-1", req("update", "kube-node-lease/lease/edge-1", `{"metadata":{"resourceVersion":"1"}}`))
		b.ask("edge-1", req("insert", "kube-node-lease/lease/edge-1", `7`))
		for _, want := range []struct{ op, result string }{{"query", resultOK}, {"query", resultNotFound}, {"query", resultForbidden},
			{"update", resultConflict}, {"insert", resultInvalid}} {
			if got := testutil.ToFloat64(b.module.metrics.requests.WithLabelValues("lease", want.op, want.result)); got != 1 {
				t.Errorf("%s %s counted %v times", want.op, want.result, got)
			}
		}
	})
}

func TestEventRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{EventRate: 1, EventBurst: 3, Waiting: 100})
		defer stop()
		event := func(i int) string {
			return req("insert", "shop/event/x", fmt.Sprintf(`{"metadata":{"name":"x%d","namespace":"shop"}}`, i))
		}
		for i := range 10 {
			b.send("edge-1", event(i))
		}
		b.send("edge-2", event(99))
		synctest.Wait()
		if got := len(b.api.took()); got != 4 {
			t.Errorf("%d events reached kube-apiserver, want 3 of the flood and 1 of the other node", got)
		}
		time.Sleep(2 * time.Second) // of the bubble
		b.ask("edge-1", event(100))
		if got := len(b.api.took()); got != 1 {
			t.Error("no event passes after the flood")
		}
		if got := testutil.ToFloat64(b.module.metrics.requests.WithLabelValues("event", "insert", resultLimited)); got != 7 {
			t.Errorf("%v events counted as limited", got)
		}
	})
}

func TestEventLimitsAreBounded(t *testing.T) {
	l := newEventLimits(1, 1)
	now := time.Now()
	for i := range maxEventNodes + 10 {
		l.allow(fmt.Sprint(i), now)
	}
	if len(l.nodes) > maxEventNodes {
		t.Errorf("%d limiters", len(l.nodes))
	}
}

func TestRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{}, lease("1"))
		if err := b.module.Ready(); err != nil {
			t.Error(err)
		}
		stop()
		if err := b.module.Ready(); err == nil {
			t.Error("ready without running")
		}
		if slices.Contains(b.bus.Modules(), message.ModuleEdge) {
			t.Error("still on the bus")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.module.Run(ctx) })
		synctest.Wait()
		if answers := b.ask("edge-1", req("query", "kube-node-lease/lease/edge-1", `null`)); len(answers) != 0 { // the hub is off the bus
			t.Errorf("answers are %v", wires(answers))
		}
		cancel()
		wg.Wait()
	})
}

func TestConfigFromTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := pod("shop", "web-0", "edge-1", "u1")
		own.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "tls"}}
		b, stop := start(t, Config{}, own)
		defer stop()
		b.view.cached[b.view.SecretKey("shop", "tls")] = cachedObject{body: `{"kind":"Secret"}`, version: "42"}
		mustEqual(t, "answers", wires(b.ask("edge-1", req("query", "shop/secret/tls", `null`))), []string{versioned("42", "shop/secret/tls", `{"kind":"Secret"}`)})
		b.ask("edge-2", req("query", "shop/secret/tls", `null`))
		mustEqual(t, "calls", b.api.took(), []string{"GET /api/v1/pods?fieldSelector=spec.nodeName%3Dedge-2"})
	})
}
