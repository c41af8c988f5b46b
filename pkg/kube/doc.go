// Package kube is the way to kube-apiserver: clients, built once for the whole process, and the
// upkeep of shared informers.
//
// All clients share one rate limiter, one transport and therefore few connections: typed ones
// speak protobuf, the CRD and dynamic ones JSON, the metadata one asks for metadata alone. A
// call that is made on behalf of a node is marked by OnBehalfOf in its context; if
// impersonation is on, the transport turns the mark into the two headers of spec 01 §8, so that
// no client per node is needed.
//
// Informers runs the informers that enabled modules asked for and says which are complete. What
// the server refuses costs one clear log line, not the start: an older role lacks permissions
// that newer code uses (spec 01 §15.5), and MissingPermissions finds them before anything fails.
package kube
