package edgesim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Row is one row of a node's store. It is immutable.
type Row struct {
	// Type is the second token of the resource path.
	Type string
	// Value is what was stored: the JSON of an object, or a text.
	Value []byte
	// UID and Version are those of the object in Value, if it is one.
	UID, Version string
	// At is when it was stored.
	At time.Time
}

// Decode decodes the value into v.
func (r Row) Decode(v any) error { return json.Unmarshal(r.Value, v) }

// Outcome is what became of a push.
type Outcome int

// Outcomes of a push.
const (
	// Pending: not answered yet, or never will be.
	Pending Outcome = iota
	// Acked: the acknowledgement was written to the connection.
	Acked
	// AckDropped: processed, and a fault suppressed the acknowledgement.
	AckDropped
	// Refused: answered with an error.
	Refused
	// Overflowed: dropped by a full queue.
	Overflowed
	// Unanswered: processed, and EdgeCore answers no such message.
	Unanswered
)

// Push is an unsolicited message for the store, as it arrived.
type Push struct {
	// Seq counts the pushes of a node from 1.
	Seq       uint64
	Resource  string
	Operation string
	Source    string
	// UID and Version are those of the object in the content.
	UID, Version string
	MsgID        string
	// At is the time of arrival.
	At      time.Time
	Session int
	Bytes   int
	// Resend says that the message ID was seen before.
	Resend bool
	// Duplicate says that the node had this version from an earlier message and had acknowledged it.
	Duplicate bool
	// Echo says that the node had this version from an answer to its own request.
	Echo    bool
	Outcome Outcome
}

// ViolationKind names what a correct cloud never does.
type ViolationKind string

// Kinds of violation, each with the rule that it breaks.
const (
	// OlderAfterNewer: a version came after a newer one of the same object (spec 04 §4.3).
	OlderAfterNewer ViolationKind = "older version after newer"
	// Resurrection: an object came after its delete (spec 03 §8.2).
	Resurrection ViolationKind = "push after delete"
	// DeletesOther: a delete removes a row of another UID (spec 03 §12.3).
	DeletesOther ViolationKind = "delete hits another object"
	// EmptyPodUID: a pod delete without UID removes whatever is there (spec 03 §12.3).
	EmptyPodUID ViolationKind = "pod delete without UID"
	// BadPath: a path that is not <namespace>/<type>/<name>, such as an untrimmed one (spec 03 §6.2).
	BadPath ViolationKind = "bad resource path"
	// BadSource: an update from a source that the edge does not acknowledge (spec 03 §5.1).
	BadSource ViolationKind = "update from unknown source"
	// BadOperation: patch, query or a response without parent, which the edge sends back or drops (spec 03 §5.1).
	BadOperation ViolationKind = "operation is not for the edge"
	// EventPush: an event object, which the edge sends back to the cloud (spec 03 §5.1).
	EventPush ViolationKind = "push of an event"
	// NoKind: a content without apiVersion, kind, name or UID (spec 04 §4.0).
	NoKind ViolationKind = "object without kind or name"
	// NoVersion: an insert or update without resourceversion in its header, or with another one in its content.
	NoVersion ViolationKind = "header without version of content"
	// ForeignPod: a pod that is bound to another node.
	ForeignPod ViolationKind = "pod of another node"
	// WouldCrash: an answer on which EdgeCore dereferences nil (spec 04 §1.2).
	WouldCrash ViolationKind = "answer crashes EdgeCore"
	// FalseSuccess: a failure that EdgeCore reads as success with an empty object (spec 04 §1.2).
	FalseSuccess ViolationKind = "failure reads as success"
	// StoredError: an answer that EdgeCore stores as if it were the object (spec 04 §3.6).
	StoredError ViolationKind = "error stored as object"
	// WrongReply: an answer whose path is not that of the request (spec 04 §1).
	WrongReply ViolationKind = "answer for another resource"
	// SyncFlag: header.sync is true (spec 02 §1.4).
	SyncFlag ViolationKind = "sync flag"
	// UnknownGroup: a group that no module of the edge has (spec 03 §6.3).
	UnknownGroup ViolationKind = "unknown group"
	// BadFrame: a message that is not JSON, which ends the connection (spec 02 §2.3).
	BadFrame ViolationKind = "frame is no message"
)

// Violation is one of them.
type Violation struct {
	Kind     ViolationKind
	Resource string
	MsgID    string
	Detail   string
	At       time.Time
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: %s (message %s): %s", v.Kind, v.Resource, v.MsgID, v.Detail)
}

// Counters count what happened to a node since it was made, or to all nodes of a fleet.
type Counters struct {
	// Dials and DialFailures count connection attempts, Sessions those that succeeded, ReadErrors connections that the
	// other side or the network ended.
	Dials, DialFailures, Sessions, ReadErrors uint64
	// Received counts messages of every kind, BytesReceived their size.
	Received, BytesReceived uint64
	// Sent counts messages written, SendFailures those lost by a failed write.
	Sent, SendFailures uint64
	// Pushes counts unsolicited messages for the store. Resends, Duplicates and Echoes are among them, see Push;
	// Overlaps came while an earlier push of the same resource was not acknowledged yet.
	Pushes, Resends, Duplicates, Echoes, Overlaps uint64
	// Overflows were dropped by the receive queue, InboxDrops and OutboxDrops by the queues behind it.
	Overflows, InboxDrops, OutboxDrops uint64
	// Acks were written, DroppedAcks suppressed by a fault, Refusals are negative.
	Acks, DroppedAcks, Refusals uint64
	// Bounced messages were sent back to the cloud.
	Bounced uint64
	// Requests were sent; each ends as Answers, Timeouts or, without connection, Unsent. LateAnswers had no waiter.
	Requests, Answers, Timeouts, Unsent, LateAnswers uint64
	// Keepalives and Pings (answered control messages).
	Keepalives, Pings uint64
	// Leases were renewed, LeaseErrors not.
	Leases, LeaseErrors uint64
	// NodePatches, PodPatches and PodDeletes succeeded; PatchErrors did not.
	NodePatches, PodPatches, PodDeletes, PatchErrors uint64
	// FetchErrors are refused queries for ConfigMaps, Secrets and tokens.
	FetchErrors uint64
	// Violations counts all, also those that are no longer in the list.
	Violations uint64
	// MaxUnacked is the largest number of pushes received and not yet acknowledged.
	MaxUnacked uint64
}

// PodTimes tell when things happened to a pod of a node; the zero time means not yet.
type PodTimes struct {
	Namespace, Name, UID string
	// Arrived is when its first push arrived, Running when the cloud confirmed the Running status, Deleted when its
	// delete was processed.
	Arrived, Running, Deleted time.Time
}

// State is a view of a node for Wait. It is valid only during the call that gets it.
type State struct{ r *recorder }

// Row returns the row of a resource path.
func (s State) Row(resource string) (Row, bool) {
	row, ok := s.r.rows[resource]
	return row, ok
}

// Connected says whether the node has a connection that it believes in.
func (s State) Connected() bool { return s.r.connected }

// Session is the number of the newest session, from 1.
func (s State) Session() int { return s.r.session }

// Registered says whether the Node was created or found.
func (s State) Registered() bool { return s.r.registered }

// Ready says whether the cloud confirmed the status Ready and a lease was renewed.
func (s State) Ready() bool { return s.r.nodeReady && s.r.leased }

// Counters returns the counters.
func (s State) Counters() Counters { return s.r.counters }

// PodRunning says whether the cloud confirmed the Running status of a pod of this name that is still here.
func (s State) PodRunning(namespace, name string) bool {
	row, ok := s.r.rows[namespace+"/pod/"+name]
	if !ok {
		return false
	}
	t, ok := s.r.pods[row.UID]
	return ok && !t.Running.IsZero() && t.Deleted.IsZero()
}

// RunningPods counts the pods that are here with a confirmed Running status.
func (s State) RunningPods() int { return s.r.running }

// Pushes returns the remembered pushes, oldest first. The caller must not change them.
func (s State) Pushes() []Push { return s.r.pushes.all() }

// wait is a condition that somebody waits for.
type wait struct {
	cond func(State) bool
	done chan struct{}
}

// ErrWait wraps the error of a Wait whose condition did not come true.
var ErrWait = errors.New("condition not reached")

// Wait returns when cond holds. It calls cond at once and after each change, under the node's lock: cond must be quick
// and must not call the node.
func (n *Node) Wait(ctx context.Context, cond func(State) bool) error {
	r := &n.rec
	r.mu.Lock()
	if cond(State{r}) {
		r.mu.Unlock()
		return nil
	}
	w := &wait{cond: cond, done: make(chan struct{})}
	r.waits[w] = struct{}{}
	r.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		r.mu.Lock()
		delete(r.waits, w)
		r.mu.Unlock()
		return fmt.Errorf("node %s: %w: %w", n.opts.Name, ErrWait, context.Cause(ctx))
	}
}

// WaitConnected waits for a connection.
func (n *Node) WaitConnected(ctx context.Context) error { return n.Wait(ctx, State.Connected) }

// WaitReady waits until the node is Ready in the eyes of the cloud.
func (n *Node) WaitReady(ctx context.Context) error { return n.Wait(ctx, State.Ready) }

// WaitRow waits for a row of a resource that fulfils cond; a nil cond accepts any.
func (n *Node) WaitRow(ctx context.Context, resource string, cond func(Row) bool) error {
	return n.Wait(ctx, func(s State) bool {
		row, ok := s.Row(resource)
		return ok && (cond == nil || cond(row))
	})
}

// WaitGone waits until there is no row of a resource.
func (n *Node) WaitGone(ctx context.Context, resource string) error {
	return n.Wait(ctx, func(s State) bool {
		_, ok := s.Row(resource)
		return !ok
	})
}

// WaitPodRunning waits until the cloud confirmed that a pod runs.
func (n *Node) WaitPodRunning(ctx context.Context, namespace, name string) error {
	return n.Wait(ctx, func(s State) bool { return s.PodRunning(namespace, name) })
}
