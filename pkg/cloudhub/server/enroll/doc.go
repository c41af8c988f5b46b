// Package enroll is the HTTPS server (port 10002) at which edge nodes get the CA and their certificates, at which keadm
// asks whether a node name is taken, and to which keadm reports the result of an upgrade (spec 02 §6).
//
// The model. Every request is one connection; there is no keep-alive, because edges never send a second one. TLS asks
// for a client certificate but verifies none, so that a bad one costs only the request that needed it. A request is
// refused in this order: too many connections, too many requests from one address, bad credentials, a body that is too
// large, a wish that policy forbids. A refusal is an answer, never an error of ours: it is counted by reason and logged
// at V(2). A certificate is given for a bootstrap token, or for the node's present certificate; whoever presents a
// certificate is judged by that alone (spec 02 §6.1).
//
// How it is used: [New] takes the settings and the few things that the server needs from others, all declared here;
// [Server.Run] listens and serves until its context ends, [Server.Serve] does so on a listener of the caller, and
// [Server.ServeHTTP] is the handler alone.
//
// The limits per address are token buckets in a bounded table that forgets the address seen longest ago. They are sized
// for a fleet that joins at once from one address, as it does behind a NAT, a NodePort or a load balancer: a burst of
// thousands passes, a loop does not. IPv6 addresses count by /64.
//
// Concurrency: Run or Serve have one caller at a time and return after every connection is gone; ServeHTTP may be
// called from any goroutine.
//
// What it does not do: it holds no keys, reads no Secret, asks no apiserver; it never logs tokens or bodies.
package enroll
