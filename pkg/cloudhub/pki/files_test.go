package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func certPEM(certs ...*x509.Certificate) (out []byte) {
	for _, c := range certs {
		out = append(out, pemBlock("CERTIFICATE", c.Raw)...)
	}
	return out
}

// fileAuthority is a CA of the operator's own.
type fileAuthority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newFileAuthority(tb testing.TB, key crypto.Signer) fileAuthority {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "ops"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	return fileAuthority{cert: certify(tb, template, template, key.Public(), key), key: key}
}

func certify(tb testing.TB, template, parent *x509.Certificate, pub, signer any) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// leaf makes a serving certificate for 127.0.0.1, or an intermediate when ca is true.
func (f fileAuthority) leaf(tb testing.TB, pub any, serial int64, ca bool) *x509.Certificate {
	tb.Helper()
	return certify(tb, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "cc"}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
		DNSNames: []string{"cc.example.com"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, f.cert, pub, f.key)
}

func writeFile(tb testing.TB, path string, data []byte) {
	tb.Helper()
	// Written aside and renamed, as a mounted Secret changes: never half a file.
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}

// fileConfig names files in a directory of the test; they do not exist yet.
func fileConfig(tb testing.TB) Config {
	dir := tb.TempDir()
	cfg := testConfig()
	cfg.CAFile, cfg.CAKeyFile = filepath.Join(dir, "rootCA.crt"), filepath.Join(dir, "rootCA.key")
	cfg.CertFile, cfg.KeyFile = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	return cfg
}

func TestCAFilesInEveryKeyFormat(t *testing.T) {
	ecKey := newKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sec1 := mustDER(x509.MarshalECPrivateKey(ecKey))
	pkcs1 := x509.MarshalPKCS1PrivateKey(rsaKey)
	ecParameters := pemBlock("EC PARAMETERS", []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})
	tests := []struct {
		name   string
		key    crypto.Signer
		file   []byte
		stored []byte // what the Secret must hold as cakeydata
	}{
		{"SEC1", ecKey, pemBlock("EC PRIVATE KEY", sec1), sec1},
		{"SEC1 after EC PARAMETERS", ecKey, append(bytes.Clone(ecParameters), pemBlock("EC PRIVATE KEY", sec1)...), sec1},
		{"PKCS#8 of an elliptic key is stored as SEC1", ecKey, pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(ecKey))), sec1},
		{"PKCS#1", rsaKey, pemBlock("RSA PRIVATE KEY", pkcs1), pkcs1},
		{"PKCS#8 of an RSA key", rsaKey, pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(rsaKey))), pkcs1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ca := newFileAuthority(t, tt.key)
			cfg := fileConfig(t)
			writeFile(t, cfg.CAFile, certPEM(ca.cert))
			writeFile(t, cfg.CAKeyFile, tt.file)
			api := newAPI(t)
			a := loaded(t, cfg, api)

			if got, _ := a.CACertificate(); !bytes.Equal(got, ca.cert.Raw) {
				t.Error("the CA in use is not that of the file")
			}
			secret := getSecret(t, api, "casecret")
			if !bytes.Equal(secret.Data["cakeydata"], tt.stored) || !bytes.Equal(secret.Data["cadata"], ca.cert.Raw) {
				t.Error("the secret does not hold the pair of the files")
			}
			_, bearer, _ := strings.Cut(string(getSecret(t, api, "tokensecret").Data["tokendata"]), ".")
			// A replica that has only the Secret verifies the same token.
			other := loaded(t, testConfig(), api)
			if _, err := other.VerifyToken(bearer); err != nil {
				t.Errorf("replica without files: %v", err)
			}
			cert, _ := issue(t, a, "edge-1")
			if peer, err := other.VerifyPeer([]*x509.Certificate{cert}); err != nil || peer.Node != "edge-1" {
				t.Errorf("replica without files: peer %+v, %v", peer, err)
			}
		})
	}
}

func TestCAFileBundlePicksTheCertificateOfTheKey(t *testing.T) {
	ca, stranger := newFileAuthority(t, newKey(t)), newFileAuthority(t, newKey(t))
	cfg := fileConfig(t)
	writeFile(t, cfg.CAFile, certPEM(stranger.cert, ca.cert))
	writeFile(t, cfg.CAKeyFile, pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(ca.key))))
	if got, _ := loaded(t, cfg, newAPI(t)).CACertificate(); !bytes.Equal(got, ca.cert.Raw) {
		t.Error("the CA in use does not belong to the key")
	}
}

func TestBadFilesAreNamed(t *testing.T) {
	ca := newFileAuthority(t, newKey(t))
	caKey := pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(ca.key)))
	serverKey := newKey(t)
	server := ca.leaf(t, &serverKey.PublicKey, 5, false)
	expired := certify(t, &x509.Certificate{SerialNumber: big.NewInt(4), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, ca.cert, ca.key.Public(), ca.key)
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")})
	tests := []struct {
		name  string
		files map[string][]byte
		want  []string // parts of the error
	}{
		{"CA without key", map[string][]byte{"rootCA.crt": certPEM(ca.cert)}, []string{"rootCA.crt exists", "rootCA.key"}},
		{"CA key without CA", map[string][]byte{"rootCA.key": caKey}, []string{"rootCA.key exists", "rootCA.crt"}},
		{"server certificate without key", map[string][]byte{"server.crt": certPEM(server)}, []string{"server.crt exists", "server.key"}},
		{"CA that is not PEM", map[string][]byte{"rootCA.crt": ca.cert.Raw, "rootCA.key": caKey}, []string{"rootCA.crt", "no PEM block"}},
		{"CA key that is not PEM", map[string][]byte{"rootCA.crt": certPEM(ca.cert), "rootCA.key": []byte("hello")}, []string{"rootCA.key", "no PEM block"}},
		{"garbled PEM", map[string][]byte{"rootCA.crt": pemBlock("CERTIFICATE", []byte("x")), "rootCA.key": caKey}, []string{"rootCA.crt"}},
		{"encrypted key", map[string][]byte{"rootCA.crt": certPEM(ca.cert), "rootCA.key": encrypted}, []string{"rootCA.key", "encrypted"}},
		{"encrypted PKCS#8 key", map[string][]byte{"rootCA.crt": certPEM(ca.cert), "rootCA.key": pemBlock("ENCRYPTED PRIVATE KEY", []byte("x"))}, []string{"rootCA.key", "encrypted"}},
		{"expired CA", map[string][]byte{"rootCA.crt": certPEM(expired), "rootCA.key": caKey}, []string{"rootCA.crt", "expired"}},
		{"CA key of another CA", map[string][]byte{"rootCA.crt": certPEM(ca.cert), "rootCA.key": pemBlock("EC PRIVATE KEY", mustDER(x509.MarshalECPrivateKey(serverKey)))}, []string{"rootCA.key", "does not belong"}},
		{"server key of another certificate", map[string][]byte{"server.crt": certPEM(server), "server.key": caKey}, []string{"server.key", "does not belong"}},
		{"server certificate that is not PEM", map[string][]byte{"server.crt": server.Raw, "server.key": caKey}, []string{"server.crt", "no PEM block"}},
		{"huge file", map[string][]byte{"rootCA.crt": make([]byte, maxPEMFile+1), "rootCA.key": caKey}, []string{"rootCA.crt", "larger"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := fileConfig(t)
			for name, data := range tt.files {
				writeFile(t, filepath.Join(filepath.Dir(cfg.CAFile), name), data)
			}
			err := newAuthority(t, cfg, newAPI(t)).Load(t.Context())
			for _, part := range tt.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("got error %v, want one with %q", err, part)
				}
			}
		})
	}
}

func TestCAFilesThatDifferFromTheSecretAreRefused(t *testing.T) {
	ca := newFileAuthority(t, newKey(t))
	cfg := fileConfig(t)
	writeFile(t, cfg.CAFile, certPEM(ca.cert))
	writeFile(t, cfg.CAKeyFile, pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(ca.key))))
	api := newAPI(t, referenceSecrets(t, "127.0.0.1")[0])
	err := newAuthority(t, cfg, api).Load(t.Context())
	if !errors.Is(err, ErrCAConflict) || !strings.Contains(err.Error(), cfg.CAFile) || !strings.Contains(err.Error(), "kubeedge/casecret") {
		t.Errorf("got %v, want ErrCAConflict that names file and secret", err)
	}
	if n := writes(api); n != 0 {
		t.Errorf("got %d writes, want none", n)
	}
}

func TestServingChainFromFilesIsKept(t *testing.T) {
	root := newFileAuthority(t, newKey(t))
	middleKey, leafKey := newKey(t), newKey(t)
	middle := fileAuthority{cert: root.leaf(t, &middleKey.PublicKey, 6, true), key: middleKey}
	leaf := middle.leaf(t, &leafKey.PublicKey, 7, false)
	cfg := fileConfig(t)
	writeFile(t, cfg.CAFile, certPEM(root.cert))
	writeFile(t, cfg.CAKeyFile, pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(root.key))))
	writeFile(t, cfg.CertFile, certPEM(leaf, middle.cert))
	writeFile(t, cfg.KeyFile, pemBlock("EC PRIVATE KEY", mustDER(x509.MarshalECPrivateKey(leafKey))))
	api := newAPI(t)
	served, err := loaded(t, cfg, api).GetCertificate(nil)
	if err != nil || len(served.Certificate) != 2 || !bytes.Equal(served.Certificate[1], middle.cert.Raw) {
		t.Fatalf("served chain has %d certificates (err %v), want leaf and intermediate", len(served.Certificate), err)
	}
	if got := getSecret(t, api, "cloudcoresecret").Data["cloudcoredata"]; !bytes.Equal(got, leaf.Raw) {
		t.Error("an empty secret was not filled in from the files")
	}

	t.Run("a stored certificate stays", func(t *testing.T) {
		api := newAPI(t, secretOf("cloudcoresecret", map[string][]byte{"cloudcoredata": []byte("of"), "cloudcorekeydata": []byte("others")}))
		loaded(t, cfg, api)
		if got := getSecret(t, api, "cloudcoresecret").Data["cloudcoredata"]; string(got) != "of" {
			t.Error("the shared secret was changed for a file of this host")
		}
	})
}

func TestChangedServingFilesCountWithoutRestart(t *testing.T) {
	root := newFileAuthority(t, newKey(t))
	first, second := newKey(t), newKey(t)
	cfg := fileConfig(t)
	writeFile(t, cfg.CAFile, certPEM(root.cert))
	writeFile(t, cfg.CAKeyFile, pemBlock("PRIVATE KEY", mustDER(x509.MarshalPKCS8PrivateKey(root.key))))
	writeFile(t, cfg.CertFile, certPEM(root.leaf(t, &first.PublicKey, 8, false)))
	writeFile(t, cfg.KeyFile, pemBlock("EC PRIVATE KEY", mustDER(x509.MarshalECPrivateKey(first))))
	a := loaded(t, cfg, newAPI(t))
	ca := a.ca.Load()
	serial := func() int64 {
		cert, err := a.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.SerialNumber.Int64()
	}

	before := a.serving.Load()
	if err := a.refreshServing(t.Context(), ca); err != nil || a.serving.Load() != before {
		t.Fatalf("unchanged files: err %v, or the certificate was replaced", err)
	}
	writeFile(t, cfg.CertFile, certPEM(root.leaf(t, &second.PublicKey, 9, false)))
	if err := a.refreshServing(t.Context(), ca); err == nil || serial() != 8 {
		t.Errorf("certificate without its key yet: err %v, serial %d, want an error and 8", err, serial())
	}
	writeFile(t, cfg.KeyFile, pemBlock("EC PRIVATE KEY", mustDER(x509.MarshalECPrivateKey(second))))
	if err := a.refreshServing(t.Context(), ca); err != nil || serial() != 9 {
		t.Errorf("complete pair: err %v, serial %d, want 9", err, serial())
	}
	stranger := newFileAuthority(t, newKey(t))
	writeFile(t, cfg.CertFile, certPEM(stranger.leaf(t, &second.PublicKey, 10, false)))
	if err := a.refreshServing(t.Context(), ca); err == nil || serial() != 9 {
		t.Errorf("certificate of a foreign CA: err %v, serial %d, want an error and 9", err, serial())
	}
}
