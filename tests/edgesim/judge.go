package edgesim

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// isPush says whether m is unsolicited and goes to MetaManager (spec 03 §6.3).
func isPush(m *message.Message) bool {
	return m.Header.ParentID == "" && (m.Route.Group == message.GroupResource || m.Route.Group == "func")
}

// notePush writes the arrival of a push into the history and checks it against the rules.
func (n *Node) notePush(m *message.Message, size int) uint64 {
	content := contentData(m)
	obj := parseMeta(content)
	p := Push{
		Resource:  m.Route.Resource,
		Operation: m.Route.Operation,
		Source:    m.Route.Source,
		UID:       obj.Metadata.UID,
		Version:   obj.Metadata.ResourceVersion,
		MsgID:     m.Header.ID,
		At:        time.Now(),
		Bytes:     size,
	}
	p = n.rec.pushed(p, obj)
	n.judgePush(m, &obj)
	if n.opts.OnPush != nil {
		n.opts.OnPush(n.opts.Name, p)
	}
	return p.Seq
}

func (n *Node) judgePush(m *message.Message, obj *meta) {
	resource, op, id := m.Route.Resource, m.Route.Operation, m.Header.ID
	if volumeOperation(op) {
		return
	}
	p := splitPath(resource)
	if p.tokens != 3 || p.namespace == "" || p.typ == "" || p.name == "" {
		n.rec.violate(BadPath, resource, id, "%d tokens", p.tokens)
	}
	switch {
	case p.typ == message.TypeEvent:
		n.rec.violate(EventPush, resource, id, "operation %s", op)
	case op == message.OpInsert, op == message.OpDelete:
		if m.Route.Source == message.SourceEdged {
			n.rec.violate(BadSource, resource, id, "source %q", m.Route.Source)
		}
	case op == message.OpUpdate:
		if !acknowledgedSource(m.Route.Source) {
			n.rec.violate(BadSource, resource, id, "source %q", m.Route.Source)
		}
	default:
		n.rec.violate(BadOperation, resource, id, "operation %q", op)
		return
	}
	if op == message.OpDelete {
		if p.typ == message.TypePod && obj.Metadata.UID == "" {
			n.rec.violate(EmptyPodUID, resource, id, "content of %d bytes", len(m.Content))
		}
		return
	}
	if obj.Kind == "" || obj.APIVersion == "" || obj.Metadata.Name == "" || obj.Metadata.UID == "" {
		n.rec.violate(NoKind, resource, id, "kind %q, apiVersion %q, name %q, UID %q", obj.Kind, obj.APIVersion, obj.Metadata.Name, obj.Metadata.UID)
	}
	if v := m.Header.ResourceVersion; v == "" || v != obj.Metadata.ResourceVersion {
		n.rec.violate(NoVersion, resource, id, "header has %q, content %q", v, obj.Metadata.ResourceVersion)
	}
	if p.typ == message.TypePod && obj.Spec.NodeName != n.opts.Name {
		n.rec.violate(ForeignPod, resource, id, "bound to %q", obj.Spec.NodeName)
	}
}

// noteAnswer follows the versions that answers give, which count as much as pushes (spec 04 §4.3).
func (n *Node) noteAnswer(m *message.Message) {
	if m.Route.Operation != message.OpResponse || len(m.Content) == 0 || m.Content[0] != '{' {
		return
	}
	p := splitPath(m.Route.Resource)
	resource := m.Route.Resource
	switch p.typ {
	case message.TypePodPatch:
		resource = p.namespace + "/" + message.TypePod + "/" + p.name
	case message.TypeNodePatch:
		resource = p.namespace + "/" + message.TypeNode + "/" + p.name
	case message.TypeNode, message.TypeConfigMap, message.TypeSecret, message.TypePod:
	default:
		return
	}
	var answer struct {
		meta
		Object *meta
		Err    json.RawMessage
	}
	if json.Unmarshal(m.Content, &answer) != nil {
		return // what the edge makes of it is judged where it is used
	}
	if answer.Object == nil {
		n.rec.answeredVersion(resource, m.Header.ID, answer.meta)
	} else if len(answer.Err) == 0 || string(answer.Err) == "null" {
		n.rec.answeredVersion(resource, m.Header.ID, *answer.Object)
	}
}

// judgeStoredAnswer checks an answer that the edge is about to store as an object.
func (c *core) judgeStoredAnswer(m *message.Message, p path) {
	if m.Route.Resource == message.ResourceCA {
		return
	}
	var content struct {
		meta
		ErrStatus json.RawMessage
		Status    struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	id, resource := m.Header.ID, m.Route.Resource
	if len(m.Content) == 0 || m.Content[0] != '{' {
		c.n.rec.violate(StoredError, resource, id, "content is no object")
		return
	}
	if err := json.Unmarshal(m.Content, &content); err != nil {
		// Such as a metav1.Status, whose status is a text.
		c.n.rec.violate(StoredError, resource, id, "content is no such object: %v", err)
		return
	}
	switch {
	case content.ErrStatus != nil:
		c.n.rec.violate(StoredError, resource, id, "content is an error")
	case p.typ == message.TypeServiceAccountToken && content.Status.Token == "":
		c.n.rec.violate(StoredError, resource, id, "token is empty")
	case p.typ != message.TypeServiceAccountToken && content.Metadata.UID == "":
		c.n.rec.violate(FalseSuccess, resource, id, "object has no UID")
	}
}

// judgeDelete checks whether a delete of a row, which for all types but pods ignores the UID, hits the right object.
func (c *core) judgeDelete(m *message.Message, obj *meta) {
	row, ok := c.n.rec.row(m.Route.Resource)
	if ok && row.UID != "" && obj.Metadata.UID != "" && row.UID != obj.Metadata.UID {
		c.n.rec.violate(DeletesOther, m.Route.Resource, m.Header.ID, "row has UID %s, message %s", row.UID, obj.Metadata.UID)
	}
}

// compact returns JSON without spaces, or as it is if it is none.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}
