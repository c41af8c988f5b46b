package upstream

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

func (m *Module) queryConfigMap(ctx context.Context, r *request) (reply, error) {
	key := m.view.ConfigMapKey(r.path.Namespace, r.path.Name)
	return m.queryConfig(ctx, r, key, false, func() (reply, error) {
		got, err := m.client.CoreV1().ConfigMaps(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
		if err != nil {
			return reply{}, err
		}
		return bare(got, corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	})
}

func (m *Module) querySecret(ctx context.Context, r *request) (reply, error) {
	key := m.view.SecretKey(r.path.Namespace, r.path.Name)
	return m.queryConfig(ctx, r, key, true, func() (reply, error) {
		got, err := m.client.CoreV1().Secrets(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
		if err != nil {
			return reply{}, err
		}
		return bare(got, corev1.SchemeGroupVersion.WithKind("Secret"))
	})
}

// queryConfig answers a query of a ConfigMap or Secret that a pod of the node refers to. What a missing object means
// depends on the references: if all are optional the kubelet gets an empty object that is not stored, otherwise an
// error, and tries again (spec 04 §3.6).
func (m *Module) queryConfig(ctx context.Context, r *request, key desired.Key, secret bool, get func() (reply, error)) (reply, error) {
	refers, required := m.view.Refers(r.Node, key)
	if !refers {
		var err error
		if refers, required, err = m.refersLive(ctx, r, secret); err != nil {
			return reply{}, err
		}
	}
	if !refers {
		return reply{}, forbidden(r)
	}
	if cached, ok := m.view.Cached(r.Node, key); ok {
		body, err := cached.Body()
		return reply{content: body, version: cached.Version()}, err
	}
	a, err := get()
	if apierrors.IsNotFound(err) && !required {
		content, encodeErr := objectError(status(err))
		return reply{content: content}, encodeErr
	}
	return a, err
}
