package upstream

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestLegacyNodeStatus has the rules of spec 04 §3.2 for reports of EdgeCore 1.11 and older.
func TestLegacyNodeStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := edgeNode("edge-1")
		n.Annotations = map[string]string{"kept": "x"}
		n.Status.VolumesAttached = []corev1.AttachedVolume{{Name: "v"}}
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10351
		n.Status.Phase = "Old"
		b, stop := start(t, Config{}, n)
		defer stop()
		fresh := time.Now().Add(-3 * time.Second).UTC().Format(time.RFC3339)
		b.ask("edge-1", req("update", "default/nodestatus/edge-1", `{"UID":"u","Status":{"capacity":{"cpu":"8"},"volumesAttached":[{"name":"forged"}],`+
			`"daemonEndpoints":{"kubeletEndpoint":{"Port":10350}},"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"1999-01-01T00:00:00Z"},`+
			`{"type":"DiskPressure","status":"False","lastHeartbeatTime":"`+fresh+`"}]},"ExtendResources":{"nvidia.com/gpu":[{"name":"g0","type":"T4","capacity":"1"}],"example.com/x":[]}}`))
		got := get[corev1.Node](b.api, "/api/v1/nodes/edge-1")
		if got.Status.VolumesAttached[0].Name != "v" || got.Status.DaemonEndpoints.KubeletEndpoint.Port != 10351 || got.Status.Phase != "" {
			t.Errorf("status is %+v", got.Status)
		}
		if cpu := got.Status.Capacity[corev1.ResourceCPU]; cpu.Value() != 8 {
			t.Errorf("capacity is %v", got.Status.Capacity)
		}
		if c := got.Status.Conditions[0]; !c.LastHeartbeatTime.Time.Equal(time.Now()) {
			t.Errorf("an old heartbeat is %v", c.LastHeartbeatTime)
		}
		if c := got.Status.Conditions[1]; c.LastHeartbeatTime.UTC().Format(time.RFC3339) != fresh {
			t.Errorf("a fresh heartbeat is %v", c.LastHeartbeatTime)
		}
		for key, want := range map[string]string{
			"kept": "x", "example.com/x": "[]",
			"nvidia.com/gpu":        `[{"name":"g0","type":"T4","capacity":"1"}]`,
			"huawei.com/gpu-status": `[{"id":"g0","healthy":true}]`,
		} {
			if got.Annotations[key] != want {
				t.Errorf("annotation %s is %s, want %s", key, got.Annotations[key], want)
			}
		}
	})
}

// TestLegacyPodStatus has the rules of spec 04 §3.3 for reports of EdgeCore 1.11 and older.
func TestLegacyPodStatus(t *testing.T) {
	before := metav1.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	old := pod("d", "p", "e", "u")
	old.Spec.InitContainers = []corev1.Container{{Name: "z"}, {Name: "a"}}
	old.Status = corev1.PodStatus{StartTime: &before, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: before},
		{Type: corev1.PodInitialized, Status: corev1.ConditionFalse, LastTransitionTime: before},
	}}
	report := corev1.PodStatus{
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		},
		ContainerStatuses:     []corev1.ContainerStatus{{Name: "b"}, {Name: "a"}},
		InitContainerStatuses: []corev1.ContainerStatus{{Name: "a"}, {Name: "z"}},
	}
	next := normalised(&report, old)
	now := time.Now()
	if c := next.Conditions; !c[0].LastTransitionTime.Equal(&before) || now.Sub(c[1].LastTransitionTime.Time) > time.Minute || !c[2].LastTransitionTime.IsZero() {
		t.Errorf("conditions are %+v", c)
	}
	if next.Conditions[1].LastTransitionTime.Nanosecond() != 0 {
		t.Errorf("times are finer than a second: %v", next.Conditions[1].LastTransitionTime)
	}
	if next.StartTime != &before && !next.StartTime.Equal(&before) {
		t.Errorf("start time is %v", next.StartTime)
	}
	if next.ContainerStatuses[0].Name != "a" || next.InitContainerStatuses[0].Name != "z" {
		t.Errorf("order is %v and %v", next.ContainerStatuses, next.InitContainerStatuses)
	}
	if next := normalised(&report, pod("d", "p", "e", "u")); next.StartTime == nil || now.Sub(next.StartTime.Time) > time.Minute {
		t.Errorf("first start time is %v", next.StartTime)
	}
	if report.ContainerStatuses[0].Name != "b" {
		t.Error("the report was changed")
	}

	for name, tc := range map[string]struct {
		status corev1.PodStatus
		want   bool
	}{
		"running":                     {corev1.PodStatus{Phase: corev1.PodRunning}, false},
		"failed":                      {corev1.PodStatus{Phase: corev1.PodFailed}, true},
		"succeeded but one runs":      {corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}, false},
		"succeeded, all have stopped": {corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{}}}, true},
	} {
		if got := ended(&tc.status); got != tc.want {
			t.Errorf("%s: ended is %v", name, got)
		}
	}
}

func TestReservedLabels(t *testing.T) {
	for key, want := range map[string]bool{
		"kubernetes.io/hostname": true, "node-role.kubernetes.io/edge": true, "beta.kubernetes.io/os": true, "topology.kubernetes.io/zone": true,
		"hostname": false, "example.com/kubernetes.io": false, "notkubernetes.io/x": false, "kubernetes.io/a/b": false, "kubernetes.io": false,
	} {
		if got := reservedLabel(key); got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
}
