package upstream

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

func (m *Module) leases() clientv1.LeaseInterface {
	return m.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
}

func (m *Module) queryLease(ctx context.Context, r *request) (reply, error) {
	if err := ownLease(r); err != nil {
		return reply{}, err
	}
	// Live: a stale answer right after a create would lead to a second one (spec 04 §3.8).
	got, err := m.leases().Get(ctx, r.Node, metav1.GetOptions{})
	return leaseReply(got, err)
}

func (m *Module) insertLease(ctx context.Context, r *request) (reply, error) {
	lease, err := decodeLease(r)
	if err != nil {
		return reply{}, err
	}
	lease.ResourceVersion, lease.UID = "", ""
	got, err := m.leases().Create(m.as(ctx, r), lease, metav1.CreateOptions{})
	return leaseReply(got, err)
}

// updateLease is the hottest path of the process: one renewal of each node every ten seconds.
func (m *Module) updateLease(ctx context.Context, r *request) (reply, error) {
	lease, err := decodeLease(r)
	if err != nil {
		return reply{}, err
	}
	got, err := m.leases().Update(m.as(ctx, r), lease, metav1.UpdateOptions{})
	return leaseReply(got, err)
}

// decodeLease reads the lease of the node from the request. managedFields of an edge's copy are left to the apiserver.
func decodeLease(r *request) (*coordinationv1.Lease, error) {
	if err := ownLease(r); err != nil {
		return nil, err
	}
	lease := &coordinationv1.Lease{}
	if err := r.DecodeContent(lease); err != nil {
		return nil, invalid(fmt.Errorf("lease: %w", err))
	}
	lease.Namespace, lease.Name, lease.ManagedFields = corev1.NamespaceNodeLease, r.Node, nil
	return lease, nil
}

func leaseReply(lease *coordinationv1.Lease, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	return object(lease, coordinationv1.SchemeGroupVersion.WithKind("Lease"))
}
