package upstream

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/podrefs"
)

func (m *Module) queryConfigMap(ctx context.Context, r *request) (reply, error) {
	key := m.view.ConfigMapKey(r.path.Namespace, r.path.Name)
	return m.queryConfig(ctx, r, key, false, func() (reply, error) {
		got, err := m.client.CoreV1().ConfigMaps(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
		if err != nil {
			return reply{}, err
		}
		got.ManagedFields = nil
		got.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		return bare(got, got.ResourceVersion)
	})
}

func (m *Module) querySecret(ctx context.Context, r *request) (reply, error) {
	key := m.view.SecretKey(r.path.Namespace, r.path.Name)
	return m.queryConfig(ctx, r, key, true, func() (reply, error) {
		got, err := m.client.CoreV1().Secrets(r.path.Namespace).Get(ctx, r.path.Name, metav1.GetOptions{})
		if err != nil {
			return reply{}, err
		}
		got.ManagedFields = nil
		got.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
		return bare(got, got.ResourceVersion)
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

// refersLive asks kube-apiserver for the pods of the node in the namespace: the cache may be behind.
func (m *Module) refersLive(ctx context.Context, r *request, secret bool) (refers, required bool, err error) {
	pods, err := m.podsLive(ctx, r.Node, r.path.Namespace)
	if err != nil {
		return false, false, err
	}
	for i := range pods {
		podrefs.VisitConfig(&pods[i], func(c podrefs.Config) {
			if c.Secret == secret && c.Name == r.path.Name {
				refers = true
				required = required || !c.Optional
			}
		})
	}
	return refers, required, nil
}

func (m *Module) podsLive(ctx context.Context, node, namespace string) ([]corev1.Pod, error) {
	list, err := m.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list the pods of node %s in %s: %w", node, namespace, err)
	}
	return list.Items, nil
}

// anyPod says whether a pod of the node in a namespace meets a condition, by the cache or else live.
func (m *Module) anyPod(ctx context.Context, node, namespace string, meets func(*corev1.Pod) bool) (bool, error) {
	if slices.ContainsFunc(m.view.Pods(node), func(p *corev1.Pod) bool { return p.Namespace == namespace && meets(p) }) {
		return true, nil
	}
	pods, err := m.podsLive(ctx, node, namespace)
	if err != nil {
		return false, err
	}
	for i := range pods {
		if meets(&pods[i]) {
			return true, nil
		}
	}
	return false, nil
}
