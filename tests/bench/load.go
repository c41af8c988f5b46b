package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// configName is the ConfigMap that a pod on every node refers to.
const configName = "shared"

// newPod is bound to its node; there is no scheduler in what is measured. The second kind of pods refers to the ConfigMap.
func newPod(name, node string, withConfig bool) *corev1.Pod {
	mount := false // no token: it would be asked for by the edge, and is not what is measured
	container := corev1.Container{Name: "main", Image: "registry.example/app:1"}
	if withConfig {
		ref := corev1.LocalObjectReference{Name: configName}
		container.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": "bench"}},
		Spec: corev1.PodSpec{
			NodeName: node, AutomountServiceAccountToken: &mount, Containers: []corev1.Container{container},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
}

// createPods creates pods prefix-0 and on, in turn on the nodes, by several creators. It returns when each call began.
func createPods(ctx context.Context, client kubernetes.Interface, creators, count int, prefix string, nodes []string, withConfig bool) ([]time.Time, error) {
	begun := make([]time.Time, count)
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range creators {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return nil
				}
				pod := newPod(podName(prefix, i), nodes[i%len(nodes)], withConfig)
				begun[i] = time.Now()
				if _, err := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
					return fmt.Errorf("create pod %s: %w", pod.Name, err)
				}
			}
		})
	}
	return begun, g.Wait()
}

func podName(prefix string, i int) string { return prefix + "-" + strconv.Itoa(i) }

func createConfig(ctx context.Context, client kubernetes.Interface) error {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: configName, Namespace: namespace}, Data: map[string]string{"value": "0"}}
	if _, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create ConfigMap %s: %w", configName, err)
	}
	return nil
}

// updateConfig changes the ConfigMap and returns its version.
func updateConfig(ctx context.Context, client kubernetes.Interface, value string) (string, error) {
	maps := client.CoreV1().ConfigMaps(namespace)
	object, err := maps.Get(ctx, configName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read ConfigMap %s: %w", configName, err)
	}
	object.Data["value"] = value
	if object, err = maps.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
		return "", fmt.Errorf("update ConfigMap %s: %w", configName, err)
	}
	return object.ResourceVersion, nil
}
