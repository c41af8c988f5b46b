package edgesim

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// syncSoon plans a sync of a pod whose row may have changed.
func (k *kubelet) syncSoon(p *pod) {
	p.dirty = true
	k.syncLater()
}

// syncLater plans a pass over all pods: what failed is tried again, what others changed is repaired (spec 04 §3.2).
func (k *kubelet) syncLater() {
	if k.tick != nil {
		return
	}
	k.tick = k.c.after(k.c.n.opts.Timing.PodSync, func() {
		k.tick = nil
		for _, p := range k.pods {
			if p.dirty || p.stage == terminated {
				k.sync(p)
			}
		}
	})
}

// sync patches a pod's status by its difference to the row in the store. Without a row of the same pod there is nothing
// to report to.
func (k *kubelet) sync(p *pod) {
	p.dirty = true
	if p.patching {
		return // the answer syncs again
	}
	if k.c.n.faults.Load().NoPodStatus {
		k.syncLater()
		return
	}
	p.dirty = false
	row, ok := k.c.n.rec.row(p.key())
	if !ok || row.UID != string(p.uid) {
		return
	}
	var stored corev1.Pod
	if err := row.Decode(&stored); err != nil {
		k.logger().V(2).Info("Stored pod is unreadable", "resource", p.key(), "err", err)
		return
	}
	wanted := mergeStatus(&stored.Status, &p.status)
	if apiequality.Semantic.DeepEqual(&stored.Status, wanted) {
		k.settled(p, &stored)
		return
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(
		mustMarshal(&corev1.Pod{Status: stored.Status}),
		mustMarshal(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: p.uid}, Status: *wanted}), corev1.Pod{})
	if err != nil {
		k.logger().V(2).Info("Pod status patch failed", "resource", p.key(), "err", err)
		return
	}
	k.patch(p, patch)
}

// patch sends a status patch. The row of the answer is written even if the pod is gone by then, as EdgeCore does.
func (k *kubelet) patch(p *pod, patch []byte) {
	p.patching = true
	sent := p.stage
	resource := p.object.Namespace + "/" + message.TypePodPatch + "/" + p.object.Name
	k.c.n.rec.put(resource, message.TypePodPatch, patch) // MetaManager stores patches before it passes them on
	k.c.request(message.OpPatch, resource, message.Text(string(patch)), directOnline, func(m *message.Message, err error) {
		p.patching = false
		var stored *corev1.Pod
		if err == nil {
			stored, err = decodeObject[corev1.Pod](k.c, m)
		}
		if err != nil {
			k.c.n.rec.count(func(c *Counters) { c.PatchErrors++ })
			k.logger().V(4).Info("Pod status refused", "resource", resource, "err", err)
			k.syncSoon(p)
			return
		}
		k.storeObject(p.key(), "Pod", m)
		k.c.n.rec.count(func(c *Counters) { c.PodPatches++ })
		if k.pods[p.uid] != p {
			return
		}
		if sent == running && stored.Status.Phase == corev1.PodRunning {
			k.c.n.rec.podRunning(string(p.uid))
		}
		k.settled(p, stored)
	})
}

// settled is called when the cloud has the status of a pod.
func (k *kubelet) settled(p *pod, stored *corev1.Pod) {
	if p.dirty {
		k.sync(p)
		return
	}
	ended := stored.Status.Phase == corev1.PodFailed || stored.Status.Phase == corev1.PodSucceeded
	if p.stage == terminated && ended && stored.DeletionTimestamp != nil {
		k.deletePod(p)
	}
}

// mergeStatus returns stored with what the kubelet owns replaced by own. Conditions of others stay.
func mergeStatus(stored, own *corev1.PodStatus) *corev1.PodStatus {
	out := stored.DeepCopy()
	out.Phase, out.HostIP, out.HostIPs = own.Phase, own.HostIP, own.HostIPs
	out.PodIP, out.PodIPs, out.StartTime = own.PodIP, own.PodIPs, own.StartTime
	out.ContainerStatuses, out.InitContainerStatuses = own.ContainerStatuses, own.InitContainerStatuses
	for _, cond := range own.Conditions {
		setPodCondition(out, cond)
	}
	return out
}

func setPodCondition(s *corev1.PodStatus, cond corev1.PodCondition) {
	for i := range s.Conditions {
		if s.Conditions[i].Type == cond.Type {
			s.Conditions[i] = cond
			return
		}
	}
	s.Conditions = append(s.Conditions, cond)
}

// pendingStatus is that of a pod whose containers are being made.
func pendingStatus(p *pod, hostIP string, now metav1.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		Phase: corev1.PodPending, HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}}, StartTime: &now,
	}
	conditions(&s, p, corev1.ConditionFalse, "ContainersNotReady", now)
	for i := range p.object.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, waiting(&p.object.Spec.InitContainers[i], "PodInitializing"))
	}
	for i := range p.object.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, waiting(&p.object.Spec.Containers[i], "ContainerCreating"))
	}
	return s
}

func waiting(c *corev1.Container, reason string) corev1.ContainerStatus {
	no := false
	return corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, Started: &no,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}},
	}
}

// runningStatus is that of a pod whose containers run; after a restart of the process it keeps what was reported.
func runningStatus(p *pod, now metav1.Time) corev1.PodStatus {
	s := p.status
	if p.object.Status.Phase == corev1.PodRunning {
		s = *p.object.Status.DeepCopy()
	}
	s.Phase, s.PodIP, s.PodIPs = corev1.PodRunning, p.ip, []corev1.PodIP{{IP: p.ip}}
	conditions(&s, p, corev1.ConditionTrue, "", now)
	if p.object.Status.Phase == corev1.PodRunning {
		return s
	}
	s.ContainerStatuses, s.InitContainerStatuses = nil, nil
	for i := range p.object.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, ended(&p.object.Spec.InitContainers[i], 0, "Completed", true, now))
	}
	for i := range p.object.Spec.Containers {
		c, yes := &p.object.Spec.Containers[i], true
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: "edgesim://" + c.Image, ContainerID: containerID(p, c), Ready: true, Started: &yes,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return s
}

// endedStatus is that of a pod whose containers were killed (recorded traffic: phase Failed, exit code 137).
func endedStatus(p *pod, now metav1.Time) corev1.PodStatus {
	s := p.status
	s.Phase = corev1.PodFailed
	conditions(&s, p, corev1.ConditionFalse, "PodFailed", now)
	s.ContainerStatuses = nil
	for i := range p.object.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, ended(&p.object.Spec.Containers[i], 137, "Error", false, now))
		s.ContainerStatuses[i].ContainerID = containerID(p, &p.object.Spec.Containers[i])
	}
	return s
}

func ended(c *corev1.Container, code int32, reason string, ready bool, now metav1.Time) corev1.ContainerStatus {
	no := false
	return corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, ImageID: "edgesim://" + c.Image, Ready: ready, Started: &no,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, StartedAt: now, FinishedAt: now,
		}},
	}
}

func containerID(p *pod, c *corev1.Container) string {
	return "edgesim://" + string(p.uid) + "/" + c.Name
}

// conditions sets those that a kubelet owns, in its order. A condition of unchanged status keeps its time.
func conditions(s *corev1.PodStatus, p *pod, ready corev1.ConditionStatus, reason string, now metav1.Time) {
	old := s.Conditions
	if p.object.Status.Phase == corev1.PodRunning {
		old = p.object.Status.Conditions
	}
	s.Conditions = nil
	for _, cond := range []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: ready},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: ready, Reason: reason},
		{Type: corev1.ContainersReady, Status: ready, Reason: reason},
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	} {
		cond.LastTransitionTime = now
		if reason == "ContainersNotReady" && cond.Reason != "" {
			cond.Message = "containers with unready status: " + string(mustMarshal(containerNames(p)))
		}
		for i := range old {
			if old[i].Type == cond.Type && old[i].Status == cond.Status {
				cond.LastTransitionTime = old[i].LastTransitionTime
			}
		}
		s.Conditions = append(s.Conditions, cond)
	}
}

func containerNames(p *pod) []string {
	names := make([]string, 0, len(p.object.Spec.Containers))
	for i := range p.object.Spec.Containers {
		names = append(names, p.object.Spec.Containers[i].Name)
	}
	return names
}

// podAdopted notes a pod that runs since before the process started.
func (r *recorder) podAdopted(obj *corev1.Pod) {
	content := meta{}
	content.Metadata.Namespace, content.Metadata.Name = obj.Namespace, obj.Name
	r.update(func() {
		r.podArrivedLocked(Push{UID: string(obj.UID)}, content)
	})
	r.podRunning(string(obj.UID))
}
