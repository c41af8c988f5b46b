package upstream

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/podrefs"
)

// The checks of what a node may touch (spec 04 §7, defect 18). Their reads are cloudcore's own, not made in the name of
// the node: they decide what that name may do.

// ownNode checks that the request is about the Node of its sender.
func ownNode(r *request) error {
	if r.path.Name != r.Node {
		return forbidden(r)
	}
	return nil
}

// ownLease checks that the request is about the lease of its sender (spec 04 §3.8).
func ownLease(r *request) error {
	if r.path.Namespace != corev1.NamespaceNodeLease || r.path.Name != r.Node {
		return forbidden(r)
	}
	return nil
}

// ownPod returns the pod of the request if it is bound to the node. The UID is that which the edge knows, or empty. If
// kube-apiserver has no such pod the error is NotFound, and if it has another pod of the same name, on whatever node, a
// Conflict.
func (m *Module) ownPod(ctx context.Context, r *request, uid types.UID) (*corev1.Pod, error) {
	if pod, ok := m.view.Pod(r.Node, r.path.Namespace, r.path.Name); ok && (uid == "" || pod.UID == uid) {
		return pod, nil
	}
	pod, err := m.client.CoreV1().Pods(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return nil, err
	case uid != "" && pod.UID != uid:
		return nil, apierrors.NewConflict(corev1.Resource("pods"), r.path.Name, fmt.Errorf("the pod has another uid than %s", uid))
	case pod.Spec.NodeName != r.Node:
		return nil, forbidden(r)
	}
	return pod, nil
}

// maxVolumeChecks bounds the claims that one query of a Secret may lead to.
const maxVolumeChecks = 64

// refersLive asks kube-apiserver whether pods of the node refer to a ConfigMap or Secret: the cache may be behind what
// the node already got. It also finds Secrets by which the volumes of those pods are mounted.
func (m *Module) refersLive(ctx context.Context, r *request, secret bool) (refers, required bool, err error) {
	pods, err := m.podsLive(ctx, r.Node, "")
	if err != nil {
		return false, false, err
	}
	type claim struct{ namespace, name string }
	var claims []claim
	for i := range pods {
		pod := &pods[i]
		if pod.Namespace == r.path.Namespace {
			podrefs.VisitConfig(pod, func(c podrefs.Config) {
				if c.Secret == secret && c.Name == r.path.Name {
					refers, required = true, required || !c.Optional
				}
			})
		}
		for name := range podrefs.Claims(pod) {
			if c := (claim{pod.Namespace, name}); !slices.Contains(claims, c) && len(claims) < maxVolumeChecks {
				claims = append(claims, c)
			}
		}
	}
	if refers || !secret {
		return refers, required, nil
	}
	for _, c := range claims {
		mounts, err := m.mountsWith(ctx, c.namespace, c.name, r)
		if err != nil || mounts {
			return mounts, mounts, err
		}
	}
	return false, false, nil
}

// mountsWith reports whether the volume of a claim is mounted with the Secret of the request.
func (m *Module) mountsWith(ctx context.Context, namespace, claim string, r *request) (bool, error) {
	pvc, err := m.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, claim, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && pvc.Spec.VolumeName == "") {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get claim %s/%s: %w", namespace, claim, err)
	}
	pv, err := m.client.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get volume %s: %w", pvc.Spec.VolumeName, err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.Namespace != namespace || ref.Name != claim { // a claim to the volume of others
		return false, nil
	}
	for ns, name := range podrefs.VolumeSecrets(pv) {
		if ns == r.path.Namespace && name == r.path.Name {
			return true, nil
		}
	}
	return false, nil
}

// podsLive lists the pods of a node in a namespace, or in all if it is empty.
func (m *Module) podsLive(ctx context.Context, node, namespace string) ([]corev1.Pod, error) {
	list, err := m.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list the pods of node %s: %w", node, err)
	}
	return list.Items, nil
}

// needPod checks that a pod of the node in a namespace meets a condition, by the cache or else live.
func (m *Module) needPod(ctx context.Context, r *request, namespace string, meets func(*corev1.Pod) bool) error {
	if slices.ContainsFunc(m.view.Pods(r.Node), func(p *corev1.Pod) bool { return p.Namespace == namespace && meets(p) }) {
		return nil
	}
	pods, err := m.podsLive(ctx, r.Node, namespace)
	if err != nil {
		return err
	}
	for i := range pods {
		if meets(&pods[i]) {
			return nil
		}
	}
	return forbidden(r)
}

// mirrorOf checks that a pod is the mirror of a static pod of the node, and that it is no way to more rights: it may
// refer to nothing that it would make readable for the node. kube-apiserver demands the same of kubelets.
func mirrorOf(pod *corev1.Pod, node string) error {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return fmt.Errorf("it is not the mirror of a static pod")
	}
	if pod.Spec.NodeName != node {
		return fmt.Errorf("spec.nodeName is not %q", node)
	}
	for _, o := range pod.OwnerReferences {
		if o.Kind != "Node" || o.Name != node {
			return fmt.Errorf("it is owned by %s %q", o.Kind, o.Name)
		}
	}
	refers := pod.Spec.ServiceAccountName != "" || len(pod.Spec.ResourceClaims) > 0
	podrefs.VisitConfig(pod, func(podrefs.Config) { refers = true })
	for range podrefs.Claims(pod) {
		refers = true
	}
	for i := range pod.Spec.Volumes {
		if p := pod.Spec.Volumes[i].Projected; p != nil && slices.ContainsFunc(p.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil
		}) {
			refers = true
		}
	}
	if refers {
		return fmt.Errorf("it refers to other objects")
	}
	return nil
}
