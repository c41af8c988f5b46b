package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

// Of two connections of one node the newer wins: the older is closed, and what changes reaches the newer.
func TestNewestConnectionWins(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	fleet := cloud.Fleet(t, 1)
	node := fleet.Nodes()[0]
	namespace := env.Namespace(t, "newest")
	ctx := within(t, 2*time.Minute)
	createPod(ctx, t, plainPod(namespace, "app", node.Name()))
	waitRunning(t, node, namespace, "app")
	must(t, node.Kill(ctx, killed), "stop the edge, whose identity the connections of this test use")

	const rounds = 20
	older := dialHub(ctx, t, cloud, node)
	for i := range rounds {
		newer := dialHub(ctx, t, cloud, node)
		must(t, older.waitClosed(ctx), fmt.Sprintf("round %d: wait until the older connection is closed", i))
		value := fmt.Sprint(i)
		annotate(ctx, t, namespace, "app", value)
		must(t, newer.waitAnnotation(ctx, podRow(namespace, "app"), value), fmt.Sprintf("round %d: wait for a change on the newer connection", i))
		older = newer
	}
	if got := cloud.Metrics(t).Sum(t, "cloudcore_hub_connected_nodes"); got != 1 {
		t.Errorf("cloudcore counts %v connected nodes, want 1", got)
	}
}

// A node beyond the limit is refused before the upgrade; one that is connected may always connect again.
func TestNodeLimit(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{NodeLimit: 1})
	fleet := cloud.Fleet(t, 1)
	ctx := within(t, time.Minute)
	o := cloud.Edge(t)
	o.Name = env.Name("beyond")
	id, err := edgesim.Join(ctx, o)
	must(t, err, "join as a second node")
	_, status, err := tryDial(ctx, cloud, id, o.Name, o.Name)
	if err == nil || status != http.StatusServiceUnavailable {
		t.Errorf("dial of a node beyond the limit: status %d, error %v, want status 503", status, err)
	}
	sessions := fleet.Sessions()
	fleet.Reconnect()
	must(t, fleet.WaitSessions(ctx, sessions), "reconnect within the limit")
}

// When a Node is deleted, its session ends and its records go; nobody else notices.
func TestNodeDeletion(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	records := env.Records(t)
	fleet := cloud.Fleet(t, 2)
	namespace := env.Namespace(t, "nodegone")
	ctx := within(t, 2*time.Minute)
	victim, other := fleet.Nodes()[0], fleet.Nodes()[1]
	for _, n := range fleet.Nodes() {
		createPod(ctx, t, plainPod(namespace, n.Name(), n.Name()))
		waitRunning(t, n, namespace, n.Name())
	}
	waitEqual(t, fleet, records, "before the deletion")
	sessions := fleet.Sessions()

	// Its own process must not register it again before the test has looked.
	must(t, victim.Kill(ctx, killed), "stop the edge")
	connection := dialHub(ctx, t, cloud, victim)
	must(t, env.Client.CoreV1().Nodes().Delete(ctx, victim.Name(), metav1.DeleteOptions{}), "delete the node")
	must(t, connection.waitClosed(ctx), "wait until the session is closed")
	err := records.Wait(within(t, 10*time.Second), func() error {
		if left := records.Of(victim.Name()); len(left) > 0 {
			return fmt.Errorf("%d records are left: %v", len(left), left)
		}
		return nil
	})
	must(t, err, "wait until the records of the deleted node are gone")

	annotate(ctx, t, namespace, other.Name(), "later")
	must(t, other.WaitRow(ctx, podRow(namespace, other.Name()), annotated("later")), "wait for a change on the other node")
	err = records.Wait(within(t, stepLimit), func() error { return records.Match(other) })
	must(t, err, "records of the other node")
	if number, connected := other.Session(); number != sessions[1] || !connected {
		t.Errorf("the other node is in session %d, connected %v, want its session %d", number, connected, sessions[1])
	}
}

// A node moves between two replicas and back while its pod changes.
func TestReplicas(t *testing.T) {
	first, second := env.Cloudcore(t, harness.Options{}), env.Cloudcore(t, harness.Options{})
	records := env.Records(t)
	ctx := within(t, 2*time.Minute)
	gate := newSwitch(first.HubPort)
	fleet := first.Fleet(t, 1, func(o *edgesim.Options) { o.Dial = gate.dial })
	node := fleet.Nodes()[0]
	namespace := env.Namespace(t, "replicas")
	createConfig(ctx, t, namespace)
	createPod(ctx, t, configuredPod(namespace, "app", node.Name()))
	waitRunning(t, node, namespace, "app")
	waitEqual(t, fleet, records, "on the first replica")

	for round := range 4 {
		to := second
		if round%2 == 1 {
			to = first
		}
		sessions := fleet.Sessions()
		annotate(ctx, t, namespace, "app", fmt.Sprint("before ", round))
		gate.to(to.HubPort)
		fleet.Reconnect()
		must(t, fleet.WaitSessions(ctx, sessions), fmt.Sprintf("round %d: wait for the session on the other replica", round))
		value := fmt.Sprint("after ", round)
		annotate(ctx, t, namespace, "app", value)
		must(t, node.WaitRow(ctx, podRow(namespace, "app"), annotated(value)), fmt.Sprintf("round %d: wait for a change", round))
		waitEqual(t, fleet, records, fmt.Sprintf("in round %d", round))
		if got := to.Metrics(t).Sum(t, "cloudcore_hub_connected_nodes"); got != 1 {
			t.Errorf("round %d: the replica counts %v connected nodes, want 1", round, got)
		}
	}
	object, err := env.Client.CoreV1().Nodes().Get(ctx, node.Name(), metav1.GetOptions{})
	must(t, err, "get the node")
	if object.Annotations["cloudcore"] == "" {
		t.Errorf("node has annotations %v, want one that names its replica", object.Annotations)
	}
}
