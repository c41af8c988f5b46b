// Package delivery keeps the local store of every connected edge node equal to the desired set of that node.
//
// It is level-triggered: no message is ever queued. For each node with a session the Engine holds a table of objects
// with what the node is recorded to hold (UID and version) and a set of dirty keys. A worker takes a dirty key, reads
// the newest state from its desired.Source and compares:
//
//	desired      held          step
//	absent       a UID         send a delete; the ack removes the record
//	present      none          make a durable intent (a record without a version), then send an insert
//	present      older         send an update; the ack records the version
//	present      another UID   as the kind demands: delete the old one first, or only drop its record afterwards
//	as held                    nothing
//
// Guarantees per node and object: at most one push is unacknowledged, because the edge may swap neighbours and has no
// version check; an older version is never sent after a newer one; a resend of the same version keeps its msg_id
// (spec 03 §6.4, §7.4). Whatever crashes, the records name every object that the edge may hold, so that the next owner
// of the node finds the difference again. At most Config.Window pushes of a node are in flight, because the edge drops
// the oldest of a full queue of 100 (spec 02 §2.4); an object that waits for a late ack gives its place to others.
//
// Patches that the edge itself asked for come back to it as replies with the whole object. Hold keeps pushes away while
// such a patch is on its way; its Release counts the reply as delivered. Such a version is recorded once a WebSocket
// pong proves that the edge has read the reply (Session.Confirm).
//
// Concurrency: one mutex per node, never held over I/O. Sources are read under it, so they must not call the Engine
// from within. Frames are handed to a Link that never blocks. Records are written by the Records implementation in the
// background.
//
// The package knows neither WebSockets nor the record objects of Kubernetes.
package delivery
