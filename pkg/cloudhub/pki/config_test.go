package pki

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestServerNames(t *testing.T) {
	tests := []struct {
		name      string
		advertise []string
		dns       []string
		want      string // ips|dns, or the error text
	}{
		{"address", []string{"192.0.2.10"}, []string{""}, "[192.0.2.10]|[]"},
		{"blanks and the reference's failed detection are skipped", []string{"", " ", "<nil>", "192.0.2.10"}, []string{"  "}, "[192.0.2.10]|[]"},
		{"a name among the addresses becomes a DNS name", []string{"cc.example.com", "192.0.2.10"}, nil, "[192.0.2.10]|[cc.example.com]"},
		{"an address among the names becomes an IP", []string{"192.0.2.10"}, []string{"192.0.2.9"}, "[192.0.2.9 192.0.2.10]|[]"},
		{"duplicates, case and order do not matter", []string{"B.example", "192.0.2.1", "192.0.2.1"}, []string{"a.example", "b.example."}, "[192.0.2.1]|[a.example b.example]"},
		{"IPv6 and mapped IPv4", []string{"2001:db8::1", "::ffff:192.0.2.1"}, nil, "[192.0.2.1 2001:db8::1]|[]"},
		{"wildcard", []string{"192.0.2.1"}, []string{"*.example.com"}, "[192.0.2.1]|[*.example.com]"},
		{"names alone are enough", nil, []string{"cloudcore"}, "[]|[cloudcore]"},
		{"nothing", []string{""}, []string{""}, "advertiseAddress names no address"},
		{"port", []string{"192.0.2.1:10000"}, nil, `advertiseAddress entry "192.0.2.1:10000"`},
		{"misspelt address", []string{"192.0.2.256"}, nil, `advertiseAddress entry "192.0.2.256"`},
		{"zone", []string{"fe80::1%eth0"}, nil, `advertiseAddress entry "fe80::1%eth0"`},
		{"not a name", []string{"192.0.2.1"}, []string{"cloud core"}, `dnsNames entry "cloud core"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			names, err := parseServerNames(tt.advertise, tt.dns)
			got := fmt.Sprintf("%v|%v", names.ips, names.dns)
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("parseServerNames(%q, %q) = %s, want %s", tt.advertise, tt.dns, got, tt.want)
			}
		})
	}
}

func TestConfigDefaultsAndBounds(t *testing.T) {
	full, err := testConfig().complete()
	if err != nil {
		t.Fatal(err)
	}
	if full.Namespace != "kubeedge" || full.NodeCertificateLifetime != 365*24*time.Hour || full.TokenRefresh != 12*time.Hour ||
		len(full.AllowedExtKeyUsages) != 1 || full.AllowedExtKeyUsages[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("defaults: got %+v", full)
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.NodeCertificateLifetime = -1 },
		func(c *Config) { c.TokenRefresh = time.Millisecond },
		func(c *Config) { c.ExpiredCertificateGrace = -1 },
		func(c *Config) { c.AdvertiseAddresses = nil },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := New(cfg, newAPI(t), nil); err == nil {
			t.Errorf("New accepted %+v", cfg)
		}
	}
}

func TestMetricsClashIsAnError(t *testing.T) {
	registry := prometheus.NewRegistry()
	if _, err := New(testConfig(), newAPI(t), registry); err != nil {
		t.Fatal(err)
	}
	if _, err := New(testConfig(), newAPI(t), registry); err == nil {
		t.Error("second authority on the same registry: got no error")
	}
}

func TestNothingWorksBeforeLoad(t *testing.T) {
	a := newAuthority(t, testConfig(), newAPI(t))
	_, caErr := a.CACertificate()
	_, poolErr := a.CAPool()
	_, certErr := a.GetCertificate(nil)
	_, tokenErr := a.VerifyToken("a.b.c")
	_, nodeTokenErr := a.NodeToken("n", time.Hour)
	_, peerErr := a.VerifyPeer(nil)
	_, issueErr := a.IssueNodeCertificate(NodeRequest{Node: "n"})
	_, hubErr := a.HubTLS().GetConfigForClient(nil)
	for i, err := range []error{caErr, poolErr, certErr, tokenErr, nodeTokenErr, peerErr, issueErr, hubErr, a.Run(t.Context())} {
		if err != ErrNotLoaded {
			t.Errorf("call %d: got %v, want ErrNotLoaded", i, err)
		}
	}
}
