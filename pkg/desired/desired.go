// Package desired holds the words in which controllers and the delivery engine speak about the state of edge nodes.
//
// A controller is a Source: it knows which objects a node should hold (Keys) and the newest version of each (Newest).
// Whenever that may have changed it tells the engine which key of which node to look at (Delivery.Changed). The engine
// then reads the newest state and converges the node to it. Nothing is queued: a key that changes ten times before the
// node can take it is read once, in its newest version.
//
// The package has no behaviour of its own, so that controllers and the hub need not import one another.
package desired

import (
	"encoding/json"
	"strconv"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Kind describes how the objects of one type travel to nodes. There is one Kind value for each type in a process;
// kinds are compared by pointer.
type Kind struct {
	// Type is the second token of the wire path, for example "pod".
	Type string
	// APIVersion and Kind are those of the Kubernetes object.
	APIVersion, Kind string
	// ClusterScoped objects have the wire namespace "null" and a ClusterObjectSync as their record.
	ClusterScoped bool
	// Source is the route source of pushes; EdgeCore accepts only certain ones (spec 03 §7.2, §10.2).
	Source string
	// Rank orders the first delivery: lower ranks are sent first, so that a pod finds its ConfigMaps. 0 to MaxRank.
	Rank int
	// DeletesByUID says that the edge deletes an object of this kind only if its UID matches. The old object is then
	// deleted before its successor of the same name is sent; for other kinds a delete would hit the successor
	// (spec 03 §12.3).
	DeletesByUID bool
	// UpdateOnly kinds are pushed with operation update even the first time (spec 04 §4: Node and Secret).
	UpdateOnly bool
	// Patched kinds are changed by the nodes themselves, which get the whole object back in the reply: only for them
	// Object.Digest is asked.
	Patched bool
	// EndsSession kinds are never deleted on the wire: without the object there is no session (the Node itself).
	EndsSession bool
}

// MaxRank is the highest Kind.Rank.
const MaxRank = 3

// Key names one object that a node may hold. Namespace is empty for cluster-scoped kinds.
type Key struct {
	Kind            *Kind
	Namespace, Name string
}

// Resource is the wire path of the object.
func (k Key) Resource() message.Resource {
	ns := k.Namespace
	if k.Kind.ClusterScoped {
		ns = message.NoNamespace
	}
	return message.Resource{Namespace: ns, Type: k.Kind.Type, Name: k.Name}
}

// String is the wire path as text, for logs.
func (k Key) String() string { return k.Resource().String() }

// State says what a Source knows about a key.
type State int

const (
	// Absent objects must not be on the node.
	Absent State = iota
	// Present objects must be on the node in their newest version.
	Present
	// Pending objects are not decided: their content is still being fetched. The source calls Changed once it knows.
	Pending
)

// Object is one version of one object. Implementations are immutable and safe for concurrent use.
type Object interface {
	UID() string
	// Version is the resourceVersion.
	Version() string
	// Body is the JSON of the whole object with apiVersion and kind (spec 04 §4). The result is shared: never change it.
	Body() (json.RawMessage, error)
	// Digest is a hash over everything that a consumer on the edge acts on: the object without its status,
	// resourceVersion, generation and managedFields. Equal digests of two versions say that the later one may reach
	// the edge as the reply to a patch instead of a push (spec 04 §4.3).
	Digest() (uint64, error)
}

// Source knows the desired state of nodes for some kinds. Its methods are called from many goroutines, must not block,
// and must not call back into Delivery.
type Source interface {
	// Kinds are the kinds that this source answers for; the same each time.
	Kinds() []*Kind
	// Keys lists what the node should hold, in any order.
	Keys(node string) []Key
	// Newest returns the newest version of an object for a node. The object is nil unless the state is Present.
	Newest(node string, key Key) (Object, State)
}

// Delivery is what the delivery engine offers to controllers. All methods return at once and are safe for concurrent
// use; they do nothing for a node that has no session here.
type Delivery interface {
	// Changed says that the object, or whether the node should hold it, may have changed. Call it after the change is
	// visible through the Source.
	Changed(node string, key Key)
	// Resync forgets what the node acknowledged, so that everything it should hold is sent once more: its database may
	// be gone (spec 03 D13).
	Resync(node string)
	// Hold defers pushes of the object while a change that the node itself asked for is on its way to kube-apiserver,
	// so that the node doesn't get its own change back. It must be released.
	Hold(node string, key Key) Hold
}

// Hold is a running deferral of pushes.
type Hold interface {
	// Release ends the hold. If a reply with the whole object was handed to the node's session before, uid and version
	// are those of the object in it, which the edge stores; otherwise they are empty.
	Release(uid, version string)
}

// ParseVersion returns a resourceVersion as a number. Versions that are not decimal numbers count as 0, which is
// older than any: such an object is sent rather than lost (spec 03 D24).
func ParseVersion(version string) uint64 {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
