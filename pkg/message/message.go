// Package message defines the Message that travels between cloudcore and EdgeCore and between the modules of cloudcore.
//
// A Message has a header (identity and correlation), a route (who sends, which group receives, which operation, which
// resource) and a content, which is always one JSON value kept as raw bytes: nothing is decoded until a module needs it,
// and the bytes of an object version are shared by all nodes that receive it.
//
// A Message is immutable once it was handed to another goroutine; use the constructors to derive new ones. The package
// imports nothing of this project and knows no module.
package message

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Operations of a route (spec 02 §1.1).
const (
	OpInsert    = "insert"
	OpDelete    = "delete"
	OpUpdate    = "update"
	OpPatch     = "patch"
	OpQuery     = "query"
	OpUpload    = "upload"
	OpResponse  = "response"
	OpError     = "error"
	OpKeepalive = "keepalive"
	OpGet       = "get"

	// Intercepted by the peer's connection layer and answered with AckText (spec 02 §1.5).
	OpConfig = "config"
	OpPing   = "ping"
	OpPong   = "pong"

	// Operations of node jobs and of the task manager (spec 03 §4.1).
	OpPrepull                = "prepull"
	OpUpgrade                = "upgrade"
	OpUpdateNodeActionStatus = "UpdateNodeActionStatus"

	// OpApplicationResponse answers an application of the edge's MetaServer (spec 03 §5.2).
	OpApplicationResponse = "applicationResponse"
)

// Modules of cloudcore by the names that EdgeCore knows as route sources (spec 01 §10), and sources of EdgeCore.
const (
	ModuleHub     = "cloudhub"
	ModuleEdge    = "edgecontroller"
	ModuleDevice  = "devicecontroller"
	ModuleSync    = "synccontroller"
	ModuleDynamic = "dynamiccontroller"
	ModulePolicy  = "policycontroller"
	ModuleRouter  = "router"
	ModuleTask    = "taskmanager"
	ModuleStream  = "cloudStream"

	SourceMetaServer  = "metaserver"
	SourceTwin        = "twin"
	SourceEdged       = "edged"
	SourceMetaManager = "metamanager"
)

// Groups of a route: the first-level routing key on the edge (spec 03 §6.3).
const (
	GroupResource = "resource"
	GroupTwin     = "twin"
	GroupUser     = "user"
	GroupMeta     = "meta"
	GroupHub      = "hub"
	GroupTask     = "taskmanager"
)

const (
	// ContentOK is the text by which both sides confirm (spec 03 §7.1).
	ContentOK = "OK"
	// AckText answers OpConfig, OpPing and OpPong (spec 02 §1.5).
	AckText = "ack"
	// ResourceCA asks for the certificate authority of kube-apiserver (spec 02 §2.10).
	ResourceCA = "k8s/ca.crt"
	// NoNamespace stands in a resource path for the namespace of a cluster-scoped object (spec 03 §6.1).
	NoNamespace = "null"
)

// Header identifies and correlates a message.
type Header struct {
	// ID is unique; a resend keeps it (spec 03 §2).
	ID string `json:"msg_id"`
	// ParentID is the ID of the message that this one answers, empty for anything unsolicited.
	ParentID string `json:"parent_msg_id,omitempty"`
	// Timestamp is the time of creation in milliseconds since the epoch.
	Timestamp int64 `json:"timestamp"`
	// ResourceVersion is the Kubernetes version of the object in the content, if there is one.
	ResourceVersion string `json:"resourceversion,omitempty"`
	// Sync is never true on the wire (spec 02 §1.4).
	Sync bool `json:"sync,omitempty"`
	// Type is empty on the wire.
	Type string `json:"type,omitempty"`
}

// Route says where a message comes from, who receives it, and what it asks.
type Route struct {
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Group       string `json:"group,omitempty"`
	Operation   string `json:"operation,omitempty"`
	// Resource is the path as it is on the wire, without any node prefix: Message.Node holds the node.
	Resource string `json:"resource,omitempty"`
}

// Message is the unit of exchange. Its Content is one JSON value or nil, which stands for null.
type Message struct {
	Header  Header          `json:"header"`
	Route   Route           `json:"route"`
	Content json.RawMessage `json:"content"`

	// Node is the node that sent the message (upstream: taken from its certificate, never from the message) or the node
	// that it is for (downstream). It is not part of the wire form.
	Node string `json:"-"`
}

// New returns a message of the given route and content with a new ID and the current time.
func New(node string, route Route, content json.RawMessage) *Message {
	return &Message{
		Header:  Header{ID: NewID(), Timestamp: time.Now().UnixMilli()},
		Route:   route,
		Content: content,
		Node:    node,
	}
}

// NewID returns a random UUID (version 4) as text.
func NewID() string { return uuid.NewString() }

// Reply returns the answer of module source to req: same resource, operation response, group resource, because only
// that group reaches the waiter on the edge (spec 02 §2.8).
func Reply(req *Message, source string, content json.RawMessage) *Message {
	m := New(req.Node, Route{Source: source, Group: GroupResource, Operation: OpResponse, Resource: req.Route.Resource}, content)
	m.Header.ParentID = req.Header.ID
	return m
}

// ErrorReply returns an answer of operation error to req; text is for people (spec 02 §1.1).
func ErrorReply(req *Message, source, text string) *Message {
	m := Reply(req, source, Text(text))
	m.Route.Operation = OpError
	return m
}

// Text returns s as a JSON string.
func Text(s string) json.RawMessage { return appendString(nil, s) }
