// Package csisocket serves the KubeEdge CSI driver on a unix socket of the cloud host (spec 02 §4, spec 03 §11).
//
// The model. The driver connects, writes one JSON message, reads one JSON message, and goes. A request asks a node to
// do one of four volume operations; it is sent to the node through the [Requester], and the node's answer comes back in
// the form that the driver can read: a base64 string of the CSI response, or an operation "error" with a text. Every
// request gets an answer, also one that is malformed, too large, or for a node that is not connected. The driver reads
// no more than 10480 bytes at once, so an answer beyond that becomes an error, too.
//
// How it is used: [New] checks the settings, [Server.Run] makes the socket and serves until its context ends.
//
// The socket file belongs to one process: a file that nobody listens on is replaced, one that somebody listens on is
// an error. It appears under its name only with its final mode, and is removed at the end only if it is still ours.
//
// Concurrency: a goroutine a connection, no more than Config.MaxConnections; further drivers wait in the backlog.
//
// What it does not do: it knows no sessions and keeps no state between requests; whoever may open the socket is
// trusted to name any node.
package csisocket
