package downstream

import (
	"encoding/json"
	"fmt"
	"hash/maphash"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// podObject and nodeObject are encoded on demand: they have one recipient each.
type podObject struct {
	pod  *corev1.Pod
	kind *desired.Kind
	seed maphash.Seed
}

func (o podObject) UID() string     { return string(o.pod.UID) }
func (o podObject) Version() string { return o.pod.ResourceVersion }

func (o podObject) Body() (json.RawMessage, error) {
	pod := *o.pod
	pod.TypeMeta = typeMeta(o.kind)
	return encode(&pod)
}

func (o podObject) Digest() (uint64, error) {
	pod := *o.pod
	pod.TypeMeta = metav1.TypeMeta{} // set or not by the way it came
	pod.ObjectMeta = withoutVolatile(&pod.ObjectMeta)
	pod.Status = corev1.PodStatus{}
	return digest(o.seed, &pod)
}

type nodeObject struct {
	node *corev1.Node
	kind *desired.Kind
	seed maphash.Seed
}

func (o nodeObject) UID() string     { return string(o.node.UID) }
func (o nodeObject) Version() string { return o.node.ResourceVersion }

func (o nodeObject) Body() (json.RawMessage, error) {
	node := *o.node
	node.TypeMeta = typeMeta(o.kind)
	return encode(&node)
}

func (o nodeObject) Digest() (uint64, error) {
	node := *o.node
	node.TypeMeta = metav1.TypeMeta{}
	node.ObjectMeta = withoutVolatile(&node.ObjectMeta)
	node.Status = corev1.NodeStatus{}
	return digest(o.seed, &node)
}

// content is one version of a ConfigMap or Secret, encoded when it was read and shared by all nodes that hold it.
type content struct {
	uid, version string
	body         json.RawMessage
	digest       uint64
}

func (c *content) UID() string                    { return c.uid }
func (c *content) Version() string                { return c.version }
func (c *content) Body() (json.RawMessage, error) { return c.body, nil }
func (c *content) Digest() (uint64, error)        { return c.digest, nil }

func configMapContent(kind *desired.Kind, seed maphash.Seed, cm *corev1.ConfigMap) (*content, error) {
	cm.TypeMeta = typeMeta(kind)
	cm.ManagedFields = nil
	stable := *cm
	stable.ObjectMeta = withoutVolatile(&cm.ObjectMeta)
	return newContent(seed, &cm.ObjectMeta, cm, &stable)
}

func secretContent(kind *desired.Kind, seed maphash.Seed, s *corev1.Secret) (*content, error) {
	s.TypeMeta = typeMeta(kind)
	s.ManagedFields = nil
	stable := *s
	stable.ObjectMeta = withoutVolatile(&s.ObjectMeta)
	return newContent(seed, &s.ObjectMeta, s, &stable)
}

func newContent(seed maphash.Seed, meta *metav1.ObjectMeta, object, stable any) (*content, error) {
	body, err := encode(object)
	if err != nil {
		return nil, err
	}
	sum, err := digest(seed, stable)
	if err != nil {
		return nil, err
	}
	return &content{uid: string(meta.UID), version: meta.ResourceVersion, body: body, digest: sum}, nil
}

func typeMeta(k *desired.Kind) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: k.APIVersion, Kind: k.Kind}
}

// withoutVolatile returns a copy of m without the fields that change when nothing does that the edge acts on.
func withoutVolatile(m *metav1.ObjectMeta) metav1.ObjectMeta {
	stable := *m
	stable.ResourceVersion, stable.Generation, stable.ManagedFields = "", 0, nil
	return stable
}

func encode(object any) (json.RawMessage, error) {
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", object, err)
	}
	return body, nil
}

func digest(seed maphash.Seed, stable any) (uint64, error) {
	body, err := encode(stable) // maps are encoded in the order of their keys: equal objects give equal bytes
	if err != nil {
		return 0, err
	}
	return maphash.Bytes(seed, body), nil
}
