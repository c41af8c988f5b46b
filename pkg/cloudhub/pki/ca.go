package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"k8s.io/klog/v2"
)

const (
	caLifetime     = 36400 * day // spec 02 §5.2, also of a serving certificate
	caSerial       = 1024        // spec 02 §5.2
	subjectName    = "KubeEdge"  // CN of the CA; CN and O of the serving certificate
	maxBackdate    = time.Hour   // for edges whose clock is behind
	leafKeyUsage   = x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature
	issuerKeyUsage = leafKeyUsage | x509.KeyUsageCertSign
)

// ErrCAConflict means that the configured CA files and the stored Secret hold different CAs. Neither is thrown away:
// every joined edge trusts one of them.
var ErrCAConflict = errors.New("the CA files and the stored CA differ")

// issuer is the loaded CA. It is never written after loadCA returned it.
type issuer struct {
	cert *x509.Certificate
	key  privateKey
	pool *x509.CertPool
	hash string // lower-case hex SHA-256 of the certificate, first part of a token
}

func newIssuer(cert *x509.Certificate, key privateKey, now time.Time) (*issuer, error) {
	switch {
	case !matches(cert, key.Signer):
		return nil, errors.New("the CA key does not belong to the CA certificate")
	case !cert.IsCA:
		return nil, errors.New("the CA certificate is not one of a certificate authority")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the CA certificate may not sign certificates")
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("the CA certificate expired at %s", cert.NotAfter.Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return nil, fmt.Errorf("the CA certificate is valid from %s only", cert.NotBefore.Format(time.RFC3339))
	}
	sum := sha256.Sum256(cert.Raw)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &issuer{cert: cert, key: key, pool: pool, hash: hex.EncodeToString(sum[:])}, nil
}

// loadCA takes the CA from the files, else from the Secret, else makes one, and leaves it in the Secret. A stored CA
// is never replaced.
func (a *Authority) loadCA(ctx context.Context) (*issuer, error) {
	fromFiles, err := a.readCAFiles(time.Now())
	if err != nil {
		return nil, err
	}
	made := false // by the decision that counted
	ca, err := settle(ctx, a.secrets, CASecret, func(data map[string][]byte) (*issuer, map[string][]byte, error) {
		made = false
		now := time.Now() // a CA of another replica may be younger than this call
		stored, err := parseStoredCA(data, now)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case stored != nil && fromFiles != nil && !bytes.Equal(stored.cert.Raw, fromFiles.cert.Raw):
			return nil, nil, fmt.Errorf("%w: remove %s and %s to keep the stored CA, or the secret to let every edge join anew",
				ErrCAConflict, a.cfg.CAFile, a.cfg.CAKeyFile)
		case stored != nil:
			// Also when the files hold the same pair: the key bytes of the Secret are what other replicas
			// verify tokens with.
			return stored, nil, nil
		case fromFiles != nil:
			return fromFiles, fromFiles.secretData(), nil
		}
		made = true
		ca, err := generateCA(now)
		if err != nil {
			return nil, nil, err
		}
		return ca, ca.secretData(), nil
	})
	if err != nil {
		return nil, err
	}
	if made {
		klog.FromContext(ctx).Info("No CA found, made one", "namespace", a.cfg.Namespace, "secret", CASecret)
	}
	return ca, nil
}

func (i *issuer) secretData() map[string][]byte {
	return map[string][]byte{caCertKey: i.cert.Raw, caKeyKey: i.key.der}
}

func (a *Authority) readCAFiles(now time.Time) (*issuer, error) {
	pair, found, err := readPair(a.cfg.CAFile, a.cfg.CAKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read CA files: %w", err)
	}
	if !found {
		return nil, nil
	}
	certs, err := parseCertificatesPEM(pair.cert)
	if err != nil {
		return nil, fmt.Errorf("parse CA certificate file %s: %w", a.cfg.CAFile, err)
	}
	key, err := parseKeyPEM(pair.key)
	if err != nil {
		return nil, fmt.Errorf("parse CA key file %s: %w", a.cfg.CAKeyFile, err)
	}
	// A bundle may hold more than the issuer; the key says which certificate is meant.
	cert := certs[max(0, slices.IndexFunc(certs, func(c *x509.Certificate) bool { return matches(c, key.Signer) }))]
	ca, err := newIssuer(cert, key, now)
	if err != nil {
		return nil, fmt.Errorf("CA files %s and %s: %w", a.cfg.CAFile, a.cfg.CAKeyFile, err)
	}
	return ca, nil
}

// parseStoredCA returns nil when the Secret holds no CA at all. Half a CA is an error: making a new one would cut off
// every edge that trusts it.
func parseStoredCA(data map[string][]byte, now time.Time) (*issuer, error) {
	certDER, keyDER := data[caCertKey], data[caKeyKey]
	switch {
	case len(certDER) == 0 && len(keyDER) == 0:
		return nil, nil
	case len(certDER) == 0:
		return nil, fmt.Errorf("data key %s is missing, but %s is there", caCertKey, caKeyKey)
	case len(keyDER) == 0:
		return nil, fmt.Errorf("data key %s is missing, but %s is there", caKeyKey, caCertKey)
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("data key %s: %w", caCertKey, err)
	}
	key, err := parseKeyDER(keyDER)
	if err != nil {
		return nil, fmt.Errorf("data key %s: %w", caKeyKey, err)
	}
	return newIssuer(cert, key, now)
}

func generateCA(now time.Time) (*issuer, error) {
	key, err := generateKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(caSerial),
		Subject:               pkix.Name{CommonName: subjectName},
		NotBefore:             now.Add(-maxBackdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              issuerKeyUsage,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.Signer)
	if err != nil {
		return nil, fmt.Errorf("create CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the CA certificate just made: %w", err)
	}
	return newIssuer(cert, key, now)
}

// sign issues template for pub. It fills in serial number and validity, which stays within that of the CA.
func (i *issuer) sign(template *x509.Certificate, pub any, now time.Time, lifetime time.Duration) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// An edge renews after 70 to 90 % of the whole lifetime (spec 02 §8), so back-dating a short-lived certificate
	// by the full hour would make it due at once.
	template.NotBefore = now.Add(-min(maxBackdate, lifetime/10))
	template.NotAfter = now.Add(lifetime)
	if template.NotBefore.Before(i.cert.NotBefore) {
		template.NotBefore = i.cert.NotBefore
	}
	if template.NotAfter.After(i.cert.NotAfter) {
		template.NotAfter = i.cert.NotAfter
	}
	return x509.CreateCertificate(rand.Reader, template, i.cert, pub, i.key.Signer)
}

// newSerial returns a random positive number below 2^63 (spec 02 §5.2).
func newSerial() (*big.Int, error) {
	limit := new(big.Int).SetInt64(1<<63 - 1)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
