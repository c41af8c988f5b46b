package upstream

import (
	"cmp"
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// requestToken makes a token of a service account that a pod of the node runs as. The reply is the whole TokenRequest,
// because the edge derives its database key from the spec in it (spec 04 §3.6). Tokens are never cached or logged.
func (m *Module) requestToken(ctx context.Context, r *request) (reply, error) {
	request := &authenticationv1.TokenRequest{}
	if err := r.DecodeContent(request); err != nil {
		return reply{}, invalid(fmt.Errorf("token request: %w", err))
	}
	bound := request.Spec.BoundObjectRef
	if bound != nil && (bound.Kind != "Pod" || bound.APIVersion != "v1") {
		return reply{}, forbidden(r)
	}
	err := m.needPod(ctx, r, r.path.Namespace, func(p *corev1.Pod) bool {
		if cmp.Or(p.Spec.ServiceAccountName, "default") != r.path.Name {
			return false
		}
		return bound == nil || (p.Name == bound.Name && p.UID == bound.UID)
	})
	if err != nil {
		return reply{}, err
	}
	got, err := m.client.CoreV1().ServiceAccounts(r.path.Namespace).CreateToken(m.as(ctx, r), r.path.Name, request, metav1.CreateOptions{})
	if err != nil {
		return reply{}, err
	}
	return bare(got, authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"))
}
