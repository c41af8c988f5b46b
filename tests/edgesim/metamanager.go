package edgesim

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// The sources whose updates the edge acknowledges (spec 03 §5.1).
func acknowledgedSource(source string) bool {
	switch source {
	case message.ModuleEdge, message.ModuleDynamic, message.ModuleDevice, message.ModulePolicy:
		return true
	}
	return false
}

func volumeOperation(operation string) bool {
	switch operation {
	case "createvolume", "deletevolume", "controllerpublishvolume", "controllerunpublishvolume":
		return true
	}
	return false
}

// process does with a push what MetaManager does (spec 03 §5.1): store, tell its local user, acknowledge.
func (c *core) process(a arrival) {
	m := a.msg
	p := splitPath(m.Route.Resource)
	switch op := m.Route.Operation; {
	case volumeOperation(op):
		c.processVolume(a)
	case p.typ == message.TypeEvent && (op == message.OpInsert || op == message.OpUpdate || op == message.OpPatch):
		c.bounce(a)
	case op == message.OpInsert:
		c.processInsert(a, p)
	case op == message.OpUpdate:
		c.processUpdate(a, p)
	case op == message.OpDelete:
		c.processDelete(a, p)
	case op == message.OpPatch, op == message.OpResponse:
		if err := c.store(m, p); err != nil {
			c.refuse(a, err)
			return
		}
		if op == message.OpResponse && m.Route.Source == message.ModuleEdge {
			c.n.rec.outcome(a.push, Unanswered)
			return
		}
		c.bounce(a)
	default:
		c.n.rec.outcome(a.push, Unanswered)
	}
}

func (c *core) processInsert(a arrival, p path) {
	if err := c.store(a.msg, p); err != nil {
		c.refuse(a, err)
		return
	}
	if a.msg.Route.Source != message.ModuleDevice && a.msg.Route.Source != message.ModulePolicy {
		c.notifyKubelet(a.msg, p)
	}
	c.acknowledge(a, a.msg.Route.Source == message.ModuleDevice)
}

func (c *core) processUpdate(a arrival, p path) {
	if err := c.store(a.msg, p); err != nil {
		c.refuse(a, err)
		return
	}
	if !acknowledgedSource(a.msg.Route.Source) {
		c.n.rec.outcome(a.push, Unanswered)
		return
	}
	if s := a.msg.Route.Source; s == message.ModuleEdge || s == message.ModuleDynamic {
		c.notifyKubelet(a.msg, p)
	}
	c.acknowledge(a, false)
}

func (c *core) processDelete(a arrival, p path) {
	m := a.msg
	if p.typ == message.TypePod && m.Route.Source == message.SourceEdged {
		c.bounce(a)
		return
	}
	if err := c.drop(m, p); err != nil {
		c.refuse(a, err)
		return
	}
	if m.Route.Source != message.ModulePolicy {
		c.notifyKubelet(m, p)
	}
	c.acknowledge(a, m.Route.Source == message.ModuleDevice)
}

// processVolume answers an operation of the CSI driver. An edge without driver blocks its whole store until it gives
// up (spec 03 §6.4, §11).
func (c *core) processVolume(a arrival) {
	answer := func(content []byte) { c.send(outgoing{msg: c.n.respond(a.msg, content), acks: a.push}) }
	if volume := c.n.opts.Volume; volume != nil {
		answer(volume(a.msg.Route.Operation, contentData(a.msg)))
		return
	}
	d := c.n.opts.Timing.VolumeTimeout
	c.block(d)
	c.after(d, func() { answer(nil) })
}

// errStore is the text of a refused store; its form is free (spec 03 §7.1).
type errStore struct{ key string }

func (e errStore) Error() string { return "cannot store " + e.key + ": disk is full" }

// store writes a message's content under its path.
func (c *core) store(m *message.Message, p path) error {
	key, value := m.Route.Resource, contentData(m)
	if f := c.n.faults.Load(); f.hits(f.FailStore, key, c.random) {
		return errStore{key}
	}
	if p.typ == message.TypeServiceAccountToken {
		key = tokenKey(p, value)
	}
	c.n.rec.put(key, p.typ, value)
	return nil
}

// drop deletes the row of a message's path, by the edge's rules (spec 04 §4.1).
func (c *core) drop(m *message.Message, p path) error {
	key := m.Route.Resource
	if f := c.n.faults.Load(); f.hits(f.FailStore, key, c.random) {
		return errStore{key}
	}
	if p.typ != message.TypePod {
		obj := parseMeta(contentData(m))
		c.judgeDelete(m, &obj)
		c.n.rec.remove(key)
		return nil
	}
	var pod struct {
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(contentData(m), &pod); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	c.n.rec.removePod(key, strings.Replace(key, "/"+message.TypePod+"/", "/"+message.TypePodPatch+"/", 1), pod.Metadata.UID)
	return nil
}

// tokenKey is the row of a service account token: it depends on what was asked for, not only on the path (spec 04 §3.6).
func tokenKey(p path, value []byte) string {
	var request struct {
		Spec json.RawMessage `json:"spec"`
	}
	if json.Unmarshal(value, &request) != nil {
		return "" // EdgeCore stores it under the empty key
	}
	return p.namespace + "/" + p.typ + "/" + p.name + "?" + compact(request.Spec)
}

// notifyKubelet tells the kubelet about a stored pod or node; the rest it reads from the store when it needs it.
func (c *core) notifyKubelet(m *message.Message, p path) {
	if c.kubelet == nil {
		return
	}
	switch p.typ {
	case message.TypePod:
		c.kubelet.podPushed(m.Route.Operation, m.Route.Resource, contentData(m))
	case message.TypeNode:
		c.kubelet.nodeRowChanged(m.Route.Resource)
	}
}

// acknowledge answers a processed push with "OK". Inserts and deletes of the device controller were rerouted to the
// twin by then, and their acknowledgement shows it (spec 03 §7.2).
func (c *core) acknowledge(a arrival, rerouted bool) {
	m := *a.msg
	if rerouted {
		m.Route.Source, m.Route.Group = message.GroupMeta, message.GroupTwin
	}
	c.sendAck(&m, a.push)
}

// sendAck sends the acknowledgement of m through the faults.
func (c *core) sendAck(m *message.Message, push uint64) {
	f := c.n.faults.Load()
	resource := m.Route.Resource
	if f.hits(f.DropAcks, resource, c.random) {
		c.n.rec.count(func(k *Counters) { k.DroppedAcks++ })
		c.n.rec.outcome(push, AckDropped)
		return
	}
	for range f.ackCopies(resource) {
		ack := outgoing{msg: c.n.respond(m, message.Text(message.ContentOK)), acks: push}
		if d := f.ackDelay(resource, c.random); d > 0 {
			c.after(d, func() { c.send(ack) })
			continue
		}
		c.send(ack)
	}
}

// refuse answers a push that could not be stored (spec 03 §7.1).
func (c *core) refuse(a arrival, err error) {
	m := message.ErrorReply(a.msg, message.SourceMetaManager, err.Error())
	m.Route.Group = a.msg.Route.Group
	c.n.rec.count(func(k *Counters) { k.Refusals++ })
	c.n.rec.outcome(a.push, Refused)
	c.send(outgoing{msg: m})
}

// bounce sends a message back to the cloud unchanged (spec 03 §5.1).
func (c *core) bounce(a arrival) {
	c.n.rec.count(func(k *Counters) { k.Bounced++ })
	c.n.rec.outcome(a.push, Unanswered)
	c.send(outgoing{msg: a.msg})
}
