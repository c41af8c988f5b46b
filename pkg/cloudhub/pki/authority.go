package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

const (
	checkPeriod  = time.Minute // between two looks at token and serving certificate
	firstBackoff = time.Second // after a failed look; doubles up to checkPeriod
)

// Authority is the CA of the edge with everything it vouches for. See the package documentation.
type Authority struct {
	// Set by New, then read-only.
	cfg     settings
	secrets secretStore
	metrics *metrics

	// Published by Load; serving also by Run.
	ca      atomic.Pointer[issuer]
	serving atomic.Pointer[serving]
}

// New checks the configuration. It does no I/O. A nil registerer keeps the metrics private.
func New(cfg Config, client kubernetes.Interface, registerer prometheus.Registerer) (*Authority, error) {
	full, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("check certificate settings: %w", err)
	}
	m, err := newMetrics(registerer)
	if err != nil {
		return nil, err
	}
	return &Authority{
		cfg:     full,
		secrets: secretStore{client: client, namespace: full.Namespace},
		metrics: m,
	}, nil
}

// Load brings CA, serving certificate and token into being, from files, from their Secrets, or new, in this order. It
// tries each step once, apart from races with other writers, and may be called again after an error.
func (a *Authority) Load(ctx context.Context) error {
	if err := a.secrets.ensureNamespace(ctx); err != nil {
		return err
	}
	ca, err := a.loadCA(ctx)
	if err != nil {
		return fmt.Errorf("load CA: %w", err)
	}
	s, err := a.loadServing(ctx, ca)
	if err != nil {
		return fmt.Errorf("load serving certificate: %w", err)
	}
	expires, err := a.ensureToken(ctx, ca)
	if err != nil {
		return fmt.Errorf("store bootstrap token: %w", err)
	}
	a.ca.Store(ca)
	a.publish(s)
	a.metrics.caExpiry.Set(float64(ca.cert.NotAfter.Unix()))
	a.metrics.tokenExpiry.Set(float64(expires.Unix()))
	return nil
}

// Run keeps token and serving certificate fresh until ctx ends. It looks at both each minute; while the apiserver is
// away it tries again with growing pauses, and what is in use stays in use. Load must have succeeded before.
func (a *Authority) Run(ctx context.Context) error {
	ca := a.ca.Load()
	if ca == nil {
		return ErrNotLoaded
	}
	timer := time.NewTimer(jitter(checkPeriod))
	defer timer.Stop()
	backoff := firstBackoff
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := a.refresh(ctx, ca); err == nil || ctx.Err() != nil {
			backoff = firstBackoff
			timer.Reset(jitter(checkPeriod))
			continue
		}
		timer.Reset(jitter(backoff))
		backoff = min(2*backoff, checkPeriod)
	}
}

// refresh does both duties, the second also when the first fails, and logs what went wrong.
func (a *Authority) refresh(ctx context.Context, ca *issuer) error {
	logger := klog.FromContext(ctx)
	expires, tokenErr := a.ensureToken(ctx, ca)
	if tokenErr == nil {
		a.metrics.tokenExpiry.Set(float64(expires.Unix()))
	} else if ctx.Err() == nil {
		a.metrics.refreshFailures.WithLabelValues(subjectToken).Inc()
		logger.Error(tokenErr, "Bootstrap token not refreshed, will try again")
	}
	servingErr := a.refreshServing(ctx, ca)
	if servingErr != nil && ctx.Err() == nil {
		a.metrics.refreshFailures.WithLabelValues(subjectServing).Inc()
		logger.Error(servingErr, "Serving certificate not refreshed, will try again")
	}
	return errors.Join(tokenErr, servingErr)
}

func (a *Authority) publish(s *serving) {
	a.serving.Store(s)
	a.metrics.servingExpiry.Set(float64(s.cert.Leaf.NotAfter.Unix()))
}

// jitter spreads the calls of several replicas: 90 to 110 % of d.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5)
}

// CACertificate returns the DER form of the CA certificate, the body of /ca.crt. The caller must not change it.
func (a *Authority) CACertificate() ([]byte, error) {
	ca := a.ca.Load()
	if ca == nil {
		return nil, ErrNotLoaded
	}
	return ca.cert.Raw, nil
}

// CAPool returns a pool that holds the CA alone, for listeners with a TLS configuration of their own.
func (a *Authority) CAPool() (*x509.CertPool, error) {
	ca := a.ca.Load()
	if ca == nil {
		return nil, ErrNotLoaded
	}
	return ca.pool, nil
}

// GetCertificate returns the serving certificate now in use. It fits tls.Config.GetCertificate.
func (a *Authority) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := a.serving.Load()
	if s == nil {
		return nil, ErrNotLoaded
	}
	return &s.cert, nil
}
