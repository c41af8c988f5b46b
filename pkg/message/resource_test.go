package message_test

import (
	"strings"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func TestParseResource(t *testing.T) {
	name253 := strings.Repeat("n", 253)
	for _, tc := range []struct {
		path string
		want message.Resource
		ok   bool
	}{
		{"default/pod/nginx-7c5d", message.Resource{Namespace: "default", Type: "pod", Name: "nginx-7c5d"}, true},
		{"null/node/edge-1.example", message.Resource{Namespace: "null", Type: "node", Name: "edge-1.example"}, true},
		{"default/podstatus", message.Resource{Namespace: "default", Type: "podstatus"}, true},
		{"kube-node-lease/lease/edge2", message.Resource{Namespace: "kube-node-lease", Type: "lease", Name: "edge2"}, true},
		{"default/configmap/membership", message.Resource{Namespace: "default", Type: "configmap", Name: "membership"}, true},
		// The grammar has no word for "node" or "volume": names may be anything (spec 03 D7, D18).
		{"node/node/node", message.Resource{Namespace: "node", Type: "node", Name: "node"}, true},
		{"default/volume/pvc-1", message.Resource{Namespace: "default", Type: "volume", Name: "pvc-1"}, true},
		{name253 + "/" + name253 + "/" + name253, message.Resource{Namespace: name253, Type: name253, Name: name253}, true},

		{"", message.Resource{}, false},
		{"node", message.Resource{}, false},
		{"/", message.Resource{}, false},
		{"/pod/a", message.Resource{}, false},
		{"default/", message.Resource{}, false},
		{"default//a", message.Resource{}, false},
		{"default/pod/", message.Resource{}, false},
		{"default/pod/a/b", message.Resource{}, false},
		{"device/default/t1/state/update", message.Resource{}, false},
		{name253 + "/" + name253 + "/" + name253 + "x", message.Resource{}, false},
	} {
		got, err := message.ParseResource(tc.path)
		if (err == nil) != tc.ok || got != tc.want {
			t.Errorf("ParseResource(%.80q): got %+v, %v, want %+v, ok %v", tc.path, got, err, tc.want, tc.ok)
		}
		if err == nil && got.String() != tc.path {
			t.Errorf("String: got %.80q, want %.80q", got.String(), tc.path)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("ParseResource(%.20q…): the error has %d bytes", tc.path, len(err.Error()))
		}
	}
}
