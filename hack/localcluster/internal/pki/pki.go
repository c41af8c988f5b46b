package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 365 * 24 * time.Hour
	// renewBefore is how long before its end a leaf is issued anew; no run of a test cluster lasts longer.
	renewBefore = 30 * 24 * time.Hour
	// backdate keeps certificates valid for a peer whose clock is somewhat behind.
	backdate = time.Hour
)

// Authority is a certificate authority that signs leaves. It is read-only after OpenAuthority.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	now         time.Time
}

// Leaf describes a certificate below an Authority. Servers have names or addresses, clients a user and groups.
type Leaf struct {
	// User is the common name, which Kubernetes takes as the user name.
	User string
	// Groups are the organisations, which Kubernetes takes as the groups of the user.
	Groups    []string
	DNSNames  []string
	Addresses []net.IP
	Usage     []x509.ExtKeyUsage
}

// KeyPair names the two files of a certificate.
type KeyPair struct{ Cert, Key string }

// Pair returns the file names of the certificate called name in dir.
func Pair(dir, name string) KeyPair {
	return KeyPair{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
}

func (p KeyPair) exists() (bool, error) {
	found := 0
	for _, file := range []string{p.Cert, p.Key} {
		switch _, err := os.Stat(file); {
		case err == nil:
			found++
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		}
	}
	if found == 1 {
		return false, fmt.Errorf("only one of %s and %s exists", p.Cert, p.Key)
	}
	return found == 2, nil
}

// OpenAuthority returns the CA in files and makes it when there is none. An incomplete, broken or expired CA is an
// error. The authority judges and issues as of now.
func OpenAuthority(files KeyPair, name string, now time.Time) (*Authority, error) {
	exists, err := files.exists()
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	if !exists {
		return createAuthority(files, name, now)
	}
	cert, err := readCertificate(files.Cert)
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	key, err := readKey(files.Key)
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	switch {
	case !cert.IsCA:
		return nil, fmt.Errorf("open CA: %s is not the certificate of a CA", files.Cert)
	case !sameKey(cert, key):
		return nil, fmt.Errorf("open CA: %s does not belong to %s", files.Key, files.Cert)
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return nil, fmt.Errorf("open CA: %s is valid from %s to %s only", files.Cert,
			cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
	}
	return &Authority{certificate: cert, key: key, now: now}, nil
}

func createAuthority(files KeyPair, name string, now time.Time) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("create CA %s: %w", name, err)
	}
	template, err := newTemplate(name, now, authorityLifetime)
	if err != nil {
		return nil, fmt.Errorf("create CA %s: %w", name, err)
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create CA %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("create CA %s: %w", name, err)
	}
	if err := errors.Join(writeKey(files.Key, key), writeBlock(files.Cert, certificateBlock, der)); err != nil {
		return nil, fmt.Errorf("create CA %s: %w", name, err)
	}
	return &Authority{certificate: cert, key: key, now: now}, nil
}

// Ensure makes files hold a certificate as leaf describes it and keeps what is there when it does already.
func (a *Authority) Ensure(files KeyPair, leaf Leaf) error {
	if a.usable(files, leaf) {
		return nil
	}
	key, err := newKey()
	if err != nil {
		return fmt.Errorf("issue %s: %w", files.Cert, err)
	}
	template, err := newTemplate(leaf.User, a.now, leafLifetime)
	if err != nil {
		return fmt.Errorf("issue %s: %w", files.Cert, err)
	}
	template.Subject.Organization = leaf.Groups
	template.DNSNames = leaf.DNSNames
	template.IPAddresses = leaf.Addresses
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = leaf.Usage
	if template.NotAfter.After(a.certificate.NotAfter) {
		template.NotAfter = a.certificate.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("issue %s: %w", files.Cert, err)
	}
	if err := errors.Join(writeKey(files.Key, key), writeBlock(files.Cert, certificateBlock, der)); err != nil {
		return fmt.Errorf("issue %s: %w", files.Cert, err)
	}
	return nil
}

// usable reports whether files hold a pair that serves as leaf. Whatever is wrong with them, the remedy is the same.
func (a *Authority) usable(files KeyPair, leaf Leaf) bool {
	cert, err := readCertificate(files.Cert)
	if err != nil {
		return false
	}
	key, err := readKey(files.Key)
	if err != nil || !sameKey(cert, key) || cert.CheckSignatureFrom(a.certificate) != nil {
		return false
	}
	end := a.now.Add(renewBefore)
	if end.After(a.certificate.NotAfter) {
		end = a.now
	}
	return !a.now.Before(cert.NotBefore) && end.Before(cert.NotAfter) &&
		cert.Subject.CommonName == leaf.User &&
		slices.Equal(cert.Subject.Organization, leaf.Groups) &&
		slices.Equal(cert.DNSNames, leaf.DNSNames) &&
		slices.EqualFunc(cert.IPAddresses, leaf.Addresses, net.IP.Equal) &&
		slices.Equal(cert.ExtKeyUsage, leaf.Usage)
}

// EnsureSigningKey makes privateFile hold a private key and publicFile its public half. An existing private key is
// kept: the tokens signed with it stay valid.
func EnsureSigningKey(privateFile, publicFile string) error {
	key, err := readKey(privateFile)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = newKey(); err == nil {
			err = writeKey(privateFile, key)
		}
	}
	if err != nil {
		return fmt.Errorf("open signing key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode public key of %s: %w", privateFile, err)
	}
	return writeBlock(publicFile, publicKeyBlock, der)
}

func newTemplate(name string, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:     now.Add(lifetime).UTC().Truncate(time.Second),
	}, nil
}
