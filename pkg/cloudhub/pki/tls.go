package pki

import "crypto/tls"

// Both configurations switch session tickets off. A resumed session skips the check of the client certificate, and
// EdgeCore keeps no sessions anyway, so a full handshake costs nothing that could have been saved (one ECDSA signature,
// two verifications).
//
// They offer HTTP/1.1 alone: a WebSocket upgrade exists in no other version, and enrolment is one request a connection.

// cipherSuites are those of TLS 1.2; TLS 1.3 has its own. The elliptic ones serve our certificates, the RSA ones those
// of operators who bring an RSA key.
func cipherSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

func baseConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		CipherSuites:           cipherSuites(),
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
	}
}

func hubConfig(ca *issuer, cert tls.Certificate) *tls.Config {
	c := baseConfig()
	c.Certificates = []tls.Certificate{cert}
	c.ClientCAs = ca.pool
	// crypto/tls verifies with extended key usage clientAuth.
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c
}

func enrollConfig(cert tls.Certificate) *tls.Config {
	c := baseConfig()
	c.Certificates = []tls.Certificate{cert}
	// No ClientCAs: the certificate request names no CA, so a client with any certificate sends it, and a bad one
	// gets an HTTP answer instead of a failed handshake (spec 02 §6).
	c.ClientAuth = tls.RequestClientCert
	return c
}

// HubTLS is for listeners on which every peer must be a node: the handshake fails without a certificate that verifies
// against the CA for client authentication. Which node it is says VerifyPeer or NodeName.
func (a *Authority) HubTLS() *tls.Config {
	return a.dynamic(tls.RequireAndVerifyClientCert, func(s *serving) *tls.Config { return s.hub })
}

// EnrollTLS is for the HTTPS server on which nodes get their certificates: a client certificate is asked for and
// handed to the handler unverified.
func (a *Authority) EnrollTLS() *tls.Config {
	return a.dynamic(tls.RequestClientCert, func(s *serving) *tls.Config { return s.enroll })
}

// dynamic makes a configuration that looks up the current one for each connection. All connections share that one, so
// a herd of reconnecting nodes allocates none.
func (a *Authority) dynamic(auth tls.ClientAuthType, pick func(*serving) *tls.Config) *tls.Config {
	c := baseConfig()
	// Only what GetConfigForClient returns counts; ClientAuth repeats it for whoever inspects the configuration.
	c.ClientAuth = auth
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s := a.serving.Load()
		if s == nil {
			return nil, ErrNotLoaded
		}
		return pick(s), nil
	}
	return c
}
