package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

func onlyRefusals(t *testing.T, err error) {
	t.Helper()
	var refusal *RefusalError
	if err != nil && !errors.As(err, &refusal) {
		t.Errorf("got %v, want a refusal", err)
	}
}

func FuzzIssueNodeCertificate(f *testing.F) {
	a := loaded(f, testConfig(), newAPI(f))
	key := newKey(f)
	f.Add("edge-1", edgeRequest(f, key, "edge-1"))
	f.Add("edge-1", edgeRequest(f, key, "edge-1", legacySubject))
	f.Add("edge-2", edgeRequest(f, key, "edge-1", func(r *x509.CertificateRequest) { r.DNSNames = []string{"x"} }))
	f.Add("", []byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, node string, csr []byte) {
		der, err := a.IssueNodeCertificate(NodeRequest{Node: node, CSR: csr})
		onlyRefusals(t, err)
		if err != nil {
			return
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("issued what does not parse: %v", err)
		}
		if peer, err := a.VerifyPeer([]*x509.Certificate{cert}); err != nil || peer.Node != node {
			t.Errorf("issued a certificate of %+v (%v) to %q", peer, err, node)
		}
		if len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) != 0 || cert.IsCA {
			t.Error("issued more than was granted")
		}
	})
}

func FuzzVerifyToken(f *testing.F) {
	a := loaded(f, testConfig(), newAPI(f))
	ca := a.ca.Load()
	good, err := ca.bearerToken(TokenClaims{Expires: time.Now().Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, `{"alg":"HS256"}`, `{"exp":9999999999}`)
	f.Add("a.b.c", `{"alg":"none"}`, `{"exp":-1}`)
	f.Add("..", ``, `{"exp":1e400}`)
	f.Fuzz(func(t *testing.T, token, header, claims string) {
		got, err := a.VerifyToken(token)
		onlyRefusals(t, err)
		if err == nil && token != good {
			t.Errorf("accepted a token that nobody signed: %+v", got)
		}
		// The parsers behind the signature must stand anything, too.
		got, err = a.VerifyToken(signJWT(ca.key.der, header, claims))
		onlyRefusals(t, err)
		if err == nil && !got.Expires.After(time.Now()) {
			t.Errorf("accepted claims %q that ended: %+v", claims, got)
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	key := newKey(f)
	f.Add(pemBlock("EC PRIVATE KEY", mustDER(x509.MarshalECPrivateKey(key))))
	f.Add(pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(key))))
	f.Add(certPEM(newFileAuthority(f, key).cert))
	f.Fuzz(func(t *testing.T, data []byte) {
		if parsed, err := parseKeyPEM(data); err == nil {
			again, err := parseKeyDER(parsed.der)
			if err != nil || !bytes.Equal(again.der, parsed.der) {
				t.Errorf("stored form does not parse back: %v", err)
			}
		}
		if certs, err := parseCertificatesPEM(data); err == nil && len(certs) == 0 {
			t.Error("no certificate and no error")
		}
	})
}
