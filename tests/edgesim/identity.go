package edgesim

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Identity is what a join gives: the authority of the cloud and a client certificate with its key. It is immutable.
type Identity struct {
	// CA is the certificate of the authority, DER.
	CA []byte
	// Certificate is the client certificate, DER.
	Certificate []byte
	// Key belongs to Certificate.
	Key *ecdsa.PrivateKey

	leaf *x509.Certificate
	pool *x509.CertPool
}

func newIdentity(ca, certificate []byte, key *ecdsa.PrivateKey) (*Identity, error) {
	authority, err := x509.ParseCertificate(ca)
	if err != nil {
		return nil, fmt.Errorf("parse certificate authority: %w", err)
	}
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("parse node certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("node certificate is for another key")
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	return &Identity{CA: ca, Certificate: certificate, Key: key, leaf: leaf, pool: pool}, nil
}

// Validity is the time in which the certificate counts.
func (id *Identity) Validity() (notBefore, notAfter time.Time) {
	return id.leaf.NotBefore, id.leaf.NotAfter
}

// TLS returns a client configuration that presents the certificate and verifies host against the authority. No
// application protocol is offered, as EdgeCore offers none (spec 02 §2.1).
func (id *Identity) TLS(host string) *tls.Config {
	return &tls.Config{
		ServerName: host,
		RootCAs:    id.pool,
		Certificates: []tls.Certificate{{
			Certificate: [][]byte{id.Certificate},
			PrivateKey:  id.Key,
			Leaf:        id.leaf,
		}},
		MinVersion: tls.VersionTLS12,
	}
}

// The files of an identity, named as EdgeCore names its own.
const (
	fileCA   = "rootCA.crt"
	fileCert = "server.crt"
	fileKey  = "server.key"
)

// Save writes the identity to dir, which is made if needed.
func (id *Identity) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make identity directory: %w", err)
	}
	key, err := x509.MarshalECPrivateKey(id.Key)
	if err != nil {
		return fmt.Errorf("encode node key: %w", err)
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{fileCA, "CERTIFICATE", id.CA}, {fileCert, "CERTIFICATE", id.Certificate}, {fileKey, "EC PRIVATE KEY", key}} {
		text := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		if err := os.WriteFile(filepath.Join(dir, f.name), text, 0o600); err != nil {
			return fmt.Errorf("save identity: %w", err)
		}
	}
	return nil
}

// LoadIdentity reads what Save wrote. The error is an os.ErrNotExist if there is nothing.
func LoadIdentity(dir string) (*Identity, error) {
	var der [3][]byte
	for i, name := range []string{fileCA, fileCert, fileKey} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("load identity: %w", err)
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("load identity: %s holds no PEM block", filepath.Join(dir, name))
		}
		der[i] = block.Bytes
	}
	key, err := x509.ParseECPrivateKey(der[2])
	if err != nil {
		return nil, fmt.Errorf("load identity: parse key: %w", err)
	}
	return newIdentity(der[0], der[1], key)
}
