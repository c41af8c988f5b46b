package upstream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// exchange is a recorded request of a real EdgeCore and the answer of the original (testdata/README.md).
type exchange struct {
	Request json.RawMessage `json:"request"`
	Reply   json.RawMessage `json:"reply"`

	request, reply *message.Message
	path           message.Resource
}

func captured(t testing.TB) []*exchange {
	t.Helper()
	file, err := os.Open("testdata/edgecore-v1.23.1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var list []*exchange
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		x := &exchange{}
		if err := json.Unmarshal(lines.Bytes(), x); err != nil {
			t.Fatal(err)
		}
		if x.request, err = message.Decode(x.Request); err != nil {
			t.Fatal(err)
		}
		if x.reply, err = message.Decode(x.Reply); err != nil {
			t.Fatal(err)
		}
		if x.path, err = message.ParseResource(x.request.Route.Resource); err != nil {
			t.Fatal(err)
		}
		list = append(list, x)
	}
	if len(list) == 0 || lines.Err() != nil {
		t.Fatalf("%d exchanges: %v", len(list), lines.Err())
	}
	return list
}

type objectResp struct {
	Object json.RawMessage
	Err    *struct{ ErrStatus metav1.Status }
}

// into decodes the object of a recorded answer.
func into[T metav1.Object](t testing.TB, content json.RawMessage, o T) T {
	t.Helper()
	var resp objectResp
	if err := json.Unmarshal(content, &resp); err == nil && resp.Object != nil {
		content = resp.Object
	}
	if err := json.Unmarshal(content, o); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestCapturedRequests feeds the requests of a real EdgeCore and compares the shape of the answers.
func TestCapturedRequests(t *testing.T) {
	exchanges := captured(t)
	var pods []metav1.Object
	for _, x := range exchanges {
		if x.path.Type == message.TypePodPatch {
			pods = append(pods, into(t, x.reply.Content, &corev1.Pod{}))
		}
	}
	for _, x := range exchanges {
		t.Run(x.request.Route.Operation+" "+x.request.Route.Resource, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, stop := start(t, Config{}, pods...)
				defer stop()
				b.recreate(x)
				answers := b.ask("edge2", string(x.Request))
				if len(answers) == 0 {
					t.Fatal("no answer")
				}
				compare(t, answers[0], x.reply)
			})
		})
	}
}

// recreate puts what the apiserver had when the exchange was recorded.
func (b *bench) recreate(x *exchange) {
	t, content := b.t, x.reply.Content
	var resp objectResp
	_ = json.Unmarshal(content, &resp) // of a text or a bare object nothing is there
	missing := resp.Err != nil && resp.Err.ErrStatus.Reason == metav1.StatusReasonNotFound
	switch x.path.Type {
	case message.TypeConfigMap:
		b.api.put(into(t, content, &corev1.ConfigMap{}))
	case message.TypeSecret:
		b.api.put(into(t, content, &corev1.Secret{}))
	case message.TypeNodePatch:
		b.api.put(into(t, content, &corev1.Node{}))
	case message.TypeNode:
		if resp.Err != nil { // it exists already
			b.api.put(edgeNode("edge2"))
		}
	case message.TypeLease:
		switch {
		case missing || x.request.Route.Operation == message.OpInsert:
		case x.request.Route.Operation == message.OpUpdate:
			b.api.put(into(t, x.request.Content, &coordinationv1.Lease{}))
		default:
			b.api.put(into(t, content, &coordinationv1.Lease{}))
		}
	}
}

func compare(t *testing.T, got, want *message.Message) {
	t.Helper()
	if got.Header.ParentID != want.Header.ParentID || got.Route != want.Route || got.Header.Type != "" || got.Header.Sync ||
		(got.Header.ResourceVersion == "") != (want.Header.ResourceVersion == "") {
		t.Errorf("header and route are\n     %+v %+v, want\n     %+v %+v", got.Header, got.Route, want.Header, want.Route)
	}
	var ours, theirs objectResp
	errOurs, errTheirs := json.Unmarshal(got.Content, &ours), json.Unmarshal(want.Content, &theirs)
	if (errOurs == nil) != (errTheirs == nil) {
		t.Fatalf("content is %s, want %s", got.Content, want.Content)
	}
	if errTheirs != nil { // a text
		if !bytes.Equal(got.Content, want.Content) {
			t.Errorf("content is %s, want %s", got.Content, want.Content)
		}
		return
	}
	if (ours.Err == nil) != (theirs.Err == nil) {
		t.Fatalf("content is %s, want %s", got.Content, want.Content)
	}
	if theirs.Err != nil {
		a, b := ours.Err.ErrStatus, theirs.Err.ErrStatus
		if a.Code != b.Code || a.Reason != b.Reason || a.Status != b.Status || a.Details.Name != b.Details.Name || string(ours.Object) != "{}" {
			t.Errorf("content is %s, want %s", got.Content, want.Content)
		}
		return
	}
	if a, b := shape(t, got.Content), shape(t, want.Content); !slices.Equal(a, b) {
		t.Errorf("content has the fields\n     %v, want\n     %v", a, b)
	}
}

// shape lists the fields of an object to the second level, without those that differ on purpose: the original sends
// managedFields, and often neither kind nor apiVersion.
func shape(t *testing.T, content json.RawMessage) []string {
	t.Helper()
	var top map[string]json.RawMessage
	if err := json.Unmarshal(content, &top); err != nil {
		t.Fatal(err)
	}
	var list []string
	prefix := ""
	if object, ok := top["Object"]; ok {
		prefix = "Object/"
		list = append(list, slices.Sorted(maps.Keys(top))...)
		clear(top)
		if err := json.Unmarshal(object, &top); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range top {
		if key == "kind" || key == "apiVersion" {
			continue
		}
		list = append(list, prefix+key)
		var fields map[string]json.RawMessage
		if strings.HasPrefix(string(value), "{") && json.Unmarshal(value, &fields) == nil {
			for f := range fields {
				switch f {
				case "managedFields", "creationTimestamp", "taints": // the test's apiserver sets neither times nor taints
				default:
					list = append(list, prefix+key+"/"+f)
				}
			}
		}
	}
	slices.Sort(list)
	return list
}
