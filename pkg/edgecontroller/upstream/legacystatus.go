package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeStatusRequest is the status report of EdgeCore 1.11 and older; its keys are untagged (spec 04 §2.1).
type nodeStatusRequest struct {
	UID             string
	Status          corev1.NodeStatus
	ExtendResources map[corev1.ResourceName][]extendResource
}

type extendResource struct {
	Name     string `json:"name,omitempty"`
	Type     string `json:"type,omitempty"`
	Capacity string `json:"capacity,omitempty"`
}

const (
	gpuResource   = corev1.ResourceName("nvidia.com/gpu")
	gpuAnnotation = "huawei.com/gpu-status"
)

// updateNodeStatus replaces the status of a Node by a legacy report (spec 04 §3.2).
func (m *Module) updateNodeStatus(ctx context.Context, r *request) (reply, error) {
	if err := ownNode(r); err != nil {
		return reply{}, err
	}
	var report nodeStatusRequest
	if err := r.DecodeContent(&report); err != nil {
		return reply{}, invalid(fmt.Errorf("node status: %w", err))
	}
	node, err := m.client.CoreV1().Nodes().Get(ctx, r.Node, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	annotations, err := extendAnnotations(report.ExtendResources)
	if err != nil {
		return reply{}, err
	}
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	for k, v := range annotations {
		node.Annotations[k] = v
	}
	next := report.Status
	for i := range next.Conditions {
		if c := &next.Conditions[i]; time.Since(c.LastHeartbeatTime.Time) > m.cfg.StatusPeriod {
			c.LastHeartbeatTime = metav1.Now()
		}
	}
	next.VolumesAttached = node.Status.VolumesAttached
	if port := node.Status.DaemonEndpoints.KubeletEndpoint.Port; port != 0 {
		next.DaemonEndpoints.KubeletEndpoint.Port = port
	}
	node.Status = next
	got, err := m.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	if err != nil {
		return reply{}, err
	}
	return reply{content: contentOK(), version: got.ResourceVersion, path: nodePath(r)}, nil
}

// extendAnnotations turns the extended resources of a report into the annotations that schedulers read.
func extendAnnotations(resources map[corev1.ResourceName][]extendResource) (map[string]string, error) {
	out := map[string]string{}
	for name, list := range resources {
		text, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("encode extended resource %s: %w", name, err)
		}
		out[string(name)] = string(text)
		if name != gpuResource {
			continue
		}
		type gpu struct {
			ID      string `json:"id,omitempty"`
			Healthy bool   `json:"healthy,omitempty"`
		}
		var gpus []gpu
		for _, e := range list {
			gpus = append(gpus, gpu{ID: e.Name, Healthy: true})
		}
		if text, err = json.Marshal(gpus); err != nil {
			return nil, fmt.Errorf("encode gpu status: %w", err)
		}
		out[gpuAnnotation] = string(text)
	}
	return out, nil
}

// podStatusRequest is the status of one pod in a legacy report; its keys are untagged (spec 04 §2.1).
type podStatusRequest struct {
	UID    string
	Name   string
	Status corev1.PodStatus
}

// maxPodReports bounds a legacy report of many pods.
const maxPodReports = 500

// updatePodStatus takes the report of EdgeCore 1.11 and older, of one pod or, without a name in the path, of many.
func (m *Module) updatePodStatus(ctx context.Context, r *request) (reply, error) {
	var reports []podStatusRequest
	if r.path.Name == "" {
		if err := r.DecodeContent(&reports); err != nil {
			return reply{}, invalid(fmt.Errorf("pod status list: %w", err))
		}
		if len(reports) > maxPodReports {
			return reply{}, invalid(fmt.Errorf("%d pod statuses in one message, more than %d", len(reports), maxPodReports))
		}
	} else {
		var one podStatusRequest
		if err := r.DecodeContent(&one); err != nil {
			return reply{}, invalid(fmt.Errorf("pod status: %w", err))
		}
		one.Name = r.path.Name
		reports = []podStatusRequest{one}
	}
	var errs []error
	for i := range reports {
		errs = append(errs, m.replacePodStatus(ctx, r, &reports[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return reply{}, err
	}
	return reply{content: contentOK()}, nil
}

func (m *Module) replacePodStatus(ctx context.Context, r *request, report *podStatusRequest) error {
	pods := m.client.CoreV1().Pods(r.path.Namespace)
	pod, err := pods.Get(ctx, report.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && (string(pod.UID) != report.UID || pod.Spec.NodeName != r.Node):
		m.deleteOrphan(ctx, r, report.Name, report.UID)
		return nil
	case err != nil:
		return err
	}
	if pod.DeletionTimestamp != nil && ended(&report.Status) {
		err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return err
	}
	hold := m.delivery.Hold(r.Node, m.view.PodKey(pod.Namespace, pod.Name))
	next := report.Status
	normalise(&next, pod)
	pod.Status = next
	got, err := pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	if err != nil {
		hold.Release("", "")
		return err
	}
	hold.Release(string(got.UID), got.ResourceVersion)
	return nil
}

// ended says that a pod has come to its end and runs nothing any more.
func ended(s *corev1.PodStatus) bool {
	if s.Phase != corev1.PodSucceeded && s.Phase != corev1.PodFailed {
		return false
	}
	return !slices.ContainsFunc(s.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running != nil })
}

// normalise makes a legacy status fit the one before it (spec 04 §3.3): transition times that mean something, a start
// time that never changes, and a steady order.
func normalise(next *corev1.PodStatus, pod *corev1.Pod) {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for i := range next.Conditions {
		c := &next.Conditions[i]
		if c.Type != corev1.PodReady && c.Type != corev1.PodInitialized {
			continue
		}
		c.LastTransitionTime = now
		for _, old := range pod.Status.Conditions {
			if old.Type == c.Type && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	next.StartTime = &now
	if pod.Status.StartTime != nil {
		next.StartTime = pod.Status.StartTime
	}
	slices.SortFunc(next.ContainerStatuses, func(a, b corev1.ContainerStatus) int { return cmp.Compare(a.Name, b.Name) })
	order := map[string]int{}
	for i, c := range pod.Spec.InitContainers {
		order[c.Name] = i
	}
	slices.SortStableFunc(next.InitContainerStatuses, func(a, b corev1.ContainerStatus) int { return cmp.Compare(order[a.Name], order[b.Name]) })
}
