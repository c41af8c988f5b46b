package edgesim

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// stage is how far a pod is in its life on the node.
type stage int

const (
	starting   stage = iota // waits for what it refers to, then for its containers
	running                 // containers run
	stopping                // containers were told to end
	terminated              // containers ended
)

// pod is one pod of the kubelet, which knows pods by UID.
type pod struct {
	uid    types.UID
	object *corev1.Pod // the newest given
	stage  stage
	status corev1.PodStatus // as the kubelet sees it
	ip     string

	// awaited is the number of answers to queries on their way, failed tells that one of them was bad.
	awaited int
	failed  bool
	retry   time.Duration
	tokens  map[string]bool // got already

	patching, dirty bool
	deleting, gone  bool // the delete request is on its way, was confirmed
}

func (p *pod) key() string {
	return p.object.Namespace + "/" + message.TypePod + "/" + p.object.Name
}

// loadPods starts the pods in the store, as a kubelet's start does.
func (k *kubelet) loadPods() {
	seen := make(map[types.UID]bool)
	for _, key := range k.c.n.rec.rowsOf(message.TypePod) {
		row, ok := k.c.n.rec.row(key)
		if !ok {
			continue
		}
		var obj corev1.Pod
		if err := row.Decode(&obj); err != nil {
			k.logger().V(2).Info("Stored pod is unreadable", "resource", key, "err", err)
			continue
		}
		if obj.Spec.NodeName == k.c.n.opts.Name {
			seen[obj.UID] = true
			k.admit(&obj)
		}
	}
	for uid := range k.pods {
		if !seen[uid] {
			k.remove(uid)
		}
	}
}

// podPushed handles a pod that was stored or deleted (spec 04 §4.1).
func (k *kubelet) podPushed(operation, resource string, content []byte) {
	var obj corev1.Pod
	if err := json.Unmarshal(content, &obj); err != nil {
		k.logger().V(2).Info("Pushed pod is unreadable", "resource", resource, "err", err)
		return
	}
	if operation == opDelete {
		switch {
		case apiequality.Semantic.DeepEqual(obj.Spec, corev1.PodSpec{}):
			k.loadPods() // only a name and a UID: whatever is no longer in the store goes
		case obj.Spec.NodeName == k.c.n.opts.Name:
			k.remove(obj.UID)
		}
		return
	}
	if obj.Spec.NodeName == k.c.n.opts.Name {
		k.admit(&obj)
	}
}

// admit takes a new pod or a new version of a known one.
func (k *kubelet) admit(obj *corev1.Pod) {
	p, known := k.pods[obj.UID]
	if !known {
		p = &pod{uid: obj.UID}
		k.pods[obj.UID] = p
	}
	p.object = obj
	switch {
	case known:
		k.syncSoon(p)
	case obj.Status.Phase == corev1.PodSucceeded || obj.Status.Phase == corev1.PodFailed:
		p.stage, p.status = terminated, *obj.Status.DeepCopy()
		k.sync(p)
	case obj.Status.Phase == corev1.PodRunning: // the process started again, the containers went on
		p.stage, p.ip = running, obj.Status.PodIP
		k.setStatus(p, runningStatus(p, stamp(k.c.now())))
		k.c.n.rec.podAdopted(obj)
		k.fetch(p)
	default:
		p.stage = starting
		k.setStatus(p, pendingStatus(p, k.c.n.opts.NodeIP, stamp(k.c.now())))
		k.fetch(p)
	}
	if obj.DeletionTimestamp != nil {
		k.stop(p)
	}
}

// ready starts the containers once everything the pod refers to is there.
func (k *kubelet) ready(p *pod) {
	k.c.after(k.c.n.opts.Timing.PodStart, func() {
		if k.pods[p.uid] != p || p.stage != starting {
			return
		}
		p.stage = running
		k.podIPs++
		p.ip = fmt.Sprintf("10.%d.%d.%d", 64+k.podIPs>>16&63, k.podIPs>>8&255, k.podIPs&255)
		k.setStatus(p, runningStatus(p, stamp(k.c.now())))
		if k.c.n.opts.Events {
			k.report(p, "Started", "Started container")
		}
	})
}

// stop ends the containers within the pod's grace period.
func (k *kubelet) stop(p *pod) {
	if p.stage >= stopping {
		return
	}
	p.stage = stopping
	wait := k.c.n.opts.Timing.PodStop
	if g := p.object.DeletionGracePeriodSeconds; g != nil {
		wait = min(wait, time.Duration(*g)*time.Second)
	}
	k.c.after(wait, func() {
		if k.pods[p.uid] != p {
			return
		}
		p.stage = terminated
		k.setStatus(p, endedStatus(p, stamp(k.c.now())))
		if k.c.n.opts.Events {
			k.report(p, "Killing", "Stopped container")
		}
	})
}

// remove drops a pod at once, whatever its containers do.
func (k *kubelet) remove(uid types.UID) {
	if _, ok := k.pods[uid]; ok {
		delete(k.pods, uid)
		k.c.n.rec.podGone(string(uid))
	}
}

func (k *kubelet) setStatus(p *pod, s corev1.PodStatus) {
	p.status = s
	k.sync(p)
}

// deletePod asks the cloud to delete a pod whose end it has confirmed (spec 04 §3.4).
func (k *kubelet) deletePod(p *pod) {
	if p.deleting || p.gone || k.c.n.faults.Load().NoPodStatus {
		return
	}
	p.deleting = true
	grace := int64(0)
	options := mustMarshal(&metav1.DeleteOptions{
		GracePeriodSeconds: &grace,
		Preconditions:      &metav1.Preconditions{UID: &p.uid},
	})
	k.c.request(message.OpDelete, p.key(), options, direct, func(m *message.Message, err error) {
		p.deleting = false
		ok := false
		if err == nil {
			text, isText := m.ContentText()
			ok = isText && text == message.ContentOK
		}
		if ok {
			p.gone = true
			k.c.n.rec.count(func(c *Counters) { c.PodDeletes++ })
			return
		}
		k.c.n.rec.count(func(c *Counters) { c.PatchErrors++ })
		k.syncLater()
	})
}

// report sends an event of a pod; nothing answers it (spec 04 §2, row 22).
func (k *kubelet) report(p *pod, reason, text string) {
	now := stamp(k.c.now())
	name := fmt.Sprintf("%s.%x", p.object.Name, k.c.now().UnixNano())
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.object.Namespace},
		InvolvedObject: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: p.object.Namespace, Name: p.object.Name, UID: p.uid,
		},
		Reason: reason, Message: text, Type: corev1.EventTypeNormal, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: k.c.n.opts.Name},
	}
	k.c.send(outgoing{msg: k.c.message(message.Route{
		Source: message.SourceEdged, Group: message.GroupMeta, Operation: message.OpInsert,
		Resource: p.object.Namespace + "/" + message.TypeEvent + "/" + name,
	}, mustMarshal(event))})
}
