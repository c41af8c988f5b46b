package pki

import (
	"errors"
	"fmt"
)

// A RefusalError says no to a peer: what it presented is not good enough. It is never a failure of this process.
type RefusalError struct {
	Reason Reason
	err    error
}

// Error names what is wrong, without quoting secrets.
func (e *RefusalError) Error() string { return e.err.Error() }

// Unwrap gives what crypto/x509 had to say, if it was asked.
func (e *RefusalError) Unwrap() error { return e.err }

func refuse(reason Reason, format string, args ...any) error {
	return &RefusalError{Reason: reason, err: fmt.Errorf(format, args...)}
}

// A Reason is a short constant word, fit for a metric label.
type Reason string

// The reasons for which a RefusalError is returned.
const (
	ReasonTokenMalformed Reason = "token_malformed"
	ReasonTokenSignature Reason = "token_signature"
	ReasonTokenExpired   Reason = "token_expired"

	ReasonCertificateUntrusted Reason = "certificate_untrusted"
	ReasonCertificateExpired   Reason = "certificate_expired"
	ReasonCertificateIdentity  Reason = "certificate_identity"

	ReasonNodeName         Reason = "node_name"
	ReasonRequestMalformed Reason = "request_malformed"
	ReasonRequestSignature Reason = "request_signature"
	ReasonRequestSubject   Reason = "request_subject"
	ReasonRequestNames     Reason = "request_names"
	ReasonRequestUsages    Reason = "request_usages"
	ReasonRequestKey       Reason = "request_key"
)

// Reasons lists all of them, for metrics whose labels exist from the start.
func Reasons() []Reason {
	return []Reason{
		ReasonTokenMalformed, ReasonTokenSignature, ReasonTokenExpired,
		ReasonCertificateUntrusted, ReasonCertificateExpired, ReasonCertificateIdentity,
		ReasonNodeName, ReasonRequestMalformed, ReasonRequestSignature, ReasonRequestSubject,
		ReasonRequestNames, ReasonRequestUsages, ReasonRequestKey,
	}
}

// ErrNotLoaded is returned before the first successful Load.
var ErrNotLoaded = errors.New("the certificate authority is not loaded yet")
