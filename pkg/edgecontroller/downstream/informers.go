package downstream

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// NodeIndex is the index of pods by spec.nodeName that New adds to the pod informer.
const NodeIndex = "cloudcore.spec.nodeName"

// Informers are the caches that a View reads. The caller starts them, after New and Nodes first: a pod that is listed
// before its Node is known is kept in full.
type Informers struct {
	Nodes cache.SharedIndexInformer // of *corev1.Node
	Pods  cache.SharedIndexInformer // of *corev1.Pod
	// ConfigMaps and Secrets hold *metav1.PartialObjectMetadata (client-go/metadata/metadatainformer).
	ConfigMaps, Secrets cache.SharedIndexInformer
}

// setup sets the transforms and indexes. The informers must not be running yet.
func (in Informers) setup() error {
	transforms := []struct {
		what      string
		informer  cache.SharedIndexInformer
		transform cache.TransformFunc
	}{
		{"nodes", in.Nodes, slimNode},
		{"pods", in.Pods, slimPod(in.Nodes.GetStore())},
		{"configmaps", in.ConfigMaps, slimMetadata},
		{"secrets", in.Secrets, slimMetadata},
	}
	for _, t := range transforms {
		if err := t.informer.SetTransform(t.transform); err != nil {
			return fmt.Errorf("set the transform of the informer of %s: %w", t.what, err)
		}
	}
	if err := in.Pods.AddIndexers(cache.Indexers{NodeIndex: podNode}); err != nil {
		return fmt.Errorf("index pods by node: %w", err)
	}
	return nil
}

func podNode(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil, nil
	}
	return []string{pod.Spec.NodeName}, nil
}

// slimNode drops managedFields, and of a cloud node all but its identity, labels and annotations.
func slimNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	if IsEdge(node.Labels) {
		node.ManagedFields = nil
		return node, nil
	}
	stub := &corev1.Node{ObjectMeta: slimMeta(&node.ObjectMeta)}
	stub.Labels, stub.Annotations = node.Labels, node.Annotations
	return stub, nil
}

// slimPod drops managedFields, and keeps of a pod that is not bound, or bound to a cloud node, only a stub.
func slimPod(nodes cache.Store) cache.TransformFunc {
	return func(obj any) (any, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return obj, nil
		}
		if pod.Spec.NodeName != "" && !isCloud(nodes, pod.Spec.NodeName) {
			pod.ManagedFields = nil
			return pod, nil
		}
		return &corev1.Pod{
			ObjectMeta: slimMeta(&pod.ObjectMeta),
			Spec:       corev1.PodSpec{NodeName: pod.Spec.NodeName, ServiceAccountName: pod.Spec.ServiceAccountName},
		}, nil
	}
}

func isCloud(nodes cache.Store, name string) bool {
	obj, exists, err := nodes.GetByKey(name)
	if err != nil || !exists {
		return false
	}
	node, ok := obj.(*corev1.Node)
	return ok && !IsEdge(node.Labels)
}

// isStub tells a stub from a pod: a pod has at least one container.
func isStub(pod *corev1.Pod) bool { return len(pod.Spec.Containers) == 0 }

func slimMetadata(obj any) (any, error) {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: slimMeta(&m.ObjectMeta)}, nil
}

// slimMeta keeps the identity of an object.
func slimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// deleted returns the object of a delete event, also when the watch missed the deletion and the cache found out later.
func deleted[T any](obj any) (T, bool) {
	if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = t.Obj
	}
	o, ok := obj.(T)
	return o, ok
}
