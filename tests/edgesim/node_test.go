package edgesim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds a wait in fake time.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestNodeBecomesReadyAndRunsAPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := c.start(c.options("edge-1"))
		if err := n.WaitReady(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		row, ok := n.Store()["null/node/edge-1"]
		if !ok || row.UID == "" {
			t.Fatalf("the node's own row is %+v, want one with a UID", row)
		}

		obj := podObject("edge-1", "web", "u1", "50")
		c.put("pod", "default", "web", obj)
		m := push("insert", "default/pod/web", "50", obj)
		c.link().send(m)
		ack := c.link().answerTo(t, m.Header.ID)
		if text, _ := ack.ContentText(); text != "OK" || ack.Route.Operation != "response" || ack.Route.Source != "edgecontroller" {
			t.Fatalf("ack is %+v with content %s", ack.Route, ack.Content)
		}
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
		if v := n.Violations(); len(v) != 0 {
			t.Fatalf("violations: %v", v)
		}
	})
}
