// Package pki keeps the keys and certificates of one local cluster in a folder.
//
// An Authority is a self-signed CA; Ensure issues a Leaf below it. Everything is created when it is missing and
// reused while it is valid, so that a cluster that starts again keeps the trust that others hold copies of. A leaf
// that is near its end, belongs to another CA or no longer matches its description is issued anew; a CA is never
// replaced silently, because every certificate in the hands of others would stop to work.
//
// Keys are ECDSA P-256: they cost far less processor time than RSA in the handshakes of a test. Functions here are
// not safe for concurrent use on the same folder.
package pki
