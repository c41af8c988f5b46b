package upstream

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/podrefs"
)

// needClaim checks that a pod of the node mounts a PersistentVolumeClaim.
func (m *Module) needClaim(ctx context.Context, r *request, namespace, claim string) error {
	return m.needPod(ctx, r, namespace, func(p *corev1.Pod) bool {
		for name := range podrefs.Claims(p) {
			if name == claim {
				return true
			}
		}
		return false
	})
}

func (m *Module) queryClaim(ctx context.Context, r *request) (reply, error) {
	if err := m.needClaim(ctx, r, r.path.Namespace, r.path.Name); err != nil {
		return reply{}, err
	}
	got, err := m.client.CoreV1().PersistentVolumeClaims(r.path.Namespace).Get(m.as(ctx, r), r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	return bare(got, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
}

// queryVolume answers for a volume whose claim a pod of the node mounts.
func (m *Module) queryVolume(ctx context.Context, r *request) (reply, error) {
	got, err := m.client.CoreV1().PersistentVolumes().Get(m.as(ctx, r), r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	claim := got.Spec.ClaimRef
	if claim == nil {
		return reply{}, forbidden(r)
	}
	if err := m.needClaim(ctx, r, claim.Namespace, claim.Name); err != nil {
		return reply{}, err
	}
	return bare(got, corev1.SchemeGroupVersion.WithKind("PersistentVolume"))
}

func (m *Module) queryAttachment(ctx context.Context, r *request) (reply, error) {
	got, err := m.client.StorageV1().VolumeAttachments().Get(m.as(ctx, r), r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	if got.Spec.NodeName != r.Node {
		return reply{}, forbidden(r)
	}
	return bare(got, storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"))
}
