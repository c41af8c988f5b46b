package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

// The life of pods with what they refer to: after each step the stores of the nodes are what kube-apiserver says, the
// records are what the stores say, and nothing was pushed twice.
func TestPodLifecycle(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	records := env.Records(t)
	fleet := cloud.Fleet(t, 2)
	namespace := env.Namespace(t, "lifecycle")
	ctx := within(t, 3*time.Minute)

	createConfig(ctx, t, namespace)
	const perNode = 2
	name := func(node, i int) string { return fmt.Sprintf("app-%d-%d", node, i) }
	for i, n := range fleet.Nodes() {
		for j := range perNode {
			createPod(ctx, t, configuredPod(namespace, name(i, j), n.Name()))
		}
	}
	for i, n := range fleet.Nodes() {
		for j := range perNode {
			waitRunning(t, n, namespace, name(i, j))
		}
	}
	waitEqual(t, fleet, records, "after creation")

	configs := env.Client.CoreV1().ConfigMaps(namespace)
	config, err := configs.Get(ctx, configName, metav1.GetOptions{})
	must(t, err, "get ConfigMap")
	config.Data["level"] = "2"
	config, err = configs.Update(ctx, config, metav1.UpdateOptions{})
	must(t, err, "update ConfigMap")
	secrets := env.Client.CoreV1().Secrets(namespace)
	secret, err := secrets.Get(ctx, secretName, metav1.GetOptions{})
	must(t, err, "get Secret")
	secret.Data["password"] = []byte("second")
	secret, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	must(t, err, "update Secret")
	waitEqual(t, fleet, records, "after updates of ConfigMap and Secret")
	for _, n := range fleet.Nodes() {
		store := n.Store()
		if got := store[namespace+"/configmap/"+configName].Version; got != config.ResourceVersion {
			t.Errorf("%s holds version %q of the ConfigMap, want %s", n.Name(), got, config.ResourceVersion)
		}
		if got := store[namespace+"/secret/"+secretName].Version; got != secret.ResourceVersion {
			t.Errorf("%s holds version %q of the Secret, want %s", n.Name(), got, secret.ResourceVersion)
		}
	}

	first := fleet.Nodes()[0]
	annotate(ctx, t, namespace, name(0, 0), "changed")
	must(t, first.WaitRow(ctx, podRow(namespace, name(0, 0)), annotated("changed")), "wait for the change of a pod")
	waitEqual(t, fleet, records, "after the update of a pod")

	deletePod(ctx, t, namespace, name(0, 0), 1)
	must(t, first.WaitGone(ctx, podRow(namespace, name(0, 0))), "wait until the deleted pod has left its node")
	waitEqual(t, fleet, records, "after a graceful deletion")

	deletePod(ctx, t, namespace, name(0, 1), 0)
	must(t, first.WaitGone(ctx, podRow(namespace, name(0, 1))), "wait until the pod deleted by force has left its node")
	waitEqual(t, fleet, records, "after a deletion by force")

	for j := range perNode {
		deletePod(ctx, t, namespace, name(1, j), 1)
	}
	waitNoPods(t, namespace)
	must(t, configs.Delete(ctx, configName, metav1.DeleteOptions{}), "delete ConfigMap")
	must(t, secrets.Delete(ctx, secretName, metav1.DeleteOptions{}), "delete Secret")
	waitEqual(t, fleet, records, "after the deletion of everything")
	noDuplicates(t, fleet)
}

// A pod that is deleted with a grace period stays in kube-apiserver while its containers end.
func TestGracePeriodIsHonoured(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	fleet := cloud.Fleet(t, 1)
	node := fleet.Nodes()[0]
	namespace := env.Namespace(t, "grace")
	ctx := within(t, time.Minute)
	createPod(ctx, t, plainPod(namespace, "slow", node.Name()))
	waitRunning(t, node, namespace, "slow")

	faults := node.Faults()
	faults.NoPodStatus = true // its containers do not end
	node.SetFaults(faults)
	deletePod(ctx, t, namespace, "slow", 30)
	row := podRow(namespace, "slow")
	must(t, node.WaitRow(ctx, row, terminating), "wait until the node knows that the pod must end")
	held, err := env.Client.CoreV1().Pods(namespace).Get(ctx, "slow", metav1.GetOptions{})
	must(t, err, "get the terminating pod")
	if held.DeletionTimestamp == nil || held.DeletionGracePeriodSeconds == nil || *held.DeletionGracePeriodSeconds != 30 {
		t.Errorf("pod has deletion time %v and grace %v, want 30 s", held.DeletionTimestamp, held.DeletionGracePeriodSeconds)
	}

	faults.NoPodStatus = false
	node.SetFaults(faults)
	must(t, node.WaitGone(ctx, row), "wait until the pod has left the node")
	waitNoPods(t, namespace)
}

// After a restart of cloudcore with everything delivered, nothing is sent again.
func TestRestartSendsNothingAgain(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	records := env.Records(t)
	fleet := cloud.Fleet(t, 3)
	namespace := env.Namespace(t, "restart")
	ctx := within(t, 2*time.Minute)
	createConfig(ctx, t, namespace)
	for i, n := range fleet.Nodes() {
		createPod(ctx, t, configuredPod(namespace, fmt.Sprintf("app-%d", i), n.Name()))
	}
	for i, n := range fleet.Nodes() {
		waitRunning(t, n, namespace, fmt.Sprintf("app-%d", i))
	}
	waitEqual(t, fleet, records, "before the restart")

	for _, end := range []struct {
		name string
		do   func(context.Context) error
	}{{"SIGTERM", cloud.Stop}, {"SIGKILL", cloud.Kill}} {
		sessions, pushes := fleet.Sessions(), podPushes(fleet)
		must(t, end.do(ctx), end.name)
		must(t, cloud.Start(ctx), "start again")
		fleet.Reconnect()
		must(t, fleet.WaitSessions(ctx, sessions), "wait for the sessions after "+end.name)
		// One more change for each node: once it has come, everything that was to be sent before has come too.
		for i, n := range fleet.Nodes() {
			name := fmt.Sprintf("app-%d", i)
			annotate(ctx, t, namespace, name, end.name)
			must(t, n.WaitRow(ctx, podRow(namespace, name), annotated(end.name)), "wait for a change after "+end.name)
		}
		waitEqual(t, fleet, records, "after "+end.name)
		if got, want := podPushes(fleet)-pushes, len(fleet.Nodes()); got != want {
			t.Errorf("nodes got %d objects after %s, want the %d changes alone", got, end.name, want)
		}
	}
	noDuplicates(t, fleet)
}

// A node that lost its store gets everything again once it is registered anew.
func TestWipedNodeGetsEverything(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	records := env.Records(t)
	fleet := cloud.Fleet(t, 1)
	node := fleet.Nodes()[0]
	namespace := env.Namespace(t, "wiped")
	ctx := within(t, 2*time.Minute)
	createConfig(ctx, t, namespace)
	createPod(ctx, t, configuredPod(namespace, "app", node.Name()))
	createPod(ctx, t, plainPod(namespace, "plain", node.Name()))
	waitRunning(t, node, namespace, "app")
	waitRunning(t, node, namespace, "plain")
	waitEqual(t, fleet, records, "before the loss")

	must(t, node.Kill(ctx, killed), "kill the edge")
	node.WipeStore()
	must(t, env.Client.CoreV1().Nodes().Delete(ctx, node.Name(), metav1.DeleteOptions{}), "delete the node")
	gone := records.Wait(ctx, func() error {
		if left := records.Of(node.Name()); len(left) > 0 {
			return fmt.Errorf("%d records are left", len(left))
		}
		return nil
	})
	must(t, gone, "wait until the records of the node are gone")
	node.Start()
	must(t, node.WaitReady(ctx), "wait for the node")
	waitRunning(t, node, namespace, "app")
	waitEqual(t, fleet, records, "after the loss")
}

// A node that was away while pods changed gets the final states alone.
func TestReturningNodeGetsFinalStates(t *testing.T) {
	cloud := env.Cloudcore(t, harness.Options{})
	records := env.Records(t)
	fleet := cloud.Fleet(t, 1)
	node := fleet.Nodes()[0]
	namespace := env.Namespace(t, "away")
	ctx := within(t, 2*time.Minute)
	for _, name := range []string{"stays", "changes", "goes", "replaced"} {
		createPod(ctx, t, plainPod(namespace, name, node.Name()))
		waitRunning(t, node, namespace, name)
	}
	waitEqual(t, fleet, records, "before the edge was killed")

	must(t, node.Kill(ctx, killed), "kill the edge")
	seen := node.Counters().Pushes
	for i := range 10 {
		annotate(ctx, t, namespace, "changes", fmt.Sprint(i))
	}
	createPod(ctx, t, plainPod(namespace, "passes", node.Name()))
	deletePod(ctx, t, namespace, "passes", 0)
	deletePod(ctx, t, namespace, "goes", 0)
	deletePod(ctx, t, namespace, "replaced", 0)
	replaced := createPod(ctx, t, plainPod(namespace, "replaced", node.Name()))
	node.Start()
	must(t, node.WaitRow(ctx, podRow(namespace, "changes"), annotated("9")), "wait for the changed pod")
	must(t, node.WaitGone(ctx, podRow(namespace, "goes")), "wait for the deletion")
	waitRunning(t, node, namespace, "replaced")
	waitEqual(t, fleet, records, "after the return")

	for _, p := range node.Pushes() {
		if p.Seq <= seen {
			continue
		}
		switch p.Resource {
		case podRow(namespace, "stays"):
			if !p.Echo { // the status that the edge reports at its start is a new version
				t.Errorf("unchanged pod was pushed: %s", describe(p))
			}
		case podRow(namespace, "passes"):
			t.Errorf("pod that came and went was pushed: %s", describe(p))
		case podRow(namespace, "goes"):
			if p.Operation != "delete" {
				t.Errorf("deleted pod was pushed: %s", describe(p))
			}
		}
	}
	if got := versions(node, podRow(namespace, "changes"), seen); got != 1 {
		t.Errorf("the pod that changed ten times was pushed %d times, want once", got)
	}
	if got := node.Store()[podRow(namespace, "replaced")].UID; got != string(replaced.UID) {
		t.Errorf("node holds UID %q of the replaced pod, want %s", got, replaced.UID)
	}
}
