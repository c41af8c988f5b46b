package edgesim

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

const (
	kubeletVersion = "v1.32.10-kubeedge-v1.23.1"
	kubeletPort    = 10350
	// statusAttempts is how often a kubelet tries to report its status in one round (spec 04 §3.2).
	statusAttempts = 5
)

// nodeStatus reports the status of the Node: each patch is the difference to the row in the store (spec 04 §3.2).
type nodeStatus struct {
	k        *kubelet
	patching bool
	failures int
	reported time.Time
	next     *task
	since    metav1.Time // of the conditions
}

// initial is the Node as a kubelet registers it, not Ready yet.
func (s *nodeStatus) initial() *corev1.Node {
	o := &s.k.c.n.opts
	labels := map[string]string{
		"beta.kubernetes.io/arch":       "amd64",
		"beta.kubernetes.io/os":         "linux",
		"kubernetes.io/arch":            "amd64",
		"kubernetes.io/hostname":        o.Name,
		"kubernetes.io/os":              "linux",
		"node-role.kubernetes.io/agent": "",
		"node-role.kubernetes.io/edge":  "",
	}
	maps.Copy(labels, o.Labels)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:        o.Name,
		Labels:      labels,
		Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
	}}
	now := stamp(s.k.c.now())
	s.fill(&n.Status, now)
	setCondition(&n.Status, corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, LastHeartbeatTime: now, LastTransitionTime: now,
		Reason: "KubeletNotReady", Message: "CSINode is not yet initialized",
	})
	return n
}

// fill sets what this node reports as a Ready node. Conditions keep their heartbeat if nothing else changes.
func (s *nodeStatus) fill(st *corev1.NodeStatus, now metav1.Time) {
	o := &s.k.c.n.opts
	quantities := func() corev1.ResourceList {
		return corev1.ResourceList{
			corev1.ResourceCPU:              resource.MustParse("8"),
			corev1.ResourceMemory:           resource.MustParse("16Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
			corev1.ResourcePods:             resource.MustParse("110"),
		}
	}
	st.Capacity, st.Allocatable = quantities(), quantities()
	st.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: o.NodeIP}, {Type: corev1.NodeHostName, Address: o.Name},
	}
	st.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
	st.NodeInfo = corev1.NodeSystemInfo{
		MachineID: o.Name, SystemUUID: o.Name, BootID: o.Name, KernelVersion: "6.1.0", OSImage: "edgesim",
		ContainerRuntimeVersion: "edgesim://1", KubeletVersion: kubeletVersion, KubeProxyVersion: "v0.0.0",
		OperatingSystem: "linux", Architecture: "amd64",
	}
	for _, cond := range []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
		{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "EdgeReady", Message: "edge is posting ready status"},
	} {
		cond.LastHeartbeatTime, cond.LastTransitionTime = now, now
		setCondition(st, cond)
	}
}

// setCondition replaces the condition of the same type; one of the same status keeps its times.
func setCondition(st *corev1.NodeStatus, cond corev1.NodeCondition) {
	for i := range st.Conditions {
		old := &st.Conditions[i]
		if old.Type != cond.Type {
			continue
		}
		if old.Status == cond.Status {
			cond.LastTransitionTime = old.LastTransitionTime
		}
		if old.Status == cond.Status && old.Reason == cond.Reason && old.Message == cond.Message {
			cond.LastHeartbeatTime = old.LastHeartbeatTime
		}
		*old = cond
		return
	}
	st.Conditions = append(st.Conditions, cond)
}

// evaluateLater plans an evaluation, at most one at a time.
func (s *nodeStatus) evaluateLater(d time.Duration) {
	at := time.Now().Add(d)
	if s.next != nil && s.next.index >= 0 && s.next.at.Before(at) {
		return
	}
	s.k.c.agenda.cancel(s.next)
	s.next = s.k.c.agenda.add(at, s.evaluate)
}

// evaluate patches the status if it differs from the row, or if the last report is old enough.
func (s *nodeStatus) evaluate() {
	t := &s.k.c.n.opts.Timing
	s.k.c.agenda.cancel(s.next)
	s.next = nil
	row, ok := s.k.c.n.rec.row(s.k.nodeKey())
	if !ok || s.patching {
		return // the next push of the node, or the answer, evaluates again
	}
	var stored corev1.Node
	if err := row.Decode(&stored); err != nil {
		s.k.logger().V(2).Info("Stored node is unreadable", "err", err)
		return
	}
	now := stamp(s.k.c.now())
	wanted := stored.Status.DeepCopy()
	s.fill(wanted, now)
	due := time.Since(s.reported) >= t.NodeReport
	if apiequality.Semantic.DeepEqual(&stored.Status, wanted) && !due {
		s.confirmed(&stored)
		return
	}
	for i := range wanted.Conditions {
		wanted.Conditions[i].LastHeartbeatTime = now
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(
		mustMarshal(&corev1.Node{Status: stored.Status}), mustMarshal(&corev1.Node{Status: *wanted}), corev1.Node{})
	if err != nil {
		s.k.logger().V(2).Info("Node status patch failed", "err", err)
		return
	}
	s.send(patch)
}

func (s *nodeStatus) send(patch []byte) {
	s.patching = true
	c := s.k.c
	resource := c.n.opts.NodeNamespace + "/" + message.TypeNodePatch + "/" + c.n.opts.Name
	c.n.rec.put(resource, message.TypeNodePatch, patch) // MetaManager stores patches before it passes them on
	c.request(message.OpPatch, resource, message.Text(string(patch)), directOnline, func(m *message.Message, err error) {
		s.patching = false
		var node *corev1.Node
		if err == nil {
			node, err = decodeObject[corev1.Node](c, m)
		}
		if err != nil {
			c.n.rec.count(func(k *Counters) { k.PatchErrors++ })
			s.failures++
			wait := time.Duration(0)
			if s.failures%statusAttempts == 0 {
				wait = c.n.opts.Timing.NodeStatus
			}
			s.evaluateLater(wait)
			return
		}
		s.failures = 0
		s.reported = time.Now()
		s.k.storeObject(s.k.nodeKey(), "Node", m)
		c.n.rec.count(func(k *Counters) { k.NodePatches++ })
		s.confirmed(node)
	})
}

// confirmed plans the next report.
func (s *nodeStatus) confirmed(node *corev1.Node) {
	ready := false
	for _, cond := range node.Status.Conditions {
		ready = ready || (cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue)
	}
	s.k.c.n.rec.update(func() { s.k.c.n.rec.nodeReady = ready })
	if s.reported.IsZero() {
		s.reported = time.Now()
	}
	s.evaluateLater(max(0, s.k.c.n.opts.Timing.NodeReport-time.Since(s.reported)))
}
