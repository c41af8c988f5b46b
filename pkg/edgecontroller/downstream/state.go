package downstream

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/podrefs"
)

type class int

const (
	classUnknown class = iota // no Node object
	classEdge
	classCloud
)

// node is what is known of a node. It exists while there is a Node object or a served pod.
type node struct {
	name   string
	class  class
	object *corev1.Node // of an edge node, else nil
	pods   map[*pod]struct{}
}

// pod is a served pod.
type pod struct {
	key     desired.Key
	uid     types.UID
	version string // newest version seen
	node    *node
	object  *corev1.Pod // nil while only a stub was seen
	refs    []ref       // of object, without duplicates
}

// current reports that object is the newest version seen.
func (p *pod) current() bool { return p.object != nil && p.object.ResourceVersion == p.version }

// ref says that a pod refers to a ConfigMap or Secret.
type ref struct {
	key      desired.Key
	required bool
}

// effects collects what a change of the state asks for, to be done after View.mu is released.
type effects struct {
	changed []change
	read    []desired.Key
}

// change is one call of desired.Delivery.Changed.
type change struct {
	node string
	key  desired.Key
}

func (e *effects) notify(nodeName string, key desired.Key) {
	e.changed = append(e.changed, change{nodeName, key})
}

// The methods below change the state and need View.mu held. Handlers see an informer's objects in order, but the
// informer's store, from which adopt reads, is ahead of them: an object older than the known one is ignored. Versions of
// one type compare also between objects of different UIDs.

func (v *View) nodeLocked(name string) *node {
	n := v.nodes[name]
	if n == nil {
		n = &node{name: name, pods: map[*pod]struct{}{}}
		v.nodes[name] = n
	}
	return n
}

// forgetLocked drops a node that nothing is known of any more.
func (v *View) forgetLocked(n *node) {
	if n.class == classUnknown && len(n.pods) == 0 {
		delete(v.nodes, n.name)
	}
}

func (v *View) setNodeLocked(e *effects, object *corev1.Node) {
	n := v.nodeLocked(object.Name)
	before := n.class
	if IsEdge(object.Labels) {
		if before == classEdge && n.object.ResourceVersion == object.ResourceVersion {
			return
		}
		n.class, n.object = classEdge, object
		e.notify(n.name, v.NodeKey(n.name))
		if before != classEdge {
			v.adoptLocked(e, n)
		}
		return
	}
	if before == classCloud {
		return
	}
	n.class, n.object = classCloud, nil
	if before == classEdge {
		e.notify(n.name, v.NodeKey(n.name))
	}
	for p := range n.pods {
		v.dropPodLocked(e, p)
	}
}

func (v *View) deleteNodeLocked(e *effects, name string) {
	n := v.nodes[name]
	if n == nil {
		return
	}
	before := n.class
	n.class, n.object = classUnknown, nil
	switch before {
	case classEdge:
		e.notify(name, v.NodeKey(name))
	case classCloud:
		v.adoptLocked(e, n)
	}
	v.forgetLocked(n)
}

// adoptLocked takes the pods of a node that was not served before from the informer's store.
func (v *View) adoptLocked(e *effects, n *node) {
	objects, err := v.informers.Pods.GetIndexer().ByIndex(NodeIndex, n.name)
	if err != nil { // only if the index did not exist
		return
	}
	for _, obj := range objects {
		if object, ok := obj.(*corev1.Pod); ok {
			v.setPodLocked(e, object)
		}
	}
}

// setPodLocked takes a pod or a stub of it.
func (v *View) setPodLocked(e *effects, object *corev1.Pod) {
	key := v.PodKey(object.Namespace, object.Name)
	p := v.pods[key]
	if p != nil && (p.uid != object.UID || p.node.name != object.Spec.NodeName) {
		if older(object.ResourceVersion, p.version) {
			return
		}
		v.dropPodLocked(e, p)
		p = nil
	}
	if object.Spec.NodeName == "" {
		return
	}
	n := v.nodeLocked(object.Spec.NodeName)
	if n.class == classCloud { // then p is nil: see setNodeLocked
		return
	}
	if p == nil {
		p = &pod{key: key, uid: object.UID, node: n}
		v.pods[key] = p
		n.pods[p] = struct{}{}
	}
	if older(object.ResourceVersion, p.version) || p.current() && p.version == object.ResourceVersion {
		return
	}
	p.version = object.ResourceVersion
	if isStub(object) { // its node was a cloud node when it passed the transform
		if n.class == classEdge || p.object != nil {
			e.read = append(e.read, key)
		}
		return
	}
	p.object = object
	v.setRefsLocked(e, p, v.refsOf(object))
	e.notify(n.name, key)
}

func (v *View) deletePodLocked(e *effects, object *corev1.Pod) {
	p := v.pods[v.PodKey(object.Namespace, object.Name)]
	if p != nil && p.uid == object.UID { // another UID: a successor, already seen
		v.dropPodLocked(e, p)
	}
}

// dropPodLocked ends the service of a pod. Its node hears of the pod before the objects that it used.
func (v *View) dropPodLocked(e *effects, p *pod) {
	n := p.node
	delete(v.pods, p.key)
	delete(n.pods, p)
	e.notify(n.name, p.key)
	v.setRefsLocked(e, p, nil)
	v.forgetLocked(n)
}

// refsOf returns the references of a pod, each object once.
func (v *View) refsOf(object *corev1.Pod) []ref {
	var refs []ref
	podrefs.VisitConfig(object, func(c podrefs.Config) {
		key := v.ConfigMapKey(object.Namespace, c.Name)
		if c.Secret {
			key = v.SecretKey(object.Namespace, c.Name)
		}
		for i := range refs { // few: a map would cost more
			if refs[i].key == key {
				refs[i].required = refs[i].required || !c.Optional
				return
			}
		}
		refs = append(refs, ref{key: key, required: !c.Optional})
	})
	return slices.Clip(refs)
}

// setRefsLocked replaces the references of a pod. The new ones are counted first, so that an object which stays in use
// keeps its content.
func (v *View) setRefsLocked(e *effects, p *pod, refs []ref) {
	if slices.Equal(p.refs, refs) {
		return
	}
	old := p.refs
	p.refs = refs
	for _, r := range refs {
		v.useLocked(e, p.node.name, r)
	}
	for _, r := range old {
		v.releaseLocked(e, p.node.name, r)
	}
}

// older reports that version a is older than b.
func older(a, b string) bool { return desired.ParseVersion(a) < desired.ParseVersion(b) }
