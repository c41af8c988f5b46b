package enroll

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

func TestSpec02Check02_CAHashIsTheFirstTokenPart(t *testing.T) {
	f := startFleet(t, Config{}, pki.Config{})
	got := f.do(t, request{path: "/ca.crt", insecure: true})
	sum := sha256.Sum256([]byte(got.body))
	if first, _, _ := strings.Cut(f.storedToken(t), "."); got.code != http.StatusOK || hex.EncodeToString(sum[:]) != first {
		t.Errorf("/ca.crt: code %d, hash %x, want 200 and %s", got.code, sum, first)
	}
}

func TestSpec02Check05_JoinByToken(t *testing.T) {
	f := startFleet(t, Config{}, pki.Config{})
	other := newFleet(t, Config{}, pki.Config{})
	forNode, err := f.authority.NodeToken("edge-2", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, forNode, _ = strings.Cut(forNode, ".")
	key := newKey(t)
	csr := edgeRequest(t, key, "edge-1")
	bearer := "Bearer " + f.token(t)
	tests := []struct {
		name          string
		authorization string
		node          string
		csr           []byte
		usages        string
		code          int
		body          string // prefix of the text
		reason        pki.Reason
	}{
		{name: "EdgeCore", authorization: bearer, code: 200},
		{name: "scheme in small letters", authorization: "bearer " + f.token(t), code: 200},
		{name: "asks for client authentication", authorization: bearer, usages: "[2]", code: 200},

		{name: "no token", code: 401, body: "token validation failure", reason: reasonNoCredentials},
		{name: "one word", authorization: f.token(t), code: 401, body: "token validation failure", reason: pki.ReasonTokenMalformed},
		{name: "three words", authorization: bearer + " x", code: 401, body: "token validation failure", reason: pki.ReasonTokenMalformed},
		{name: "another scheme", authorization: "Basic " + f.token(t), code: 401, body: "token validation failure", reason: pki.ReasonTokenMalformed},
		{name: "garbled token", authorization: "Bearer garbled", code: 401, body: "token validation failure", reason: pki.ReasonTokenMalformed},
		{name: "changed token", authorization: "Bearer " + changed(f.token(t)), code: 401, body: "token validation failure", reason: pki.ReasonTokenSignature},
		{name: "token of another CA", authorization: "Bearer " + other.token(t), code: 401, body: "token validation failure", reason: pki.ReasonTokenSignature},
		{name: "token of another node", authorization: "Bearer " + forNode, code: 401, body: "token validation failure", reason: reasonNodeMismatch},

		{name: "another node in the request", authorization: bearer, node: "edge-2", code: 403, body: "signing failed", reason: pki.ReasonRequestSubject},
		{name: "no node name", authorization: bearer, node: "-", code: 400, body: "signing failed", reason: pki.ReasonNodeName},
		{name: "server usage", authorization: bearer, usages: "[1,2]", code: 403, body: "signing failed", reason: pki.ReasonRequestUsages},
		{name: "garbled usages", authorization: bearer, usages: "clientAuth", code: 500, body: "signing failed", reason: pki.ReasonRequestUsages},
		{name: "endless usages", authorization: bearer, usages: "[" + strings.Repeat("2,", 100) + "2]", code: 500, body: "signing failed", reason: pki.ReasonRequestUsages},
		{name: "no request", authorization: bearer, csr: []byte{}, code: 500, body: "signing failed", reason: pki.ReasonRequestMalformed},
		{name: "garbled request", authorization: bearer, csr: []byte("garbled"), code: 500, body: "signing failed", reason: pki.ReasonRequestMalformed},
		{name: "request that is too large", authorization: bearer, csr: make([]byte, pki.MaxRequest+1), code: 413, body: "read certificate request", reason: reasonBody},
		{name: "masters", authorization: bearer, csr: requestOf(t, key, "system:node:edge-1", "system:masters"), code: 403, body: "signing failed", reason: pki.ReasonRequestSubject},
		{name: "legacy request", authorization: bearer, csr: requestOf(t, key, "kubeedge.io", "kubeEdge"), code: 403, body: "signing failed", reason: pki.ReasonRequestSubject},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := request{path: "/edge.crt", header: map[string]string{"Nodename": "edge-1"}, body: csr}
			if tt.node != "" {
				q.header["Nodename"] = tt.node
			}
			if tt.authorization != "" {
				q.header["Authorization"] = tt.authorization
			}
			if tt.usages != "" {
				q.header["Extkeyusages"] = tt.usages
			}
			if tt.csr != nil {
				q.body = tt.csr
			}
			var before float64
			if tt.reason != "" {
				before = testutil.ToFloat64(f.server.metrics.joinsRefused.WithLabelValues(string(tt.reason)))
			}
			got := f.do(t, q)
			if got.code != tt.code {
				t.Fatalf("got %d %q, want %d", got.code, got.body, tt.code)
			}
			if tt.reason != "" {
				if after := testutil.ToFloat64(f.server.metrics.joinsRefused.WithLabelValues(string(tt.reason))); after != before+1 {
					t.Errorf("refusals for %s: got %v, want %v", tt.reason, after, before+1)
				}
				if !strings.HasPrefix(got.body, tt.body) || tt.authorization != "" && strings.Contains(got.body, f.token(t)) {
					t.Errorf("got text %q, want one that starts with %q", got.body, tt.body)
				}
				return
			}
			cert := parseCert(t, []byte(got.body))
			if cert.Subject.String() != "CN=system:node:edge-1,O=system:nodes" || !key.PublicKey.Equal(cert.PublicKey) {
				t.Errorf("certificate of %s, or for another key", cert.Subject)
			}
			if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
				t.Errorf("extended key usages %v", cert.ExtKeyUsage)
			}
			if left := time.Until(cert.NotAfter).Round(time.Hour); left != 365*24*time.Hour {
				t.Errorf("certificate lasts %s, want 365 days", left)
			}
			if peer, err := f.authority.VerifyPeer([]*x509.Certificate{cert}); err != nil || peer.Node != "edge-1" {
				t.Errorf("certificate speaks for %+v, %v", peer, err)
			}
		})
	}
	if got := testutil.ToFloat64(f.server.metrics.issued.WithLabelValues("token")); got != 3 {
		t.Errorf("issued metric is %v, want 3", got)
	}
}

func TestSpec02Check05_ExpiredTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, Config{}, pki.Config{})
		token := f.token(t)
		join := func() reply {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/edge.crt", strings.NewReader(string(edgeRequest(t, newKey(t), "edge-1"))))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Nodename", "edge-1")
			r.Header.Set("Authorization", "Bearer "+token)
			return f.server.nodeCertificate(r)
		}
		time.Sleep(24*time.Hour - time.Second)
		if got := join(); got.code != http.StatusOK {
			t.Errorf("a second before its end: got %d %s", got.code, got.body)
		}
		time.Sleep(time.Second)
		if got := join(); got.code != http.StatusUnauthorized || got.refused != pki.ReasonTokenExpired {
			t.Errorf("at its end: got %d %s", got.code, got.body)
		}
	})
}

func TestSpec02Check06_RenewalByCertificate(t *testing.T) {
	plain := startFleet(t, Config{}, pki.Config{})
	legacy := startFleet(t, Config{}, pki.Config{AllowLegacyCertificates: true})
	grace := startFleet(t, Config{}, pki.Config{ExpiredCertificateGrace: 40 * time.Minute})
	stranger := newAuthority(t, pki.Config{}, plainAPI())
	foreign := newIdentity(t, stranger, "edge-1")

	tests := []struct {
		name    string
		fleet   *fleet
		as      *identity
		node    string // in Nodename and in the request
		request string // another node in the request
		token   bool   // also show a good token
		code    int
		reason  pki.Reason
		issued  credential
	}{
		{name: "own certificate", fleet: plain, as: newIdentity(t, plain.authority, "edge-1"), node: "edge-1", code: 200, issued: byCertificate},
		{name: "own certificate of a node that has no object", fleet: plain, as: newIdentity(t, plain.authority, "edge-9"), node: "edge-9", code: 200, issued: byCertificate},
		{name: "another node's certificate", fleet: plain, as: newIdentity(t, plain.authority, "edge-2"), node: "edge-1", code: 401, reason: reasonNodeMismatch},
		{name: "request for another node", fleet: plain, as: newIdentity(t, plain.authority, "edge-1"), node: "edge-1", request: "edge-2", code: 403, reason: pki.ReasonRequestSubject},
		{name: "foreign CA", fleet: plain, as: foreign, node: "edge-1", code: 401, reason: pki.ReasonCertificateUntrusted},
		{name: "foreign CA with a good token", fleet: plain, as: foreign, node: "edge-1", token: true, code: 401, reason: pki.ReasonCertificateUntrusted},
		{name: "no organization", fleet: plain, as: plain.identityUnder(t, "system:node:edge-1", "", never), node: "edge-1", code: 401, reason: pki.ReasonCertificateIdentity},
		{name: "expired", fleet: plain, as: plain.identityUnder(t, "system:node:edge-1", "system:nodes", time.Minute), node: "edge-1", code: 401, reason: pki.ReasonCertificateExpired},
		{name: "legacy, switch off", fleet: plain, as: plain.identityUnder(t, "kubeedge.io", "kubeEdge", never), node: "edge-1", code: 401, reason: pki.ReasonCertificateIdentity},

		{name: "legacy, switch on", fleet: legacy, as: legacy.identityUnder(t, "kubeedge.io", "kubeEdge", never), node: "edge-1", code: 200, issued: byLegacy},
		{name: "legacy for a node that does not exist", fleet: legacy, as: legacy.identityUnder(t, "kubeedge.io", "KubeEdge", never), node: "edge-9", code: 401, reason: reasonNodeUnknown},
		{name: "expired within the grace", fleet: grace, as: grace.identityUnder(t, "system:node:edge-1", "system:nodes", 30*time.Minute), node: "edge-1", code: 200, issued: byExpired},
		{name: "expired within the grace, node deleted", fleet: grace, as: grace.identityUnder(t, "system:node:edge-9", "system:nodes", 30*time.Minute), node: "edge-9", code: 401, reason: reasonNodeUnknown},
		{name: "expired beyond the grace", fleet: grace, as: grace.identityUnder(t, "system:node:edge-1", "system:nodes", 50*time.Minute), node: "edge-1", code: 401, reason: pki.ReasonCertificateExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.request == "" {
				tt.request = tt.node
			}
			q := request{path: "/edge.crt", as: tt.as, header: map[string]string{"Nodename": tt.node}, body: edgeRequest(t, newKey(t), tt.request)}
			if tt.token {
				q.header["Authorization"] = "Bearer " + tt.fleet.token(t)
			}
			metrics := tt.fleet.server.metrics
			counter := metrics.joinsRefused.WithLabelValues(string(tt.reason))
			if tt.code == 200 {
				counter = metrics.issued.WithLabelValues(string(tt.issued))
			}
			before := testutil.ToFloat64(counter)
			got := tt.fleet.do(t, q)
			if got.code != tt.code {
				t.Fatalf("got %d %q, want %d", got.code, got.body, tt.code)
			}
			if after := testutil.ToFloat64(counter); after != before+1 {
				t.Errorf("metric: got %v, want %v", after, before+1)
			}
			if tt.code == 200 {
				if name, err := pki.NodeName(parseCert(t, []byte(got.body))); err != nil || name != tt.node {
					t.Errorf("certificate of %q (%v), want %q", name, err, tt.node)
				}
			}
		})
	}

	t.Run("a foreign certificate spoils no other route", func(t *testing.T) {
		for path, want := range map[string]int{"/ca.crt": 200, "/node/edge-1": 200, "/node/edge-9": 404} {
			if got := plain.do(t, request{path: path, as: foreign}); got.code != want {
				t.Errorf("%s: got %d, want %d", path, got.code, want)
			}
		}
	})
	t.Run("node lookup fails", func(t *testing.T) {
		legacy.mu.Lock()
		legacy.nodeErr = errors.New("cache not ready")
		legacy.mu.Unlock()
		q := request{path: "/edge.crt", as: legacy.identityUnder(t, "kubeedge.io", "kubeEdge", never), header: map[string]string{"Nodename": "edge-1"}, body: edgeRequest(t, newKey(t), "edge-1")}
		if got := legacy.do(t, q); got.code != http.StatusInternalServerError {
			t.Errorf("got %d %q, want 500", got.code, got.body)
		}
	})
}

func TestSpec02Check07_NodeCheck(t *testing.T) {
	f := startFleet(t, Config{}, pki.Config{})
	for _, tt := range []struct {
		path string
		code int
		body string
	}{
		{"/node/edge-1", 200, "Node founded"},
		{"/node/edge-9", 404, "Node not found"},
		{"/node/Not%20A%20Name", 404, "Node not found"},
		{"/node/" + strings.Repeat("a", 300), 400, "a node name has 1 to 253 characters"},
		{"/node/", 404, "404: Page Not Found"},
		{"/node/edge-1/status", 404, "404: Page Not Found"},
	} {
		if got := f.do(t, request{path: tt.path, insecure: true}); got.code != tt.code || got.body != tt.body {
			t.Errorf("%.30s: got %d %q, want %d %q", tt.path, got.code, got.body, tt.code, tt.body)
		}
	}
	f.mu.Lock()
	f.nodeErr = errors.New("cache not ready")
	f.mu.Unlock()
	if got := f.do(t, request{path: "/node/edge-9"}); got.code != 500 || got.body != "Failed to query node information" {
		t.Errorf("lookup fails: got %d %q", got.code, got.body)
	}
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	f := startFleet(t, Config{}, pki.Config{})
	for _, tt := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", 404},
		{"GET", "/healthz", 404},
		{"GET", "/ca.crt/", 404},
		{"POST", "/ca.crt", 405},
		{"HEAD", "/edge.crt", 405},
		{"PUT", "/edge.crt", 405},
		{"GET", "/nodeupgrade", 405},
		{"GET", "/task/upgrade/name/up-1/node/edge-1/status", 405},
		{"POST", "/task/upgrade/name/up-1/node/edge-1", 404},
	} {
		if got := f.do(t, request{method: tt.method, path: tt.path}); got.code != tt.code {
			t.Errorf("%s %s: got %d, want %d", tt.method, tt.path, got.code, tt.code)
		}
	}
	if got := testutil.ToFloat64(f.server.metrics.requests.WithLabelValues("other", "404")); got != 4 {
		t.Errorf("unknown paths counted: %v, want 4", got)
	}
}
