package upstream

import (
	"context"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// FuzzServe hands the module what a node may send. It must not panic, must answer each request once (of events, none),
// and must not let the node change anything that is not its own.
func FuzzServe(f *testing.F) {
	for _, x := range captured(f) {
		f.Add(x.request.Route.Operation, x.request.Route.Resource, []byte(x.request.Content))
	}
	for v := range (&Module{}).routes() {
		f.Add(v.op, "default/"+v.typ+"/edge2", []byte(`{"metadata":{"name":"edge2","namespace":"d"},"event":{},"UID":"u","Status":{},"spec":{"nodeName":"edge2"}}`))
	}
	f.Add("delete", "d/pod/p", []byte(`"uid"`))
	f.Add("update", "d/podstatus", []byte(`[{"UID":"u","Name":"p"}]`))

	f.Fuzz(func(t *testing.T, op, resource string, content []byte) {
		api := newAPIServer(t, edgeNode("edge2"), edgeNode("other"), pod("d", "p", "edge2", "u"), pod("d", "q", "other", "v"), lease("1"))
		b, hub, e := bus.New(), &hub{}, &engine{}
		m, err := New(Config{}, api.client(), b, e, newFakeView(edgeNode("edge2"), pod("d", "p", "edge2", "u")), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Register(message.ModuleHub, message.ModuleHub, hub.receive); err != nil {
			t.Fatal(err)
		}
		q := message.New("edge2", message.Route{Source: "edged", Group: "meta", Operation: op, Resource: resource}, content)
		if string(content) == "null" {
			q.Content = nil
		}
		m.serve(context.Background(), q)
		answers := 0
		for _, a := range hub.sent {
			if a.Header.ParentID == q.Header.ID {
				answers++
			}
		}
		want := 1
		if path, err := message.ParseResource(resource); err == nil && m.table[verb{path.Type, op}].refuse == silent {
			want = 0
		}
		if op == message.OpResponse || op == message.OpError {
			want = 0
		}
		if answers != want {
			t.Errorf("%d answers to %q %q %q, want %d", answers, op, resource, content, want)
		}
		for path, name := range map[string]string{"/api/v1/nodes/other": "other", "/api/v1/namespaces/d/pods/q": "q"} {
			if o := api.objects[path]; o == nil || meta(o)["resourceVersion"] != map[string]any{"other": "500", "q": "700"}[name] {
				t.Errorf("%s was changed by %q %q %q", path, op, resource, content)
			}
		}
	})
}
