package edgesim

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func readyNode(t *testing.T, c *fakeCloud, o Options) *Node {
	t.Helper()
	n := c.start(o)
	if err := n.WaitReady(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	return n
}

// give makes a pod exist and pushes it.
func (c *fakeCloud) give(obj map[string]any, operation string) *message.Message {
	c.t.Helper()
	md := obj["metadata"].(map[string]any)
	name := md["name"].(string)
	c.put("pod", "default", name, obj)
	m := push(operation, "default/pod/"+name, version(obj), obj)
	c.link().send(m)
	return m
}

func (c *fakeCloud) count(operation string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.arrivals[operation])
}

func podVolumes(pod map[string]any, volumes ...any) map[string]any {
	pod["spec"].(map[string]any)["volumes"] = volumes
	return pod
}

func configMapVolume(name string, optional bool) any {
	return map[string]any{"name": name, "configMap": map[string]any{"name": name, "optional": optional}}
}

func TestRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := c.options("edge-1")
		o.Labels = map[string]string{"zone": "a"}
		n := readyNode(t, c, o)
		c.mu.Lock()
		node := c.objects["node/null/edge-1"]
		lease := c.objects["lease/kube-node-lease/edge-1"]
		c.mu.Unlock()
		var obj corev1.Node
		if err := json.Unmarshal(mustMarshal(node), &obj); err != nil {
			t.Fatal(err)
		}
		if _, ok := obj.Labels["node-role.kubernetes.io/edge"]; !ok || obj.Labels["zone"] != "a" {
			t.Errorf("labels are %v", obj.Labels)
		}
		for _, cond := range obj.Status.Conditions {
			if cond.Type == corev1.NodeReady && (cond.Status != corev1.ConditionTrue || cond.Reason != "EdgeReady") {
				t.Errorf("condition is %+v", cond)
			}
		}
		owner := lease["metadata"].(map[string]any)["ownerReferences"].([]any)[0].(map[string]any)
		if owner["uid"] != string(obj.UID) || owner["kind"] != "Node" {
			t.Errorf("lease is owned by %v", owner)
		}
		// A lease each 10 s (and a little), a node status each 5 min.
		before, patches := n.Counters().Leases, c.count("patch")
		time.Sleep(11 * time.Minute)
		if renewed := n.Counters().Leases - before; renewed < 63 || renewed > 67 {
			t.Errorf("renewed %d times in 11 min", renewed)
		}
		if reported := c.count("patch") - patches; reported != 2 {
			t.Errorf("reported %d times in 11 min, want 2", reported)
		}
		if k := n.Counters(); k.LeaseErrors != 0 || k.PatchErrors != 0 || k.Violations != 0 {
			t.Errorf("counters %+v", k)
		}
	})
}

func TestLeaseConflictAndLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.mu.Lock()
		c.objects["lease/kube-node-lease/edge-1"]["metadata"].(map[string]any)["resourceVersion"] = "9999"
		c.mu.Unlock()
		before := n.Counters().Leases
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Counters().Leases > before+1 }); err != nil {
			t.Fatal(err)
		}
		if k := n.Counters(); k.LeaseErrors != 1 {
			t.Errorf("%d errors, want one conflict", k.LeaseErrors)
		}
		c.mu.Lock()
		delete(c.objects, "lease/kube-node-lease/edge-1")
		c.mu.Unlock()
		before = n.Counters().Leases
		if err := n.Wait(within(t, 30*time.Second), func(s State) bool { return s.Counters().Leases > before+1 }); err != nil {
			t.Fatal("the lease did not come back:", err)
		}
	})
}

func TestLostLinkAndLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.mu.Lock()
		c.answers = false
		c.mu.Unlock()
		l := c.link()
		m := l.expect(t, "lease update", func(m *message.Message) bool { return m.Route.Operation == "update" })
		if err := n.Wait(within(t, 2*time.Minute), func(s State) bool { return s.Counters().Timeouts == 1 }); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.answers = true
		c.mu.Unlock()
		l.send(reply(m, mustMarshal(map[string]any{"Object": map[string]any{}, "Err": nil}), ""))
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Counters().LateAnswers == 1 }); err != nil {
			t.Fatal(err)
		}
		before := n.Counters().Leases
		if err := n.Wait(within(t, 2*time.Minute), func(s State) bool { return s.Counters().Leases > before }); err != nil {
			t.Fatal("the lease is not renewed after a lost answer:", err)
		}
	})
}

func TestNodeStatusIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.mu.Lock()
		obj := c.objects["node/null/edge-1"]
		for _, item := range obj["status"].(map[string]any)["conditions"].([]any) {
			if cond := item.(map[string]any); cond["type"] == "Ready" {
				cond["status"], cond["reason"] = "Unknown", "NodeStatusUnknown"
			}
		}
		c.version++
		obj["metadata"].(map[string]any)["resourceVersion"] = "5000"
		obj["kind"], obj["apiVersion"] = "Node", "v1"
		m := push("update", "null/node/edge-1", "5000", obj)
		c.mu.Unlock()
		c.link().send(m)
		before := n.Counters().NodePatches
		if err := n.Wait(within(t, 15*time.Second), func(s State) bool { return s.Counters().NodePatches > before }); err != nil {
			t.Fatal(err)
		}
		row := n.Store()["null/node/edge-1"]
		if !strings.Contains(string(row.Value), `"EdgeReady"`) || parseMeta(row.Value).Kind != "Node" {
			t.Errorf("the row after the repair is %s", row.Value)
		}
	})
}

func TestExistingNode(t *testing.T) {
	for _, tc := range []struct {
		name      string
		namespace string
	}{{"current edge waits for the push", "null"}, {"old edge asks", "default"}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeCloud(t)
				obj := object("Node", "", "edge-1", "node-uid", "50")
				c.put("node", tc.namespace, "edge-1", obj)
				o := c.options("edge-1")
				o.NodeNamespace = tc.namespace
				n := c.start(o)
				if tc.namespace == "null" {
					if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Counters().Requests > 5 }); err != nil {
						t.Fatal("the registration is not repeated:", err)
					}
					m := push("update", "null/node/edge-1", "50", obj)
					c.link().send(m)
					c.link().answerTo(t, m.Header.ID)
				}
				if err := n.WaitReady(within(t, 30*time.Second)); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestPodWaitsForWhatItRefersTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.give(podVolumes(podObject("edge-1", "web", "u1", "50"), configMapVolume("need", false), configMapVolume("nice", true)), "insert")
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Counters().FetchErrors >= 3 }); err != nil {
			t.Fatal(err)
		}
		status := c.object("pod/default/web")["status"].(map[string]any)
		if status["phase"] != "Pending" || status["startTime"] == nil {
			t.Errorf("status of a waiting pod is %v", status)
		}
		c.put("configmap", "default", "need", object("ConfigMap", "default", "need", "cu", "60"))
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
		if row, ok := n.Store()["default/configmap/need"]; !ok || row.Version != "60" {
			t.Errorf("the fetched row is %+v", row)
		}
		var pod corev1.Pod
		if err := json.Unmarshal(mustMarshal(c.object("pod/default/web")), &pod); err != nil {
			t.Fatal(err)
		}
		s := pod.Status
		if s.Phase != corev1.PodRunning || s.PodIP == "" || len(s.ContainerStatuses) != 1 || !s.ContainerStatuses[0].Ready || len(s.Conditions) != 5 {
			t.Errorf("running status is %+v", s)
		}
		// A second pod finds the row and asks only for what is missing.
		before := c.count("query")
		c.give(podVolumes(podObject("edge-1", "web2", "u2", "70"), configMapVolume("need", false)), "insert")
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web2"); err != nil {
			t.Fatal(err)
		}
		if asked := c.count("query") - before; asked != 0 {
			t.Errorf("asked %d times for what is in the store", asked)
		}
	})
}

// object returns a copy of an object's JSON tree.
func (c *fakeCloud) object(key string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return decodeMap(c.t, mustMarshal(c.objects[key]))
}

func TestTokens(t *testing.T) {
	projected := func() any {
		return map[string]any{"name": "api", "projected": map[string]any{"sources": []any{
			map[string]any{"serviceAccountToken": map[string]any{"path": "token", "expirationSeconds": 3607}},
		}}}
	}
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.give(podVolumes(podObject("edge-1", "web", "u1", "50"), projected()), "insert")
		m := c.link().expect(t, "token request", func(m *message.Message) bool {
			return strings.HasSuffix(m.Route.Resource, "/serviceaccounttoken/default")
		})
		spec := decodeMap(t, m.Content)["spec"].(map[string]any)
		if ref := spec["boundObjectRef"].(map[string]any); ref["uid"] != "u1" || ref["name"] != "web" || spec["expirationSeconds"] != float64(3607) {
			t.Errorf("token request is %v", spec)
		}
		token := object("TokenRequest", "default", "default", "", "")
		token["status"] = map[string]any{"token": "t"}
		c.put("serviceaccounttoken", "default", "default", token)
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := c.options("edge-1")
		o.SkipTokens = true
		n := readyNode(t, c, o)
		c.give(podVolumes(podObject("edge-1", "web", "u1", "50"), projected()), "insert")
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestGracefulPodDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.give(podObject("edge-1", "web", "u1", "50"), "insert")
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
		obj := c.object("pod/default/web")
		obj["kind"], obj["apiVersion"] = "Pod", "v1"
		md := obj["metadata"].(map[string]any)
		md["deletionTimestamp"], md["deletionGracePeriodSeconds"], md["resourceVersion"] = "2026-01-01T00:00:00Z", 30, "500"
		c.mu.Lock()
		c.version = 500
		c.mu.Unlock()
		c.give(obj, "update")
		m := c.link().expect(t, "pod delete", func(m *message.Message) bool {
			return m.Route.Operation == "delete" && m.Route.Resource == "default/pod/web"
		})
		if got := string(m.Content); got != `{"gracePeriodSeconds":0,"preconditions":{"uid":"u1"}}` {
			t.Errorf("delete options are %s", got)
		}
		row := n.Store()["default/pod/web"]
		if !strings.Contains(string(row.Value), `"phase":"Failed"`) {
			t.Errorf("the delete came before the final status was confirmed: %s", row.Value)
		}
		d := push("delete", "default/pod/web", "502", object("Pod", "default", "web", "u1", "502"))
		d.Content = mustMarshal(obj)
		c.link().send(d)
		if err := n.WaitGone(within(t, time.Minute), "default/pod/web"); err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.RunningPods() == 0 }); err != nil {
			t.Fatal(err)
		}
		if k := n.Counters(); k.PodDeletes != 1 || k.Violations != 0 {
			t.Errorf("counters %+v, violations %v", k, n.Violations())
		}
		times := n.PodTimes()
		if len(times) != 1 || times[0].Deleted.IsZero() || times[0].Running.Before(times[0].Arrived) {
			t.Errorf("times are %+v", times)
		}
	})
}

func TestForcedDeletionAndRecreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		running := func(want int) {
			t.Helper()
			if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.RunningPods() == want }); err != nil {
				t.Fatalf("%d pods: %v", want, err)
			}
		}
		c.give(podObject("edge-1", "web", "u1", "50"), "insert")
		c.give(podObject("edge-1", "db", "u2", "51"), "insert")
		running(2)
		// A stub of name and UID is all the cloud has of a pod deleted while the edge was away.
		c.link().send(push("delete", "default/pod/web", "", map[string]any{"metadata": map[string]any{"name": "web", "namespace": "default", "uid": "u1"}}))
		running(1)
		c.give(podObject("edge-1", "web", "u3", "60"), "insert")
		running(2)
		// The delete of the old UID comes late: it must not hit the new pod.
		c.link().send(push("delete", "default/pod/web", "", map[string]any{"metadata": map[string]any{"name": "web", "namespace": "default", "uid": "u1"}}))
		m := configMap("x", "1")
		c.link().send(m)
		c.link().answerTo(t, m.Header.ID)
		running(2)
		if n.Store()["default/pod/web"].UID != "u3" {
			t.Error("the row of the new pod is gone")
		}
	})
}

func TestRestartWithAndWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.give(podObject("edge-1", "web", "u1", "50"), "insert")
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
		patches := n.Counters().PodPatches
		if err := n.Restart(t.Context(), CutClose, false); err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Session() == 2 && s.Ready() && s.RunningPods() == 1 }); err != nil {
			t.Fatal(err)
		}
		if k := n.Counters(); k.PodPatches != patches {
			t.Errorf("a pod that went on was reported %d times", k.PodPatches-patches)
		}
		if err := n.Restart(t.Context(), CutClose, true); err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(within(t, time.Minute), func(s State) bool { return s.Session() == 3 && s.Counters().Answers > 0 }); err != nil {
			t.Fatal(err)
		}
		if _, ok := n.Store()["default/pod/web"]; ok {
			t.Error("the store was not wiped")
		}
		obj := c.object("node/null/edge-1")
		obj["kind"], obj["apiVersion"] = "Node", "v1"
		c.link().send(push("update", "null/node/edge-1", version(obj), obj))
		if err := n.WaitReady(within(t, 30*time.Second)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOutsideChangeOfPodStatusIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		n := readyNode(t, c, c.options("edge-1"))
		c.give(podObject("edge-1", "web", "u1", "50"), "insert")
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
		obj := c.object("pod/default/web")
		obj["kind"], obj["apiVersion"] = "Pod", "v1"
		for _, item := range obj["status"].(map[string]any)["conditions"].([]any) {
			if cond := item.(map[string]any); cond["type"] == "Ready" {
				cond["status"] = "False"
			}
		}
		obj["status"].(map[string]any)["conditions"] = append(obj["status"].(map[string]any)["conditions"].([]any),
			map[string]any{"type": "example.com/other", "status": "True"})
		obj["metadata"].(map[string]any)["resourceVersion"] = "700"
		c.mu.Lock()
		c.version = 700
		c.mu.Unlock()
		before := n.Counters().PodPatches
		c.give(obj, "update")
		if err := n.Wait(within(t, 15*time.Second), func(s State) bool { return s.Counters().PodPatches == before+1 }); err != nil {
			t.Fatal(err)
		}
		for _, item := range c.object("pod/default/web")["status"].(map[string]any)["conditions"].([]any) {
			if cond := item.(map[string]any); cond["status"] != "True" {
				t.Errorf("condition after the repair: %v", cond)
			}
		}
		time.Sleep(5 * time.Minute)
		if now := n.Counters().PodPatches; now != before+1 {
			t.Errorf("%d more patches without any change", now-before-1)
		}
	})
}

func TestNoPodStatusFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := c.options("edge-1")
		o.Faults = Faults{NoPodStatus: true}
		n := readyNode(t, c, o)
		patches := c.count("patch")
		c.give(podObject("edge-1", "web", "u1", "50"), "insert")
		time.Sleep(time.Minute)
		if sent := c.count("patch") - patches; sent != 0 {
			t.Errorf("%d patches in spite of the fault", sent)
		}
		n.SetFaults(Faults{})
		if err := n.WaitPodRunning(within(t, time.Minute), "default", "web"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEventsClockAndCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCloud(t)
		o := c.options("edge-1")
		o.Events, o.FetchCA = true, true
		o.Faults = Faults{ClockSkew: time.Hour}
		n := readyNode(t, c, o)
		l := c.link()
		ask := l.expect(t, "CA query", func(m *message.Message) bool { return m.Route.Resource == "k8s/ca.crt" })
		if ask.Route.Source != "metamanager" || ask.Route.Group != "meta" || ask.Route.Operation != "query" {
			t.Errorf("CA query has route %+v", ask.Route)
		}
		if skew := time.UnixMilli(ask.Header.Timestamp).Sub(time.Now()); skew < 59*time.Minute {
			t.Errorf("a clock an hour ahead shows %s", skew)
		}
		answer := message.Reply(ask, "cloudhub", message.Text("PEM"))
		l.send(answer)
		l.answerTo(t, answer.Header.ID)
		if got := string(n.Store()["k8s/ca.crt"].Value); got != "PEM" {
			t.Errorf("stored CA is %q", got)
		}
		c.give(podObject("edge-1", "web", "u1", "50"), "insert")
		event := l.expect(t, "event", func(m *message.Message) bool { return strings.Contains(m.Route.Resource, "/event/web.") })
		if event.Route.Operation != "insert" || decodeMap(t, event.Content)["reason"] != "Started" {
			t.Errorf("event is %+v %s", event.Route, event.Content)
		}
		if v := n.Violations(); len(v) != 0 {
			t.Errorf("violations %v", v)
		}
	})
}

func TestReferences(t *testing.T) {
	yes, no := true, false
	name := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	spec := &corev1.PodSpec{
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("v"), Optional: &yes}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vs"}}},
			{VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{Name: "csi"}}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name("p")}}, {Secret: &corev1.SecretProjection{LocalObjectReference: name("ps")}},
			}}}},
		},
		InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name("init")}}}}},
		Containers: []corev1.Container{{Env: []corev1.EnvVar{
			{Name: "PLAIN", Value: "x"},
			{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name("v"), Optional: &no}}},
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name("env")}}},
		}, EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("from"), Optional: &yes}}}}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("eph")}}},
		}}},
		ImagePullSecrets: []corev1.LocalObjectReference{name("pull"), name("")},
	}
	want := map[reference]bool{
		{"configmap", "v", false}: true, {"secret", "vs", false}: true, {"secret", "csi", false}: true, {"configmap", "p", false}: true,
		{"secret", "ps", false}: true, {"secret", "init", false}: true, {"secret", "env", false}: true, {"configmap", "from", true}: true,
		{"configmap", "eph", false}: true, {"secret", "pull", true}: true,
	}
	got := references(spec)
	for _, r := range got {
		if !want[r] {
			t.Errorf("unexpected %+v", r)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d references, want %d", len(got), len(want))
	}
}
