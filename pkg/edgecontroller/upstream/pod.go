package upstream

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

func podKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Pod") }

// patchPod applies the status patch of a kubelet, as it is. The edge stores the object in the reply. The UID in the
// patch lets kube-apiserver refuse it for a successor of the pod.
func (m *Module) patchPod(ctx context.Context, r *request) (reply, error) {
	patch, err := r.ContentJSON()
	if err != nil {
		return reply{}, invalid(fmt.Errorf("pod patch: %w", err))
	}
	var head struct{ Metadata struct{ UID types.UID } }
	if err := json.Unmarshal(patch, &head); err != nil {
		return reply{}, invalid(fmt.Errorf("pod patch: %w", err))
	}
	uid := head.Metadata.UID // absent in the patches of a held upgrade (spec 04 §3.3)
	got, err := m.applyPod(ctx, r, uid, patch)
	if err != nil {
		if m.vanished(ctx, r, uid, err) {
			r.then(func() { m.deleteOrphan(ctx, r, r.path.Name, uid) })
		}
		return reply{}, err
	}
	a, err := object(got, podKind())
	a.version = got.ResourceVersion
	return a, err
}

func (m *Module) applyPod(ctx context.Context, r *request, uid types.UID, patch []byte) (*corev1.Pod, error) {
	if _, err := m.ownPod(ctx, r, uid); err != nil {
		return nil, err
	}
	m.defers(r, m.view.PodKey(r.path.Namespace, r.path.Name))
	return m.client.CoreV1().Pods(r.path.Namespace).Patch(m.as(ctx, r), r.path.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{}, statusPart)
}

// vanished says, after an error, that the pod of this UID is not in kube-apiserver any more.
func (m *Module) vanished(ctx context.Context, r *request, uid types.UID, err error) bool {
	switch {
	case uid == "":
		return false
	case apierrors.IsNotFound(err):
		return true
	case !apierrors.IsConflict(err):
		return false
	}
	pod, err := m.client.CoreV1().Pods(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
	return apierrors.IsNotFound(err) || (err == nil && pod.UID != uid)
}

// deleteOrphan tells the node to drop a pod that is not in kube-apiserver any more; without it the edge would report
// the pod for ever (spec 04 §3.3). It is not repeated: the edge's next report leads here again.
func (m *Module) deleteOrphan(ctx context.Context, r *request, name string, uid types.UID) {
	if uid == "" {
		return // an empty UID would delete whatever pod has the name (spec 03 §12.3)
	}
	type meta struct {
		Name      string    `json:"name"`
		Namespace string    `json:"namespace"`
		UID       types.UID `json:"uid"`
	}
	body, err := json.Marshal(struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Metadata   meta   `json:"metadata"`
	}{"Pod", "v1", meta{name, r.path.Namespace, uid}})
	if err != nil { // three strings always encode
		return
	}
	m.send(context.WithoutCancel(ctx), message.New(r.Node, message.Route{
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
	if err := mirrorOf(pod, r.Node); err != nil {
		return reply{}, apierrors.NewForbidden(corev1.Resource("pods"), r.path.Name, err)
	}
	pod.Namespace, pod.Name = r.path.Namespace, r.path.Name
	m.defers(r, m.view.PodKey(r.path.Namespace, r.path.Name))
	got, err := m.client.CoreV1().Pods(r.path.Namespace).Create(m.as(ctx, r), pod, metav1.CreateOptions{})
	if err != nil {
		return reply{}, err
	}
	return object(got, podKind())
}

// deletePod ends the deletion of a pod whose containers are gone (spec 04 §3.4). A pod that is gone, or that has a
// successor of its name, is deleted as far as the node is concerned.
func (m *Module) deletePod(ctx context.Context, r *request) (reply, error) {
	options, err := deleteOptions(r)
	if err != nil {
		return reply{}, err
	}
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	want := options.Preconditions
	if want.UID != nil && *want.UID == "" {
		want.UID = nil
	}
	var uid types.UID
	if want.UID != nil {
		uid = *want.UID
	}
	pod, err := m.ownPod(ctx, r, uid)
	if err == nil {
		want.UID = &pod.UID // never a successor, also if the edge named none
		err = m.client.CoreV1().Pods(r.path.Namespace).Delete(m.as(ctx, r), r.path.Name, *options)
	}
	gone := apierrors.IsNotFound(err) || (apierrors.IsConflict(err) && want.ResourceVersion == nil)
	if err != nil && !gone {
		return reply{}, err
	}
	return reply{content: contentOK()}, nil
}

// deleteOptions reads the content of a pod deletion: DeleteOptions, or the UID alone from old edges.
func deleteOptions(r *request) (*metav1.DeleteOptions, error) {
	options := &metav1.DeleteOptions{}
	err := r.DecodeContent(options)
	if err == nil {
		return options, nil
	}
	text, ok := r.ContentText()
	if !ok {
		return nil, invalid(fmt.Errorf("delete options: %w", err))
	}
	return &metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: new(types.UID(text))}}, nil
}
