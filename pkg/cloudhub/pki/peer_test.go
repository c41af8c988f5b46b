package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"
)

func clientTemplate(commonName string, organization ...string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName, Organization: organization},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func TestNodeName(t *testing.T) {
	tests := []struct {
		name string
		cert *x509.Certificate
		want string
	}{
		{"node", clientTemplate("system:node:edge-1", "system:nodes"), "edge-1"},
		{"no certificate", nil, ""},
		{"no organization", clientTemplate("system:node:edge-1"), ""},
		{"another organization", clientTemplate("system:node:edge-1", "KubeEdge"), ""},
		{"two organizations", clientTemplate("system:node:edge-1", "system:nodes", "x"), ""},
		{"empty name", clientTemplate("system:node:", "system:nodes"), ""},
		{"impossible name", clientTemplate("system:node:a/../b", "system:nodes"), ""},
		{"endless name", clientTemplate("system:node:"+strings.Repeat("a", 1<<16), "system:nodes"), ""},
		{"other prefix", clientTemplate("edge-1", "system:nodes"), ""},
		{"legacy", clientTemplate("kubeedge.io", "KubeEdge"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := NodeName(tt.cert)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			if err != nil {
				wantRefusal(t, err, ReasonCertificateIdentity)
				if len(err.Error()) > 200 {
					t.Errorf("error text of %d bytes", len(err.Error()))
				}
			}
		})
	}
}

func TestVerifyPeer(t *testing.T) {
	api := newAPI(t)
	strict := loaded(t, testConfig(), api)
	cfg := testConfig()
	cfg.AllowLegacyCertificates = true
	lenient := loaded(t, cfg, api)
	cfg = testConfig()
	cfg.AllowLegacyRequests = true
	binding := loaded(t, cfg, api)
	stranger := loaded(t, testConfig(), newAPI(t))
	key := newKey(t)
	node, _ := issue(t, strict, "edge-1")
	foreign, _ := issue(t, stranger, "edge-1")
	self := certify(t, clientTemplate("system:node:edge-1", "system:nodes"), clientTemplate("system:node:edge-1", "system:nodes"), &key.PublicKey, key)
	legacy := signAs(t, strict, key, clientTemplate("kubeedge.io", "kubeEdge"))
	expired := clientTemplate("system:node:edge-1", "system:nodes")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-3*time.Hour), time.Now().Add(-time.Hour)
	server := strict.serving.Load().cert.Leaf

	tests := []struct {
		name      string
		authority *Authority
		certs     []*x509.Certificate
		want      Peer
		refused   Reason
	}{
		{"node", strict, []*x509.Certificate{node}, Peer{Node: "edge-1"}, ""},
		{"node with more behind it", strict, []*x509.Certificate{node, foreign}, Peer{Node: "edge-1"}, ""},
		{"none", strict, nil, Peer{}, ReasonCertificateIdentity},
		{"foreign CA", strict, []*x509.Certificate{foreign}, Peer{}, ReasonCertificateUntrusted},
		{"foreign leaf before a good one", strict, []*x509.Certificate{foreign, node}, Peer{}, ReasonCertificateUntrusted},
		{"signed by itself", strict, []*x509.Certificate{self}, Peer{}, ReasonCertificateExpired},
		{"expired", strict, []*x509.Certificate{signAs(t, strict, key, expired)}, Peer{}, ReasonCertificateExpired},
		{"serving certificate", strict, []*x509.Certificate{server}, Peer{}, ReasonCertificateUntrusted},
		{"the CA itself", strict, []*x509.Certificate{strict.ca.Load().cert}, Peer{}, ReasonCertificateIdentity},
		{"no organization", strict, []*x509.Certificate{signAs(t, strict, key, clientTemplate("system:node:edge-1"))}, Peer{}, ReasonCertificateIdentity},
		{"legacy, switch off", strict, []*x509.Certificate{legacy}, Peer{}, ReasonCertificateIdentity},
		{"legacy, requests allowed only", binding, []*x509.Certificate{legacy}, Peer{}, ReasonCertificateIdentity},
		{"legacy, switch on", lenient, []*x509.Certificate{legacy}, Peer{Legacy: true}, ""},
		{"legacy of v1.16 spelling", lenient, []*x509.Certificate{signAs(t, strict, key, clientTemplate("kubeedge.io", "KubeEdge"))}, Peer{Legacy: true}, ""},
		{"legacy name without organization", lenient, []*x509.Certificate{signAs(t, strict, key, clientTemplate("kubeedge.io"))}, Peer{}, ReasonCertificateIdentity},
		{"node, switch on", lenient, []*x509.Certificate{node}, Peer{Node: "edge-1"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.authority.VerifyPeer(tt.certs)
			if tt.refused != "" {
				wantRefusal(t, err, tt.refused)
			} else if err != nil {
				t.Errorf("got %v", err)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestPeerMayActAs(t *testing.T) {
	for _, tt := range []struct {
		peer Peer
		node string
		want bool
	}{
		{Peer{Node: "edge-1"}, "edge-1", true},
		{Peer{Node: "edge-1"}, "edge-2", false},
		{Peer{}, "", false},
		{Peer{Legacy: true}, "edge-2", true},
	} {
		if got := tt.peer.MayActAs(tt.node); got != tt.want {
			t.Errorf("%+v as %q: got %v, want %v", tt.peer, tt.node, got, tt.want)
		}
	}
}

func TestRenewalGrace(t *testing.T) {
	api := newAPI(t)
	strict := loaded(t, testConfig(), api)
	cfg := testConfig()
	cfg.ExpiredCertificateGrace = 40 * time.Minute
	graceful := loaded(t, cfg, api)
	stranger := loaded(t, testConfig(), newAPI(t))
	key := newKey(t)
	ended := func(a *Authority, ago time.Duration) []*x509.Certificate {
		template := clientTemplate("system:node:edge-1", "system:nodes")
		template.NotBefore, template.NotAfter = time.Now().Add(-ago-time.Minute), time.Now().Add(-ago)
		return []*x509.Certificate{signAs(t, a, key, template)}
	}
	current, _ := issue(t, strict, "edge-1")
	tests := []struct {
		name      string
		authority *Authority
		certs     []*x509.Certificate
		want      Peer
		refused   Reason
	}{
		{"current", graceful, []*x509.Certificate{current}, Peer{Node: "edge-1"}, ""},
		{"within the grace", graceful, ended(strict, 30*time.Minute), Peer{Node: "edge-1", Expired: true}, ""},
		{"beyond the grace", graceful, ended(strict, 50*time.Minute), Peer{}, ReasonCertificateExpired},
		{"no grace", strict, ended(strict, time.Minute), Peer{}, ReasonCertificateExpired},
		{"foreign CA within the grace", graceful, ended(stranger, 30*time.Minute), Peer{}, ReasonCertificateUntrusted},
		{"none", graceful, nil, Peer{}, ReasonCertificateIdentity},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.authority.VerifyRenewal(tt.certs)
			if tt.refused != "" {
				wantRefusal(t, err, tt.refused)
			} else if err != nil {
				t.Errorf("got %v", err)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			// The grace is for renewal alone.
			if peer, err := tt.authority.VerifyPeer(tt.certs); err == nil && tt.want.Expired {
				t.Errorf("VerifyPeer took an expired certificate for %+v", peer)
			}
		})
	}
}
