package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// ownPod returns the pod of the request if it is bound to the node. A pod of another node counts as not found: that it
// exists is not the node's business.
func (m *Module) ownPod(ctx context.Context, r *request) (*corev1.Pod, error) {
	if pod, ok := m.view.Pod(r.Node, r.path.Namespace, r.path.Name); ok {
		return pod, nil
	}
	pod, err := m.client.CoreV1().Pods(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName != r.Node {
		return nil, notFound("pods", r.path.Name)
	}
	return pod, nil
}

// patchPod applies the status patch of a kubelet. The edge stores the object in the reply.
func (m *Module) patchPod(ctx context.Context, r *request) (reply, error) {
	patch, err := patchText(r)
	if err != nil {
		return reply{}, err
	}
	var head struct{ Metadata struct{ UID types.UID } }
	if err := json.Unmarshal(patch, &head); err != nil {
		return reply{}, invalid(fmt.Errorf("pod patch: %w", err))
	}
	uid := head.Metadata.UID
	pod, err := m.ownPod(ctx, r)
	if apierrors.IsNotFound(err) && uid != "" {
		// The pod went away unseen: without its deletion the edge would report it for ever (spec 04 §3.3).
		return reply{sent: func() { m.deleteOrphan(ctx, r, r.path.Name, string(uid)) }}, err
	}
	if err != nil {
		return reply{}, err
	}
	hold := m.delivery.Hold(r.Node, m.view.PodKey(r.path.Namespace, r.path.Name))
	release := func() { hold.Release("", "") }
	got, err := m.client.CoreV1().Pods(r.path.Namespace).Patch(ctx, r.path.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, statusPart)
	switch {
	case uid != "" && (apierrors.IsNotFound(err) || apierrors.IsConflict(err) && pod.UID != uid):
		return reply{sent: func() { release(); m.deleteOrphan(ctx, r, r.path.Name, string(uid)) }}, err
	case err != nil:
		return reply{sent: release}, err
	}
	got.ManagedFields = nil
	content, err := object(got)
	return reply{content: content, version: got.ResourceVersion, sent: func() { hold.Release(string(got.UID), got.ResourceVersion) }}, err
}

// deleteOrphan tells the node to drop a pod that is not in kube-apiserver any more. It is not repeated: the edge's next
// report brings it here again.
func (m *Module) deleteOrphan(ctx context.Context, r *request, name, uid string) {
	if uid == "" {
		return // an empty UID would delete whatever pod has the name (spec 03 §12.3)
	}
	stub := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: r.path.Namespace, Name: name, UID: types.UID(uid)},
	}
	body, err := json.Marshal(&stub)
	if err != nil { // a pod always encodes
		return
	}
	m.send(ctx, message.New(r.Node, message.Route{
		Source: message.ModuleEdge, Group: message.GroupResource, Operation: message.OpDelete,
		Resource: message.Resource{Namespace: r.path.Namespace, Type: message.TypePod, Name: name}.String(),
	}, body))
}

// insertPod creates the mirror of a static pod (spec 04 §3.5).
func (m *Module) insertPod(ctx context.Context, r *request) (reply, error) {
	pod := &corev1.Pod{}
	if err := r.DecodeContent(pod); err != nil {
		return reply{}, invalid(fmt.Errorf("pod: %w", err))
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror || pod.Spec.NodeName != r.Node {
		return reply{}, forbidden(r)
	}
	pod.Namespace, pod.Name = r.path.Namespace, r.path.Name
	got, err := m.client.CoreV1().Pods(r.path.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return reply{}, err
	}
	got.ManagedFields = nil
	content, err := object(got)
	return reply{content: content}, err
}

// deletePod ends the deletion of a pod whose containers are gone (spec 04 §3.4). A pod that is gone, or that has a
// successor of its name, is deleted as far as the node is concerned.
func (m *Module) deletePod(ctx context.Context, r *request) (reply, error) {
	options, err := deleteOptions(r)
	if err != nil {
		return reply{}, err
	}
	done := reply{content: contentOK()}
	pod, err := m.ownPod(ctx, r)
	if apierrors.IsNotFound(err) {
		return done, nil
	}
	if err != nil {
		return reply{}, err
	}
	if options.Preconditions == nil || options.Preconditions.UID == nil {
		options.Preconditions = &metav1.Preconditions{UID: &pod.UID}
	}
	err = m.client.CoreV1().Pods(r.path.Namespace).Delete(ctx, r.path.Name, *options)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return reply{}, err
	}
	return done, nil
}

// deleteOptions reads the content of a pod deletion: DeleteOptions, or the UID alone from old edges.
func deleteOptions(r *request) (*metav1.DeleteOptions, error) {
	options := &metav1.DeleteOptions{}
	err := r.DecodeContent(options)
	if err == nil || errors.Is(err, message.ErrNoContent) {
		return options, nil
	}
	text, ok := r.ContentText()
	if !ok {
		return nil, invalid(fmt.Errorf("delete options: %w", err))
	}
	options = &metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	if uid := types.UID(text); uid != "" {
		options.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	return options, nil
}
