package pki

import (
	"crypto/x509"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	nodePrefix = "system:node:" // CN of a node's certificate, before the node name
	nodesGroup = "system:nodes" // its only O

	legacyName  = "kubeedge.io" // CN of EdgeCore 1.15 and older (spec 02 §9)
	legacyGroup = "kubeedge"    // its O, in any case
)

// Peer is who a verified certificate speaks for.
type Peer struct {
	// Node is the name of the node; empty for a legacy certificate, which names none.
	Node string
	// Legacy is true for a certificate that speaks for any node. Only with AllowLegacyCertificates.
	Legacy bool
	// Expired is true when the certificate passed only thanks to ExpiredCertificateGrace.
	Expired bool
}

// MayActAs tells whether the peer is the named node, as far as its certificate can tell.
func (p Peer) MayActAs(node string) bool { return p.Legacy || p.Node != "" && p.Node == node }

// NodeName reads the node's name from a certificate. It looks at the subject only: verify the certificate first.
func NodeName(cert *x509.Certificate) (string, error) {
	if cert == nil {
		return "", refuse(ReasonCertificateIdentity, "no certificate")
	}
	name, ok := strings.CutPrefix(cert.Subject.CommonName, nodePrefix)
	if !ok || len(cert.Subject.Organization) != 1 || cert.Subject.Organization[0] != nodesGroup {
		return "", refuse(ReasonCertificateIdentity, "certificate is not one of an edge node")
	}
	if err := checkNodeName(name); err != nil {
		return "", refuse(ReasonCertificateIdentity, "certificate names no node: %w", err)
	}
	return name, nil
}

// isLegacy recognises the one subject that all nodes of old releases share.
func isLegacy(commonName string, organization []string) bool {
	return commonName == legacyName && len(organization) == 1 && strings.EqualFold(organization[0], legacyGroup)
}

func checkNodeName(name string) error {
	if len(validation.IsDNS1123Subdomain(name)) != 0 {
		return refuse(ReasonNodeName, "%.64q is not a node name", name)
	}
	return nil
}

// VerifyPeer tells who presented these certificates, leaf first. It verifies the chain for client authentication, so
// it may be given what a connection without verification carried.
func (a *Authority) VerifyPeer(certs []*x509.Certificate) (Peer, error) {
	return a.verifyPeer(certs, time.Now())
}

// VerifyRenewal is VerifyPeer for a certificate that asks for its successor: one that expired within
// ExpiredCertificateGrace passes, marked Expired.
func (a *Authority) VerifyRenewal(certs []*x509.Certificate) (Peer, error) {
	now := time.Now()
	if len(certs) == 0 || !now.After(certs[0].NotAfter) || now.Sub(certs[0].NotAfter) > a.cfg.ExpiredCertificateGrace {
		return a.verifyPeer(certs, now)
	}
	peer, err := a.verifyPeer(certs, certs[0].NotAfter)
	peer.Expired = err == nil
	return peer, err
}

func (a *Authority) verifyPeer(certs []*x509.Certificate, at time.Time) (Peer, error) {
	ca := a.ca.Load()
	if ca == nil {
		return Peer{}, ErrNotLoaded
	}
	if len(certs) == 0 {
		return Peer{}, refuse(ReasonCertificateIdentity, "no certificate")
	}
	leaf := certs[0]
	if at.After(leaf.NotAfter) {
		return Peer{}, refuse(ReasonCertificateExpired, "certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	// The CA signs nodes directly; there are no intermediates to look for.
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:       ca.pool,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CurrentTime: at,
	})
	if err != nil {
		return Peer{}, refuse(ReasonCertificateUntrusted, "certificate does not verify: %w", err)
	}
	return a.Identify(leaf)
}

// Identify tells whom a certificate speaks for that the TLS handshake has verified already.
func (a *Authority) Identify(leaf *x509.Certificate) (Peer, error) {
	name, err := NodeName(leaf)
	if err == nil {
		return Peer{Node: name}, nil
	}
	if leaf != nil && a.cfg.AllowLegacyCertificates && isLegacy(leaf.Subject.CommonName, leaf.Subject.Organization) {
		return Peer{Legacy: true}, nil
	}
	return Peer{}, err
}
