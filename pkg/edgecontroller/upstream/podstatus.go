package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// podStatusRequest is the status of one pod in a report of EdgeCore 1.11 and older; its keys are untagged (spec 04
// §2.1).
type podStatusRequest struct {
	UID    types.UID
	Name   string
	Status corev1.PodStatus
}

// maxPodReports bounds a legacy report of many pods.
const maxPodReports = 500

// updatePodStatus takes a legacy report, of one pod or, without a name in the path, of many.
func (m *Module) updatePodStatus(ctx context.Context, r *request) (reply, error) {
	reports, err := podReports(r)
	if err != nil {
		return reply{}, err
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

func podReports(r *request) ([]podStatusRequest, error) {
	if r.path.Name != "" {
		reports := make([]podStatusRequest, 1)
		if err := r.DecodeContent(&reports[0]); err != nil {
			return nil, invalid(fmt.Errorf("pod status: %w", err))
		}
		reports[0].Name = r.path.Name
		return reports, nil
	}
	var reports []podStatusRequest
	if err := r.DecodeContent(&reports); err != nil {
		return nil, invalid(fmt.Errorf("pod statuses: %w", err))
	}
	if len(reports) > maxPodReports {
		return nil, invalid(fmt.Errorf("%d pod statuses in one message, more than %d", len(reports), maxPodReports))
	}
	for i := range reports {
		if problems := content.IsPathSegmentName(reports[i].Name); reports[i].Name == "" || len(problems) > 0 {
			return nil, invalid(fmt.Errorf("pod name %q: %s", reports[i].Name, strings.Join(problems, ", ")))
		}
	}
	return reports, nil
}

// replacePodStatus takes the report of one pod (spec 04 §3.3).
func (m *Module) replacePodStatus(ctx context.Context, r *request, report *podStatusRequest) error {
	pods := m.client.CoreV1().Pods(r.path.Namespace)
	var pod *corev1.Pod
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var err error
		if pod, err = pods.Get(ctx, report.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if pod.UID != report.UID {
			return apierrors.NewNotFound(corev1.Resource("pods"), report.Name)
		}
		if pod.Spec.NodeName != r.Node {
			return forbidden(r)
		}
		pod.Status = normalised(&report.Status, pod)
		_, err = pods.UpdateStatus(m.as(ctx, r), pod, metav1.UpdateOptions{})
		return err
	})
	if apierrors.IsNotFound(err) {
		r.then(func() { m.deleteOrphan(ctx, r, report.Name, report.UID) })
		return nil
	}
	if err != nil {
		return fmt.Errorf("status of pod %s/%s: %w", r.path.Namespace, report.Name, err)
	}
	if pod.DeletionTimestamp == nil || !ended(&report.Status) {
		return nil
	}
	err = pods.Delete(m.as(ctx, r), pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// ended says that a pod has come to its end and runs nothing any more.
func ended(s *corev1.PodStatus) bool {
	if s.Phase != corev1.PodSucceeded && s.Phase != corev1.PodFailed {
		return false
	}
	return !slices.ContainsFunc(s.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running != nil })
}

// normalised makes a legacy status fit the one before it: transition times that mean something, a start time that never
// changes, and a steady order.
func normalised(report *corev1.PodStatus, pod *corev1.Pod) corev1.PodStatus {
	next := *report.DeepCopy()
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
	next.StartTime = cmp.Or(pod.Status.StartTime, &now)
	slices.SortStableFunc(next.ContainerStatuses, func(a, b corev1.ContainerStatus) int { return cmp.Compare(a.Name, b.Name) })
	order := map[string]int{}
	for i := range pod.Spec.InitContainers {
		order[pod.Spec.InitContainers[i].Name] = i
	}
	slices.SortStableFunc(next.InitContainerStatuses, func(a, b corev1.ContainerStatus) int { return cmp.Compare(order[a.Name], order[b.Name]) })
	return next
}
