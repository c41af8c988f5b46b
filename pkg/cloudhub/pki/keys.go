package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxPEMFile bounds a certificate or key file: far above any real chain, far below what hurts.
const maxPEMFile = 1 << 20

// privateKey is a signer together with the DER form in which it is stored. For the CA these bytes are also the HMAC
// key of the tokens (spec 02 §5.3), so they are kept as found and never encoded again.
type privateKey struct {
	crypto.Signer
	der []byte
}

func generateKey() (privateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return privateKey{}, fmt.Errorf("generate key: %w", err)
	}
	return storedForm(key)
}

// storedForm encodes a key as the Secrets hold it: SEC1 for elliptic curves, which is all that the reference reads,
// and the customary form for other kinds.
func storedForm(key any) (privateKey, error) {
	var (
		der []byte
		err error
	)
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		der, err = x509.MarshalECPrivateKey(k)
	case *rsa.PrivateKey:
		der = x509.MarshalPKCS1PrivateKey(k)
	default:
		der, err = x509.MarshalPKCS8PrivateKey(k)
	}
	if err != nil {
		return privateKey{}, fmt.Errorf("encode key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return privateKey{}, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return privateKey{Signer: signer, der: der}, nil
}

// parseKeyDER reads a key as a Secret holds it: SEC1, PKCS#8 or PKCS#1.
func parseKeyDER(der []byte) (privateKey, error) {
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return privateKey{Signer: key, der: der}, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return privateKey{Signer: signer, der: der}, nil
		}
		return privateKey{}, fmt.Errorf("a key of type %T cannot sign", key)
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return privateKey{Signer: key, der: der}, nil
	}
	return privateKey{}, errors.New("not a SEC1, PKCS#8 or PKCS#1 private key")
}

// parseKeyPEM takes the first private key of a file. Other blocks are skipped: openssl writes EC PARAMETERS before a
// key, and a certificate may stand in the same file.
func parseKeyPEM(data []byte) (privateKey, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "EC PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY":
		case "ENCRYPTED PRIVATE KEY":
			return privateKey{}, errors.New("the private key is encrypted, which is not supported")
		default:
			continue
		}
		if block.Headers["DEK-Info"] != "" {
			return privateKey{}, errors.New("the private key is encrypted, which is not supported")
		}
		key, err := parseKeyDER(block.Bytes)
		if err != nil {
			return privateKey{}, fmt.Errorf("PEM block %s: %w", block.Type, err)
		}
		if block.Type == "PRIVATE KEY" {
			return storedForm(key.Signer)
		}
		return key, nil
	}
	return privateKey{}, errors.New("no PEM block with a private key")
}

// parseCertificatesPEM reads all certificates of a file, in their order.
func parseCertificatesPEM(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM block with a certificate")
	}
	return certs, nil
}

// matches tells whether cert carries the public half of key.
func matches(cert *x509.Certificate, key crypto.Signer) bool {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(cert.PublicKey)
}

// pemPair is the raw content of a certificate file and its key file.
type pemPair struct{ cert, key []byte }

func (p pemPair) equal(o pemPair) bool {
	return bytes.Equal(p.cert, o.cert) && bytes.Equal(p.key, o.key)
}

// readPair reads both files. It reports false if neither exists, and an error if only one of them does.
func readPair(certFile, keyFile string) (pemPair, bool, error) {
	cert, certErr := readFile(certFile)
	key, keyErr := readFile(keyFile)
	noCert, noKey := errors.Is(certErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist)
	switch {
	case noCert && noKey:
		return pemPair{}, false, nil
	case noCert && keyErr == nil:
		return pemPair{}, false, fmt.Errorf("key file %s exists, but its certificate file %q does not", keyFile, certFile)
	case noKey && certErr == nil:
		return pemPair{}, false, fmt.Errorf("certificate file %s exists, but its key file %q does not", certFile, keyFile)
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return pemPair{}, false, err
	}
	return pemPair{cert: cert, key: key}, true, nil
}

func readFile(name string) ([]byte, error) {
	if name == "" {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEMFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPEMFile {
		return nil, fmt.Errorf("file %s is larger than %d bytes", name, maxPEMFile)
	}
	return data, nil
}
