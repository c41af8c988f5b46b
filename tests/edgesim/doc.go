// Package edgesim is a simulated edge node that speaks to a cloudcore as an unmodified EdgeCore v1.23 does.
//
// A Node joins with a token, keeps one WebSocket to the hub, registers its Node and Lease, stores what it is given in
// rows keyed by the resource path on the wire, acknowledges by EdgeCore's rules, and acts as a kubelet on the pods it
// was given: it fetches what they refer to, reports them Running, and deletes them when asked. A Fleet is many nodes in
// one process.
//
// The package is the judge of the cloud side: it shares the message envelope with the product and nothing else. What it
// does is taken from the specifications of the edge (spec 02 §1, 2, 8; spec 03 §3, 5, 6, 7; spec 04 §1 to 4) and from
// recorded traffic of a real EdgeCore, including its limits: a receive queue that drops the oldest message, no order
// among neighbours, no version check in the store, a limiter of what it sends. Node.SetFaults adds what networks and
// disks do.
//
// A test observes a node through its history of pushes, its counters, its violations (things a correct cloud never
// does) and Node.Wait, which wakes on change and never polls.
//
// A node has three goroutines: the link (dial, then read), the writer (keepalive and limited outbox) and the core, which
// alone owns the state of the simulated kubelet. What others may see is behind one mutex (recorder). Nothing here keeps
// package state; any number of fleets fit in one process.
//
// It does not run containers, serve the stream tunnel, or speak QUIC.
package edgesim
