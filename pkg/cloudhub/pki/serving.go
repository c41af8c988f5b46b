package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"time"

	"k8s.io/klog/v2"
)

// maxRenewMargin is how long before its end a serving certificate of the Secret is replaced; of a short-lived one, a
// tenth of its life before.
const maxRenewMargin = 30 * day

// serving is the certificate in use with the TLS configurations made from it. It is replaced as a whole and never
// written after publication.
type serving struct {
	cert   tls.Certificate
	hub    *tls.Config
	enroll *tls.Config

	files pemPair // what was read, if the pair came from files
}

// servingPair is what a source gave: leaf first, then the rest of the chain.
type servingPair struct {
	chain []*x509.Certificate
	key   privateKey
}

func newServing(ca *issuer, pair servingPair, files pemPair) *serving {
	cert := tls.Certificate{PrivateKey: pair.key.Signer, Leaf: pair.chain[0]}
	for _, c := range pair.chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return &serving{cert: cert, hub: hubConfig(ca, cert), enroll: enrollConfig(cert), files: files}
}

// fromFiles tells whether an operator, not this process, is in charge of the certificate.
func (s *serving) fromFiles() bool { return len(s.files.cert) != 0 }

// loadServing takes the serving certificate from the files, else from the Secret if it still fits, else issues one.
func (a *Authority) loadServing(ctx context.Context, ca *issuer) (*serving, error) {
	files, found, err := readPair(a.cfg.CertFile, a.cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read serving certificate files: %w", err)
	}
	if !found {
		return a.servingFromSecret(ctx, ca)
	}
	s, pair, err := a.servingFromFiles(ca, files)
	if err != nil {
		return nil, err
	}
	if err := pair.check(ca, time.Now()); err != nil {
		klog.FromContext(ctx).Error(err, "Serving certificate file in use although edges will refuse it", "file", a.cfg.CertFile)
	}
	// The files belong to this host, the Secret to all replicas: it is filled in, but never changed for a file.
	_, err = settle(ctx, a.secrets, ServerSecret, func(data map[string][]byte) (struct{}, map[string][]byte, error) {
		if len(data[serverCertKey]) != 0 || len(data[serverKeyKey]) != 0 {
			return struct{}{}, nil, nil
		}
		return struct{}{}, pair.secretData(), nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (a *Authority) servingFromFiles(ca *issuer, files pemPair) (*serving, servingPair, error) {
	chain, err := parseCertificatesPEM(files.cert)
	if err != nil {
		return nil, servingPair{}, fmt.Errorf("parse serving certificate file %s: %w", a.cfg.CertFile, err)
	}
	key, err := parseKeyPEM(files.key)
	if err != nil {
		return nil, servingPair{}, fmt.Errorf("parse serving key file %s: %w", a.cfg.KeyFile, err)
	}
	if !matches(chain[0], key.Signer) {
		return nil, servingPair{}, fmt.Errorf("serving key file %s does not belong to the first certificate of %s", a.cfg.KeyFile, a.cfg.CertFile)
	}
	pair := servingPair{chain: chain, key: key}
	return newServing(ca, pair, files), pair, nil
}

func (a *Authority) servingFromSecret(ctx context.Context, ca *issuer) (*serving, error) {
	var reason error // to issue a new one, by the decision that counted
	pair, err := settle(ctx, a.secrets, ServerSecret, func(data map[string][]byte) (servingPair, map[string][]byte, error) {
		now := time.Now()
		stored, err := parseStoredPair(data)
		if err == nil {
			err = a.reusable(stored, ca, now)
		}
		if reason = err; err == nil {
			return stored, nil, nil
		}
		issued, err := a.issueServing(ca, now)
		if err != nil {
			return servingPair{}, nil, err
		}
		return issued, issued.secretData(), nil
	})
	if err != nil {
		return nil, err
	}
	if reason != nil {
		klog.FromContext(ctx).Info("Issued a new serving certificate", "namespace", a.cfg.Namespace, "secret", ServerSecret,
			"reason", reason.Error(), "notAfter", pair.chain[0].NotAfter)
	}
	return newServing(ca, pair, pemPair{}), nil
}

// secretData stores the leaf alone, which is all that the data key can hold for the reference (spec 02 §5).
func (p servingPair) secretData() map[string][]byte {
	return map[string][]byte{serverCertKey: p.chain[0].Raw, serverKeyKey: p.key.der}
}

func parseStoredPair(data map[string][]byte) (servingPair, error) {
	if len(data[serverCertKey]) == 0 && len(data[serverKeyKey]) == 0 {
		return servingPair{}, errors.New("none is stored")
	}
	cert, err := x509.ParseCertificate(data[serverCertKey])
	if err != nil {
		return servingPair{}, fmt.Errorf("data key %s: %w", serverCertKey, err)
	}
	key, err := parseKeyDER(data[serverKeyKey])
	if err != nil {
		return servingPair{}, fmt.Errorf("data key %s: %w", serverKeyKey, err)
	}
	if !matches(cert, key.Signer) {
		return servingPair{}, errors.New("key and certificate do not belong together")
	}
	return servingPair{chain: []*x509.Certificate{cert}, key: key}, nil
}

// check tells why an edge that trusts ca would refuse the certificate at the given time.
func (p servingPair) check(ca *issuer, at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, c := range p.chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := p.chain[0].Verify(x509.VerifyOptions{
		Roots:         ca.pool,
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		CurrentTime:   at,
	})
	return err
}

// reusable tells why a stored certificate must be replaced.
func (a *Authority) reusable(p servingPair, ca *issuer, now time.Time) error {
	leaf := p.chain[0]
	if err := p.check(ca, now); err != nil {
		return err
	}
	// A leaf that ends with the CA cannot be made to last longer.
	if a.renewAt(leaf).Before(now) && leaf.NotAfter.Before(ca.cert.NotAfter) {
		return fmt.Errorf("it expires at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	if !certificateNames(leaf).equal(a.cfg.names) {
		return errors.New("the advertised addresses changed")
	}
	return nil
}

func (a *Authority) renewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(-min(maxRenewMargin, leaf.NotAfter.Sub(leaf.NotBefore)/10))
}

func (a *Authority) issueServing(ca *issuer, now time.Time) (servingPair, error) {
	key, err := generateKey()
	if err != nil {
		return servingPair{}, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: subjectName, Organization: []string{subjectName}},
		DNSNames:    a.cfg.names.dns,
		KeyUsage:    leafKeyUsage,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ip := range a.cfg.names.ips {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	der, err := ca.sign(template, key.Public(), now, caLifetime)
	if err != nil {
		return servingPair{}, fmt.Errorf("sign serving certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return servingPair{}, fmt.Errorf("parse the serving certificate just made: %w", err)
	}
	return servingPair{chain: []*x509.Certificate{cert}, key: key}, nil
}

// refreshServing replaces the serving certificate in use when its files changed, or before it expires. A pair of files
// that cannot be used leaves the old one in place.
func (a *Authority) refreshServing(ctx context.Context, ca *issuer) error {
	current := a.serving.Load()
	if !current.fromFiles() {
		if time.Now().Before(a.renewAt(current.cert.Leaf)) {
			return nil
		}
		next, err := a.servingFromSecret(ctx, ca)
		if err != nil {
			return fmt.Errorf("renew serving certificate: %w", err)
		}
		a.publish(next)
		return nil
	}
	files, found, err := readPair(a.cfg.CertFile, a.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("read serving certificate files: %w", err)
	}
	if !found || files.equal(current.files) {
		return nil
	}
	next, pair, err := a.servingFromFiles(ca, files)
	if err != nil {
		return err
	}
	if err := pair.check(ca, time.Now()); err != nil {
		return fmt.Errorf("check changed serving certificate file %s: %w", a.cfg.CertFile, err)
	}
	klog.FromContext(ctx).Info("Serving certificate file changed, now in use", "file", a.cfg.CertFile, "notAfter", pair.chain[0].NotAfter)
	a.publish(next)
	return nil
}
