// Package upstream is the half of the edge controller that answers nodes: to the kubelet inside every EdgeCore it is
// kube-apiserver (spec 04 §2, §3).
//
// A table leads from (resource type, operation) to a small typed handler, which decodes, authorises, makes one call of
// kube-apiserver and returns the answer. What all handlers share is written once: the forms of replies and errors that
// the edge understands, deadlines, metrics, and that every request is answered, also unknown and refused ones.
//
// Messages wait in an inbox with a lane for each family of work, so that a flood of one kind cannot delay another
// (leases have a lane of their own), and within a lane nodes take turns. The messages of one node and lane are handled
// in order.
//
// Identity is message.Message.Node, from the certificate of the connection. Authorisation is always on: a node reads
// and writes only its own Node, Lease, pods, and what its pods refer to. Caches answer first; a miss is checked live,
// because a cache may be behind what the node already got.
package upstream
