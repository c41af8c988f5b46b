package harness

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// FastTiming is an edge that does everything a default one does, with shorter pauses.
func FastTiming() edgesim.Timing {
	return edgesim.Timing{
		Heartbeat:  500 * time.Millisecond,
		DialRetry:  250 * time.Millisecond,
		Request:    5 * time.Second,
		Lease:      time.Second,
		NodeStatus: 2 * time.Second,
		RetryMax:   time.Second,
		PodSync:    time.Second,
		PodStart:   20 * time.Millisecond,
		PodStop:    50 * time.Millisecond,
		FetchMin:   100 * time.Millisecond,
		FetchMax:   time.Second,
		TwinRepeat: 5 * time.Second,
	}
}

// Edge returns the options of an edge that uses this cloudcore.
func (c *Cloudcore) Edge(t testing.TB) edgesim.Options {
	t.Helper()
	token, err := c.env.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return edgesim.Options{
		Cloud: Address, HubPort: c.HubPort, HTTPSPort: c.HTTPSPort, Token: token, NoRotate: true, Timing: FastTiming(),
	}
}

// Fleet starts edges that join this cloudcore and waits until they are Ready. They end with t, which fails if one of them
// saw what a correct cloud never does.
func (c *Cloudcore) Fleet(t testing.TB, count int, change ...func(*edgesim.Options)) *edgesim.Fleet {
	t.Helper()
	options := c.Edge(t)
	for _, f := range change {
		f(&options)
	}
	fleet, err := edgesim.NewFleet(edgesim.FleetOptions{Count: count, Prefix: c.env.Name("edge"), Node: options})
	if err != nil {
		t.Fatal(err)
	}
	RunUntilCleanup(t, fleet.Run)
	t.Cleanup(func() {
		for _, v := range fleet.Violations() {
			if wantedAgain(v) {
				continue
			}
			t.Errorf("an edge saw a violation: %v", v)
			for _, n := range fleet.Nodes() {
				for _, p := range n.PushesOf(v.Resource) {
					t.Logf("%s %s: push %d, session %d, %s version %s message %s", n.Name(), p.At.Format("15:04:05.000"), p.Seq, p.Session, p.Operation, p.Version, p.MsgID)
				}
			}
		}
		for _, n := range fleet.Nodes() {
			c.env.deleteNode(t, n.Name())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	if err := fleet.WaitReady(ctx); err != nil {
		t.Fatalf("edges are not ready: %v, %+v", err, fleet.Status())
	}
	return fleet
}

// Node starts one edge with its own options, without waiting for it. It ends with t.
func (c *Cloudcore) Node(t testing.TB, o edgesim.Options) *edgesim.Node {
	t.Helper()
	n, err := edgesim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	RunUntilCleanup(t, n.Run)
	return n
}

// RunUntilCleanup runs a blocking function until t ends, and waits for it.
func RunUntilCleanup(t testing.TB, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("an edge ended: %v", err)
		}
	})
}

// deleteNode removes a Node, so that nothing of a test concerns those after it.
func (e *Environment) deleteNode(t testing.TB, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
	defer cancel()
	if err := e.Client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("delete node %s: %v", name, err)
	}
}

// wantedAgain says that v is no fault of the cloud: a ConfigMap or Secret is taken from a node with the last pod that uses
// it, and given again, with the same UID, to the next.
func wantedAgain(v edgesim.Violation) bool {
	return v.Kind == edgesim.Resurrection &&
		(strings.Contains(v.Resource, "/configmap/") || strings.Contains(v.Resource, "/secret/"))
}
