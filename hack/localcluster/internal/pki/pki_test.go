package pki

import (
	"bytes"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func now() time.Time { return time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) }

func serverLeaf() Leaf {
	return Leaf{
		User:      "server",
		DNSNames:  []string{"localhost"},
		Addresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		Usage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

func openAuthority(t *testing.T, dir string, at time.Time) *Authority {
	t.Helper()
	ca, err := OpenAuthority(Pair(dir, "ca"), "test-ca", at)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func ensure(t *testing.T, ca *Authority, files KeyPair, leaf Leaf) []byte {
	t.Helper()
	if err := ca.Ensure(files, leaf); err != nil {
		t.Fatal(err)
	}
	return read(t, files.Cert)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestServerCertificateVerifiesForItsNames(t *testing.T) {
	dir := t.TempDir()
	ca := openAuthority(t, dir, now())
	ensure(t, ca, Pair(dir, "server"), serverLeaf())
	cert, err := readCertificate(Pair(dir, "server").Cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, Pair(dir, "ca").Cert))
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now()}); err != nil {
			t.Errorf("verify for %s: %v", host, err)
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "example.org", Roots: roots, CurrentTime: now()}); err == nil {
		t.Error("certificate verifies for example.org, which it does not name")
	}
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err == nil {
		t.Error("server certificate verifies as a client certificate")
	}
}

func TestClientCertificateCarriesUserAndGroups(t *testing.T) {
	dir := t.TempDir()
	leaf := Leaf{User: "alice", Groups: []string{"system:masters"}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	ensure(t, openAuthority(t, dir, now()), Pair(dir, "alice"), leaf)
	cert, err := readCertificate(Pair(dir, "alice").Cert)
	if err != nil {
		t.Fatal(err)
	}
	if got := cert.Subject.CommonName; got != "alice" {
		t.Errorf("user: got %q, want alice", got)
	}
	if got := strings.Join(cert.Subject.Organization, ","); got != "system:masters" {
		t.Errorf("groups: got %q, want system:masters", got)
	}
}

func TestLeafIsIssuedAnewOnlyWhenItMustBe(t *testing.T) {
	other := serverLeaf()
	other.Addresses = append(other.Addresses, net.IPv4(10, 0, 0, 1))
	tests := []struct {
		name   string
		at     time.Time
		leaf   Leaf
		tamper func(t *testing.T, files KeyPair)
		anew   bool
	}{
		{name: "kept the next minute", at: now().Add(time.Minute), leaf: serverLeaf()},
		{name: "kept while enough time is left", at: now().Add(leafLifetime - renewBefore - time.Hour), leaf: serverLeaf()},
		{name: "anew near the end", at: now().Add(leafLifetime - renewBefore + time.Hour), leaf: serverLeaf(), anew: true},
		{name: "anew after the end", at: now().Add(leafLifetime + time.Hour), leaf: serverLeaf(), anew: true},
		{name: "anew for another address", at: now(), leaf: other, anew: true},
		{name: "anew without its key", at: now(), leaf: serverLeaf(), anew: true,
			tamper: func(t *testing.T, files KeyPair) { remove(t, files.Key) }},
		{name: "anew with the key of another", at: now(), leaf: serverLeaf(), anew: true,
			tamper: func(t *testing.T, files KeyPair) {
				if err := WriteFile(files.Key, read(t, filepath.Join(filepath.Dir(files.Key), "ca.key"))); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "anew when damaged", at: now(), leaf: serverLeaf(), anew: true,
			tamper: func(t *testing.T, files KeyPair) {
				if err := WriteFile(files.Cert, []byte("not a certificate")); err != nil {
					t.Fatal(err)
				}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			files := Pair(dir, "server")
			first := ensure(t, openAuthority(t, dir, now()), files, serverLeaf())
			if tt.tamper != nil {
				tt.tamper(t, files)
			}
			second := ensure(t, openAuthority(t, dir, tt.at), files, tt.leaf)
			if anew := !bytes.Equal(first, second); anew != tt.anew {
				t.Errorf("issued anew: got %v, want %v", anew, tt.anew)
			}
			if !openAuthority(t, dir, tt.at).usable(files, tt.leaf) {
				t.Error("the result is not usable")
			}
		})
	}
}

func TestLeafOfAnotherAuthorityIsIssuedAnew(t *testing.T) {
	dir := t.TempDir()
	files := Pair(dir, "server")
	first := ensure(t, openAuthority(t, dir, now()), files, serverLeaf())
	second := ensure(t, openAuthority(t, t.TempDir(), now()), files, serverLeaf())
	if bytes.Equal(first, second) {
		t.Error("kept a certificate that another CA signed")
	}
}

func TestLeafEndsWithItsAuthority(t *testing.T) {
	dir := t.TempDir()
	created := openAuthority(t, dir, now())
	late := openAuthority(t, dir, now().Add(authorityLifetime-24*time.Hour))
	files := Pair(dir, "server")
	first := ensure(t, late, files, serverLeaf())
	cert, err := readCertificate(files.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if cert.NotAfter.After(created.certificate.NotAfter) {
		t.Errorf("leaf ends %s, after its CA (%s)", cert.NotAfter, created.certificate.NotAfter)
	}
	if second := ensure(t, late, files, serverLeaf()); !bytes.Equal(first, second) {
		t.Error("a leaf that cannot be any longer was issued anew")
	}
}

func TestAuthorityIsKeptAndNeverReplaced(t *testing.T) {
	tests := []struct {
		name   string
		tamper func(t *testing.T, files KeyPair)
		at     time.Time
		want   string // part of the error; empty: kept
	}{
		{name: "kept", at: now().Add(24 * time.Hour)},
		{name: "key missing", at: now(), want: "only one of",
			tamper: func(t *testing.T, files KeyPair) { remove(t, files.Key) }},
		{name: "certificate missing", at: now(), want: "only one of",
			tamper: func(t *testing.T, files KeyPair) { remove(t, files.Cert) }},
		{name: "damaged", at: now(), want: "no such PEM block",
			tamper: func(t *testing.T, files KeyPair) {
				if err := WriteFile(files.Cert, []byte("garbage")); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "key of another CA", at: now(), want: "does not belong to",
			tamper: func(t *testing.T, files KeyPair) {
				foreign := t.TempDir()
				openAuthority(t, foreign, now())
				if err := WriteFile(files.Key, read(t, Pair(foreign, "ca").Key)); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "not a CA", at: now(), want: "not the certificate of a CA",
			tamper: func(t *testing.T, files KeyPair) {
				ensure(t, openAuthority(t, t.TempDir(), now()), files, serverLeaf())
			}},
		{name: "expired", at: now().Add(authorityLifetime + time.Hour), want: "is valid from"},
		{name: "clock before its time", at: now().Add(-24 * time.Hour), want: "is valid from"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			files := Pair(dir, "ca")
			openAuthority(t, dir, now())
			before := read(t, files.Cert)
			if tt.tamper != nil {
				tt.tamper(t, files)
			}
			_, err := OpenAuthority(files, "test-ca", tt.at)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(before, read(t, files.Cert)) {
					t.Error("the CA was replaced")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error: got %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestSigningKeyIsKept(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.pub")
	if err := EnsureSigningKey(private, public); err != nil {
		t.Fatal(err)
	}
	firstPrivate, firstPublic := read(t, private), read(t, public)
	remove(t, public)
	if err := EnsureSigningKey(private, public); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(firstPrivate, read(t, private)) || !bytes.Equal(firstPublic, read(t, public)) {
		t.Error("the signing key changed")
	}
	if err := WriteFile(private, []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if err := EnsureSigningKey(private, public); err == nil {
		t.Error("a damaged signing key was accepted")
	}
}

func TestWriteFileIsPrivateAndLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	for _, content := range []string{"first", "second"} {
		if err := WriteFile(file, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got := string(read(t, file)); got != content {
			t.Errorf("content: got %q, want %q", got, content)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode: got %o, want 600", got)
	}
	if err := WriteFile(dir, []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("files in the folder: got %v, want secret only", entries)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}
