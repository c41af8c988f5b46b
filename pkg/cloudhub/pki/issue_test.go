package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"testing"
	"time"
)

func TestIssuedNodeCertificate(t *testing.T) {
	a := loaded(t, testConfig(), newAPI(t))
	cert, key := issue(t, a, "edge-1")
	if got, want := cert.Subject.String(), "CN=system:node:edge-1,O=system:nodes"; got != want {
		t.Errorf("subject %s, want %s: nothing else of the request", got, want)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		t.Error("certificate is not for the key of the request")
	}
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(cert.UnknownExtKeyUsage) != 0 {
		t.Errorf("extended key usages %v, want client authentication", cert.ExtKeyUsage)
	}
	if cert.KeyUsage != x509.KeyUsageKeyEncipherment|x509.KeyUsageDigitalSignature || cert.IsCA {
		t.Errorf("key usage %b, CA %v", cert.KeyUsage, cert.IsCA)
	}
	if left := time.Until(cert.NotAfter); left.Round(time.Hour) != 365*24*time.Hour {
		t.Errorf("certificate lasts %s, want 365 days", left)
	}
	if cert.NotBefore.After(time.Now().Add(-59*time.Minute)) || cert.NotBefore.Before(a.ca.Load().cert.NotBefore) {
		t.Errorf("not before %s, want an hour ago", cert.NotBefore)
	}
	if cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() > 63 {
		t.Errorf("serial number %s is not within 1 and 2^63", cert.SerialNumber)
	}
	if other, _ := issue(t, a, "edge-1"); other.SerialNumber.Cmp(cert.SerialNumber) == 0 {
		t.Error("two certificates with one serial number")
	}
}

// An edge renews after 70 to 90 % of the life counted from NotBefore: that moment must lie ahead.
func TestShortLifetimeIsNotBackdatedAway(t *testing.T) {
	cfg := testConfig()
	cfg.NodeCertificateLifetime = 5 * time.Minute
	cert, _ := issue(t, loaded(t, cfg, newAPI(t)), "edge-1")
	earliest := cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 7 / 10)
	if left := time.Until(earliest); left < 2*time.Minute {
		t.Errorf("renewal is due in %s", left)
	}
}

func TestRequestPolicy(t *testing.T) {
	key := newKey(t)
	weakCurve, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	weakRSA, _ := rsa.GenerateKey(rand.Reader, 1024)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	otherName := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: mustDER(asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 42}}}))}
	type change = func(*x509.CertificateRequest)
	tests := []struct {
		name   string
		key    crypto.Signer
		node   string
		change change
		usages []x509.ExtKeyUsage
		cfg    func(*Config)
		want   Reason // empty: issued
	}{
		{name: "EdgeCore"},
		{name: "RSA key", key: rsaKey},
		{name: "Ed25519 key", key: edKey},
		{name: "dotted node name", node: "edge-1.factory.example"},
		{name: "asks for what it gets anyway", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageClientAuth}},

		{name: "weak curve", key: weakCurve, want: ReasonRequestKey},
		{name: "weak RSA key", key: weakRSA, want: ReasonRequestKey},
		{name: "no node name", node: "-", want: ReasonNodeName},
		{name: "another node", change: func(r *x509.CertificateRequest) { r.Subject.CommonName = "system:node:edge-2" }, want: ReasonRequestSubject},
		{name: "cloudcore itself", change: func(r *x509.CertificateRequest) { r.Subject.CommonName = "KubeEdge" }, want: ReasonRequestSubject},
		{name: "longer name", change: func(r *x509.CertificateRequest) { r.Subject.CommonName += "0" }, want: ReasonRequestSubject},
		{name: "no organization", change: func(r *x509.CertificateRequest) { r.Subject.Organization = nil }, want: ReasonRequestSubject},
		{name: "masters", change: func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} }, want: ReasonRequestSubject},
		{name: "two organizations", change: func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:nodes", "system:masters"} }, want: ReasonRequestSubject},
		{name: "legacy subject", change: legacySubject, want: ReasonRequestSubject},
		{name: "DNS name", change: func(r *x509.CertificateRequest) { r.DNSNames = []string{"cloudcore"} }, want: ReasonRequestNames},
		{name: "own DNS name", change: func(r *x509.CertificateRequest) { r.DNSNames = []string{"edge-1"} }, want: ReasonRequestNames},
		{name: "IP address", change: func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }, want: ReasonRequestNames},
		{name: "mail address", change: func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }, want: ReasonRequestNames},
		{name: "URI", change: func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }, want: ReasonRequestNames},
		{name: "name of an unknown kind", change: func(r *x509.CertificateRequest) { r.ExtraExtensions = []pkix.Extension{otherName} }, want: ReasonRequestNames},
		{name: "server usage", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, want: ReasonRequestUsages},
		{name: "any usage", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, want: ReasonRequestUsages},

		{name: "server usage allowed", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
			cfg: func(c *Config) {
				c.AllowedExtKeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
			}},
		{name: "own DNS name allowed", change: func(r *x509.CertificateRequest) { r.DNSNames = []string{"edge-1"} }, cfg: allowOwnName},
		{name: "another DNS name where its own is allowed", change: func(r *x509.CertificateRequest) { r.DNSNames = []string{"edge-2"} }, cfg: allowOwnName, want: ReasonRequestNames},
		{name: "own DNS name and an address", change: func(r *x509.CertificateRequest) {
			r.DNSNames, r.IPAddresses = []string{"edge-1"}, []net.IP{net.IPv4(192, 0, 2, 1)}
		}, cfg: allowOwnName, want: ReasonRequestNames},
		{name: "legacy subject allowed", change: legacySubject, cfg: func(c *Config) { c.AllowLegacyRequests = true }},
		{name: "legacy subject where its certificates are", change: legacySubject, cfg: func(c *Config) { c.AllowLegacyCertificates = true }},
		{name: "legacy name in a modern group", change: func(r *x509.CertificateRequest) { r.Subject.CommonName = "kubeedge.io" },
			cfg: func(c *Config) { c.AllowLegacyCertificates = true }, want: ReasonRequestSubject},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			if tt.cfg != nil {
				tt.cfg(&cfg)
			}
			a := loaded(t, cfg, newAPI(t))
			if tt.key == nil {
				tt.key = key
			}
			if tt.node == "" {
				tt.node = "edge-1"
			}
			var changes []change
			if tt.change != nil {
				changes = append(changes, tt.change)
			}
			der, err := a.IssueNodeCertificate(NodeRequest{Node: tt.node, CSR: edgeRequest(t, tt.key, tt.node, changes...), ExtKeyUsages: tt.usages})
			if tt.want != "" {
				wantRefusal(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatalf("got %v, want a certificate", err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if peer, err := a.VerifyPeer([]*x509.Certificate{cert}); err != nil || peer.Node != tt.node || peer.Legacy {
				t.Errorf("certificate speaks for %+v (%v), want %s", peer, err, tt.node)
			}
		})
	}
}

func legacySubject(r *x509.CertificateRequest) {
	r.Subject.CommonName, r.Subject.Organization = "kubeedge.io", []string{"kubeEdge"}
}

func allowOwnName(c *Config) { c.AllowNodeNameSAN = true }

func TestRequestBytes(t *testing.T) {
	a := loaded(t, testConfig(), newAPI(t))
	good := edgeRequest(t, newKey(t), "edge-1")
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1 // within the signature
	for _, tt := range []struct {
		name string
		csr  []byte
		want Reason
	}{
		{"empty", nil, ReasonRequestMalformed},
		{"text", []byte("hello"), ReasonRequestMalformed},
		{"cut off", good[:len(good)-5], ReasonRequestMalformed},
		{"with more behind it", append(bytes.Clone(good), 0), ReasonRequestMalformed},
		{"too large", make([]byte, MaxRequest+1), ReasonRequestMalformed},
		{"not signed by its key", forged, ReasonRequestSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := a.IssueNodeCertificate(NodeRequest{Node: "edge-1", CSR: tt.csr})
			wantRefusal(t, err, tt.want)
		})
	}
}
