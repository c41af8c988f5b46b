package harness

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// listWatch follows the objects of a typed client that match a field selector.
func listWatch[L runtime.Object](
	ctx context.Context, selector string,
	list func(context.Context, metav1.ListOptions) (L, error),
	follow func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	return &cache.ListWatch{
		ListFunc: func(o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return list(ctx, o)
		},
		WatchFunc: func(o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return follow(ctx, o)
		},
	}
}

// WaitNoPods waits until a namespace has no pod.
func (e *Environment) WaitNoPods(ctx context.Context, namespace string) error {
	pods := e.Client.CoreV1().Pods(namespace)
	left := make(map[string]bool)
	_, err := watchtools.UntilWithSync(ctx, listWatch(ctx, "", pods.List, pods.Watch), &corev1.Pod{},
		func(store cache.Store) (bool, error) {
			for _, key := range store.ListKeys() {
				left[key] = true
			}
			return len(left) == 0, nil
		},
		func(ev watch.Event) (bool, error) {
			key, err := cache.MetaNamespaceKeyFunc(ev.Object)
			if err != nil {
				return false, err
			}
			if ev.Type == watch.Deleted {
				delete(left, key)
			} else {
				left[key] = true
			}
			return len(left) == 0, nil
		})
	if err != nil {
		return fmt.Errorf("%d pods are left: %w", len(left), err)
	}
	return nil
}

// WaitPod waits until cond holds for a pod.
func (e *Environment) WaitPod(ctx context.Context, namespace, name string, cond func(*corev1.Pod) bool) error {
	pods := e.Client.CoreV1().Pods(namespace)
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	_, err := watchtools.UntilWithSync(ctx, listWatch(ctx, selector, pods.List, pods.Watch), &corev1.Pod{}, nil,
		func(ev watch.Event) (bool, error) {
			p, ok := ev.Object.(*corev1.Pod)
			return ok && ev.Type != watch.Deleted && cond(p), nil
		})
	return err
}
