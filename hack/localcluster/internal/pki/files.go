package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	certificateBlock = "CERTIFICATE"
	privateKeyBlock  = "PRIVATE KEY"
	publicKeyBlock   = "PUBLIC KEY"
)

// errNoBlock is wrapped by the errors for a file without the expected PEM block.
var errNoBlock = errors.New("no such PEM block")

// WriteFile replaces file in one step, so that a reader or a crash never sees half of it. The file is readable by
// its owner only.
func WriteFile(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("create temporary file for %s: %w", file, err)
	}
	_, err = tmp.Write(data)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

func writeBlock(file, kind string, der []byte) error {
	return WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func readBlock(file, kind string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("read %s: want %s: %w", file, kind, errNoBlock)
	}
	return block.Bytes, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func writeKey(file string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key for %s: %w", file, err)
	}
	return writeBlock(file, privateKeyBlock, der)
}

func readKey(file string) (crypto.Signer, error) {
	der, err := readBlock(file, privateKeyBlock)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse key %s: %w", file, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("parse key %s: %T cannot sign", file, key)
	}
	return signer, nil
}

func readCertificate(file string) (*x509.Certificate, error) {
	der, err := readBlock(file, certificateBlock)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate %s: %w", file, err)
	}
	return cert, nil
}

// comparableKey is what every public key of the standard library offers.
type comparableKey interface{ Equal(crypto.PublicKey) bool }

func sameKey(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := cert.PublicKey.(comparableKey)
	return ok && public.Equal(key.Public())
}
