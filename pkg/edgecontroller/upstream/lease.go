package upstream

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownLease checks that the request is about the lease of its node (spec 04 §3.8).
func ownLease(r *request) error {
	if r.path.Namespace != corev1.NamespaceNodeLease || r.path.Name != r.Node {
		return forbidden(r)
	}
	return nil
}

func (m *Module) queryLease(ctx context.Context, r *request) (reply, error) {
	if err := ownLease(r); err != nil {
		return reply{}, err
	}
	// Live: a stale answer right after a create would start a second one.
	got, err := m.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, r.Node, metav1.GetOptions{})
	return leaseReply(got, err)
}

func (m *Module) insertLease(ctx context.Context, r *request) (reply, error) {
	lease, err := decodeLease(r)
	if err != nil {
		return reply{}, err
	}
	lease.ResourceVersion, lease.UID = "", ""
	got, err := m.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{})
	return leaseReply(got, err)
}

// updateLease is the hottest path of the process: one renewal of each node every ten seconds.
func (m *Module) updateLease(ctx context.Context, r *request) (reply, error) {
	lease, err := decodeLease(r)
	if err != nil {
		return reply{}, err
	}
	got, err := m.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Update(ctx, lease, metav1.UpdateOptions{})
	return leaseReply(got, err)
}

func decodeLease(r *request) (*coordinationv1.Lease, error) {
	if err := ownLease(r); err != nil {
		return nil, err
	}
	lease := &coordinationv1.Lease{}
	if err := r.DecodeContent(lease); err != nil {
		return nil, invalid(fmt.Errorf("lease: %w", err))
	}
	lease.Namespace, lease.Name = corev1.NamespaceNodeLease, r.Node
	return lease, nil
}

func leaseReply(lease *coordinationv1.Lease, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	lease.ManagedFields = nil
	content, err := object(lease)
	return reply{content: content}, err
}
