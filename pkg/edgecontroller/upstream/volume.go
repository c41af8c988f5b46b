package upstream

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/podrefs"
)

// claims says whether a pod of the node mounts a PersistentVolumeClaim.
func (m *Module) claims(ctx context.Context, node, namespace, claim string) (bool, error) {
	return m.anyPod(ctx, node, namespace, func(p *corev1.Pod) bool {
		for name := range podrefs.Claims(p) {
			if name == claim {
				return true
			}
		}
		return false
	})
}

func (m *Module) queryClaim(ctx context.Context, r *request) (reply, error) {
	if ok, err := m.claims(ctx, r.Node, r.path.Namespace, r.path.Name); err != nil || !ok {
		return reply{}, orForbidden(r, err)
	}
	got, err := m.client.CoreV1().PersistentVolumeClaims(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	got.ManagedFields = nil
	got.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
	return bare(got, got.ResourceVersion)
}

// queryVolume answers for a volume whose claim a pod of the node mounts.
func (m *Module) queryVolume(ctx context.Context, r *request) (reply, error) {
	got, err := m.client.CoreV1().PersistentVolumes().Get(ctx, r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	ref := got.Spec.ClaimRef
	if ref == nil {
		return reply{}, forbidden(r)
	}
	if ok, err := m.claims(ctx, r.Node, ref.Namespace, ref.Name); err != nil || !ok {
		return reply{}, orForbidden(r, err)
	}
	got.ManagedFields = nil
	got.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}
	return bare(got, got.ResourceVersion)
}

func (m *Module) queryAttachment(ctx context.Context, r *request) (reply, error) {
	got, err := m.client.StorageV1().VolumeAttachments().Get(ctx, r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	if got.Spec.NodeName != r.Node {
		return reply{}, forbidden(r)
	}
	got.ManagedFields = nil
	got.TypeMeta = metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "VolumeAttachment"}
	return bare(got, got.ResourceVersion)
}

// orForbidden returns err, or that the request is forbidden if there is none.
func orForbidden(r *request, err error) error {
	if err != nil {
		return err
	}
	return forbidden(r)
}
