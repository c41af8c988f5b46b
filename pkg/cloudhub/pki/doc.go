// Package pki is the certificate authority of the edge: it owns the CA, the serving certificate of every hub
// listener, and the bootstrap token with which a new node asks for its first certificate.
//
// The model. An [Authority] is loaded from files or from three Secrets in one namespace (spec 02 §5), and makes what
// is missing. The Secrets are shared by all replicas, therefore they are only ever created, filled in, or replaced
// under the resourceVersion that was read: whoever comes second uses what the first one stored. A CA is never
// replaced. The serving certificate is issued again, under the same CA, when the addresses of the configuration
// change or its end comes near. The token is replaced once half of its life is over.
//
// An Authority answers three questions for its users: which node is this certificate ([Authority.VerifyPeer],
// [NodeName]), is this token ours ([Authority.VerifyToken]), and may this request be signed
// ([Authority.IssueNodeCertificate]). What it refuses comes back as a [*RefusalError] with a reason out of a closed
// set; any other error is a failure of its own.
//
// How it is used: [New] checks the configuration, [Authority.Load] does all I/O that a start needs, and
// [Authority.Run] keeps token and serving certificate fresh until its context ends. The TLS configurations
// ([Authority.HubTLS], [Authority.EnrollTLS]) look the current certificate up for each connection, so a new one
// counts from the next handshake on.
//
// Concurrency: Load and Run have one caller at a time. Everything else may be called from any goroutine, takes no
// locks, and fails with [ErrNotLoaded] before the first Load.
//
// What it does not do: it holds no list of issued certificates and revokes none; it never logs or returns keys or
// tokens in errors; it does not notice that another process replaced the CA until the next Load.
package pki
