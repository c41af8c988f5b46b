package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"testing"
	"time"
)

func TestSpec02Check19_AdvertiseAddressChange(t *testing.T) {
	api := newAPI(t)
	cfg := testConfig()
	cfg.AdvertiseAddresses = []string{"192.0.2.1"}
	old := loaded(t, cfg, api)
	node, nodeKey := issue(t, old, "edge-1")
	oldCA, _ := old.CACertificate()

	cfg.AdvertiseAddresses = []string{"127.0.0.1", "cc.example.com"}
	moved := loaded(t, cfg, api)
	if newCA, _ := moved.CACertificate(); !bytes.Equal(oldCA, newCA) {
		t.Fatal("the CA changed with the address")
	}
	// The edge kept its certificate and its rootCA.crt, and verifies the new address.
	roots := x509.NewCertPool()
	roots.AddCert(old.ca.Load().cert)
	client := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1",
		Certificates: []tls.Certificate{{Certificate: [][]byte{node.Raw}, PrivateKey: nodeKey}}}
	if _, err := exchange(t, moved.HubTLS(), client); err != nil {
		t.Errorf("edge at the new address: %v", err)
	}
	client.ServerName = "cc.example.com"
	if _, err := exchange(t, moved.HubTLS(), client); err != nil {
		t.Errorf("edge at the new DNS name: %v", err)
	}

	before := writes(api)
	again := loaded(t, cfg, api)
	if n := writes(api) - before; n != 0 {
		t.Errorf("restart without a change: got %d writes, want none", n)
	}
	if !bytes.Equal(again.serving.Load().cert.Certificate[0], moved.serving.Load().cert.Certificate[0]) {
		t.Error("restart without a change: another certificate")
	}
}

func TestStoredServingCertificateIsReplaced(t *testing.T) {
	base := newAPI(t)
	a := loaded(t, testConfig(), base)
	ca := getSecret(t, base, "casecret").Data
	key := newKey(t)
	keyDER := mustDER(x509.MarshalECPrivateKey(key))
	now := time.Now()
	signed := func(from, to time.Duration, usage x509.ExtKeyUsage) []byte {
		return signAs(t, a, key, &x509.Certificate{
			NotBefore: now.Add(from), NotAfter: now.Add(to), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{usage},
		}).Raw
	}
	foreign := referenceSecrets(t, "127.0.0.1")[1].Data
	tests := []struct {
		name     string
		data     map[string][]byte
		replaced bool
	}{
		{"fits", map[string][]byte{"cloudcoredata": signed(-time.Hour, 60*day, x509.ExtKeyUsageServerAuth), "cloudcorekeydata": keyDER}, false},
		{"short-lived and young", map[string][]byte{"cloudcoredata": signed(-time.Hour, 10*day, x509.ExtKeyUsageServerAuth), "cloudcorekeydata": keyDER}, false},
		{"expired", map[string][]byte{"cloudcoredata": signed(-2*time.Hour, -time.Hour, x509.ExtKeyUsageServerAuth), "cloudcorekeydata": keyDER}, true},
		{"about to expire", map[string][]byte{"cloudcoredata": signed(-900*day, 29*day, x509.ExtKeyUsageServerAuth), "cloudcorekeydata": keyDER}, true},
		{"of another CA", foreign, true},
		{"not for servers", map[string][]byte{"cloudcoredata": signed(-time.Hour, 60*day, x509.ExtKeyUsageClientAuth), "cloudcorekeydata": keyDER}, true},
		{"key of another", map[string][]byte{"cloudcoredata": signed(-time.Hour, 60*day, x509.ExtKeyUsageServerAuth), "cloudcorekeydata": foreign["cloudcorekeydata"]}, true},
		{"garbled", map[string][]byte{"cloudcoredata": []byte("x"), "cloudcorekeydata": []byte("y")}, true},
		{"key missing", map[string][]byte{"cloudcoredata": signed(-time.Hour, 60*day, x509.ExtKeyUsageServerAuth)}, true},
		{"empty", map[string][]byte{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			api := newAPI(t, secretOf("casecret", ca), secretOf("cloudcoresecret", tt.data))
			b := loaded(t, testConfig(), api)
			inUse := b.serving.Load().cert
			if got := !bytes.Equal(inUse.Certificate[0], tt.data["cloudcoredata"]); got != tt.replaced {
				t.Errorf("replaced: got %v, want %v", got, tt.replaced)
			}
			if stored := getSecret(t, api, "cloudcoresecret").Data["cloudcoredata"]; !bytes.Equal(stored, inUse.Certificate[0]) {
				t.Error("the secret does not hold the certificate in use")
			}
		})
	}
}

// A CA that ends soon limits what it signs; that must not make every start issue anew.
func TestServingCertificateEndsWithItsCA(t *testing.T) {
	ca := newFileAuthority(t, newKey(t)) // lives a thousand hours
	key, err := storedForm(ca.key)
	if err != nil {
		t.Fatal(err)
	}
	api := newAPI(t, secretOf("casecret", map[string][]byte{"cadata": ca.cert.Raw, "cakeydata": key.der}))
	a := loaded(t, testConfig(), api)
	if got := a.serving.Load().cert.Leaf.NotAfter; !got.Equal(ca.cert.NotAfter) {
		t.Errorf("serving certificate ends %s, want with its CA at %s", got, ca.cert.NotAfter)
	}
	node, _ := issue(t, a, "edge-1")
	if !node.NotAfter.Equal(ca.cert.NotAfter) {
		t.Errorf("node certificate ends %s, want with its CA at %s", node.NotAfter, ca.cert.NotAfter)
	}
	if err := a.reusable(servingPair{chain: []*x509.Certificate{a.serving.Load().cert.Leaf}}, a.ca.Load(), ca.cert.NotAfter.Add(-time.Hour)); err != nil {
		t.Errorf("an hour before the end of both: %v", err)
	}
}

// exchange does a handshake over loopback, and one byte in each direction, so that the client learns
// whether the server took its certificate. It returns the server's view.
func exchange(tb testing.TB, server, client *tls.Config) (tls.ConnectionState, error) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()
	type result struct {
		state tls.ConnectionState
		err   error
	}
	done := make(chan result, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- result{err: err}
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close()
		_, err = io.CopyN(conn, conn, 1)
		done <- result{conn.ConnectionState(), err}
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	conn := tls.Client(raw, client)
	_, err = conn.Write([]byte{1})
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	_ = raw.Close()
	r := <-done
	if err == nil {
		err = r.err
	}
	return r.state, err
}

func TestHubTLSWantsANodeCertificate(t *testing.T) {
	a := loaded(t, testConfig(), newAPI(t))
	stranger := loaded(t, testConfig(), newAPI(t))
	roots, _ := a.CAPool()
	good, goodKey := issue(t, a, "edge-1")
	foreign, foreignKey := issue(t, stranger, "edge-1")
	key := newKey(t)
	expired := signAs(t, a, key, &x509.Certificate{Subject: good.Subject, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	serverOnly := signAs(t, a, key, &x509.Certificate{Subject: pkix.Name{CommonName: "KubeEdge"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	tests := []struct {
		name   string
		cert   *x509.Certificate
		key    any
		hub    bool
		maxTLS uint16
		enroll bool
	}{
		{"node certificate", good, goodKey, true, 0, true},
		{"node certificate over TLS 1.2", good, goodKey, true, tls.VersionTLS12, true},
		{"TLS 1.1", good, goodKey, false, tls.VersionTLS11, false},
		{"none", nil, nil, false, 0, true},
		{"of a foreign CA", foreign, foreignKey, false, 0, true},
		{"expired", expired, key, false, 0, true},
		{"for servers", serverOnly, key, false, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tt.maxTLS, NextProtos: []string{"h2", "http/1.1"}}
			if tt.cert != nil {
				// Sent whatever CAs the server names, as EdgeCore does it.
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &tls.Certificate{Certificate: [][]byte{tt.cert.Raw}, PrivateKey: tt.key}, nil
				}
			}
			state, err := exchange(t, a.HubTLS(), client)
			if (err == nil) != tt.hub {
				t.Errorf("hub: got %v, want success %v", err, tt.hub)
			}
			if err == nil && (len(state.VerifiedChains) == 0 || state.NegotiatedProtocol != "http/1.1") {
				t.Errorf("hub: %d verified chains, protocol %q", len(state.VerifiedChains), state.NegotiatedProtocol)
			}
			state, err = exchange(t, a.EnrollTLS(), client)
			if (err == nil) != tt.enroll {
				t.Errorf("enrolment: got %v, want success %v", err, tt.enroll)
			}
			if err == nil && tt.cert != nil && len(state.PeerCertificates) != 1 {
				t.Errorf("enrolment: handler would see %d certificates, want 1", len(state.PeerCertificates))
			}
		})
	}
}

func TestSessionsAreNotResumed(t *testing.T) {
	a := loaded(t, testConfig(), newAPI(t))
	roots, _ := a.CAPool()
	cert, key := issue(t, a, "edge-1")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(4),
			Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
		server := a.HubTLS()
		for range 2 {
			state, err := exchange(t, server, client)
			if err != nil {
				t.Fatal(err)
			}
			if state.DidResume {
				t.Errorf("TLS %x: session was resumed", version)
			}
		}
	}
}

func TestConnectionsShareOneConfiguration(t *testing.T) {
	a := loaded(t, testConfig(), newAPI(t))
	get := a.HubTLS().GetConfigForClient
	first, err := get(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = get(nil) }); n != 0 {
		t.Errorf("got %v allocations per connection, want none", n)
	}
	// A new certificate counts from the next handshake on.
	pair, err := a.issueServing(a.ca.Load(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.publish(newServing(a.ca.Load(), pair, pemPair{}))
	if second, _ := get(nil); second == first || !bytes.Equal(second.Certificates[0].Certificate[0], pair.chain[0].Raw) {
		t.Error("the next handshake does not use the new certificate")
	}
}

func BenchmarkHubHandshake(b *testing.B) {
	a := loaded(b, testConfig(), newAPI(b))
	roots, _ := a.CAPool()
	cert, key := issue(b, a, "edge-1")
	client := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	server := a.HubTLS()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := exchange(b, server, client); err != nil {
			b.Fatal(err)
		}
	}
}
