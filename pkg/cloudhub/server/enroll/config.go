package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

// Config of the server. Zero means the default that is named at the field.
type Config struct {
	// Address that Run listens on, host:port.
	Address string

	// HeaderTimeout bounds the TLS handshake, and the time until the last header has come; 10 s.
	HeaderTimeout time.Duration
	// RequestTimeout bounds a request with its body, and its answer; 30 s, which is what EdgeCore waits.
	RequestTimeout time.Duration
	// ShutdownTimeout is how long requests may go on after the end of Run's context; 5 s.
	ShutdownTimeout time.Duration

	// MaxConnections at once, 4096. More wait in the listener's backlog. A connection costs about 50 KiB.
	MaxConnections int
	// MaxConnectionsPerAddress at once, 3072; one more is closed. It must leave room for a whole fleet behind one
	// address, and should leave some of MaxConnections to others.
	MaxConnectionsPerAddress int

	// Joins limits requests for a certificate per address: 200 a second after a burst of 4000.
	Joins Limit
	// Lookups limits requests for the CA and for node names per address: 400 a second after a burst of 8000.
	Lookups Limit
	// Reports limits task reports per address: 200 a second after a burst of 4000.
	Reports Limit
	// MaxAddresses is how many addresses each of the three limits remembers, 4096.
	MaxAddresses int

	// MaxConcurrentReports bounds the reports whose bodies (up to 3 MiB) are in memory at once, 64. One more is
	// answered with 503.
	MaxConcurrentReports int
	// AllowAnonymousReports takes task reports without a client certificate, as the reference does. Anybody who can
	// reach the port can then forge the result of a task.
	AllowAnonymousReports bool
}

// Limit is a token bucket. A negative PerSecond switches it off.
type Limit struct {
	PerSecond float64
	Burst     int
}

func (l Limit) or(perSecond float64, burst int) Limit {
	if l.PerSecond == 0 {
		l.PerSecond = perSecond
	}
	if l.Burst == 0 {
		l.Burst = burst
	}
	return l
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func (c Config) complete() (Config, error) {
	c.HeaderTimeout = or(c.HeaderTimeout, 10*time.Second)
	c.RequestTimeout = or(c.RequestTimeout, 30*time.Second)
	c.ShutdownTimeout = or(c.ShutdownTimeout, 5*time.Second)
	c.MaxConnections = or(c.MaxConnections, 4096)
	c.MaxConnectionsPerAddress = or(c.MaxConnectionsPerAddress, 3072)
	c.Joins = c.Joins.or(200, 4000)
	c.Lookups = c.Lookups.or(400, 8000)
	c.Reports = c.Reports.or(200, 4000)
	c.MaxAddresses = or(c.MaxAddresses, 4096)
	c.MaxConcurrentReports = or(c.MaxConcurrentReports, 64)
	if min(c.HeaderTimeout, c.RequestTimeout, c.ShutdownTimeout) < 0 {
		return Config{}, errors.New("a timeout of the HTTPS server is negative")
	}
	if min(c.MaxConnections, c.MaxConnectionsPerAddress, c.MaxAddresses, c.MaxConcurrentReports, c.Joins.Burst, c.Lookups.Burst, c.Reports.Burst) < 0 {
		return Config{}, errors.New("a limit of the HTTPS server is negative")
	}
	return c, nil
}

// Issuer gives out the CA and signs. Both methods are safe for concurrent use and do no I/O.
type Issuer interface {
	// CACertificate returns DER.
	CACertificate() ([]byte, error)
	// IssueNodeCertificate returns DER. What it refuses by policy is a *pki.RefusalError.
	IssueNodeCertificate(pki.NodeRequest) ([]byte, error)
}

// Verifier tells who is asking. What it refuses is a *pki.RefusalError. It is safe for concurrent use and does no I/O.
type Verifier interface {
	VerifyToken(bearer string) (pki.TokenClaims, error)
	// VerifyPeer takes the certificates of an unverified connection, leaf first.
	VerifyPeer([]*x509.Certificate) (pki.Peer, error)
	// VerifyRenewal is VerifyPeer with the grace for certificates that expired not long ago.
	VerifyRenewal([]*x509.Certificate) (pki.Peer, error)
}

// Nodes knows which nodes exist. It answers from memory; an error means that it cannot tell yet.
type Nodes interface {
	NodeExists(ctx context.Context, name string) (bool, error)
}

// ReportSink takes a task report over. It returns once the report is in safe hands, or ctx ends; an error makes the
// server answer 503.
type ReportSink func(ctx context.Context, report Report) error

// Deps is what the server needs from others. Only Registerer may be nil.
type Deps struct {
	// TLS must ask for a client certificate without verifying it, as pki.Authority.EnrollTLS does.
	TLS        *tls.Config
	Issuer     Issuer
	Verifier   Verifier
	Nodes      Nodes
	Reports    ReportSink
	Registerer prometheus.Registerer
}

func (d Deps) check() error {
	for name, missing := range map[string]bool{
		"TLS": d.TLS == nil, "Issuer": d.Issuer == nil, "Verifier": d.Verifier == nil,
		"Nodes": d.Nodes == nil, "Reports": d.Reports == nil,
	} {
		if missing {
			return fmt.Errorf("HTTPS server needs %s", name)
		}
	}
	return nil
}
