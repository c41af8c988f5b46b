package downstream

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// EdgeLabel marks an edge node when it is present with an empty value (spec 04 §4.0).
const EdgeLabel = "node-role.kubernetes.io/edge"

// IsEdge reports whether a node with these labels is an edge node.
func IsEdge(labels map[string]string) bool {
	value, ok := labels[EdgeLabel]
	return ok && value == ""
}

// kinds are the kinds of one View. Delivery compares them by pointer.
type kinds struct {
	node, pod, configMap, secret *desired.Kind
}

func newKinds() kinds {
	core := func(typ, kind string, rank int) *desired.Kind {
		return &desired.Kind{Type: typ, APIVersion: corev1.SchemeGroupVersion.String(), Kind: kind, Source: message.ModuleEdge, Rank: rank}
	}
	k := kinds{
		node:      core(message.TypeNode, "Node", 0),
		configMap: core(message.TypeConfigMap, "ConfigMap", 1),
		secret:    core(message.TypeSecret, "Secret", 1),
		pod:       core(message.TypePod, "Pod", 2),
	}
	k.node.ClusterScoped, k.node.EndsSession = true, true
	k.node.Patched, k.pod.Patched = true, true
	k.node.UpdateOnly, k.secret.UpdateOnly = true, true
	k.pod.DeletesByUID = true
	return k
}

// Kinds implements desired.Source.
func (v *View) Kinds() []*desired.Kind {
	return []*desired.Kind{v.kind.node, v.kind.configMap, v.kind.secret, v.kind.pod}
}

// NodeKey is the key of a Node.
func (v *View) NodeKey(name string) desired.Key { return desired.Key{Kind: v.kind.node, Name: name} }

// PodKey is the key of a Pod.
func (v *View) PodKey(namespace, name string) desired.Key {
	return desired.Key{Kind: v.kind.pod, Namespace: namespace, Name: name}
}

// ConfigMapKey is the key of a ConfigMap.
func (v *View) ConfigMapKey(namespace, name string) desired.Key {
	return desired.Key{Kind: v.kind.configMap, Namespace: namespace, Name: name}
}

// SecretKey is the key of a Secret.
func (v *View) SecretKey(namespace, name string) desired.Key {
	return desired.Key{Kind: v.kind.secret, Namespace: namespace, Name: name}
}
