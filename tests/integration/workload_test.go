package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

const (
	// stepLimit bounds a step that takes well below a second on an idle machine.
	stepLimit = 30 * time.Second
	// compareEvery is the pause between two comparisons of stores with kube-apiserver.
	compareEvery = 100 * time.Millisecond

	configName, secretName = "settings", "credentials"
)

// plainPod refers to nothing but what admission adds.
func plainPod(namespace, name, node string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "test"}},
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}},
		},
	}
}

// configuredPod uses a ConfigMap as environment and as a volume, and a Secret as a volume.
func configuredPod(namespace, name, node string) *corev1.Pod {
	p := plainPod(namespace, name, node)
	p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{
		ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: configName}},
	}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "config", MountPath: "/etc/config"}, {Name: "secret", MountPath: "/etc/secret"},
	}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: configName},
		}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secretName}}},
	}
	return p
}

// createConfig makes what configuredPod refers to.
func createConfig(ctx context.Context, t *testing.T, namespace string) {
	t.Helper()
	_, err := env.Client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: configName}, Data: map[string]string{"level": "1"},
	}, metav1.CreateOptions{})
	must(t, err, "create ConfigMap")
	_, err = env.Client.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secretName}, Data: map[string][]byte{"password": []byte("first")},
	}, metav1.CreateOptions{})
	must(t, err, "create Secret")
}

func createPod(ctx context.Context, t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := env.Client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	must(t, err, "create pod "+p.Name)
	return created
}

// deletePod deletes a pod with a grace period; 0 forces it out of kube-apiserver at once.
func deletePod(ctx context.Context, t *testing.T, namespace, name string, grace int64) {
	t.Helper()
	err := env.Client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatalf("delete pod %s: %v", name, err)
	}
}

// annotate changes a pod in a way that its node must be told.
func annotate(ctx context.Context, t *testing.T, namespace, name, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"test/step":%q}}}`, value)
	_, err := env.Client.CoreV1().Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	must(t, err, "annotate pod "+name)
}

func podRow(namespace, name string) string { return namespace + "/pod/" + name }

// annotated says whether a row is a pod with that value.
func annotated(value string) func(edgesim.Row) bool {
	return func(r edgesim.Row) bool {
		var p corev1.Pod
		return r.Decode(&p) == nil && p.Annotations["test/step"] == value
	}
}

// waitRunning waits until a pod runs, in the eyes of its node and of kube-apiserver.
func waitRunning(t *testing.T, n *edgesim.Node, namespace, name string) {
	t.Helper()
	ctx := within(t, stepLimit)
	must(t, n.WaitPodRunning(ctx, namespace, name), "wait for pod "+name+" on "+n.Name())
	err := env.WaitPod(ctx, namespace, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	must(t, err, "wait for pod "+name+" in kube-apiserver")
}

// waitEqual waits until all stores are what kube-apiserver says, and the records what the stores say.
func waitEqual(t *testing.T, fleet *edgesim.Fleet, records *harness.Records, when string) {
	t.Helper()
	must(t, fleet.WaitEqual(within(t, stepLimit), env.Client, compareEvery), "stores "+when)
	err := records.Wait(within(t, stepLimit), func() error { return records.Match(fleet.Nodes()...) })
	must(t, err, "records "+when)
}

// waitNoPods waits until kube-apiserver has no pod in a namespace.
func waitNoPods(t *testing.T, namespace string) {
	t.Helper()
	must(t, env.WaitNoPods(within(t, stepLimit), namespace), "wait until all pods are gone")
}

// noDuplicates checks that no node got an object that it had. Nodes themselves don't count: a push of one that may have
// overtaken the reply to the node's own patch is repeated on purpose, because the edge may process them in any order. Nor
// do pushes that cross the answer to the node's own query of the same object (echoes).
func noDuplicates(t *testing.T, fleet *edgesim.Fleet) {
	t.Helper()
	for _, n := range fleet.Nodes() {
		for _, p := range n.Pushes() {
			if (p.Duplicate || p.Resend) && !strings.Contains(p.Resource, "/node/") {
				t.Errorf("%s got what it had: %s", n.Name(), describe(p))
				for _, other := range n.PushesOf(p.Resource) {
					t.Logf("%s: %s", other.At.Format("15:04:05.000"), describe(other))
				}
			}
		}
	}
}

func describe(p edgesim.Push) string {
	var marks []string
	for _, m := range []struct {
		set  bool
		name string
	}{{p.Duplicate, "duplicate"}, {p.Resend, "resend"}, {p.Echo, "echo"}} {
		if m.set {
			marks = append(marks, m.name)
		}
	}
	return fmt.Sprintf("push %d in session %d: %s %s version %s %s", p.Seq, p.Session, p.Operation, p.Resource, p.Version, strings.Join(marks, ","))
}

// killed is how the connections of a killed edge end.
const killed = edgesim.CutClose

func terminating(r edgesim.Row) bool {
	var p corev1.Pod
	return r.Decode(&p) == nil && p.DeletionTimestamp != nil
}

// podPushes counts the remembered pushes of objects but Nodes, which change with every report of their status.
func podPushes(fleet *edgesim.Fleet) int {
	pushes := 0
	for _, n := range fleet.Nodes() {
		for _, p := range n.Pushes() {
			if !strings.Contains(p.Resource, "/node/") {
				pushes++
			}
		}
	}
	return pushes
}

// versions counts the different versions of a resource that were pushed to a node after a push.
func versions(n *edgesim.Node, resource string, after uint64) int {
	seen := make(map[string]bool)
	for _, p := range n.PushesOf(resource) {
		if p.Seq > after {
			seen[p.Version] = true
		}
	}
	return len(seen)
}
