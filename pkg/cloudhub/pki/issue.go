package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

// MaxRequest bounds a certificate request (spec 02 §6).
const MaxRequest = 1 << 20

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Sizes of RSA keys that are signed: below is weak, above only costs.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// NodeRequest asks for a node's certificate. The caller has established that the asker may act as Node.
type NodeRequest struct {
	Node string
	// CSR is a PKCS#10 request in DER.
	CSR []byte
	// ExtKeyUsages that the node asks for; client authentication if empty.
	ExtKeyUsages []x509.ExtKeyUsage
}

// IssueNodeCertificate signs the key of a request for the node, and returns the certificate in DER. The request must
// be signed by its own key, name exactly this node, and ask for nothing beyond the configuration: everything in the
// certificate but the key comes from here, and the certificate names the node also when a legacy request does not.
func (a *Authority) IssueNodeCertificate(req NodeRequest) ([]byte, error) {
	ca := a.ca.Load()
	if ca == nil {
		return nil, ErrNotLoaded
	}
	csr, err := a.checkRequest(req)
	if err != nil {
		return nil, err
	}
	usages, err := a.checkUsages(req.ExtKeyUsages)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: nodePrefix + req.Node, Organization: []string{nodesGroup}},
		DNSNames:    csr.DNSNames,
		KeyUsage:    leafKeyUsage,
		ExtKeyUsage: usages,
	}
	der, err := ca.sign(template, csr.PublicKey, time.Now(), a.cfg.NodeCertificateLifetime)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of node %s: %w", req.Node, err)
	}
	return der, nil
}

func (a *Authority) checkRequest(req NodeRequest) (*x509.CertificateRequest, error) {
	if err := checkNodeName(req.Node); err != nil {
		return nil, err
	}
	if len(req.CSR) > MaxRequest {
		return nil, refuse(ReasonRequestMalformed, "certificate request of %d bytes", len(req.CSR))
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return nil, refuse(ReasonRequestMalformed, "certificate request is not PKCS#10: %w", err)
	}
	if err := checkPublicKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse(ReasonRequestSignature, "certificate request is not signed by its own key: %w", err)
	}
	if err := a.checkSubject(csr, req.Node); err != nil {
		return nil, err
	}
	if err := a.checkNames(csr, req.Node); err != nil {
		return nil, err
	}
	return csr, nil
}

func checkPublicKey(key any) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return refuse(ReasonRequestKey, "elliptic curve of %d bits", k.Curve.Params().BitSize)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return refuse(ReasonRequestKey, "RSA key of %d bits", bits)
		}
		return nil
	default:
		return refuse(ReasonRequestKey, "key of an unsupported kind")
	}
}

func (a *Authority) checkSubject(csr *x509.CertificateRequest, node string) error {
	legacyAllowed := a.cfg.AllowLegacyRequests || a.cfg.AllowLegacyCertificates
	if legacyAllowed && isLegacy(csr.Subject.CommonName, csr.Subject.Organization) {
		return nil
	}
	if csr.Subject.CommonName != nodePrefix+node {
		return refuse(ReasonRequestSubject, "common name is not %s%s", nodePrefix, node)
	}
	if len(csr.Subject.Organization) != 1 || csr.Subject.Organization[0] != nodesGroup {
		return refuse(ReasonRequestSubject, "organization is not %s", nodesGroup)
	}
	return nil
}

// checkNames refuses rather than drops a name, so that nobody believes that he got it.
func (a *Authority) checkNames(csr *x509.CertificateRequest, node string) error {
	asksForNames := slices.ContainsFunc(csr.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) })
	others := len(csr.IPAddresses) + len(csr.EmailAddresses) + len(csr.URIs)
	switch {
	case !asksForNames:
		return nil
	case a.cfg.AllowNodeNameSAN && others == 0 && slices.Equal(csr.DNSNames, []string{node}):
		return nil
	default:
		return refuse(ReasonRequestNames, "alternative names are not granted")
	}
}

func (a *Authority) checkUsages(usages []x509.ExtKeyUsage) ([]x509.ExtKeyUsage, error) {
	if len(usages) == 0 {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil
	}
	for _, usage := range usages {
		if !slices.Contains(a.cfg.AllowedExtKeyUsages, usage) {
			return nil, refuse(ReasonRequestUsages, "extended key usage %d is not granted", usage)
		}
	}
	granted := slices.Clone(usages)
	slices.Sort(granted)
	return slices.Compact(granted), nil
}
